"""Could xapi load this database, as far as one pass over its rows shows? Pure.

What is named here ends xapi's start; each new process ends in the same place (systemd starts them for ever):

* a manifest without ``generation_count`` (xapi: ocaml/database/db_xml.ml, From.database), and a row without ``ref``
  (the same, deser_row);
* no row in ``pool``: xapi would make a new pool (ocaml/xapi/dbsync_master.ml, create_pool_record);
* a reference of the network's rows to a row that is not there: PIF to VLAN and Bond, VLAN and Bond to PIF, the
  management PIF to its network. They are followed while the management interface is brought up (ocaml/xapi/nm.ml).

What xapi itself mends is no fault: it removes PBDs, VBDs and VIFs whose other end is gone (ocaml/xapi/db_gc_util.ml),
and goes on past a PBD without an SR (ocaml/xapi/create_storage.ml, storage_access.ml).
"""

from typing import Dict, List, NamedTuple, Set, Tuple

Reference = NamedTuple("Reference", [("table", str), ("column", str), ("to", str), ("ref", str)])

NULL = ("", "OpaqueRef:NULL")
# Table and column: the table of the row that it names.
FOLLOWED = {
    "PIF": (("VLAN_master_of", "VLAN"), ("bond_slave_of", "Bond")),
    "VLAN": (("tagged_PIF", "PIF"), ("untagged_PIF", "PIF")),
    "Bond": (("master", "PIF"),),
}  # type: Dict[str, Tuple[Tuple[str, str], ...]]
NAMED = ("PIF", "VLAN", "Bond", "network")
MOST_ROWS = 100000  # of these tables; beyond that nothing is said
MOST_FAULTS = 3


class Soundness(object):
    """Takes the rows of one file as they come; ``faults`` once all of them have come."""

    def __init__(self) -> None:
        self._rows: Dict[str, Set[str]] = {name: set() for name in NAMED}
        self._followed: List[Reference] = []
        self._numbered = False
        self._pools = self._taken = 0
        self._without_ref: List[str] = []

    def pair(self, key: str, value: str) -> None:
        """One pair of the manifest."""
        self._numbered = self._numbered or (key == "generation_count" and _number(value))

    def row(self, table: str, attributes: Dict[str, str]) -> None:
        """One row of any table."""
        if "ref" not in attributes and len(self._without_ref) < MOST_FAULTS:
            self._without_ref.append("a row of %.40s has no reference" % table)
        if table == "pool":
            self._pools += 1
        if table not in NAMED or self._taken > MOST_ROWS:
            return
        self._taken += 1
        self._rows[table].add(attributes.get("ref", ""))
        followed = FOLLOWED.get(table, ())
        if table == "PIF" and attributes.get("management") == "true":
            followed += (("network", "network"),)
        for column, to in followed:
            ref = attributes.get(column, "")
            if ref not in NULL:
                self._followed.append(Reference(table, column, to, ref))

    def faults(self) -> Tuple[str, ...]:
        """The first faults, in words; empty: none is seen."""
        found = [] if self._numbered else ["its manifest has no generation_count"]
        found += [] if self._pools else ["it has no row of the pool"]
        found += self._without_ref
        if self._taken <= MOST_ROWS:
            found += [
                "missing row: %s %.60s, which a %s names as its %s" % (each.to, each.ref, each.table, each.column)
                for each in self._followed
                if each.ref not in self._rows[each.to]
            ]
        return tuple(found[:MOST_FAULTS])


def _number(text: str) -> bool:
    return text.isdigit() and len(text) <= 18
