"""The rules of one family made ready for evaluation: chains by table and name, indexed and summarised on first use.

What a rule shape asks and does is worked out once per shape (`Plan`); long chains that dispatch are indexed by destination and port;
chains that lead to one endpoint (`Leaf`), and the ends of chains that only spread packets over those (`Balance`), are summarised.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain as chained
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ruleaudit.dataplane.matches import TestPlan, plan_tests
from ruleaudit.forwarding import endpoint_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set

    from ruleaudit.dataplane.sets import Sets
    from ruleaudit.dumps.rules import Chain, Dump, Shape, Table

__all__ = [
    "Balance",
    "Entry",
    "Leaf",
    "Plan",
    "PreparedChain",
    "RuleReference",
    "Ruleset",
    "destination_of",
    "keys_of",
    "named_in",
]

BUILT_IN = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
_EXTENSION = re.compile(r"^[A-Z][A-Z0-9_]*$")  # how extension targets are named; chains of kube-proxy hold a dash
_INDEX_FROM = 12  # chains with fewer rules are walked through
_WALK_LIMIT = 50_000  # chains entered by one packet: services have some thousand endpoints, so more is a loop or a trap

# Targets that change nothing that later rules, the verdict or the backend depend on (S2).
_CONTINUING = frozenset(
    {"LOG", "NFLOG", "ULOG", "TRACE", "AUDIT", "CHECKSUM", "CLASSIFY", "DSCP", "TOS", "TTL", "HL", "TCPMSS", "TCPOPTSTRIP", "SECMARK",
     "CONNSECMARK", "RATEEST", "IDLETIMER", "LED", "SET", "HMARK", "ECN", "TEE", "CLUSTERIP"}
)  # fmt: skip
MODELLED_TARGETS = _CONTINUING | {
    "ACCEPT",
    "DROP",
    "RETURN",
    "REJECT",
    "MARK",
    "CONNMARK",
    "CT",
    "NOTRACK",
    "DNAT",
    "REDIRECT",
    "SNAT",
    "MASQUERADE",
}

# action codes
(
    A_NONE,
    A_ACCEPT,
    A_DROP,
    A_REJECT,
    A_RETURN,
    A_JUMP,
    A_GOTO,
    A_MARK,
    A_CONNMARK,
    A_NOTRACK,
    A_DNAT,
    A_REDIRECT,
    A_SNAT,
    A_UNKNOWN,
) = range(14)

_VERDICTS = {"ACCEPT": A_ACCEPT, "DROP": A_DROP, "REJECT": A_REJECT, "RETURN": A_RETURN, "MASQUERADE": A_SNAT, "SNAT": A_SNAT,
             "REDIRECT": A_REDIRECT, "NOTRACK": A_NOTRACK}  # fmt: skip


class RuleReference(NamedTuple):
    """One rule of one dump: the dump it stands in and its line."""

    dump: Dump
    table: str
    chain: str
    line: int

    @property
    def text(self) -> str:
        """The rule as printed."""
        return self.dump.text(self.line)


class Plan:
    """What a rule shape asks and does, worked out once per shape."""

    __slots__ = (
        "action",
        "argument_slots",
        "comparable",
        "flags",
        "goto",
        "key_slots",
        "name",
        "name_slot",
        "named_slots",
        "only_protocol",
        "only_recall",
        "only_source",
        "original_port",
        "other_slots",
        "shape",
        "tests",
        "unconditional",
    )

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.tests: TestPlan = plan_tests(shape)
        self.key_slots = _key_slots(shape)
        self.named_slots = _named_slots(shape)
        self.comparable = not any(match.module in _LOOKING_FURTHER for match in shape.matches)
        self.original_port = any(option.flag == "--ctorigdstport" for match in shape.matches for option in match.options)
        # What the rule asks for, where that is one thing only: nothing, one source (its slot), one protocol (its slot).
        simple = _simple_question(shape, self.tests)
        self.unconditional = simple == ()
        self.only_source = simple[1] if simple and simple[0] == "-s" else None
        self.only_protocol = simple[1] if simple and simple[0] == "-p" else None
        # Or whether a client is remembered, as kube-proxy asks it (S12).
        self.only_recall = self.tests.recall is not None and _asks_client_only(shape)
        target = shape.target
        self.other_slots = _other_slots(shape, {slot for slot, _is_address in self.named_slots})
        self.goto = target is not None and target.goto
        self.name_slot: int | None = target.name_slot if target is not None else None
        self.name: str | None = target.name if target is not None else None
        self.action = A_NONE
        self.argument_slots: dict[str, tuple[int, ...]] = {}
        self.flags: frozenset[str] = frozenset()
        if target is None:
            return
        self.argument_slots = {option.flag: option.slots for option in target.options if option.slots}
        self.flags = frozenset(option.flag for option in target.options)
        if self.name is not None:
            self.action = self.action_of(self.name)

    def action_of(self, name: str) -> int:
        """The action code of a target that is no chain of the table."""
        if name in _VERDICTS:
            return _VERDICTS[name]
        if name == "MARK":
            return A_MARK
        if name == "CONNMARK":
            return A_CONNMARK
        if name == "DNAT":
            return A_DNAT
        if name == "CT":
            return A_NOTRACK if "--notrack" in self.flags else A_NONE
        return A_NONE if name in _CONTINUING else A_UNKNOWN


class Entry(NamedTuple):
    """One rule of a prepared chain."""

    plan: Plan
    values: tuple[str, ...]
    line: int
    action: int
    target: str


class Leaf(msgspec.Struct, frozen=True, gc=False):
    """A chain that sends every packet of one protocol to one endpoint, and only for named sources does something else before.

    `sources`: those sources, with their host suffix; `masquerading`: the endpoint's own address is among them and is marked; `keeps`: the
    list in which it remembers its clients, None when it does not.
    """

    name: str
    endpoint: str
    address: str
    key: str
    port: int
    protocol: str
    sources: tuple[str, ...]
    masquerading: bool
    keeps: str | None = None


class Balance:
    """The end of a chain that only spreads packets over leaves: summarised once, whoever asks (S11, S13).

    `backends`: endpoint -> share; `rest`: the share that falls through; `start`: the position of its first rule; `affinity`: for how many
    seconds every one of its leaves gets its clients back, None when none does. It does not know where it stands: chains of the same rules
    on several nodes have one.
    """

    __slots__ = (
        "_addresses",
        "_distinct",
        "affinity",
        "alike",
        "backends",
        "leaves",
        "masquerading",
        "noted",
        "protocol",
        "rest",
        "sources",
        "start",
    )

    def __init__(
        self, start: int, leaves: tuple[Leaf, ...], shares: Sequence[float], rest: float, affinity: int | None = None
    ) -> None:
        self.start, self.rest, self.affinity = start, rest, affinity
        self.noted = False  # whether its leaves are among `Ruleset.spread_over`
        self.alike: Mapping[str, float] | None = None  # the shares that it was last found to give, for who compares it again
        self._addresses: Addresses | None = None
        self._distinct: bool | None = None
        self.leaves = leaves
        self.protocol = leaves[0].protocol
        self.sources = frozenset().union(*[leaf.sources for leaf in leaves])
        self.masquerading = False not in [leaf.masquerading for leaf in leaves]
        endpoints = [leaf.endpoint for leaf in leaves]
        self.backends = dict(zip(endpoints, shares, strict=True))
        if len(self.backends) < len(leaves) or 0.0 in shares:
            self.backends = {}
            for endpoint, share in zip(endpoints, shares, strict=True):
                if share > 0:
                    self.backends[endpoint] = self.backends.get(endpoint, 0.0) + share

    @property
    def distinct(self) -> bool:
        """Whether no two of its rules lead to the same chain."""
        if self._distinct is None:
            self._distinct = len({leaf.name for leaf in self.leaves}) == len(self.leaves)
        return self._distinct

    @property
    def addresses(self) -> Addresses:
        """Where its leaves lead to."""
        found = self._addresses
        if found is None:
            texts = [leaf.address for leaf in self.leaves]
            networks = tuple({text.rpartition(".")[0]: text for text in texts}.items())
            ports = frozenset([leaf.port for leaf in self.leaves])
            found = self._addresses = Addresses(
                frozenset(texts), networks, ports, any(text.startswith("127.") for _, text in networks)
            )
        return found


_SPREAD = "spread"


class _SpreadFact(NamedTuple):
    """What the text of a chain says of a balance at its end (`ChainText.facts`): where that starts, the chains that it leads to, and the
    balance that this is where those chains are the leaves that it has.
    """

    start: int
    names: tuple[str, ...]
    balance: Balance


_LEAF = "leaf"
"""Of a `ChainText.facts`: its usual leaf, or None where it is none."""


class Addresses(NamedTuple):
    """Where the leaves of a balance lead to. `networks`: the first three numbers of IPv4 addresses, each with one of the addresses; `loopback`:
    any is on the loopback.
    """

    texts: frozenset[str]
    networks: tuple[tuple[str, str], ...]
    ports: frozenset[int]
    loopback: bool


def _without_lines(entries: Iterable[Entry]) -> list[Entry]:
    """Rules that do not stand in the node's own dumps."""
    return [entry._replace(line=0) for entry in entries]


class PreparedChain:
    """A chain made ready for evaluation: its rules in order, and an index by destination and port when it is long.

    Where it ends in a `balance`, `head` are the rules before that, and the others are only made when they are asked for. Where it ends in a
    balance with session affinity, `keeping` is that: clients may be remembered, so it is walked through all the same.
    """

    __slots__ = (
        "_by_both",
        "_by_destination",
        "_by_port",
        "_chains",
        "_entries",
        "_others",
        "_own",
        "balance",
        "chain",
        "dump",
        "head",
        "indexed",
        "keeping",
        "looping",
        "name",
    )

    def __init__(
        self,
        name: str,
        chain: Chain,
        dump: Dump,
        chains: Mapping[str, Chain],
        first: Sequence[Entry] = (),
        balance: Balance | None = None,
        last: Sequence[Entry] = (),
        *,
        placed: bool = True,
    ) -> None:
        self.name, self.chain, self.dump = name, chain, dump
        self._chains = chains
        self.balance = balance
        self.keeping: Balance | None = None
        self.looping = False
        self._own = len(chain.lines) if balance is None else balance.start - len(first)
        own = [_entry(dump, line, chains) for line in chain.lines[: self._own]]
        self.head: Sequence[Entry] = [*first, *(own if placed else _without_lines(own)), *last]
        self._entries: Sequence[Entry] | None = self.head if balance is None else None
        self.indexed = False
        if (
            balance is None
            and len(self.head) >= _INDEX_FROM
            and self.head[-1].plan.only_source is None
            and not self.head[-1].plan.unconditional
        ):
            self.indexed = True
            self._index()

    @property
    def balance_line(self) -> int:
        """The line of the first rule of its balance."""
        return self.chain.lines[self._own]

    @property
    def entries(self) -> Sequence[Entry]:
        """All rules in order."""
        if self._entries is None:
            self._entries = [*self.head, *(_entry(self.dump, line, self._chains) for line in self.chain.lines[self._own :])]
        return self._entries

    def _index(self) -> None:
        by_both: dict[tuple[str, str], list[int]] = {}
        by_destination: dict[str, list[int]] = {}
        by_port: dict[str, list[int]] = {}
        others: list[int] = []
        for position, entry in enumerate(self.head):
            address, port = keys_of(entry.plan, entry.values)
            if address is not None and port is not None:
                by_both.setdefault((address, port), []).append(position)
            elif address is not None:
                by_destination.setdefault(address, []).append(position)
            elif port is not None:
                by_port.setdefault(port, []).append(position)
            else:
                others.append(position)
        self._by_both, self._by_destination, self._by_port, self._others = by_both, by_destination, by_port, others

    @property
    def others(self) -> Sequence[Entry]:
        """Of an indexed chain, the rules that are not for one destination or port."""
        return [self.head[position] for position in self._others]

    def keyed(self, address: str, port: str) -> Sequence[tuple[int, Entry]]:
        """Of an indexed chain, the rules for one destination, for one port or for both, in order: how many of `others` stand before each."""
        rows: Sequence[int] = self._by_both.get((address, port), ())
        for more in (self._by_destination.get(address), self._by_port.get(port)):
            if more:
                rows = sorted([*rows, *more])
        return [(bisect_left(self._others, position), self.head[position]) for position in rows]

    def candidates(self, address: str, port: str) -> Sequence[Entry]:
        """The rules that may match a packet to this address (with its host suffix) and port, in order. Misses none."""
        if not self.indexed:
            return self.entries
        found = [
            rows
            for rows in (
                self._by_both.get((address, port)),
                self._by_destination.get(address),
                self._by_port.get(port),
                self._others,
            )
            if rows
        ]
        if not found:
            return ()
        entries = self.head
        if len(found) == 1:
            return [entries[position] for position in found[0]]
        return [entries[position] for position in sorted(chained.from_iterable(found))]


_PLANS: dict[Shape, Plan] = {}


def plan_of(shape: Shape) -> Plan:
    plan = _PLANS.get(shape)
    if plan is None:
        plan = _PLANS[shape] = Plan(shape)
    return plan


def _entry(dump: Dump, line: int, chains: Mapping[str, Chain]) -> Entry:
    plan, row = plan_of(dump.shapes[line]), dump.values[line]
    action, target = plan.action, plan.name or ""
    if plan.name_slot is not None:
        target = row[plan.name_slot]
        action = (A_GOTO if plan.goto else A_JUMP) if target in chains else plan.action_of(target)
        if action == A_UNKNOWN and not _EXTENSION.match(target):
            action = A_JUMP  # a chain that is not declared: the kernel cannot hold this; checks report it
    return Entry(plan, row, line, action, target)


# Per shape of a rule that only spreads: the slot of the chain that it jumps to, the slot of its share (None: it takes all that comes) and
# what makes a number of that; () for any other rule.
_SPREADS: dict[Shape, tuple[int, int | None, Callable[[Sequence[str]], float] | None] | tuple[()]] = {}


def _spread(shape: Shape) -> tuple[int, int | None, Callable[[Sequence[str]], float] | None] | tuple[()]:
    plan = plan_of(shape)
    if not plan.unconditional or plan.name_slot is None or plan.goto:
        return ()
    slots = [
        option.slots[0]
        for match in shape.matches
        for option in match.options
        if option.flag in ("--probability", "--every") and option.slots
    ]
    return plan.name_slot, slots[0] if slots else None, plan.tests.share


@lru_cache(maxsize=1 << 12)
def _shares(parts: tuple[float, ...]) -> tuple[tuple[float, ...], float]:
    """What each of several rules takes of all that comes, and what is left: each takes its part of the rest."""
    left, shares = 1.0, []
    for part in parts:
        shares.append(left * part)
        left *= 1.0 - part
    return tuple(shares), left


@lru_cache(maxsize=1 << 12)
def _shares_of(share: Callable[[Sequence[str]], float], slot: int, texts: tuple[str, ...]) -> tuple[tuple[float, ...], float]:
    return _shares((*[_part(share, slot, text) for text in texts], 1.0))


@lru_cache(maxsize=1 << 12)
def _part(share: Callable[[Sequence[str]], float], slot: int, text: str) -> float:
    return min(1.0, max(0.0, share([""] * slot + [text])))


# Per pair of shapes: the slots of the source, of the first rule's target, of the protocol, of the new destination, and of the list in which
# clients are remembered; () where such a chain is no leaf of the usual form.
_LEAF_FORMS: dict[tuple[Shape, Shape], tuple[int, int, int, int, tuple[int, int] | None] | tuple[()]] = {}


def _leaf_form(first: Shape, last: Shape) -> tuple[int, int, int, int, tuple[int, int] | None] | tuple[()]:
    asks, leads = plan_of(first), plan_of(last)
    slots = leads.argument_slots.get("--to-destination")
    if leads.action != A_DNAT or not slots or asks.only_source is None or asks.name_slot is None or asks.goto:
        return ()
    if leads.only_protocol is not None:
        return asks.only_source, asks.name_slot, leads.only_protocol, slots[0], None
    kept = _kept_by(last)
    return (asks.only_source, asks.name_slot, last.options[-1].slots[0], slots[0], kept) if kept is not None else ()


def _usual_leaf(name: str, first_shape: Shape, first_row: Sequence[str], last_shape: Shape, row: Sequence[str]) -> Leaf | None:
    """The leaf that a chain of these two rules is; None where they are not of the usual form."""
    pair = (first_shape, last_shape)
    form = _LEAF_FORMS.get(pair)
    if form is None:
        form = _LEAF_FORMS[pair] = _leaf_form(*pair)
    if not form:
        return None
    source_slot, name_slot, protocol_slot, slot, kept = form
    text, source = row[slot], first_row[source_slot]
    address, _, digits = text.rpartition(":")
    # The endpoint's own address, as IPv4 has it; everything else takes the long way.
    if source != address + "/32" or ":" in address or not (port := _port(digits)):
        return None
    if kept is not None and row[kept[1]] not in _WHOLE_ADDRESSES:
        return None
    marked = first_row[name_slot] == "KUBE-MARK-MASQ"
    return Leaf(name, text, address, source, port, row[protocol_slot], (source,), marked, None if kept is None else row[kept[0]])


@lru_cache(maxsize=1 << 16)
def _port(digits: str) -> int:
    """The number of a printed port, 0 when it is none."""
    return int(digits) if digits.isdecimal() and digits.isascii() else 0


def _key_slots(shape: Shape) -> tuple[int | None, int | None]:
    address = port = None
    for option in shape.options:
        if option.flag == "-d" and not option.negated and option.slots:
            address = option.slots[0]
    for match in shape.matches:
        if match.module in ("tcp", "udp", "sctp"):
            for option in match.options:
                if option.flag in ("--dport", "--destination-port") and not option.negated and option.slots:
                    port = option.slots[0]
    return address, port


def keys_of(plan: Plan, values: Sequence[str]) -> tuple[str | None, str | None]:
    """The single destination (with host suffix, canonical) and single port without which a rule cannot match; None where it takes several."""
    address_slot, port_slot = plan.key_slots
    address = port = None
    if address_slot is not None:
        text = values[address_slot]
        if text.endswith("/32"):
            address = text
        elif text.endswith("/128"):
            address = f"{ip_address(text[:-4])}/128"
        elif "/" not in text:
            address = f"{text}/32" if ":" not in text else f"{ip_address(text)}/128"
    if port_slot is not None and values[port_slot].isdigit():
        port = str(int(values[port_slot]))
    return address, port


_WHOLE_ADDRESSES = frozenset({"255.255.255.255", ":".join(["ffff"] * 8)})


def _asks_client_only(shape: Shape) -> bool:
    return not [option for option in shape.options if option.flag != "-c"] and all(
        match.module in ("comment", "recent") for match in shape.matches
    )


def _kept_by(shape: Shape) -> tuple[int, int] | None:
    """The slots of list name and mask of a rule that remembers its clients' whole addresses and asks for a protocol only; else None."""
    if [option.flag for option in shape.options if option.flag != "-c"] != ["-p"] or any(
        option.negated for option in shape.options
    ):
        return None
    found = None
    for match in shape.matches:
        if match.module == "recent":
            slots = {option.flag: option.slots for option in match.options if not option.negated}
            if found or set(slots) != {"--set", "--name", "--mask", "--rsource"} or len(match.options) != 4:
                return None
            found = slots["--name"][0], slots["--mask"][0]
        elif match.module != "comment" and (match.module not in ("tcp", "udp", "sctp") or match.options):
            return None
    return found


def _simple_question(shape: Shape, tests: TestPlan) -> tuple[()] | tuple[str, int] | None:
    """() when a rule asks for nothing but a share, (option, slot) when it asks for one source or one protocol, else None."""
    if tests.recall is not None or tests.remember is not None or tests.unmodelled:
        return None
    asked: tuple[()] | tuple[str, int] = ()
    for option in shape.options:
        if option.flag == "-c":
            continue
        if asked or option.negated or option.flag not in ("-s", "-p"):
            return None
        asked = (option.flag, option.slots[0])
    for match in shape.matches:
        if match.module in ("comment", "statistic"):
            continue
        if match.module in ("tcp", "udp", "sctp") and not match.options:
            continue  # `-m tcp` asks for the protocol that `-p tcp` names already
        return None
    if asked and tests.share is not None:
        return None
    return asked


class _Leaves(dict[str, "Leaf | None"]):
    """The leaves of a table; one that is not there yet is made when it is asked for."""

    def __init__(self, rules: Ruleset, table: str) -> None:
        self._rules, self._table = rules, table

    def __missing__(self, name: str) -> Leaf | None:
        found = self[name] = self._rules._make_leaf(self._table, name)
        return found


class Ruleset:
    """The iptables tables of one family of one node: chains by table and name, prepared on first use.

    `overlay` replaces or adds chains ((table, chain) -> (Chain, Dump)): with it an analyser asks what would happen if one chain were
    as it should be. `first` and `last` put rules of another dump's chain of the same name before and behind a chain's own. What does not
    stand in the node's own dumps has no line (0).
    `sets`: the node's ipsets, None when they are not known.
    """

    def __init__(
        self,
        family: int,
        tables: Iterable[Table],
        overlay: Mapping[tuple[str, str], tuple[Chain, Dump]] | None = None,
        first: Mapping[tuple[str, str], tuple[Chain, Dump]] | None = None,
        sets: Sets | None = None,
        last: Mapping[tuple[str, str], tuple[Chain, Dump]] | None = None,
    ) -> None:
        self.family = family
        self.sets = sets
        self._first = first or {}
        self._last = last or {}
        self.tables: dict[str, Table] = {}
        self._chains: dict[str, dict[str, Chain]] = {}
        self._dumps: dict[tuple[str, str], Dump] = {}
        for table in tables:
            if table.family == family and table.name not in self.tables:
                self.tables[table.name] = table
                self._chains[table.name] = table.chains
        if overlay:
            for (table_name, chain_name), (chain, dump) in overlay.items():
                chains = dict(self._chains.get(table_name, {}))
                chains[chain_name] = chain
                self._chains[table_name] = chains
                self._dumps[table_name, chain_name] = dump
        self._prepared: dict[tuple[str, str], PreparedChain | None] = {}
        self._leaves: dict[str, _Leaves] = {}
        self._usual: dict[str, dict[str, Leaf]] = {}
        self._keepers: dict[str, dict[str, Leaf]] = {}
        self._plain: dict[str, Set[str]] = {}
        self.spread_over: set[str] = set()
        """The leaves that balances found at a glance lead to, by their names."""
        self._others: dict[str, Sequence[str]] = {}
        self._searched: set[tuple[str, str]] = set()
        self.walk_limit = _WALK_LIMIT
        """How many chains one packet may enter; less after each that entered more, so that a trap does not cost every packet that."""

    def mended(self, chains: Mapping[tuple[str, str], tuple[Chain, Dump]], sets: Sets | None = None) -> Ruleset:
        """The same rules with some chains ((table, chain) -> (Chain, Dump)) and, where they are given, the sets as they should be."""
        known = {(table, name): (self._chains[table][name], dump) for (table, name), dump in self._dumps.items()}
        return Ruleset(self.family, self.tables.values(), {**known, **chains}, self._first, sets or self.sets, self._last)

    def has_table(self, table: str) -> bool:
        """Whether the dump holds this table."""
        return table in self._chains

    def chains(self, table: str) -> Mapping[str, Chain]:
        """The chains of a table by name; empty when the table is not there."""
        return self._chains.get(table, {})

    def dump_of(self, table: str, chain: str) -> Dump:
        """The dump in which a chain stands."""
        return self._dumps.get((table, chain)) or self.tables[table].dump

    def prepared(self, table: str, name: str) -> PreparedChain | None:
        """The chain ready for evaluation, or None when the table does not hold it."""
        key = (table, name)
        try:
            return self._prepared[key]
        except KeyError:
            chains = self._chains.get(table, {})
            chain = chains.get(name)
            if chain is None:
                self._prepared[key] = None
                return None
            dump = self.dump_of(table, name)
            first, last = (
                _without_lines(PreparedChain(name, *more, chains).entries) if more is not None else []
                for more in (self._first.get(key), self._last.get(key))
            )
            placed = key not in self._dumps
            balance = self._find_balance(table, chain, dump, len(first)) if placed and not last else None
            ready = self._prepared[key] = PreparedChain(name, chain, dump, chains, first, balance, last, placed=placed)
            if balance is None and ready.entries and ready.entries[-1].target in self._keepers.get(table, ()):
                ready.keeping = self._find_keeping(table, ready.entries)
            return ready

    def _find_keeping(self, table: str, entries: Sequence[Entry]) -> Balance | None:
        """The balance of a chain that first sends each remembered client back to its endpoint, then spreads the others over the same (S12)."""
        keepers = self._keepers[table]
        spread: list[Entry] = []
        for entry in reversed(entries):
            if not entry.plan.unconditional or entry.action != A_JUMP or entry.target not in keepers:
                break
            spread.append(entry)
        spread.reverse()
        leaves = tuple([keepers[entry.target] for entry in spread])
        start = len(entries) - 2 * len(spread)
        if start < 0 or len({leaf.protocol for leaf in leaves}) != 1 or len({leaf.endpoint for leaf in leaves}) != len(leaves):
            return None
        recalls = entries[start : start + len(spread)]
        seconds: set[int | None] = set()
        asked: dict[str, str] = {}
        for entry in recalls:
            recall = entry.plan.tests.recall
            if recall is None or not entry.plan.only_recall or entry.action != A_JUMP:
                return None
            affinity = recall(entry.values)
            if affinity.oddity:
                return None
            seconds.add(affinity.seconds)
            asked[affinity.name] = entry.target
        if asked != {leaf.keeps: leaf.name for leaf in leaves} or len(seconds) != 1 or None in seconds:
            return None
        parts = [1.0 if (share := entry.plan.tests.share) is None else share(entry.values) for entry in spread]
        shares, left = _shares(tuple([min(1.0, max(0.0, part)) for part in parts]))
        return Balance(start, leaves, shares, left, seconds.pop())

    def _find_balance(self, table: str, chain: Chain, dump: Dump, before: int) -> Balance | None:
        """Summarise the end of a chain where it only spreads packets over leaves; `before` rules stand before its own."""
        usual = self._find_usual_balance(table, chain, dump, before)
        if usual is not None:
            return usual
        shapes, values = dump.shapes, dump.values
        chosen: list[Leaf] = []
        parts: list[float] = []
        protocol = ""
        leaves = self.leaves(table)
        for number in reversed(chain.lines):
            shape = shapes[number]
            form = _SPREADS.get(shape)
            if form is None:
                form = _SPREADS[shape] = _spread(shape)
            if not form:
                break
            name_slot, share_slot, share = form
            row = values[number]
            leaf = leaves[row[name_slot]]
            if leaf is None:
                break
            if leaf.protocol != protocol:
                if chosen:
                    break
                protocol = leaf.protocol
            chosen.append(leaf)
            parts.append(1.0 if share is None or share_slot is None else _part(share, share_slot, row[share_slot]))
        if not chosen:
            return None
        chosen.reverse()
        parts.reverse()
        shares, left = _shares(tuple(parts))
        start = len(chain.lines) - len(chosen)
        return Balance(before + start, tuple(chosen), shares, left)

    def _find_usual_balance(self, table: str, chain: Chain, dump: Dump, before: int) -> Balance | None:
        """The same at a glance, for what kube-proxy writes: neighbouring lines of one shape, and a last one that takes all that comes."""
        lines = chain.lines
        count = len(lines)
        if count < 3 or lines[-1] - lines[0] != count - 1:
            return None
        usual = self._usual[table] if table in self._usual else (self.leaves(table), self._usual[table])[1]
        known: _SpreadFact | None = chain.text.facts.get(_SPREAD) if chain.text is not None else None
        if known is not None and known.balance.start == before + known.start:
            # The same rules on another node: their balance is the same where the chains that they lead to are.
            if tuple(map(usual.get, known.names)) != known.balance.leaves:
                return None
            self.spread_over.update(known.names)
            return known.balance
        shapes = dump.shapes[lines[0] : lines[-1] + 1]
        kind, last = shapes[-2], _SPREADS.get(shapes[-1])
        form = _SPREADS.get(kind)
        if not form or not last or last[1] is not None:
            return None
        start = shapes.index(kind)
        name_slot, share_slot, share = form
        if share is None or share_slot is None or shapes.count(kind) != count - 1 - start:
            return None
        if start and _SPREADS.get(shapes[start - 1]) != ():
            return None  # what stands before may belong to it, too
        rows = dump.values[lines[start] : lines[-1]]
        names = [row[name_slot] for row in rows]
        names.append(dump.values[lines[-1]][last[0]])
        try:
            leaves = [usual[name] for name in names]
        except KeyError:
            return None
        self.spread_over.update(names)
        if len({leaf.protocol for leaf in leaves}) > 1:
            return None
        shares, left = _shares_of(share, share_slot, tuple([row[share_slot] for row in rows]))
        found = Balance(before + start, tuple(leaves), shares, left)
        found.noted = True
        if chain.text is not None:
            chain.text.facts[_SPREAD] = _SpreadFact(start, tuple([leaf.name for leaf in leaves]), found)
        return found

    def leaf(self, table: str, name: str) -> Leaf | None:
        """The summary of a chain that leads to one endpoint, None when it does anything else."""
        return self.leaves(table)[name]

    def leaves(self, table: str) -> Mapping[str, Leaf | None]:
        """The same for every chain of a table; None too for a name that the table does not hold."""
        found = self._leaves.get(table)
        if found is None:
            usual = self._usual[table] = {}
            self._read_usual_leaves(table, usual, self._keepers.setdefault(table, {}))
            found = self._leaves[table] = _Leaves(self, table)
            found.update(usual)
        return found

    def plain_leaves(self, table: str) -> Set[str]:
        """kube-proxy's endpoint chains of exactly two rules: one marks what the endpoint sends to itself, one leads there."""
        found = self._plain.get(table)
        if found is None:
            self.leaves(table)
            found = self._plain[table] = frozenset(
                [name for name, leaf in self._usual.get(table, {}).items() if leaf.masquerading and name.startswith("KUBE-SEP-")]
            )
        return found

    def other_chains(self, table: str) -> Sequence[str]:
        """The names of all chains of a table but its plain leaves, in order."""
        found = self._others.get(table)
        if found is None:
            plain = self.plain_leaves(table)
            found = self._others[table] = [name for name in self._chains.get(table, {}) if name not in plain]
        return found

    def _read_usual_leaves(self, table: str, found: dict[str, Leaf], keepers: dict[str, Leaf]) -> None:
        """kube-proxy's endpoint chains, of which there are as many as endpoints: what their two shapes ask is worked out once per pair."""
        mended = {name for where, name in (*self._first, *self._last, *self._dumps) if where == table}
        if table not in self.tables:
            return
        dump = self.tables[table].dump
        shapes, values = dump.shapes, dump.values
        for name, chain in self._chains.get(table, {}).items():
            lines, text = chain.lines, chain.text
            if len(lines) != 2 or name in mended:
                continue
            first, last = lines
            if text is None:
                leaf = _usual_leaf(name, shapes[first], values[first], shapes[last], values[last])
            elif _LEAF in text.facts:
                leaf = text.facts[_LEAF]
            else:
                leaf = text.facts[_LEAF] = _usual_leaf(text.name, text.shapes[0], text.values[0], text.shapes[1], text.values[1])
            if leaf is not None:
                (found if leaf.keeps is None else keepers)[name] = leaf

    def _make_leaf(self, table: str, name: str) -> Leaf | None:
        chain = self._chains.get(table, {}).get(name)
        if chain is None or not chain.lines or (table, name) in self._first:
            return None
        dump = self.dump_of(table, name)
        shapes, values = dump.shapes, dump.values
        lines = chain.lines
        last = lines[-1]
        plan, row = plan_of(shapes[last]), values[last]
        slots = plan.argument_slots.get("--to-destination")
        if plan.action != A_DNAT or plan.only_protocol is None or not slots:
            return None
        sources: list[str] = []
        marked: list[str] = []
        for line in lines[:-1]:
            first, first_row = plan_of(shapes[line]), values[line]
            if first.only_source is None:
                return None
            source = first_row[first.only_source]
            if not source.endswith("/32") and not source.endswith("/128"):
                return None
            sources.append(source)
            if first.name_slot is not None and first_row[first.name_slot] == "KUBE-MARK-MASQ":
                marked.append(source)
        text = row[slots[0]]
        address, _, digits = text.rpartition(":")
        if digits.isdigit() and address.replace(".", "").isdigit():
            port = int(digits)  # the form that IPv4 endpoints have; everything else takes the long way
        else:
            address, port, certain = destination_of(text, "", 0)
            if not certain or not address:
                return None
        if not port:
            return None
        key = address + ("/128" if ":" in address else "/32")
        return Leaf(
            name,
            endpoint_text(address, port),
            address,
            key,
            port,
            row[plan.only_protocol],
            tuple(sources),
            key in marked,
        )

    def first_entry(self, table: str, name: str) -> Entry | None:
        """The first rule of a chain, None when it has none or is not there."""
        ready = self.prepared(table, name)
        if ready is None:
            return None
        entries = ready.head or ready.entries
        return entries[0] if entries else None

    def entries(self, table: str, name: str) -> Sequence[Entry]:
        """The rules of a chain, in order; empty when there is no such chain."""
        ready = self.prepared(table, name)
        return ready.entries if ready is not None else ()

    def find_loops(self, table: str, name: str) -> None:
        """Mark the chains reachable from this one that lead back to themselves (Tarjan's strongly connected components)."""
        if (table, name) in self._searched:
            return
        order: dict[str, int] = {}
        low: dict[str, int] = {}
        open_chains: list[str] = []
        path: list[tuple[str, Iterator[str]]] = []

        def enter(chain: str) -> None:
            order[chain] = low[chain] = len(order)
            open_chains.append(chain)
            path.append((chain, iter([entry.target for entry in self.entries(table, chain) if entry.action in (A_JUMP, A_GOTO)])))

        enter(name)
        while path:
            chain, targets = path[-1]
            target = next(targets, None)
            if target is not None:
                if target not in order:
                    enter(target)
                elif (table, target) not in self._searched:
                    low[chain] = min(low[chain], order[target])
                continue
            path.pop()
            if path:
                low[path[-1][0]] = min(low[path[-1][0]], low[chain])
            if low[chain] == order[chain]:
                start = len(open_chains) - 1
                while open_chains[start] != chain:  # from the end: in a deep nest every chain is the last one
                    start -= 1
                component = open_chains[start:]
                del open_chains[start:]
                self._searched.update((table, one) for one in component)
                if len(component) > 1 or any(entry.target == chain for entry in self.entries(table, chain)):
                    for one in component:
                        ready = self.prepared(table, one)
                        assert ready is not None  # what leads back to itself has rules
                        ready.looping = True

    def reference(self, table: str, chain: str, line: int) -> RuleReference:
        """A reference to a rule of this ruleset."""
        return RuleReference(self.dump_of(table, chain), table, chain, line)


def destination_of(text: str, address: str, port: int) -> tuple[str, int, bool]:
    """The address and port of a `--to-destination`, with what it leaves out taken from the packet; False when it names a range.

    `text` is one: the reader of rules lets no other through (formats/iptables_values.py).
    """
    certain = True
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        ports = rest.removeprefix(":")
    elif text.count(":") > 1:
        host, ports = text, ""
    else:
        host, _, ports = text.partition(":")
    if "-" in host:
        host, certain = host.split("-", 1)[0], False
    if "-" in ports:
        low, _, high = ports.partition("-")
        certain = certain and low == high.split("/")[0]
        ports = low
    return str(ip_address(host)) if ":" in host else (host or address), int(ports) if ports else port, certain


def named_in(entry: Entry) -> list[tuple[str | None, str | None]]:
    """The destinations and destination ports that a rule names, as printed: (address or None, ports or None)."""
    return [
        (entry.values[slot], None) if is_address else (None, entry.values[slot]) for slot, is_address in entry.plan.named_slots
    ]


_LOOKING_FURTHER = frozenset({"set", "ipvs"})
"""Matches that look at a destination in ways that their values do not tell."""
_PORT_FLAGS = frozenset({"--dport", "--dports", "--destination-port", "--destination-ports", "--ports", "--ctorigdstport"})


def _named_slots(shape: Shape) -> tuple[tuple[int, bool], ...]:
    slots = [(option.slots[0], True) for option in shape.options if option.flag == "-d" and option.slots]
    for match in shape.matches:
        for option in match.options:
            if option.slots and option.flag in _PORT_FLAGS:
                slots.append((option.slots[0], False))
            elif option.slots and option.flag in ("--dst-range", "--ctorigdst"):
                slots.append((option.slots[0], True))
    return tuple(slots)


def _other_slots(shape: Shape, named: Collection[int]) -> tuple[int, ...]:
    """The slots of values that a rule's effect may depend on, beside those that name destinations and what it jumps to."""
    silent = {shape.chain_slot, *(shape.counter_slots or ())}
    if shape.target is not None:
        silent.add(shape.target.name_slot)
    for match in shape.matches:
        if match.module in ("comment", "nfacct"):
            silent.update(slot for option in match.options for slot in option.slots)
    return tuple(slot for slot in range(len(shape.quoted)) if slot not in silent and slot not in named)
