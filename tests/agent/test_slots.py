"""Durable slots: torn writes, corruption, a full disk, missing files. What was acknowledged is never lost."""

import errno
import os

import pytest

from poolwarden_agent.dom0.system import slots as module
from poolwarden_agent.dom0.system.slots import CAPACITY, SIZE, SlotError, Slots


@pytest.fixture
def where(short):
    return short / "deep" / "poolwarden"


@pytest.fixture
def slots(where):
    made = Slots(str(where))
    made.prepare()
    return made


def reread(where):
    again = Slots(str(where))
    again.prepare()
    return again.load()


def files(where):
    return [where / "state.0", where / "state.1"]


def test_nothing_saved_is_empty_and_not_an_error(slots):
    assert slots.load() == b""


def test_a_save_that_was_answered_stands_in_both_slots(slots, where):
    slots.load()
    for number in range(5):
        slots.save(b"payload %d" % number)
        assert [module._unpack(f.read_bytes()) for f in files(where)] == [(number + 1, b"payload %d" % number)] * 2
        assert reread(where) == b"payload %d" % number
    assert [f.stat().st_size for f in files(where)] == [SIZE, SIZE]


def test_a_reader_after_a_crash_goes_on_where_it_stood(slots, where):
    for number in range(4):
        again = Slots(str(where))
        assert again.load() == (b"%d" % (number - 1) if number else b"")
        again.save(b"%d" % number)


@pytest.mark.parametrize("cut", [0, 1, 8, 20, 51, 52, 60, SIZE - 1])
@pytest.mark.parametrize("turn", [1, 2])
def test_a_write_torn_at_any_byte_leaves_the_last_acknowledged_one(slots, where, cut, turn):
    slots.load()
    for number in range(turn):
        slots.save(b"kept %d" % number)
    whole = module._pack(99, b"torn" * 100)
    target = max(files(where), key=lambda f: f.read_bytes() != b"" and -slots_sequence(f))
    with target.open("r+b") as file:
        file.write(whole[:cut])
        if cut < 60:
            file.write(b"\xff" * 100)
    assert reread(where) in (b"kept %d" % (turn - 1), b"torn" * 100 if cut == SIZE - 1 else b"kept %d" % (turn - 1))


def slots_sequence(path):
    found = module._unpack(path.read_bytes())
    return found[0] if found else 0


@pytest.mark.parametrize("spoil", [b"", b"x", b"\0" * SIZE, b"\xff" * SIZE])
def test_no_readable_slot_is_an_error_and_never_empty(slots, where, spoil):
    slots.load()
    slots.save(b"term 9")
    for file in files(where):
        file.write_bytes(spoil)
    with pytest.raises(SlotError, match="neither slot"):
        reread(where)


def test_one_gone_and_the_other_spoiled_is_an_error(slots, where):
    slots.load()
    slots.save(b"term 9")
    files(where)[0].unlink()
    files(where)[1].write_bytes(b"x" * SIZE)
    with pytest.raises(SlotError, match="the other is not readable"):
        reread(where)


@pytest.mark.parametrize("number", [0, 1])
def test_one_slot_gone_is_made_anew(slots, where, number):
    slots.load()
    slots.save(b"one")
    slots.save(b"two")
    files(where)[number].unlink()
    assert reread(where) in (b"one", b"two")
    again = Slots(str(where))
    again.load()
    again.save(b"three")
    assert reread(where) == b"three"


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("spoil", ["flip", "empty", "gone", "zeroes", "half"])
@pytest.mark.parametrize("saves", [1, 2, 3])
def test_one_corrupt_slot_brings_nothing_old_back_and_is_mended(slots, where, number, spoil, saves):
    slots.load()
    for each in range(saves):
        slots.save(b"payload %d" % each)
    hurt = files(where)[number]
    data = bytearray(hurt.read_bytes())
    data[54] ^= 1
    {
        "flip": lambda: hurt.write_bytes(bytes(data)),
        "empty": lambda: hurt.write_bytes(b""),
        "gone": hurt.unlink,
        "zeroes": lambda: hurt.write_bytes(b"\0" * SIZE),
        "half": lambda: hurt.write_bytes(hurt.read_bytes()[:30]),
    }[spoil]()
    again = Slots(str(where))
    again.prepare()
    assert again.load() == b"payload %d" % (saves - 1)
    said = again.mend()
    if spoil != "gone":
        assert "state.%d was not readable" % number in said and "copied" in said
    elif saves > 1:
        assert "state.%d was empty" % number in said
    files(where)[1 - number].unlink()
    assert reread(where) == b"payload %d" % (saves - 1), "the mended one alone"
    assert again.mend() == ""


def test_a_slot_that_cannot_be_mended_is_said_and_what_stands_is_read(slots, where, monkeypatch):
    slots.load()
    slots.save(b"one")
    files(where)[0].write_bytes(b"")
    again = Slots(str(where))
    assert again.load() == b"one"

    def fails(_descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(SlotError, match="state.0 cannot be written"):
        again.mend()
    monkeypatch.undo()
    files(where)[0].write_bytes(b"")
    assert "state.0 was not readable" in again.mend() and reread(where) == b"one"


def test_slots_that_an_earlier_version_wrote_in_turn_are_made_alike(slots, where):
    for number, payload in enumerate((b"older", b"newer")):
        with files(where)[number].open("r+b") as file:
            file.write(module._pack(number + 4, payload))
    again = Slots(str(where))
    assert again.load() == b"newer" and again.mend() == ""
    files(where)[1].write_bytes(b"")
    assert reread(where) == b"newer"


def test_another_layout_is_named_and_not_taken_for_a_broken_one(slots, where):
    for file in files(where):
        file.write_bytes(b"PWSLOT2\n" + b"whatever" * 100)
    with pytest.raises(SlotError, match="PWSLOT2.*install the newer one"):
        reread(where)


# How a save goes on after it failed at its n-th call: 2 is the second slot, 3 the attempt to take the first one back.
@pytest.mark.parametrize("call", ["open", "pwrite", "fsync"])
@pytest.mark.parametrize("fails_at", [(1,), (2,), (2, 3)])
def test_a_save_that_fails_is_taken_back_where_one_slot_stays_whole(slots, where, monkeypatch, call, fails_at):
    slots.load()
    slots.save(b"one")
    real, calls = getattr(os, call), []

    def fails(*arguments):
        calls.append(1)
        if len(calls) in fails_at:
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments)

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(SlotError):
        slots.save(b"two")
    monkeypatch.undo()
    found = slots.load()
    if fails_at == (2,) and call != "fsync":  # the second slot was not touched, so the first one could be taken back
        assert found == b"one"
    assert found in (b"one", b"two") and reread(where) == found
    slots.mend()
    slots.save(b"three")
    assert [module._unpack(f.read_bytes())[1] for f in files(where)] == [b"three"] * 2


def test_a_full_disk_does_not_stop_a_save(slots, where, monkeypatch):
    """Everything that would need a new block fails; the slots were allocated before."""

    def full(*_arguments, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    slots.load()
    for name in ("rename", "replace", "mkdir", "link", "truncate"):
        monkeypatch.setattr(os, name, full)
    monkeypatch.setattr("builtins.open", full)
    real = os.open

    def only_existing(path, flags, *more):
        if flags & (os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            full()
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", only_existing)
    slots.save(b"on a full disk")
    monkeypatch.undo()
    assert reread(where) == b"on a full disk"


def test_no_room_for_the_slots_is_said(where, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Slots, "_allocate", full)
    with pytest.raises(SlotError, match="No space left"):
        Slots(str(where)).prepare()


def test_a_crash_while_allocating_is_healed(where, monkeypatch):
    where.mkdir(parents=True)
    (where / "state.0.new").write_bytes(b"half")
    assert reread(where) == b""
    slots = Slots(str(where))
    slots.load()
    slots.save(b"x")
    assert reread(where) == b"x"


@pytest.mark.parametrize("broken", ["fsync", "pwrite", "open"])
def test_a_save_that_fails_keeps_the_last_one_and_can_be_repeated(slots, where, monkeypatch, broken):
    slots.load()
    slots.save(b"one")

    def fails(*_arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, broken, fails)
    with pytest.raises(SlotError, match="cannot be written"):
        slots.save(b"two")
    monkeypatch.undo()
    assert reread(where) in (b"one", b"two")
    slots.save(b"three")
    assert reread(where) == b"three"


def test_a_short_write_is_no_success(slots, where, monkeypatch):
    slots.load()
    slots.save(b"one")
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:40], at))
    with pytest.raises(SlotError, match="40 of"):
        slots.save(b"two")
    monkeypatch.undo()
    assert reread(where) == b"one"


def test_what_is_too_large_is_refused_before_anything_is_written(slots, where):
    slots.load()
    slots.save(b"x" * CAPACITY)
    with pytest.raises(SlotError, match="exceeds"):
        slots.save(b"x" * (CAPACITY + 1))
    assert reread(where) == b"x" * CAPACITY


def test_descriptors_do_not_leak(slots, where, monkeypatch):
    slots.load()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        slots.save(b"%d" % number)
        Slots(str(where)).load()
    assert len(os.listdir("/proc/self/fd")) == before
