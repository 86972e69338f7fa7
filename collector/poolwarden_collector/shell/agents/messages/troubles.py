"""Agents' words about what keeps xapi from starting and about storage, as the core's facts. Only shapes change here."""

from __future__ import annotations

from collections.abc import Callable

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden.xapi_causes import CAUSES, UNKNOWN
from poolwarden_collector.core.model.host_facts import (
    StorageFacts,
    StorageLink,
    StorageRepository,
    StorageStall,
    XapiTrouble,
)
from poolwarden_collector.core.model.values import Ms

At = Callable[[int], Ms | None]


def trouble(m: pb.XapiTrouble, at: At) -> XapiTrouble | None:
    """``None``: nothing is known to be wrong. A cause that this table lacks is none that is known here."""
    if not m.cause:
        return None
    # safety: people type what helps; it is the table's, and never a text that a host has sent.
    cause = CAUSES.get(m.cause, CAUSES[UNKNOWN])
    return XapiTrouble(cause.word, m.sentence, cause.help, tuple(m.lines), at(m.looked_mono_ms), at(m.ended_mono_ms))


def storage(m: pb.StorageFacts, at: At) -> StorageFacts:
    """A host's storage: what the serving master has told of it, and what hangs there."""
    return StorageFacts(
        tuple(_repository(each) for each in m.srs),
        tuple(_stall(each, at) for each in m.stalled),
        tuple(m.sm_errors),
    )


def _stall(m: pb.StalledMount, at: At) -> StorageStall:
    """``SOURCE on DIRECTORY`` is a mount; NFS adds a repository's own directory to the source (sm: NFSSR)."""
    source, mounted, point = m.what.partition(" on ")
    if not mounted or not point.startswith("/"):
        return StorageStall(m.what, at(m.since_mono_ms))
    repository = point.rpartition("/")[2]
    what = source.removesuffix("/" + repository) or source
    server = source[2:].partition("/")[0] if source.startswith("//") else source.partition(":/")[0]
    return StorageStall(what, at(m.since_mono_ms), True, server, repository)


def _repository(m: pb.StorageRepository) -> StorageRepository:
    links = tuple(StorageLink(link.host_uuid, link.attached, link.where) for link in m.links)
    return StorageRepository(m.uuid, m.name, m.type, m.shared, m.is_default, links)
