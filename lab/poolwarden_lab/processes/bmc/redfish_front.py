"""sushy-tools' Redfish emulator with a lab BMC's board behind it. Runs on the emulator's own Python (`bmc_fronts`).

``redfish_front.py --config FILE``, where the file names the board (``LAB_BOARD``): everything that is HTTP, TLS,
authentication and Redfish is sushy-tools'; only what its fake driver keeps as the power of its one system is asked of,
and done by, the board.
"""

from __future__ import annotations

from typing import Any

import chassis  # type: ignore[import-not-found]  # beside this file
from sushy_tools.emulator import main as emulator  # type: ignore[import-not-found]
from sushy_tools.emulator.resources.systems import fakedriver  # type: ignore[import-not-found]
from sushy_tools.error import FishyError  # type: ignore[import-not-found]

_OFF = ("ForceOff", "GracefulShutdown")


def _board(verb: str) -> str:
    try:
        return str(chassis.ask(*emulator.app.config["LAB_BOARD"], verb))
    except OSError as error:
        raise FishyError(f"the board does not answer: {error}") from error


def _get_power_state(driver: Any, identity: str) -> str:
    driver._get(identity)  # an unknown system is refused as by the original
    return "On" if _board("status") == "on" else "Off"


def _set_power_state(driver: Any, identity: str, state: str) -> None:
    driver._get(identity)
    if state not in ("On", "ForceOn", *_OFF):
        raise FishyError(f"power state {state} is not supported here")
    _board("off" if state in _OFF else "on")


fakedriver.FakeDriver.get_power_state = _get_power_state
fakedriver.FakeDriver.set_power_state = _set_power_state

if __name__ == "__main__":
    raise SystemExit(emulator.main())
