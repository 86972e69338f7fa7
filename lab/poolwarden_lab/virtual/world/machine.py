"""One host's machine: two feeds, a board that is switched on or off, and a management board (BMC) on standby power.

The machine runs while the board is switched on and at least one feed brings power: its PSU is whole and its PDU outlet
is on. A BMC lives as long as a feed brings power, whatever the board does. An outlet that reads ON says nothing about
the PSU behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FEEDS = ("a", "b")


@dataclass
class Machine:
    """What of a host is neither xapi nor agent. Change it through the world only."""

    board: bool = True  # switched on, as its power button and its BMC have it
    psus: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(FEEDS, True))
    outlets: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(FEEDS, True))
    boot_ms: int | None = None  # its own boot takes so long; None: as every host's
    hung: bool = False  # the kernel stands still for ever; only a power cycle helps
    network_at: int = 0  # when the kernel of this boot answers on the network, ms
    autostart: bool = True  # it boots by itself when power comes back

    @property
    def standby(self) -> bool:
        """Does any feed bring power?"""
        return any(self.psus[feed] and self.outlets[feed] for feed in FEEDS)

    @property
    def runs(self) -> bool:
        return self.board and self.standby
