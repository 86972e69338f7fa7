"""What enrolment remembers: tokens, keys, certificates and denials, as they are in the journal.

Rules
-----
* It is read once, at the start, and changed only after a change is durable. Whoever asks it waits for no disk.
* A host has the keys that are certified for it. More than one is when a newer one has not been seen on a stream yet;
  the first stream with that replaces the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from poolwarden_collector.core.model.values import HostId, PoolId
from poolwarden_collector.shell.store.enrolment_tables import CERTIFIED, Certified, Change, Denied, HostKey, Of, Token


@dataclass(slots=True)
class Ledger:
    """Everything by its key."""

    tokens: dict[str, Token] = field(default_factory=dict)
    keys: dict[str, HostKey] = field(default_factory=dict)
    certificates: dict[str, Certified] = field(default_factory=dict)
    denied: dict[str, Denied] = field(default_factory=dict)
    _of_host: dict[HostId, dict[str, HostKey]] = field(default_factory=dict)
    _of_key: dict[str, dict[str, Certified]] = field(default_factory=dict)

    def take(self, rows: Iterable[Of]) -> None:
        """These are so from now on."""
        for row in rows:
            match row:
                case Token():
                    self.tokens[row.id] = row
                case HostKey():
                    self.keys[row.key] = row
                    self._of_host.setdefault(row.host, {})[row.key] = row
                case Certified():
                    self.certificates[row.serial] = row
                    self._of_key.setdefault(row.key, {})[row.serial] = row
                case Denied():
                    self.denied[row.serial] = row

    def took(self, change: Change) -> None:
        """This change is durable."""
        for row in change.drop:
            match row:
                case Token():
                    self.tokens.pop(row.id, None)
                case HostKey():
                    self.keys.pop(row.key, None)
                    self._of_host.get(row.host, {}).pop(row.key, None)
                case Certified():
                    self.certificates.pop(row.serial, None)
                    self._of_key.get(row.key, {}).pop(row.serial, None)
                case Denied():
                    self.denied.pop(row.serial, None)
        self.take(change.put)

    def of_host(self, host: HostId) -> tuple[HostKey, ...]:
        """Every key of this host, the oldest first."""
        return tuple(sorted(self._of_host.get(host, {}).values(), key=lambda key: key.since_ms))

    def certified(self, host: HostId) -> tuple[HostKey, ...]:
        """The keys that this host may have, the oldest first."""
        return tuple(key for key in self.of_host(host) if key.state == CERTIFIED)

    def newest(self, key: str) -> Certified | None:
        """The newest certificate of a key; None: there is none."""
        found = self._of_key.get(key, {}).values()
        return max(found, key=lambda each: each.issued_ms, default=None)

    def all_of(self, key: str) -> tuple[Certified, ...]:
        """Every certificate of a key."""
        return tuple(self._of_key.get(key, {}).values())

    def has_members(self, pool: PoolId) -> bool:
        """Has any host been certified in this pool?"""
        return any(key.pool == pool and key.state == CERTIFIED for key in self.keys.values())

    def last_issued_ms(self) -> int:
        """When the newest certificate was made; 0: none was."""
        return max((each.issued_ms for each in self.certificates.values()), default=0)
