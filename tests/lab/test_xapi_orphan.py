"""A member without its master: what answers, what lies, what hangs, and how it comes out of it."""

import pytest

from poolwarden_lab.xapi.actions import Answer, Fault, Lost, PeerResult
from poolwarden_lab.xapi.virtual import TIMEOUT, VirtualPool

UP_MS = 60_000
LOGIN = ("root", "xenroot", "1.0", "test")


def orphaned_pool(**options: object) -> VirtualPool:
    pool = VirtualPool(3, **options)  # type: ignore[arg-type]
    pool.power_on_all()
    pool.run_until(UP_MS)
    pool.power_off("h1")
    return pool


def local(pool: VirtualPool, host: str, method: str, *params: object) -> PeerResult:
    return pool.call_now(host, "unix", method, (pool.local_session(host), *params))


def test_the_emergency_flag_of_a_running_orphan_stays_false() -> None:
    pool = orphaned_pool()
    for hours in (0, 1, 6):
        pool.run_until(UP_MS + hours * 3_600_000)
        assert local(pool, "h2", "host.is_in_emergency_mode") == Answer(False)
        assert local(pool, "h2", "host.local_assert_healthy") == Answer("")


def test_an_orphan_answers_what_needs_no_database() -> None:
    pool = orphaned_pool()
    pool.run_until(UP_MS + 300_000)
    assert pool.call_now("h2", "tcp", "system.isAlive:x", ("here",)) == Answer("here")
    assert pool.call_now("h2", "tcp", "session.login_with_password", LOGIN) == Fault("HOST_IS_SLAVE", ("10.99.0.11",))
    assert pool.call_now("h2", "tcp", "session.login_with_password", ("x", "x")) == Fault(
        "HOST_IS_SLAVE", ("10.99.0.11",)
    )


@pytest.mark.parametrize("wait_ms", [0, 200_000])
def test_a_login_on_the_unix_socket_hangs_for_ever(wait_ms: int) -> None:
    pool = orphaned_pool()
    pool.run_until(UP_MS + wait_ms)
    replies: list[PeerResult] = []
    pool.call("h2", "unix", "session.login_with_password", LOGIN, replies.append)
    pool.run_until(UP_MS + 6 * 3_600_000)
    assert replies == []
    assert local(pool, "h2", "host.is_in_emergency_mode") == Answer(False)


def test_a_queued_login_runs_when_the_old_master_comes_back() -> None:
    pool = orphaned_pool()
    replies: list[PeerResult] = []
    pool.call("h2", "unix", "session.login_with_password", LOGIN, replies.append)
    pool.run_until(UP_MS + 600_000)
    pool.power_on("h1")
    pool.run_until(UP_MS + 900_000)
    assert isinstance(replies[0], Answer)
    known = pool.call_now("h1", "tcp", "pool.get_all", (replies[0].value,))
    assert isinstance(known, Answer)


def test_a_forwarded_call_ends_as_http_500_after_minutes() -> None:
    pool = orphaned_pool()
    replies: list[tuple[int, PeerResult]] = []
    pool.call("h2", "unix", "pool.get_all", ("OpaqueRef:x",), lambda result: replies.append((pool.now, result)))
    pool.run_until(UP_MS + 500_000)
    assert [result for _, result in replies] == [Lost("http-500")]
    assert replies[0][0] - UP_MS == pytest.approx(300_000, abs=10)


def test_is_alive_over_a_members_unix_socket_asks_the_master() -> None:
    pool = VirtualPool(2)
    pool.power_on_all()
    pool.run_until(UP_MS)
    replies: list[PeerResult] = []
    pool.call("h2", "unix", "system.isAlive:x", ("echo",), replies.append)
    pool.run_until(UP_MS + 100)
    assert replies == [Answer("echo")]
    pool.power_off("h1")
    assert pool.call_now("h2", "unix", "system.isAlive:x", ("echo",)) == TIMEOUT


def test_is_slave_blocks_on_an_orphan() -> None:
    pool = orphaned_pool()
    assert local(pool, "h2", "pool.is_slave", "OpaqueRef:x") == TIMEOUT


def test_an_ordinary_session_hangs_on_an_orphans_tcp_and_is_told_where_the_master_is_before() -> None:
    pool = VirtualPool(2)
    pool.power_on_all()
    pool.run_until(UP_MS)
    session = pool.call_now("h1", "tcp", "session.login_with_password", LOGIN)
    assert isinstance(session, Answer)
    replies: list[PeerResult] = []
    pool.call("h2", "tcp", "pool.get_all", (session.value,), replies.append)
    pool.call("h2", "tcp", "pool.get_all", ("OpaqueRef:nobody",), replies.append)
    pool.run_until(UP_MS + 100)
    assert replies == [Fault("HOST_IS_SLAVE", ("10.99.0.11",)), Fault("SESSION_INVALID", ("OpaqueRef:nobody",))]
    pool.power_off("h1")
    assert pool.call_now("h2", "tcp", "pool.get_all", (session.value,)) == TIMEOUT


def test_a_reset_is_noticed_at_once_and_a_silent_death_after_two_minutes() -> None:
    pool = VirtualPool(3)
    pool.power_on_all()
    pool.run_until(UP_MS)
    pool.stop_xapi("h1")
    pool.run_until(UP_MS + 10)
    assert {entry.event.facts["why"] for entry in pool.events("db-link", since_ms=UP_MS)} == {"reset"}
    pool = orphaned_pool()
    pool.run_until(UP_MS + 120_000)
    assert not pool.events("db-link", since_ms=UP_MS)
    pool.run_until(UP_MS + 170_000)
    assert len(pool.events("db-link", since_ms=UP_MS)) == 2


def test_a_link_that_came_back_notices_the_next_reset_at_once() -> None:
    pool = orphaned_pool()
    pool.run_until(UP_MS + 200_000)
    pool.power_on("h1")
    pool.run_until(UP_MS + 900_000)
    assert str(pool.events("db-link", "h2")[-1].event) == "db-link state=ok"
    pool.stop_xapi("h1")
    pool.run_until(pool.now + 10)
    assert str(pool.events("db-link", "h2")[-1].event) == "db-link state=lost why=reset"


def test_the_link_is_tried_again_at_growing_distances_up_to_four_minutes() -> None:
    pool = VirtualPool(2)
    pool.power_on_all()
    pool.run_until(UP_MS)
    pool.stop_xapi("h1")
    pool.run_until(UP_MS + 1_200_000)
    pauses = [int(entry.event.facts["pause_ms"]) for entry in pool.events("db-link-retry", "h2", UP_MS)]
    assert pauses[:10] == [2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 256_000, 256_000]


def test_a_waiting_link_is_woken_by_is_slave() -> None:
    pool = VirtualPool(2)
    pool.power_on_all()
    pool.run_until(UP_MS)
    pool.stop_xapi("h1")
    pool.run_until(UP_MS + 500_000)  # the pause is 256 s by now
    pool.restart_xapi("h1")
    pool.run_until(UP_MS + 520_000)
    back = pool.events("db-link", "h2", UP_MS + 500_000)
    assert [str(entry.event) for entry in back] == ["db-link state=ok"]
    assert back[0].ms < UP_MS + 510_000


def test_a_restarting_orphan_blocks_with_a_false_flag_and_no_cookie() -> None:
    pool = orphaned_pool()
    pool.restart_xapi("h2")
    pool.run_until(UP_MS + 600_000)
    assert local(pool, "h2", "host.is_in_emergency_mode") == Answer(False)
    assert pool.call_now("h2", "tcp", "system.isAlive:x", ("x",)) == Answer("x")
    assert not pool.hosts["h2"].disk.exists("var/run/xapi_startup.cookie")
    assert "tls" in pool.hosts["h2"].doors  # stunnel outlives xapi within a boot
    assert local(pool, "h2", "pool.emergency_transition_to_master") == Answer("")
    pool.run_until(UP_MS + 640_000)
    assert pool.acting_masters() == ["h2"]


def test_an_orphan_that_boots_has_no_port_443() -> None:
    pool = orphaned_pool()
    pool.power_off("h2")
    pool.power_on("h2")
    pool.run_until(UP_MS + 60_000)
    assert pool.hosts["h2"].doors == {"unix", "tcp"}


def test_variant_b_has_a_true_flag_that_says_why() -> None:
    pool = orphaned_pool(variant="B")
    pool.restart_xapi("h2")
    pool.run_until(UP_MS + 60_000)
    assert local(pool, "h2", "host.is_in_emergency_mode") == Answer(True)
    reason = local(pool, "h2", "host.local_assert_healthy")
    assert isinstance(reason, Fault) and reason.code in ("INTERNAL_ERROR", "HOST_STILL_BOOTING")
    assert pool.call_now("h2", "tcp", "session.login_with_password", LOGIN) == reason
    assert pool.hosts["h2"].disk.exists("var/run/xapi_startup.cookie")
    pool.power_on("h1")
    pool.run_until(UP_MS + 120_000)
    assert local(pool, "h2", "host.is_in_emergency_mode") == Answer(False)


def test_a_host_unknown_to_its_master_says_so_and_tries_again_after_a_minute() -> None:
    pool = VirtualPool(2)
    pool.power_on("h1")
    pool.run_until(30_000)
    database = pool.hosts["h1"].model.database  # type: ignore[union-attr]
    assert database is not None
    database.table("host").pop(str(database.find("host", pool.hosts["h2"].uuid)))
    pool.power_on("h2")
    pool.run_until(60_000)
    assert local(pool, "h2", "host.local_assert_healthy") == Fault("HOST_UNKNOWN_TO_MASTER", (pool.hosts["h2"].uuid,))
    hellos = [entry.ms for entry in pool.events("hello")]
    pool.run_until(hellos[0] + 59_000)
    assert len(pool.events("hello")) == 1
    pool.run_until(hellos[0] + 62_000)
    assert len(pool.events("hello")) == 2


def test_a_wrong_pool_secret_restarts_a_running_member() -> None:
    pool = VirtualPool(2)
    pool.power_on_all()
    pool.run_until(UP_MS)
    pool.hosts["h1"].model.secret = "rotated"  # type: ignore[union-attr]
    pool.run_until(UP_MS + 31_000)
    assert str(pool.events("exit", "h2")[0].event) == "exit code=123"


@pytest.mark.parametrize("content", [b"broken", b"", b"slave:", b"garbage", None])
def test_an_unreadable_role_is_broken(content: bytes | None) -> None:
    pool = VirtualPool(1)
    disk = pool.hosts["h1"].disk
    if content is None:
        disk.remove("etc/xensource/pool.conf")
    else:
        disk.write("etc/xensource/pool.conf", content)
    pool.power_on("h1")
    pool.run_until(UP_MS)
    assert pool.call_now("h1", "tcp", "session.login_with_password", LOGIN) == Fault("HOST_BROKEN")
    assert local(pool, "h1", "host.is_in_emergency_mode") == Answer(True)
    pool.run_until(UP_MS + 120_000)
    assert str(pool.events("exit")[0].event) == "exit code=123"


def test_the_role_is_read_at_start_only() -> None:
    pool = VirtualPool(1)
    pool.power_on("h1")
    pool.run_until(UP_MS)
    pool.hosts["h1"].disk.write("etc/xensource/pool.conf", b"slave:10.0.0.9")
    assert isinstance(pool.call_now("h1", "unix", "session.login_with_password", ("root", "")), Answer)


def test_blocked_calls_use_up_the_unix_socket_until_nothing_is_answered() -> None:
    pool = orphaned_pool(unix_limit=8)
    for _ in range(8):
        assert pool.call_now("h2", "unix", "session.login_with_password", LOGIN) == TIMEOUT
    with pytest.raises(TimeoutError):
        pool.local_session("h2")
    assert pool.call_now("h2", "tcp", "system.isAlive:x", ("x",)) == Answer("x")


def test_a_hung_xapi_takes_calls_and_answers_them_when_it_wakes() -> None:
    pool = VirtualPool(1)
    pool.power_on("h1")
    pool.run_until(UP_MS)
    pool.hang_xapi("h1")
    replies: list[PeerResult] = []
    pool.call("h1", "tcp", "system.isAlive:x", ("x",), replies.append)
    assert pool.call_now("h1", "unix", "host.is_in_emergency_mode", ("x",)) == TIMEOUT
    pool.run_until(UP_MS + 60_000)
    assert replies == []
    pool.hang_xapi("h1", False)
    assert replies == [Answer("x")]


def test_a_frozen_host_does_nothing_until_it_thaws() -> None:
    pool = VirtualPool(2)
    pool.power_on_all()
    pool.run_until(UP_MS)
    pool.freeze("h1")
    replies: list[PeerResult] = []
    pool.call("h1", "tls", "system.isAlive:x", ("x",), replies.append, source="h2")
    pool.run_until(UP_MS + 60_000)
    assert replies == []
    pool.thaw("h1")
    pool.run_until(UP_MS + 61_000)
    assert replies == [Answer("x")]


def test_local_sessions_are_of_one_process_of_one_host() -> None:
    pool = VirtualPool(2)
    pool.power_on_all()
    pool.run_until(UP_MS)
    session = pool.local_session("h1")
    assert isinstance(pool.call_now("h1", "unix", "pool.get_all", (session,)), Answer)
    assert pool.call_now("h1", "unix", "session.local_logout", (session,)) == Answer("")
    assert pool.call_now("h1", "unix", "pool.get_all", (session,)) == Fault("SESSION_INVALID", (session,))
    session = pool.local_session("h1")
    pool.restart_xapi("h1")
    pool.run_until(UP_MS + 30_000)
    assert pool.call_now("h1", "unix", "pool.get_all", (session,)) == Fault("SESSION_INVALID", (session,))


def test_a_wrong_password_over_tcp_costs_time_and_the_unix_socket_asks_for_none() -> None:
    pool = VirtualPool(1)
    pool.power_on("h1")
    pool.run_until(UP_MS)
    replies: list[PeerResult] = []
    pool.call("h1", "tcp", "session.login_with_password", ("root", "wrong"), replies.append)
    pool.run_until(UP_MS + 4_900)
    assert replies == []
    pool.run_until(UP_MS + 5_100)
    assert isinstance(replies[0], Fault) and replies[0].code == "SESSION_AUTHENTICATION_FAILED"
    assert isinstance(pool.call_now("h1", "unix", "session.login_with_password", ("root", "wrong")), Answer)


def test_getters_answer_with_xenapis_types_and_faults() -> None:
    pool = VirtualPool(2)
    pool.power_on_all()
    pool.run_until(UP_MS)
    session = pool.local_session("h1")

    def get(method: str, *params: object) -> object:
        result = pool.call_now("h1", "unix", method, (session, *params))
        return result.value if isinstance(result, Answer) else result

    pools = get("pool.get_all")
    assert isinstance(pools, list)
    master = get("pool.get_master", pools[0])
    assert get("host.get_uuid", master) == pool.hosts["h1"].uuid
    assert get("session.get_this_host", session) == master
    assert get("host.get_enabled", master) is True
    assert get("pool.get_ha_enabled", pools[0]) is False
    assert get("pool.get_other_config", pools[0]) == {}
    metrics = get("host_metrics.get_all_records")
    assert isinstance(metrics, dict)
    assert {record["live"] for record in metrics.values()} == {True}
    assert all(isinstance(record["memory_total"], str) for record in metrics.values())
    assert get("host.get_uuid", "OpaqueRef:no") == Fault("HANDLE_INVALID", ("host", "OpaqueRef:no"))
    assert get("host.get_by_uuid", "no") == Fault("UUID_INVALID", ("host", "no"))
    assert get("host.fly") == Fault("MESSAGE_METHOD_UNKNOWN", ("host.fly",))
    assert isinstance(get("host.get_uuid"), Fault)
    methods = pool.call_now("h1", "tcp", "system.listMethods")
    assert isinstance(methods, Answer) and isinstance(methods.value, list)
    assert {"pool.get_all_records", "pool.emergency_reset_master", "VM.get_all_records"} <= set(methods.value)


def test_a_disabled_host_stays_disabled_over_a_restart() -> None:
    pool = VirtualPool(1)
    pool.power_on("h1")
    pool.run_until(UP_MS)
    session = pool.local_session("h1")
    ref = pool.call_now("h1", "unix", "host.get_by_uuid", (session, pool.hosts["h1"].uuid))
    assert isinstance(ref, Answer)
    assert pool.call_now("h1", "unix", "host.disable", (session, ref.value)) == Answer("")
    pool.restart_xapi("h1")
    pool.run_until(UP_MS + 60_000)
    session = pool.local_session("h1")
    assert pool.call_now("h1", "unix", "host.get_enabled", (session, ref.value)) == Answer(False)
    assert pool.call_now("h1", "unix", "host.enable", (session, ref.value)) == Answer("")
    assert pool.call_now("h1", "unix", "host.get_enabled", (session, ref.value)) == Answer(True)


def test_host_enable_is_refused_while_it_still_boots() -> None:
    pool = VirtualPool(1)
    pool.power_on("h1")
    pool.run_until(5_000)
    session = pool.local_session("h1")
    ref = pool.call_now("h1", "unix", "host.get_by_uuid", (session, pool.hosts["h1"].uuid))
    assert isinstance(ref, Answer)
    assert pool.call_now("h1", "unix", "host.enable", (session, ref.value)) == Fault("HOST_STILL_BOOTING")
