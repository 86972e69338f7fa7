"""A host's storage as the contract's section. Imports protobuf, never grpc."""

from typing import Any, Optional, Sequence

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.core.storage import Repository, Storage


def storage(repositories: Sequence[Repository], hangs: Optional[Storage]) -> pb.StorageFacts:
    """What the serving master told last, and what hangs here."""
    facts = pb.StorageFacts(srs=[_repository(each) for each in repositories])
    if hangs is not None:
        facts.sm_errors.extend(hangs.errors)
        facts.looked_mono_ms = hangs.at_ms if hangs.stalled else 0  # a report each two seconds tells nothing new
        facts.stalled.extend(pb.StalledMount(what=each.what, since_mono_ms=each.since_ms) for each in hangs.stalled)
    return facts


def _repository(each: Repository) -> Any:
    links = [pb.StorageLink(host_uuid=link.host, attached=link.attached, where=link.where) for link in each.links]
    return pb.StorageRepository(
        uuid=each.uuid, name=each.name, type=each.type, shared=each.shared, is_default=each.default, links=links
    )
