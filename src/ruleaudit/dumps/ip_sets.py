"""The faithful model of what ipset prints: sets, their properties and entries. KPR 9 says what kube-proxy keeps in them.

An entry is found by its canonical text, as ipset itself prints it: "10.96.0.1,tcp:443", "10.244.0.5,tcp:80,10.244.0.5",
"192.0.2.9,tcp:80,10.0.0.0/8", "30080"; IPv6 addresses in their shortest form, /32 and /128 left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from ruleaudit.addresses import parse_network
from ruleaudit.dumps.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ruleaudit.addresses import Network

__all__ = ["FLAGS", "Form", "IpSet", "IpSetDump", "SetEntry"]

Form: TypeAlias = Literal["save", "list", "xml", "names"]
SetEntry: TypeAlias = str
"""An entry in canonical form."""

FLAGS = frozenset(("counters", "comment", "skbinfo", "forceadd", "nomatch", "wildcard"))
"""Options of sets and entries that stand alone. (`comment` of an entry has a value.)"""
_NO_OPTIONS: Mapping[str, str] = {}


@dataclass(slots=True, eq=False)
class IpSet:
    """One set.

    `type` is as "hash:ip,port"; None where only the name is known. `family` is 4 or 6; None for types without one (bitmap:port,
    list:set) and where it is not known. `options` are those of its creation by their name, "" for flags. `entries` are the lines of
    the entries by their canonical text; None where the listing leaves them out (`ipset list -t` and `-n`), which is not the same as
    none. `size` is the number of entries that the listing itself gives. `line` is that which names the set, or adds the first entry
    where it was never created, which `declared` says. `whole`: the listing was not cut where it stands, so that what it lacks is not there.
    """

    name: str
    type: str | None
    family: Literal[4, 6] | None
    options: dict[str, str]
    line: int
    entries: dict[SetEntry, int] | None
    dump: IpSetDump = field(repr=False)
    entry_options: dict[SetEntry, dict[str, str]] = field(default_factory=dict, repr=False)
    size: int | None = None
    references: int | None = None
    revision: int | None = None
    memory: int | None = None
    declared: bool = True
    whole: bool = True
    _networks: dict[str, list[tuple[Network, int]]] | None = field(default=None, repr=False)

    def __contains__(self, entry: object) -> bool:
        """Whether an entry stands in the set, by its canonical text. False where entries are not known: see `entries`."""
        return self.entries is not None and entry in self.entries

    def options_of(self, entry: SetEntry) -> Mapping[str, str]:
        """What an entry says besides itself: timeout, comment, packets, bytes, nomatch ("") and the like."""
        return self.entry_options.get(entry, _NO_OPTIONS)

    def may_be_cut(self, line: int) -> bool:
        """Whether the entry of a line may be the beginning of another one: nothing ends it."""
        return not self.whole and line == self.dump.line_count and not self.dump.final_newline

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What an entry consists of: ("ip", "port", "net") for hash:ip,port,net; nothing where the type is not known."""
        return () if self.type is None else tuple(self.type.partition(":")[2].split(","))

    def networks(self, prefix: str) -> tuple[tuple[Network, int], ...]:
        """The networks, with their lines, of the entries that begin with `prefix` ("192.0.2.9,tcp:80") and end in a network.

        With prefix "" of a hash:net set: all. Entries with `nomatch` are among them; `options_of` tells.
        """
        index = self._networks
        if index is None:
            index = self._networks = {}
            for entry, line in (self.entries or {}).items():
                head, _, last = entry.rpartition(",")
                family = 6 if ":" in last else 4
                text = last if "/" in last else f"{last}/{32 if family == 4 else 128}"
                network = parse_network(text, family)
                if network is not None:
                    index.setdefault(head, []).append((network, line))
        return tuple(index.get(prefix, ()))


@dataclass(slots=True, eq=False)
class IpSetDump(Lines):
    """One input of ipset: its lines and the sets in it by their name.

    `form`: of the last set. For XML, lines are the elements: `render` gives ipset's own layout. `problems`: "unparsable" lines,
    "truncated" inputs, "redeclared" sets and entries. `cut`: its beginning or its end is missing, or may be, as `ipset` ends every line.
    """

    sets: dict[str, IpSet] = field(default_factory=dict)
    cut: bool = False
    form: Form = "save"
