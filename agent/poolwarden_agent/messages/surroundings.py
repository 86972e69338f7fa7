"""What surrounds xapi, as the contract's sections. Imports protobuf, never grpc."""

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.dom0.system.surroundings import Surroundings
from poolwarden_agent.messages.reports import tri


def _services(seen: Surroundings, _address: str) -> pb.ServiceFacts:
    return pb.ServiceFacts(services=[pb.Service(name=name, state=state) for name, state in seen.services])


def _network(seen: Surroundings, address: str) -> pb.NetworkFacts:
    nics = [pb.Nic(name=n.name, link=tri(n.link), speed_mbit=n.speed_mbit, bond=n.bond) for n in seen.network.nics]
    return pb.NetworkFacts(
        management_interface=seen.network.interface,
        management_address=address,
        management_link=tri(seen.network.link),
        nics=nics,
    )


def _certificates(seen: Surroundings, _address: str) -> pb.CertificateList:
    found = [
        pb.Certificate(name=c.name, expires_wall_ms=max(0, c.expires_s) * 1000, text=c.text) for c in seen.certificates
    ]
    return pb.CertificateList(certificates=found)


def _multipath(seen: Surroundings, _address: str) -> pb.MultipathFacts:
    maps = [pb.MultipathMap(name=m.name, live_paths=m.up, paths=m.paths, most_paths=m.most) for m in seen.maps]
    return pb.MultipathFacts(maps=maps)


# Sections of a report by their names, each made of the surroundings and the management address as it is now.
SECTIONS = (
    ("services", _services),
    ("network", _network),
    ("certificates", _certificates),
    ("multipath", _multipath),
)
