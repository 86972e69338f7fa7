"""What surrounds xapi, as the contract's sections. Imports protobuf, never grpc."""

from typing import Any, Dict

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.dom0.surroundings import Surroundings
from poolwarden_agent.wire import tri


def sections(seen: Surroundings, address: str) -> Dict[str, Any]:
    """Sections of a report by their names; ``address`` is the management address as it is now."""
    nics = [pb.Nic(name=n.name, link=tri(n.link), speed_mbit=n.speed_mbit, bond=n.bond) for n in seen.network.nics]
    certificates = [
        pb.Certificate(name=c.name, expires_wall_ms=max(0, c.expires_s) * 1000, text=c.text) for c in seen.certificates
    ]
    maps = [pb.MultipathMap(name=m.name, live_paths=m.up, paths=m.paths, most_paths=m.most) for m in seen.maps]
    return {
        "services": pb.ServiceFacts(services=[pb.Service(name=name, state=state) for name, state in seen.services]),
        "network": pb.NetworkFacts(
            management_interface=seen.network.interface,
            management_address=address,
            management_link=tri(seen.network.link),
            nics=nics,
        ),
        "certificates": pb.CertificateList(certificates=certificates),
        "multipath": pb.MultipathFacts(maps=maps),
    }
