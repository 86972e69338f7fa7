"""What the serving master's view says of storage and busy tasks, and how seldom it asks for it."""

import pytest

from poolwarden.v1 import agent_link_pb2 as pb
from poolwarden_agent.dom0.xapi.errors import XapiFault, XapiTimeout
from poolwarden_agent.dom0.xapi.pool_view import MOST_NAMES, STORAGE_EVERY, PoolLook
from poolwarden_agent.messages import reports

POOL = {"uuid": "p", "name_label": "lab", "master": "h1", "ha_enabled": False, "other_config": {}, "default_SR": "sr1"}
HOSTS = {
    "h1": {"uuid": "u1", "name_label": "one", "address": "10.0.0.1", "enabled": True, "metrics": "m1"},
    "h2": {"uuid": "u2", "name_label": "two", "address": "10.0.0.2", "enabled": True, "metrics": "m2"},
}


def pbd(host, sr, attached):
    return {"host": host, "SR": sr, "currently_attached": attached}


class Xapi(object):
    """Answers from tables; counts what it is asked."""

    def __init__(self):
        self.calls = []
        self.answers = {
            "pool.get_all": ["p"],
            "pool.get_record": POOL,
            "host.get_all_records": HOSTS,
            "host_metrics.get_all_records": {"m1": {"live": True}, "m2": {"live": True}},
            "PBD.get_all_records": {},
            "task.get_all_records": {},
        }

    def __call__(self, method, *params):
        self.calls.append(method)
        if method == "SR.get_name_label":
            return "name of " + params[0]
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def storage(self, *pbds):
        self.answers["PBD.get_all_records"] = {str(number): item for number, item in enumerate(pbds)}

    def tasks(self, *tasks):
        self.answers["task.get_all_records"] = {
            str(number): {"name_label": name, "status": status} for number, (name, status) in enumerate(tasks)
        }


@pytest.fixture
def xapi():
    return Xapi()


def told(view):
    return [(h.host, h.unplugged, h.default_unplugged) for h in view.hosts]


def test_what_is_not_plugged_is_named_per_host(xapi):
    xapi.storage(pbd("h1", "sr1", True), pbd("h2", "sr1", False), pbd("h2", "sr2", False), pbd("h1", "sr2", False))
    view = PoolLook().look(xapi)
    assert told(view) == [
        ("u1", ("name of sr2",), False),
        ("u2", ("name of sr1", "name of sr2"), True),
    ]
    assert xapi.calls.count("SR.get_name_label") == 2
    message = reports.pool_view(view)
    assert list(message.hosts[1].unplugged_srs) == ["name of sr1", "name of sr2"]
    assert message.hosts[1].default_sr_unplugged and not message.hosts[0].default_sr_unplugged


def test_a_local_default_sr_is_missed_by_nobody_else(xapi):
    xapi.storage(pbd("h1", "sr1", True))
    assert told(PoolLook().look(xapi)) == [("u1", (), False), ("u2", (), False)]


def test_storage_is_asked_for_seldom_and_watched_while_something_is_wrong(xapi):
    look = PoolLook()
    xapi.storage(pbd("h1", "sr1", True))
    for _ in range(2 * STORAGE_EVERY):
        look.look(xapi)
    assert xapi.calls.count("PBD.get_all_records") == 2
    xapi.storage(pbd("h1", "sr1", False))
    seen = [told(look.look(xapi))[0][2] for _ in range(STORAGE_EVERY)]
    assert seen == [True] * STORAGE_EVERY and xapi.calls.count("PBD.get_all_records") == 2 + STORAGE_EVERY
    xapi.storage(pbd("h1", "sr1", True))
    assert told(look.look(xapi))[0] == ("u1", (), False), "and once more to see that it is plugged again"
    asked = xapi.calls.count("PBD.get_all_records")
    look.forget()
    look.look(xapi)
    assert xapi.calls.count("PBD.get_all_records") == asked + 1


@pytest.mark.parametrize(
    "name, busy",
    [
        ("VM.export", True),
        ("Async.VM.migrate_send", True),
        ("Async.VM.pool_migrate", True),
        ("[XO] Backup of web", True),
        ("Import of VDI disk 0", True),
        ("VDI.copy", True),
        ("host.evacuate", True),
        ("Async.VM.clean_shutdown", False),
        ("SR.scan", False),
        ("", False),
    ],
)
def test_only_what_a_restart_would_break_counts(xapi, name, busy):
    xapi.tasks((name, "pending"), (name, "success"))
    assert PoolLook().look(xapi).busy == ((name,) if busy else ())
    xapi.tasks((name, "success"), (name, "failure"), (name, "cancelled"))
    assert PoolLook().look(xapi).busy == ()


def test_many_tasks_are_bounded_and_told_once_each(xapi):
    xapi.tasks(*[("export %03d" % (n % 200), "pending") for n in range(400)])
    view = PoolLook().look(xapi)
    assert len(view.busy) == MOST_NAMES and view.busy[0] == "export 000"
    xapi.tasks(("export " + "x" * 1000, "pending"))
    assert len(PoolLook().look(xapi).busy[0]) == 100
    assert reports.pool_view(view) == pb.PoolView.FromString(reports.pool_view(view).SerializeToString())


@pytest.mark.parametrize("kind", ["PBD", "task"])
@pytest.mark.parametrize("error", [XapiTimeout("late"), XapiFault("INTERNAL_ERROR", [])])
def test_what_cannot_be_read_is_no_view(xapi, kind, error):
    xapi.answers[kind + ".get_all_records"] = error
    with pytest.raises(type(error)):
        PoolLook().look(xapi)
    xapi.answers[kind + ".get_all_records"] = XapiFault("MESSAGE_METHOD_UNKNOWN", [kind])
    assert PoolLook().look(xapi).busy == ()


@pytest.mark.parametrize(
    "record, words",
    [
        ({}, []),
        ({"pending_guidances": ["reboot_host", "restart_vm"]}, ["reboot_host", "restart_vm"]),
        ({"pending_guidances": [], "pending_guidances_recommended": ["restart_toolstack"]}, ["restart_toolstack"]),
        ({"updates_requiring_reboot": ["OpaqueRef:1"]}, ["reboot_host"]),
        ({"updates_requiring_reboot": []}, []),
        ({"other_config": {"boot_time": "100.", "rpm_patch_installation_time": "200.5"}}, ["reboot_host"]),
        ({"other_config": {"boot_time": "300.", "rpm_patch_installation_time": "200.5"}}, []),
        ({"other_config": {"rpm_patch_installation_time": "200.5"}}, []),
        ({"other_config": {"boot_time": "yesterday", "rpm_patch_installation_time": "200"}}, []),
        ({"pending_guidances": ["reboot_host", "Reboot it\nnow", "x" * 61]}, ["reboot_host"]),
    ],
)
def test_what_updates_still_need_is_told_in_the_words_of_every_age_of_xapi(xapi, record, words):
    xapi.answers["host.get_all_records"] = {"h1": dict(HOSTS["h1"], **record), "h2": HOSTS["h2"]}
    message = reports.pool_view(PoolLook().look(xapi))
    assert list(message.hosts[0].pending_guidances) == words
    assert not message.hosts[1].pending_guidances


def test_https_only_is_unknown_where_xapi_does_not_have_it(xapi):
    xapi.answers["host.get_all_records"] = {"h1": dict(HOSTS["h1"], https_only=False), "h2": HOSTS["h2"]}
    assert [h.https_only for h in PoolLook().look(xapi).hosts] == [False, None]
    xapi.answers["host.get_all_records"] = {"h1": dict(HOSTS["h1"], https_only=True), "h2": HOSTS["h2"]}
    message = reports.pool_view(PoolLook().look(xapi))
    assert [h.https_only for h in message.hosts] == [pb.YES, pb.TRISTATE_UNSPECIFIED]
