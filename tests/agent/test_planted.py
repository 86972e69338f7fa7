"""Every write of root's, with something planted under each of its names: nothing is written through it, ever.

Planted are what a process without root's rights could leave where it may make names, and a mistake of root's could:
a symbolic link to a file of somebody else's, one that leads nowhere, a second name of such a file, a FIFO, a directory.
The write is done all the same or refused with its own error; the file of somebody else's is as it was.
"""

import contextlib
import hashlib
import os
import signal

import pytest

from poolwarden_agent.core.host_now import UNREADABLE
from poolwarden_agent.core.piece import Piece
from poolwarden_agent.dom0.identity import tls_files
from poolwarden_agent.dom0.identity.tls_files import TlsFiles
from poolwarden_agent.dom0.system import boot_findings, files, order_key, plain_files
from poolwarden_agent.dom0.system.ballast import Ballast
from poolwarden_agent.dom0.system.latch import HOLD, Latch
from poolwarden_agent.dom0.system.slots import SlotError, Slots
from poolwarden_agent.dom0.xapi import database_transfer
from poolwarden_agent.dom0.xapi.database_transfer import Handover
from poolwarden_agent.host_port import Act

from .tree import POOL, database

OURS = "var/lib/poolwarden/"
TLS = "etc/poolwarden/tls/"
REFUSALS = (OSError, SlotError, tls_files.TlsError)
SECRET = b"root:secret\n" * 20


def pool_conf(tree):
    files.write_pool_conf(str(tree.root), "10.0.0.2")


def slots_made(tree):
    Slots(tree.path(OURS)).prepare()


def slots_saved(tree):
    slots = Slots(tree.path(OURS))
    slots.load()
    slots.save(b"held")


def latch_made(tree):
    Latch(tree.path(OURS)).prepare()


def latch_closed(tree):
    Latch(tree.path(OURS)).write(HOLD)


def ballast(tree):
    Ballast(tree.path(OURS)).keep()


def word_of_the_gate(tree):
    boot_findings.put(str(tree.root), boot_findings.FOUND, "{}")


def order_key_pinned(tree):
    order_key.pin(str(tree.root), [b"k" * 32, b"l" * 32])


def key_kept(tree):
    TlsFiles(tree.path(TLS)).next_key(lambda: b"a key")


def first_piece(tree):
    return Handover(str(tree.root)).place(Piece(7, 8, 0, 4, "0" * 64, False), b"data", POOL)


def next_piece(tree):
    return Handover(str(tree.root)).place(Piece(7, 12, 4, 4, "0" * 64, False), b"more", POOL)


def last_piece(tree):
    data = database().encode()
    piece = Piece(7, len(data), 0, len(data), hashlib.sha256(data).hexdigest(), False)
    return Handover(str(tree.root)).place(piece, data, POOL)


TEMPORARY, PLACED, GENERATION = database_transfer.TEMPORARY, database_transfer.PLACED, database_transfer.GENERATION
# Each write, and every name that it makes, opens, writes or renames onto.
WRITES = [
    (pool_conf, [files.POOL_CONF, files.POOL_CONF + ".poolwarden", files.BEFORE, files.BEFORE + ".new"]),
    (slots_made, [OURS + "state.0", OURS + "state.0.new", OURS + "state.1.new"]),
    (slots_saved, [OURS + "state.0", OURS + "state.1"]),
    (latch_made, [OURS + "latch", OURS + "latch.new"]),
    (latch_closed, [OURS + "latch"]),
    (ballast, [OURS + "ballast", OURS + "ballast.new"]),
    (word_of_the_gate, [boot_findings.FOUND, boot_findings.FOUND + ".new"]),
    (order_key_pinned, [order_key.FILE, order_key.FILE + ".new", order_key.ALL, order_key.ALL + ".new"]),
    (key_kept, [TLS + tls_files.NEXT_KEY, TLS + tls_files.NEXT_KEY + ".part"]),
    (first_piece, [TEMPORARY]),
    (next_piece, [TEMPORARY]),
    (last_piece, [TEMPORARY, PLACED, GENERATION, GENERATION + ".poolwarden"]),
]
PLANTED = ["link", "dangling", "second name", "fifo", "directory", "another's"]


def plant(what, path, elsewhere):
    """Put it under this name, in place of what is there."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    if what == "link":
        os.symlink(str(elsewhere), path)
    elif what == "dangling":
        os.symlink(str(elsewhere) + ".not-there", path)
    elif what == "second name":
        os.link(str(elsewhere), path)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        os.mkdir(path)
    else:
        with open(path, "wb") as file:
            file.write(SECRET)
        os.chown(path, 65534, 65534)


@pytest.fixture
def ready(tree):
    """A host whose agent has run: slots, latch, its directories, the first piece of a database."""
    for made in (slots_made, latch_made, word_of_the_gate):
        made(tree)
    first_piece(tree)
    return tree


@pytest.fixture(autouse=True)
def bounded():
    """An open that waits for the other end of a FIFO ends the test, not the run."""

    def over(_number, _frame):
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("what", PLANTED)
@pytest.mark.parametrize(
    "write,name", [(w, n) for w, names in WRITES for n in names], ids=lambda each: str(getattr(each, "__name__", each))
)
def test_nothing_is_written_through_what_was_planted(ready, what, write, name):
    if what == "another's" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    elsewhere = ready.put("etc/shadow", SECRET, 0o600)
    plant(what, ready.path(name), elsewhere)
    try:
        said = write(ready)
    except REFUSALS as error:
        assert str(error)
    else:
        assert said is None or isinstance(said, Act)
    assert elsewhere.read_bytes() == SECRET and elsewhere.stat().st_mode & 0o777 == 0o600
    assert not os.path.lexists(str(elsewhere) + ".not-there")
    if what == "another's" and os.path.exists(ready.path(name)) and os.stat(ready.path(name)).st_uid == 65534:
        assert (ready.root / name).read_bytes() == SECRET, "it stands as it was, or is a new file of root's"


@pytest.mark.parametrize("what", ["link", "second name", "fifo", "another's"])
def test_pool_conf_is_written_all_the_same(ready, what):
    """What keeps a superseded master from coming back is not kept from being written by a planted name."""
    if what == "another's" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    elsewhere = ready.put("etc/shadow", SECRET, 0o600)
    for name in (files.POOL_CONF + ".poolwarden", files.BEFORE, files.BEFORE + ".new"):
        plant(what, ready.path(name), elsewhere)
    pool_conf(ready)
    assert ready.text(files.POOL_CONF) == "slave:10.0.0.2" and os.lstat(ready.path(files.POOL_CONF)).st_nlink == 1
    assert os.stat(ready.path(files.POOL_CONF)).st_uid == os.geteuid()


def test_a_slot_that_another_may_write_is_refused(ready):
    """The slot's name leads elsewhere: what is read there is read, and no order is answered on it."""
    elsewhere = ready.put("elsewhere", b"x" * 70000)
    for name in ("state.0", "state.1"):
        plant("second name", ready.path(OURS + name), elsewhere)
    slots = Slots(ready.path(OURS))
    with pytest.raises(SlotError):
        slots.load()
    with pytest.raises(SlotError, match="no plain file of the agent's own"):
        slots.save(b"held")


def test_a_name_that_changes_between_two_steps_changes_nothing(ready, monkeypatch):
    """Right after each name was made, somebody puts a link in its place."""
    elsewhere = ready.put("etc/shadow", SECRET, 0o600)
    real = plain_files.new

    def raced(path, mode=0o600):
        file = real(path, mode)
        os.unlink(path)
        os.symlink(str(elsewhere), path)
        return file

    monkeypatch.setattr(plain_files, "new", raced)
    for write, _ in WRITES:
        with contextlib.suppress(*REFUSALS):
            write(ready)
        assert elsewhere.read_bytes() == SECRET


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757])
def test_a_directory_that_everybody_may_write_is_none_of_the_agents(ready, mode):
    os.chmod(ready.path(OURS), mode)
    with pytest.raises(SlotError, match="can be written by everybody; expected root alone: chmod 700"):
        slots_made(ready)
    os.chmod(ready.path(boot_findings.RUN), mode)
    with pytest.raises(OSError, match="can be written by everybody"):
        word_of_the_gate(ready)


@pytest.mark.needs("root")
def test_nor_is_one_of_another_user(ready):
    os.chown(ready.path(OURS), 65534, 65534)
    with pytest.raises(SlotError, match="belongs to user 65534; expected root: chown root:root"):
        slots_made(ready)


def test_nor_a_link_to_one(ready):
    os.rename(ready.path(OURS), ready.path("var/lib/elsewhere"))
    os.symlink("elsewhere", ready.path(OURS.rstrip("/")))
    with pytest.raises(SlotError, match="is no directory"):
        Slots(ready.path(OURS.rstrip("/"))).prepare()


@pytest.mark.parametrize(
    "name", [files.POOL_CONF, files.INVENTORY, files.LOCAL_DB, files.XAPI_PID, OURS + "state.0", OURS + "latch"]
)
def test_a_fifo_holds_no_reader_up(ready, name):
    os.unlink(ready.path(name)) if os.path.lexists(ready.path(name)) else None
    os.makedirs(os.path.dirname(ready.path(name)), exist_ok=True)
    os.mkfifo(ready.path(name))
    root = str(ready.root)
    assert files.read(root, name) is None
    if name == files.POOL_CONF:
        assert files.pool_conf(root) == (UNREADABLE, "")
    Slots(ready.path(OURS)).load()
    assert Latch(ready.path(OURS)).read() == "none"
