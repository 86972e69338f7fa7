"""This host's own policy, applied: what it is held against is read through the port, what was counted is kept here.

The count is of this process's life: an agent that is started anew begins at nothing, and only root can start it.
"""

import threading
from typing import Optional, Sequence, Tuple

from poolwarden_agent.core import kind_rules, local_policy, orders
from poolwarden_agent.core.local_policy import Known
from poolwarden_agent.host_port import HostPort


class LocalRules(object):
    """One host's rules, whoever sends the orders."""

    def __init__(self, port: HostPort) -> None:
        self._port = port
        self._counted: Tuple[int, ...] = ()
        self._hosts: Optional[local_policy.Hosts] = None
        self._lock = threading.Lock()

    def denied(self) -> Tuple[str, ...]:
        """Kinds that are refused whatever they say."""
        return self._port.local_policy().deny

    def refusal(self, order: orders.Order, again: bool) -> Optional[kind_rules.Refuse]:
        """Why this order is not carried out here; None: it may be. ``again``: it was begun here before, and last."""
        with self._lock:
            now = self._port.mono_ms()
            known = Known(self._known_hosts(), self._port.own_generation(), self._counted, now, again)
            return local_policy.refusal(self._port.local_policy(), order, known)

    def count(self, order: orders.Order, again: bool) -> None:
        """It is carried out now."""
        with self._lock:
            self._counted = local_policy.with_order(self._counted, order, self._port.mono_ms(), again)

    def targets(self, named: Sequence[orders.Target], signed: bool) -> Tuple[orders.Target, ...]:
        """Those of a collector's settings that may be probed from here."""
        with self._lock:
            return local_policy.accepted_targets(self._port.local_policy(), tuple(named), self._known_hosts(), signed)

    def stranger(self, target: orders.Target, signed: bool) -> str:
        """Why this host must not follow that address, in words; empty: it may, or none is named."""
        with self._lock:
            if not target.address:
                return ""
            return local_policy.unknown(self._port.local_policy(), target, self._known_hosts(), signed)

    def _known_hosts(self) -> Optional[local_policy.Hosts]:
        found = self._port.pool_hosts()
        self._hosts = found if found is not None else self._hosts
        return self._hosts
