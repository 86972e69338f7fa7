"""What a database has of one host: local repositories with their users, physical PIFs, edition, redo log."""

import pytest

from poolwarden_agent.core import host_records
from poolwarden_agent.core.host_records import HostRows, LocalRepository
from poolwarden_agent.dom0.system.surroundings import Reader
from poolwarden_agent.dom0.xapi import database as statedb
from poolwarden_agent.host.host_side import HostSide
from poolwarden_agent.messages.installation import installation

from .fake_port import FakePort
from .tree import HOST, OTHER, POOL

GIB = 1024**3


def row(ref, **columns):
    columns = dict({"ref": ref, "uuid": "u-" + ref}, **columns)
    return "<row %s/>" % " ".join('%s="%s"' % pair for pair in sorted(columns.items()))


def vm(ref, state="Halted", **more):
    return row(ref, **dict({"name__label": ref + "%.1", "power_state": state}, **more))


TABLES = {
    "PBD": [row("p1", host="h1", SR="s1"), row("p2", host="h2", SR="s2"), row("p3", host="h1", SR="s3"),
            row("p4", host="h1", SR="s4")],
    "PIF": [row("i1", host="h1", device="eth0", MAC="AA:00", physical="true"),
            row("i2", host="h1", device="bond0", MAC="AA:00", physical="false"),
            row("i3", host="h2", device="eth0", MAC="CC:00", physical="true")],
    "SR": [row("s1", shared="false", type="ext", name__label="Local%.storage"), row("s2", shared="false", type="lvm"),
           row("s3", shared="true", type="nfs"), row("s4", shared="false", type="udev", name__label="DVD")],
    "VBD": [row("b1", VM="v1", VDI="d1"), row("b2", VM="v2", VDI="d2"), row("b3", VM="v3", VDI="d3"),
            row("b4", VM="v4", VDI="OpaqueRef:NULL"), row("b5", VM="t1", VDI="d1"), row("b6", VM="v1", VDI="d2")],
    "VDI": [row("d1", SR="s1", virtual_size=str(2 * GIB)), row("d2", SR="s1", virtual_size=str(GIB)),
            row("d3", SR="s3", virtual_size="7"), row("d4", SR="s2", virtual_size="7"),
            row("d5", SR="s1", virtual_size="x")],
    "VM": [vm("v1", "Running"), vm("v2"), vm("v3", "Running"), vm("v4"), vm("v5", "Suspended", suspend_VDI="d5"),
           vm("t1", is_a_template="true"), vm("c1", "Running", is_control_domain="true")],
    "host": [row("h1", uuid=HOST, address="127.0.9.1", edition="enterprise"), row("h2", uuid=OTHER, edition="free")],
    "pool": [row("p", uuid=POOL, redo_log_enabled="true")],
}  # fmt: skip


def written(order, **changed):
    tables = dict(TABLES, **changed)
    body = "".join('<table name="%s">%s</table>' % (name, "".join(tables[name])) for name in order)
    return '<database><manifest><pair key="generation_count" value="42"/></manifest>%s</database>' % body


def records(tree, text, host=HOST):
    tree.put("var/lib/xcp/state.db", text)
    return statedb.view(str(tree.root), host).records


def test_the_most_that_can_be_told_is_a_small_part_of_a_report(tree):
    """However long names are: the collector takes 1 MiB of a report, and more would silence the host."""
    long = [row("s%d" % n, shared="false", type="ext", name__label="\u20ac" * 300) for n in range(100)]
    plugged = [row("p%d" % n, host="h1", SR="s%d" % n) for n in range(100)]
    disks = [row("d%d" % n, SR="s%d" % n, virtual_size="1") for n in range(100)]
    vms = [vm("v%d" % n, "Running" if n % 2 else "Halted", name__label="\u20ac" * 300) for n in range(40)]
    uses = [row("b%d.%d" % (n, m), VM="v%d" % m, VDI="d%d" % n) for n in range(100) for m in range(40)]
    text = written(sorted(TABLES), SR=long, PBD=plugged, VDI=disks, VM=vms, VBD=uses)
    found = records(tree, text)
    assert len(found.repositories) == host_records.MOST_REPOSITORIES
    assert len(installation(None, found).SerializeToString()) < 128 * 1024


@pytest.mark.parametrize("order", [sorted(TABLES), sorted(TABLES, reverse=True)])
def test_in_whatever_order_the_tables_come(tree, order):
    found = records(tree, written(order))
    assert found.repositories == (
        LocalRepository("u-s1", "Local storage", "ext", 3, 3 * GIB, ("v1 1",), ("v2 1", "v5 1"), 3),
        LocalRepository("u-s4", "DVD", "udev", 0, 0, (), (), 0),
    )
    assert [tuple(pif) for pif in found.pifs] == [("u-i1", "eth0", "aa:00")]
    assert (found.edition, found.redo_log) == ("enterprise", True)


def test_of_another_host_and_of_none(tree):
    text = written(sorted(TABLES))
    assert [each.uuid for each in records(tree, text, OTHER).repositories] == ["u-s2"]
    assert records(tree, text, "00000000-2222-3333-4444-555555555555") is None
    assert records(tree, text, "") is None
    assert records(tree, text[:-30]) is None, "what is cut off says nothing"


def test_more_rows_than_are_counted_are_no_part_of_an_answer(tree, monkeypatch):
    monkeypatch.setattr(host_records, "MOST_ROWS", 14)
    found = records(tree, written(sorted(TABLES)))
    assert found.repositories is None and found.pifs and found.edition == "enterprise"
    told = installation(None, found).records
    assert not told.repositories_known and not told.repositories


def test_names_are_few_and_their_number_is_told(tree):
    many = [vm("v%03d" % number) for number in range(70)]
    uses = [row("b%d" % number, VM="v%03d" % number, VDI="d1") for number in range(70)]
    (found, _) = records(tree, written(sorted(TABLES), VM=many, VBD=uses)).repositories
    assert (len(found.others), found.vms, found.running) == (8, 70, ())


def test_odd_rows_hurt_nobody(tree):
    odd = {"VDI": ["<row/>", row("d1", SR="s1", virtual_size="-5"), row("d2", SR="s1", virtual_size="9" * 30)]}
    odd["VDI"].append(row("d6", SR="s1", virtual_size="\u00b2"))
    found = records(tree, written(sorted(TABLES), **odd))
    assert (found.repositories[0].disks, found.repositories[0].bytes) == (3, 0)


def test_two_rows_of_one_host_are_none():
    rows = HostRows("u", str)
    for ref in ("a", "b"):
        rows.row("host", {"ref": ref, "uuid": "u"})
    assert rows.records() is None


class Surrounded(FakePort):
    """A host whose surroundings are looked at."""

    def __init__(self, around):
        self.around = around
        self.known = None
        super(Surrounded, self).__init__()

    def surroundings(self):
        return self.around

    def database(self):
        return super(Surrounded, self).database()._replace(records=self.known)


def test_it_is_told_once_and_again_when_it_changes(tree):
    port = Surrounded(Reader(str(tree.root), {}).read({}))
    side = HostSide(port)
    assert side.conversation.link_up()[1].report.HasField("installation")
    assert not side.conversation.report().report.HasField("installation")
    port.known = records(tree, written(sorted(TABLES)))
    port.source, port.now = ("var/lib/xcp/state.db", 43), port.now + 400000
    side.observer.look_at_host()
    told = side.conversation.report().report.installation.records
    assert told.edition == "enterprise" and told.repositories[0].vms == 3
    assert not side.conversation.report().report.HasField("installation")
