"""A hook that is to run again, at an operator's word: he has mended what it failed for, or what it keeps up to date.

Rules
-----
* It runs for the pool's newest occasion, as it would have then: in its turn, with the same ``id``, with what was told
  then. Nothing is run here; who asked is journaled, and what comes of it like any other run.
* What was never told to hooks cannot be told again: a pool without an occasion is refused, as is what may not be run.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from poolwarden.v1 import operator_pb2 as pb
from poolwarden_collector.core.model.values import PoolId
from poolwarden_collector.nearest import did_you_mean
from poolwarden_collector.shell.hooks import trust
from poolwarden_collector.shell.operators import access
from poolwarden_collector.shell.operators.names import Unknown
from poolwarden_collector.shell.plain_text import printable
from poolwarden_collector.shell.store.journal import Journal, JournalError

if TYPE_CHECKING:
    from poolwarden_collector.shell.loop.service import Service


async def run_again(service: Service, journal: Journal, pool: PoolId, name: str, actor: str) -> pb.CommandReply:
    """Raises Unknown where there is no such hook."""
    directory = service.roster.config.hooks.directory
    if directory is None:
        return _refused("no-hooks", "this collector runs no hooks: its configuration has no [hooks]", "docs/hooks.md")
    hooks = {hook.name: hook for hook in (await asyncio.to_thread(trust.look, directory)).hooks}
    scoped = access.current().scoped
    if name not in hooks and scoped:  # the others are those of every pool, and where they lie is the collector's own
        raise Unknown(f"there is no hook {name!r}")
    if name not in hooks:
        there = ", ".join(hooks) or "none"
        raise Unknown(f"{directory} has no hook {name!r}{did_you_mean(name, list(hooks))}; there is: {there}")
    if refusal := hooks[name].refusal:
        text = f"hook {name} may not be run" + ("" if scoped else f": {printable(refusal)}")
        return _refused("hook-refused", text, "poolwarden doctor names every hook that would not run")
    try:
        what, rows = await service.write(journal.ask_hook_again, pool, name, actor)
    except JournalError as error:
        why = access.not_recorded(error)
        text = f"nothing was changed: the journal cannot be written: {why}"
        return _refused("journal", text, "poolwarden doctor tells more; try again once it can be written")
    shown = service.roster.pools[pool].record.display_name
    if not what:
        text = f"no hook was ever told anything of {shown}: the first is told when its master changes"
        return _refused("no-occasion", text, "docs/hooks.md tells how one is tried by hand")
    service.publish(rows)
    service.run_hooks()
    text = f"hook {name} runs again for {what}"
    return pb.CommandReply(accepted=True, text=text, next_step=f"what comes of it: poolwarden history {shown}")


def _refused(code: str, text: str, next_step: str) -> pb.CommandReply:
    return pb.CommandReply(accepted=False, code=code, text=text, next_step=next_step)
