"""The demo's stories of several collectors: what happens to the one that owns the pool, and what must then be seen.

A story ends well when another collector owns the pool, hears every agent and says what ``must`` says, as the signs of
stories.py; a kind of ``never`` ends it at once as failed, whichever collector's journal has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolwarden_lab.demo.stories import Sign

_TAKEN = Sign("collector-started", "another collector owns the pool")
_HEALTHY = Sign("verdict", "it finds the pool healthy", (("verdict", "Healthy"),))
_NOBODY = ("decided", "claim-sent", "fence-intent", "promote-intent", "promoted", "blocked", "asked")


@dataclass(frozen=True, slots=True)
class SeveralStory:
    """One story. ``fault``: of the owner, ``move`` is an operator's word; ``master``: done to the pool's master before.

    ``when``: the owner's fault is done as soon as his journal has an entry of this kind; empty: at once.
    """

    name: str
    title: str
    fault: str
    must: tuple[Sign, ...]
    never: tuple[str, ...]
    outcome: str
    master: tuple[str, ...] = ()
    when: str = ""
    promotes: bool = False  # exactly one new master in the end
    handed: bool = False  # the pool was given up in order


STORIES: dict[str, SeveralStory] = {
    story.name: story
    for story in (
        SeveralStory(
            "kill-owner",
            "the collector that owns the pool loses power",
            "power",
            (_TAKEN, _HEALTHY),
            _NOBODY,
            "another collector owns the pool and hears every agent; nothing was begun in it meanwhile",
        ),
        SeveralStory(
            "kill-owner-mid-failover",
            "the master loses power, and its collector in the middle of the failover",
            "power",
            (
                _TAKEN,
                Sign("promoted", "the new master is verified"),
                Sign("closed", "every member is back and the failover is closed"),
            ),
            ("aborted", "superseded", "contrary-evidence", "device-quarantined"),
            "another collector went on with the failover: exactly one member was promoted, and every member follows it",
            master=("power",),
            when="claim-sent",
            promotes=True,
        ),
        SeveralStory(
            "cut-etcd",
            "the collector that owns the pool loses etcd, and still reaches every host",
            "cut-etcd",
            (_TAKEN, _HEALTHY),
            _NOBODY,
            "it acted nowhere, another collector owns the pool, and its agents found their way there",
        ),
        SeveralStory(
            "stop-owner",
            "the collector that owns the pool is stopped: systemctl stop",
            "stop",
            (_TAKEN, _HEALTHY),
            _NOBODY,
            "it handed the pool over before it ended; nothing of it was under way",
            handed=True,
        ),
        SeveralStory(
            "move",
            "an operator moves the pool to another collector",
            "move",
            (_TAKEN, _HEALTHY),
            _NOBODY,
            "the pool went to the collector that was named, in order",
            handed=True,
        ),
    )
}
