"""What the serving master's xapi is asked and told through its own session. ``ask(method, *params)`` makes one call.

xapi's own rules (xapi: ocaml/xapi/xapi_pool.ml, xapi_host.ml, xapi_vm_helpers.ml): sync_database and
designate_new_master raise HOST_OFFLINE if any host is away; recover_slaves ignores every error and returns whom it
reached; declare_dead refuses a host that answers (HOST_IS_LIVE); start_on refuses a VM that is not halted. None of them
has a limit in time: ``ask`` keeps it.

Each order makes one call that changes something, and reads around it. Reading may take xapi minutes, and what the order
rests on ages meanwhile: right before that call it is asked once more whether it may still begin. Where the call never
reached xapi nothing began: the order is refused then, and its id is not used up.
"""

import time
import xmlrpc.client
from typing import Any, Callable, Dict, List, Tuple

from poolwarden_agent.core.orders import (
    DONE,
    FAILED,
    REFUSED,
    UNKNOWN,
    DeclareHostDead,
    DesignateMaster,
    EnableHost,
    Order,
    RecoverMembers,
    StartVm,
    SyncDatabase,
)
from poolwarden_agent.core.start_wish import start_wish
from poolwarden_agent.dom0.xapi.errors import XapiError, XapiFault, XapiTimeout
from poolwarden_agent.host_port import Act, VmPlace

Ask = Callable[..., Any]
Late = Callable[[], str]  # why an order must not begin any more; empty: it may
LONGEST_REFUSAL = 200
LOOK_BACK_S = 86400
NULL_REF = "OpaqueRef:NULL"
# Which parameter of a refusal names what is missing, and how its name is learnt.
_MISSING = {"VM_REQUIRES_SR": "SR", "VM_REQUIRES_NETWORK": "network", "VM_REQUIRES_VDI": "VDI"}


def serve(ask: Ask, order: Order, late: Late) -> Act:
    """Carry out an order of order_kinds.SERVING, unless it is ``late`` once xapi has told what it is about."""
    return _carried_out(ask, lambda noted: _ORDERS[order.kind](noted, order.body), late)


def _in_time() -> str:
    return ""


def _carried_out(ask: Ask, work: Callable[[Ask], str], late: Late) -> Act:
    calls: List[str] = []

    def noted(method: str, *params: Any) -> Any:
        # safety: a host that read OFF when this was ordered may have power by now, or another collector the pool.
        why = late() if method in _CHANGING else ""
        if why:
            raise TooLate(why)
        calls.append(method)
        return ask(method, *params)

    try:
        return Act(DONE, work(noted))
    except TooLate as why_not:
        return Act(REFUSED, "not begun: %s" % why_not)
    except NotWished as why:
        return Act(FAILED, "not started: %s" % why)
    except XapiFault as fault:
        return Act(FAILED, "xapi refused it: %s" % fault)
    except XapiError as error:
        begun = [method for method in calls if method in _CHANGING]
        if not begun or (calls[-1] == begun[-1] and not error.asked):
            return Act(REFUSED, "xapi could not be asked: %s" % error)
        if isinstance(error, XapiTimeout):
            return Act(UNKNOWN, "xapi did not answer in time; it may go on by itself")
        return Act(UNKNOWN, "xapi: %s" % error)


def _sync(ask: Ask, _order: SyncDatabase) -> str:
    ask("pool.sync_database")
    return "every host has the present database"


def _designate(ask: Ask, order: DesignateMaster) -> str:
    ask("pool.designate_new_master", ask("host.get_by_uuid", order.host))
    return "xapi accepted pool.designate_new_master"


def _declare_dead(ask: Ask, order: DeclareHostDead) -> str:
    ask("host.declare_dead", ask("host.get_by_uuid", order.host))
    return "xapi accepted host.declare_dead"


def _enable(ask: Ask, order: EnableHost) -> str:
    ask("host.enable", ask("host.get_by_uuid", order.host))
    return "xapi accepted host.enable"


def _recover(ask: Ask, _order: RecoverMembers) -> str:
    reached = ask("pool.recover_slaves")
    return "%d members were told to follow" % (len(reached) if isinstance(reached, list) else 0)


class TooLate(Exception):
    """What an order rests on has aged while xapi was asked; the text says how."""


class NotWished(Exception):
    """By policy a VM is started only while its owner wishes it; the text says what he wishes, or what is against it."""


def _start(ask: Ask, order: StartVm) -> str:
    vm, host = ask("VM.get_by_uuid", order.vm), ask("host.get_by_uuid", order.host)
    if order.only_if_wished:
        # safety: its owner may have taken his wish back, halted it for good or started it since it was asked for.
        try:
            wish = start_wish(ask("VM.get_record", vm))
        except (LookupError, TypeError, AttributeError) as error:
            raise NotWished("its record has another shape: %s" % str(error)[:LONGEST_REFUSAL]) from error
        if not wish.wished or wish.against:
            raise NotWished(wish.against or "its owner does not wish it any more")
    try:
        ask("VM.start_on", vm, host, False, False)
    except XapiFault as fault:
        # The same order may have started it before its answer was lost.
        if fault.code != "VM_BAD_POWER_STATE" or not _runs_on(ask, vm, host):
            raise
        return "it runs there already"
    return "it has been started there"


def _runs_on(ask: Ask, vm: str, host: str) -> bool:
    return bool(ask("VM.get_power_state", vm) == "Running" and ask("VM.get_resident_on", vm) == host)


_CHANGING = (
    "pool.sync_database", "pool.designate_new_master", "host.declare_dead", "host.enable", "pool.recover_slaves",
    "VM.start_on", "message.create",
)  # fmt: skip
_ORDERS: Dict[str, Callable[[Ask, Any], str]] = {
    "sync_database": _sync,
    "designate_master": _designate,
    "declare_host_dead": _declare_dead,
    "enable_host": _enable,
    "recover_members": _recover,
    "start_vm": _start,
}


def show(ask: Ask, order: Order, look_ms: int) -> Act:
    """Make a message about the own pool; ``look_ms``: the wall clock, where the last day's are to be looked at first.

    Its file may not be writable: then xapi answers the null reference (xapi: ocaml/xapi/xapi_message.ml).
    """
    wanted, mark = order.body, "Poolwarden %s" % order.body.key

    def work(ask: Ask) -> str:
        if look_ms:
            since = time.strftime("%Y%m%dT%H:%M:%SZ", time.gmtime(look_ms // 1000 - LOOK_BACK_S))
            told = ask("message.get", "Pool", order.pool, xmlrpc.client.DateTime(since))
            if any(str(each.get("body", "")).endswith(mark) for each in told.values()):
                return "xapi shows it already"
        body = "%s\n\n%s" % (wanted.body, mark)
        made = ask("message.create", wanted.name, str(wanted.priority), "Pool", order.pool, body)
        if made == NULL_REF:
            raise XapiFault("OpaqueRef:NULL", ("xapi could not write the message to its disk",))
        return "xapi shows it"

    try:
        return _carried_out(ask, work, _in_time)
    except (LookupError, TypeError, AttributeError) as error:  # not the shape of xapi's answer
        return Act(FAILED, "xapi's list of messages cannot be read: %s" % error)


def locate(ask: Ask, vms: List[str]) -> List[VmPlace]:
    """Where each VM could start now, as far as there is time."""
    found: List[VmPlace] = []
    try:
        hosts = ask("host.get_all_records")
        where = {str(ref): (str(host["uuid"]), str(host["name_label"])) for ref, host in hosts.items()}
    except (XapiError, LookupError, TypeError, AttributeError) as error:
        return [_unknown(vm, error) for vm in vms]
    for vm in vms:
        try:
            found.append(_locate(ask, vm, where))
        except (XapiError, LookupError, TypeError, AttributeError) as error:
            found.append(_unknown(vm, error))
    return found


def _unknown(vm: str, error: Exception) -> VmPlace:
    said = "xapi did not answer in time" if isinstance(error, XapiTimeout) else str(error)
    return VmPlace(vm, "", "", (), said[:LONGEST_REFUSAL], None)


def _locate(ask: Ask, vm: str, where: Dict[str, Tuple[str, str]]) -> VmPlace:
    ref = ask("VM.get_by_uuid", vm)
    record = ask("VM.get_record", ref)
    name, power, wish = str(record["name_label"]), str(record["power_state"]), start_wish(record)
    possible = set(ask("VM.get_possible_hosts", ref))
    hosts = [(uuid, "" if host in possible else _refusal(ask, ref, host, where)) for host, (uuid, _) in where.items()]
    return VmPlace(vm, name, power, tuple(sorted(hosts)), "", wish)


def _refusal(ask: Ask, vm: str, host: str, where: Dict[str, Tuple[str, str]]) -> str:
    """Why a VM cannot start on a host, with names in place of references."""
    try:
        ask("VM.assert_can_boot_here", vm, host)
    except XapiFault as fault:
        words = [fault.code]
        for param in (str(param) for param in fault.params):
            if param in where:
                words.append(where[param][1])
            elif param != vm and param.startswith("OpaqueRef:"):
                words += _name_of(ask, fault.code, param)
            elif param != vm:
                words.append(param)
        return " ".join(words)[:LONGEST_REFUSAL]
    return "xapi does not count it among the possible hosts"


def _name_of(ask: Ask, code: str, ref: str) -> List[str]:
    if code not in _MISSING:
        return []
    try:
        return [str(ask(_MISSING[code] + ".get_name_label", ref))]
    except XapiFault:
        return []
