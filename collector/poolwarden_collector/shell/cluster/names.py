"""The keys below the installation's prefix: what stands where, and whose lease each is under.

    members/<collector>               where it is reached, how much it has to do   lease of that process
    owners/<pool>                     who may act there; created at R              the same lease
    handed/<pool>                     that the last owner gave it up in order      none
    pools/<pool>/record               the folded record, up to which entry         none
    pools/<pool>/journal/<number>     the commits since, by their first entry      none
    told/<pool>                       up to which commit channels and hooks know   none
    assign/<pool>                     whom it should belong to; advice alone       none
    assigner                          who writes the advice                        lease of that process
    sites/<site>/<collector>          how many agents are silent there             lease of that process
    enrolment/changes                 which rows of enrolment changed last         none
    enrolment/rows/<kind>/<key>       tokens, keys, certificates, denials          none
    generation                        raised by a person after a restore           none
    moved                             a move to or from one collector's file       none

A name from elsewhere (a pool's UUID, a collector's, a site's) is quoted, so that none reaches into another's keys.
Owners stand beside each other, so that all of them are one read.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from poolwarden_collector.core.model.values import PoolId

DEFAULT_PREFIX = "poolwarden"
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Names:
    """Keys below ``prefix``, which two installations on one etcd have each their own."""

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        if not self.prefix or self.prefix.strip("/") != self.prefix or not self.prefix.isprintable():
            raise ValueError(f"{self.prefix!r} is no prefix; expected a word, without a slash at its ends")

    @property
    def generation(self) -> str:
        """How often etcd was restored."""
        return f"{self.prefix}/generation"

    @property
    def moved(self) -> str:
        """That the installation is being moved, or was moved away (shell/migration)."""
        return f"{self.prefix}/moved"

    @property
    def assigner(self) -> str:
        """Who gives the advice."""
        return f"{self.prefix}/assigner"

    @property
    def members(self) -> str:
        """What all members' keys begin with."""
        return f"{self.prefix}/members/"

    @property
    def pools(self) -> str:
        """What all pools' keys begin with."""
        return f"{self.prefix}/pools/"

    @property
    def owners(self) -> str:
        """What all owners' keys begin with."""
        return f"{self.prefix}/owners/"

    @property
    def advice(self) -> str:
        """What the advice for each pool begins with."""
        return f"{self.prefix}/assign/"

    @property
    def sites(self) -> str:
        """What all counts of sites begin with."""
        return f"{self.prefix}/sites/"

    @property
    def enrolment_changes(self) -> str:
        """The last changes of enrolment."""
        return f"{self.prefix}/enrolment/changes"

    @property
    def enrolment_rows(self) -> str:
        """What all rows of enrolment begin with."""
        return f"{self.prefix}/enrolment/rows/"

    def enrolment_row(self, kind: str, key: str) -> str:
        """One row of enrolment."""
        return f"{self.enrolment_rows}{_one(kind)}/{_one(key)}"

    def member(self, collector: str) -> str:
        """One collector."""
        return self.members + _one(collector)

    def of_pool(self, pool: PoolId) -> str:
        """What all keys of a pool begin with."""
        return f"{self.pools}{_one(pool)}/"

    def owner(self, pool: PoolId) -> str:
        """Who owns a pool."""
        return self.owners + _one(pool)

    def handed(self, pool: PoolId) -> str:
        """How its last owner gave it up."""
        return f"{self.prefix}/handed/{_one(pool)}"

    def told(self, pool: PoolId) -> str:
        """Up to which commit all is told."""
        return f"{self.prefix}/told/{_one(pool)}"

    def record(self, pool: PoolId) -> str:
        """What its entries have been folded to."""
        return f"{self.of_pool(pool)}record"

    def journal(self, pool: PoolId) -> str:
        """What all its commits begin with."""
        return f"{self.of_pool(pool)}journal/"

    def commit(self, pool: PoolId, number: int) -> str:
        """The commit whose first entry has this number; in the order of numbers."""
        return f"{self.journal(pool)}{number:0{_DIGITS}d}"

    def assigned(self, pool: PoolId) -> str:
        """The advice for one pool."""
        return self.advice + _one(pool)

    def site(self, site: str, collector: str) -> str:
        """One collector's count of one site."""
        return f"{self.sites}{_one(site)}/{_one(collector)}"

    def parts(self, key: str) -> tuple[str, ...]:
        """What a key is made of, below the prefix; empty for a key of somebody else's."""
        if not key.startswith(f"{self.prefix}/"):
            return ()
        return tuple(unquote(part.removeprefix("=")) for part in key.removeprefix(f"{self.prefix}/").split("/"))


def _one(name: str) -> str:
    """A name as one part of a key; the empty one (a site may have none) as well."""
    return quote(name, safe="") or "="
