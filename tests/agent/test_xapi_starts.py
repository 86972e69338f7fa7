"""xapi's processes are counted: which starts nobody has asked for, and since when one is gone."""

from poolwarden_agent.core import orders, xapi_starts
from poolwarden_agent.core.host_now import NO_PROCESS, Process
from poolwarden_agent.core.xapi_starts import NONE_SEEN, WINDOW_MS

from .test_observing import look

MASTER, MEMBER = ("master", ""), ("member", "10.0.0.1")


def after(*seen, **kept):
    """Looks two seconds apart: a process's number (0: none), or that number and a role."""
    starts, now = kept.get("starts", NONE_SEEN), kept.get("now", 1000)
    for each in seen:
        number, role = each if isinstance(each, tuple) else (each, MASTER)
        now += 2000
        starts = xapi_starts.looked(starts, Process(number, number) if number else NO_PROCESS, role, now)
    return starts


def test_the_first_process_is_nobodys_fault():
    assert after(1).began == () and after(0, 0, 1, 1).began == () and after(1).ended_ms == 0


def test_each_other_process_is_counted_once_and_tells_when_the_one_before_was_gone():
    starts = after(1, 2, 2, 3)
    assert len(starts.began) == 2 and starts.ended_ms == 9000
    assert len(after(1, 0, 0, 2).began) == 1
    assert after(1, 0, 0, 2).ended_ms == 5000, "found gone before the next one began"


def test_the_same_process_again_is_no_start():
    assert after(1, 0, 1).began == ()


def test_a_start_that_was_asked_for_is_not_counted_and_the_next_one_is():
    asked = xapi_starts.asked(after(1), 4000)
    assert after(2, starts=asked, now=4000).began == ()
    assert len(after(2, 3, starts=asked, now=4000).began) == 1


def test_what_was_asked_for_long_ago_excuses_nothing():
    asked = xapi_starts.asked(after(1), 4000)
    assert len(after(1, 2, starts=asked, now=4000 + xapi_starts.ASKED_MS).began) == 1


def test_a_restart_for_another_role_is_somebodys_order():
    assert after((1, MEMBER), (1, MASTER), (2, MASTER)).began == ()
    assert after((1, MEMBER), (2, ("member", "10.0.0.2"))).began == ()
    assert len(after((1, MEMBER), (1, MASTER), (2, MASTER), (3, MASTER)).began) == 1


def test_starts_are_forgotten_after_ten_minutes():
    starts = after(1, 2, 3)
    assert len(starts.began) == 2
    assert after(3, starts=starts, now=7000 + WINDOW_MS).began == ()


def test_no_more_are_remembered_than_fit():
    assert len(after(*range(1, 200)).began) == xapi_starts.MOST


def test_the_report_tells_them(port, side):
    first = look(side).xapi
    assert (first.unasked_starts, first.ended_mono_ms) == (0, 0)
    port.new_process()
    told = look(side).xapi
    assert told.unasked_starts == 1 and told.ended_mono_ms == port.now
    side.observer.start_asked()
    port.new_process()
    assert look(side).xapi.unasked_starts == 1


def test_every_kind_of_order_that_ends_xapis_process_says_so():
    from poolwarden_agent.host.executor import _STARTING

    assert set(_STARTING) == {
        orders.Promote,
        orders.Repoint,
        orders.RestartXapi,
        orders.ToolstackFence,
        orders.ToolstackRelease,
        orders.DesignateMaster,
    }


def test_soundness_is_of_the_very_file_that_is_there(port, side):
    """One that was written anew has not been read, whatever its number."""
    from poolwarden_agent.dom0.xapi.database import View

    port.written_s = 100
    view = View(True, port.source[1], port.source[0], (), port.pool, False, "", (), False, "a row is missing")
    port.database = lambda: view
    port.database_written_s = lambda: port.written_s
    side.observer.look_at_host()
    told = look(side).database
    assert told.sound == 2 and told.unsound_text == "a row is missing"
    port.written_s = 101
    port.now += 1000
    side.observer.look_at_host()
    assert look(side).database.sound == 0
