"""An order as the gate and the acts know it, and the words for how one ended."""

from typing import NamedTuple, Optional, Tuple

from poolwarden_agent.core.host_now import Process
from poolwarden_agent.core.piece import Piece

LONGEST_VALID_MS = 300000
LONGEST_ID = 200  # ids are stored; the slots are small
AS_MEMBER, AS_MASTER = "member", "master"
DONE, REFUSED, FAILED, UNKNOWN = "done", "refused", "failed", "unknown"


class Order(NamedTuple):
    """An order's head and what of its body the rules look at."""

    order_id: str
    kind: str
    epoch: int
    term: int
    pool: str
    host: str
    boot_id: str
    echo_mono_ms: int
    valid_for_ms: int
    pool_conf_in: Tuple[str, ...]
    pool_conf_address: str
    ha_off: bool
    process: Process
    min_root_free_bytes: int
    not_tombstoned: bool
    address: str
    successor: str
    clear: bool
    as_master_ok: bool
    release_as: str = ""
    piece: Optional[Piece] = None
    named: str = ""  # the host that it is about
    vm: str = ""
    hold_gc: bool = False
    restore: int = 0  # a release as master: the generation of the placed database with which xapi starts; 0: its own
