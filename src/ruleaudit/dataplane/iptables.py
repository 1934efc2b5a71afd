"""Static evaluation of iptables rules: what happens to one packet (docs/semantics.md; architecture section 1).

`Ruleset` gives the tables of one family with their chains, prepared and indexed on first use; `evaluate` follows one packet through raw,
mangle, nat and filter and returns every outcome with its share. Where a match cannot be decided both ways are followed and the outcomes say so.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain as chained
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.dataplane.matches import Affinity, TestPlan, mark_and_mask, mask_of, plan_tests, port_ranges
from ruleaudit.dataplane.packet import (
    ANY_INTERFACE,
    LOOPBACK,
    NO_INTERFACE,
    PROTOCOL_NUMBERS,
    Host,
    Interface,
    Packet,
    address_number,
    network,
)
from ruleaudit.forwarding import Verdict, endpoint_text
from ruleaudit.rules import Chain, Dump, LineKind, Shape, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Evaluator", "Flow", "Outcome", "RuleReference", "Ruleset", "Run"]

BUILT_IN = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
_EXTENSION = re.compile(r"^[A-Z][A-Z0-9_]*$")  # how extension targets are named; chains of kube-proxy hold a dash
_BACK_IN = (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("mangle", "INPUT"), ("filter", "INPUT"), ("security", "INPUT"))
_INDEX_FROM = 12  # chains with fewer rules are walked through
_DEPTH_LIMIT = 2000
_DEEP = 100  # no software nests its chains so deeply: from here on loops are looked for
_WALK_LIMIT = 50_000  # chains entered by one packet: services have some thousand endpoints, so more is a loop or a trap
_USUAL_WALKS = 100  # chains that a packet enters on any node; of more, their rules are counted as well
_RULES_PER_WALK = 2
_END_LIMIT = (
    4096  # verdicts kept apart before those that are alike become one: chains that double meet the same rules again and again
)
_FLOW_LIMIT = 64  # ways that one packet may have at once: undecided rules that each set another bit of the mark double them

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
        "flags",
        "goto",
        "key_slots",
        "name",
        "name_slot",
        "named_slots",
        "only_protocol",
        "only_source",
        "original_port",
        "shape",
        "tests",
        "unconditional",
    )

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.tests: TestPlan = plan_tests(shape)
        self.key_slots = _key_slots(shape)
        self.named_slots = _named_slots(shape)
        self.original_port = any(option.flag == "--ctorigdstport" for match in shape.matches for option in match.options)
        # What the rule asks for, where that is one thing only: nothing, one source (its slot), one protocol (its slot).
        simple = _simple_question(shape, self.tests)
        self.unconditional = simple == ()
        self.only_source = simple[1] if simple and simple[0] == "-s" else None
        self.only_protocol = simple[1] if simple and simple[0] == "-p" else None
        target = shape.target
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


class Leaf(NamedTuple):
    """A chain that sends every packet of one protocol to one endpoint, and only for named sources does something else before.

    `sources`: those sources, with their host suffix; `masquerading`: the endpoint's own address is among them and is marked.
    """

    name: str
    endpoint: str
    address: str
    key: str
    port: int
    line: int
    protocol: str
    sources: tuple[str, ...]
    masquerading: bool


class Balance:
    """The end of a chain that only spreads packets over leaves: summarised once, whoever asks (S11, S13).

    `backends`: endpoint -> share; `rest`: the share that falls through; `start`: the position of its first rule.
    """

    __slots__ = ("backends", "leaves", "line", "masquerading", "protocol", "rest", "sources", "start")

    def __init__(self, start: int, line: int, leaves: Sequence[tuple[Leaf, float]], rest: float) -> None:
        self.start, self.line, self.rest = start, line, rest
        self.leaves = tuple(leaf for leaf, _share in leaves)
        self.protocol = self.leaves[0].protocol
        self.sources = frozenset(source for leaf in self.leaves for source in leaf.sources)
        self.masquerading = all(leaf.masquerading for leaf in self.leaves)
        self.backends: dict[str, float] = {}
        for leaf, share in leaves:
            if share > 0:
                self.backends[leaf.endpoint] = self.backends.get(leaf.endpoint, 0.0) + share


class PreparedChain:
    """A chain made ready for evaluation: its rules in order, and an index by destination and port when it is long."""

    __slots__ = (
        "_by_both",
        "_by_destination",
        "_by_port",
        "_others",
        "balance",
        "chain",
        "dump",
        "entries",
        "head",
        "indexed",
        "looping",
        "name",
    )

    def __init__(self, name: str, chain: Chain, dump: Dump, chains: Mapping[str, Chain], first: Sequence[Entry] = ()) -> None:
        self.name, self.chain, self.dump = name, chain, dump
        shapes, values = dump.shapes, dump.values
        entries = list(first)
        for line in chain.lines:
            shape = shapes[line]
            plan = _plan_of(shape)
            row = values[line]
            action, target = plan.action, plan.name or ""
            if plan.name_slot is not None:
                target = row[plan.name_slot]
                action = (A_GOTO if plan.goto else A_JUMP) if target in chains else plan.action_of(target)
                if action == A_UNKNOWN and not _EXTENSION.match(target):
                    action = A_JUMP  # a chain that is not declared: the kernel cannot hold this; checks report it
            entries.append(Entry(plan, row, line, action, target))
        self.entries: Sequence[Entry] = entries
        self.balance: Balance | None = None
        self.looping = False
        self.head: Sequence[Entry] = entries
        self.indexed = len(entries) >= _INDEX_FROM and entries[-1].plan.only_source is None
        if self.indexed and not entries[-1].plan.unconditional:
            self._index()
        else:
            self.indexed = False

    def _index(self) -> None:
        by_both: dict[tuple[str, str], list[int]] = {}
        by_destination: dict[str, list[int]] = {}
        by_port: dict[str, list[int]] = {}
        others: list[int] = []
        for position, entry in enumerate(self.entries):
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
        entries = self.entries
        if len(found) == 1:
            return [entries[position] for position in found[0]]
        return [entries[position] for position in sorted(chained.from_iterable(found))]


_PLANS: dict[Shape, Plan] = {}


def _plan_of(shape: Shape) -> Plan:
    plan = _PLANS.get(shape)
    if plan is None:
        plan = _PLANS[shape] = Plan(shape)
    return plan


_UNASKED = object()
# Per pair of shapes: the slots of the source, of the first rule's target, of the protocol and of the new destination; () where such a
# chain is no leaf of the usual form.
_LEAF_FORMS: dict[tuple[Shape, Shape], tuple[int, int, int, int] | tuple[()]] = {}


def _leaf_form(first: Shape, last: Shape) -> tuple[int, int, int, int] | tuple[()]:
    asks, leads = _plan_of(first), _plan_of(last)
    slots = leads.argument_slots.get("--to-destination")
    if leads.action != A_DNAT or not slots or leads.only_protocol is None or asks.only_source is None or asks.name_slot is None:
        return ()
    return asks.only_source, asks.name_slot, leads.only_protocol, slots[0]


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


class Ruleset:
    """The iptables tables of one family of one node: chains by table and name, prepared on first use.

    `overlay` replaces or adds chains ((table, chain) -> (Chain, Dump)): with it an analyser asks what would happen if one chain were
    as it should be. `first` puts rules of another dump's chain of the same name before a chain's own; they have no line (0).
    """

    def __init__(
        self,
        family: int,
        tables: Iterable[Table],
        overlay: Mapping[tuple[str, str], tuple[Chain, Dump]] | None = None,
        first: Mapping[tuple[str, str], tuple[Chain, Dump]] | None = None,
    ) -> None:
        self.family = family
        self._first = first or {}
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
        self._leaves: dict[tuple[str, str], Leaf | None] = {}
        self._searched: set[tuple[str, str]] = set()
        self.walk_limit = _WALK_LIMIT
        """How many chains one packet may enter; less after each that entered more, so that a trap does not cost every packet that."""

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
            before = self._first.get(key)
            first: Sequence[Entry] = ()
            if before is not None:
                first = [entry._replace(line=0) for entry in PreparedChain(name, before[0], before[1], chains).entries]
            ready = None if chain is None else PreparedChain(name, chain, self.dump_of(table, name), chains, first)
            self._prepared[key] = ready
            if ready is not None:
                self._find_balance(table, ready)
            return ready

    def _find_balance(self, table: str, ready: PreparedChain) -> None:
        """Summarise the end of a chain where it only spreads packets over leaves."""
        entries = ready.entries
        start = len(entries)
        chosen: list[tuple[Leaf, float]] = []
        while start and entries[start - 1].action == A_JUMP and entries[start - 1].plan.unconditional:
            leaf = self.leaf(table, entries[start - 1].target)
            if leaf is None or (chosen and leaf.protocol != chosen[0][0].protocol):
                break
            start -= 1
            share = entries[start].plan.tests.share
            chosen.append((leaf, 1.0 if share is None else min(1.0, max(0.0, share(entries[start].values)))))
        if not chosen:
            return
        chosen.reverse()
        left, shares = 1.0, []
        for leaf, share_of_rest in chosen:
            shares.append((leaf, left * share_of_rest))
            left *= 1.0 - share_of_rest
        ready.balance = Balance(start, entries[start].line, shares, left)
        ready.head = entries[:start]
        ready.indexed = False

    def leaf(self, table: str, name: str) -> Leaf | None:
        """The summary of a chain that leads to one endpoint, None when it does anything else."""
        key = (table, name)
        found = self._leaves.get(key, _UNASKED)
        if found is _UNASKED:
            found = self._leaves[key] = self._make_leaf(table, name)
        return found  # type: ignore[return-value]  # what was not asked has just been made

    def _make_leaf(self, table: str, name: str) -> Leaf | None:
        chain = self._chains.get(table, {}).get(name)
        if chain is None or not chain.lines or (table, name) in self._first:
            return None
        dump = self.dump_of(table, name)
        shapes, values = dump.shapes, dump.values
        lines = chain.lines
        last = lines[-1]
        if len(lines) == 2:
            # kube-proxy's endpoint chains, of which there are as many as endpoints: what their two shapes ask is worked out once.
            shape_pair = (shapes[lines[0]], shapes[last])
            form = _LEAF_FORMS.get(shape_pair)
            if form is None:
                form = _LEAF_FORMS[shape_pair] = _leaf_form(*shape_pair)
            if form:
                source_slot, name_slot, protocol_slot, slot = form
                first_row, row = values[lines[0]], values[last]
                text, source = row[slot], first_row[source_slot]
                address, _, digits = text.rpartition(":")
                port = _port(digits)
                # The endpoint's own address, as IPv4 has it; everything else takes the long way.
                if port and source == address + "/32" and ":" not in address:
                    masquerading = first_row[name_slot] == "KUBE-MARK-MASQ"
                    return Leaf(name, text, address, source, port, last, row[protocol_slot], (source,), masquerading)
        plan, row = _plan_of(shapes[last]), values[last]
        slots = plan.argument_slots.get("--to-destination")
        if plan.action != A_DNAT or plan.only_protocol is None or not slots:
            return None
        sources: list[str] = []
        marked: list[str] = []
        for line in lines[:-1]:
            first, first_row = _plan_of(shapes[line]), values[line]
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
            try:
                address, port, certain = destination_of(text, "", 0)
            except ValueError:
                return None
            if not certain or not address:
                return None
        if not port:
            return None
        key = address + ("/128" if ":" in address else "/32")
        return Leaf(
            name,
            text if text[0] != "[" else endpoint_text(address, port),
            address,
            key,
            port,
            last,
            row[plan.only_protocol],
            tuple(sources),
            key in marked,
        )

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
                        if ready is not None:
                            ready.looping = True

    def reference(self, table: str, chain: str, line: int) -> RuleReference:
        """A reference to a rule of this ruleset."""
        return RuleReference(self.dump_of(table, chain), table, chain, line)


class Flow:
    """A part of the packet's probability, with what the rules have done to it so far."""

    __slots__ = (
        "address", "bundle", "connmark", "key", "mark", "mark_unknown", "nat_mark", "nat_rule", "number", "port", "possible", "remembered", "share",
        "snat_rule", "trail", "translated", "unknown_rule", "untracked",
    )  # fmt: skip

    def __init__(self, share: float, address: str, key: str, number: int, port: int) -> None:
        self.share = share
        self.bundle: Balance | None = None  # set when the flow has gone to many endpoints at once
        self.possible = False
        self.mark = 0
        self.mark_unknown = 0
        self.nat_mark = 0
        self.connmark: int | None = 0
        self.address, self.key, self.number, self.port = address, key, number, port
        self.translated = False
        self.untracked: tuple[str, str, int] | None = None
        self.remembered: tuple[str, ...] = ()
        self.nat_rule: tuple[str, str, int] | None = None  # (table, chain, line) that ended the nat table's destination pass
        self.snat_rule: tuple[str, str, int] | None = None
        self.unknown_rule: tuple[str, str, int] | None = None
        self.trail: tuple[object, ...] | None = None

    def clone(self, share: float) -> Flow:
        """The same state with another share."""
        other = Flow(share, self.address, self.key, self.number, self.port)
        other.bundle = self.bundle
        other.possible = self.possible
        other.mark = self.mark
        other.mark_unknown = self.mark_unknown
        other.nat_mark = self.nat_mark
        other.connmark = self.connmark
        other.translated = self.translated
        other.untracked = self.untracked
        other.remembered = self.remembered
        other.nat_rule = self.nat_rule
        other.snat_rule = self.snat_rule
        other.unknown_rule = self.unknown_rule
        other.trail = self.trail
        return other

    def state(self) -> tuple[object, ...]:
        """What distinguishes flows for everything that follows."""
        return (self.mark, self.mark_unknown, self.connmark, self.key, self.port, self.translated, self.untracked is None,
                self.remembered, self.nat_rule if self.translated else None, self.snat_rule is None)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way a packet can go.

    `endpoint`: the translated destination ("ip:port") or None. `mark`: the packet's mark when it leaves the destination pass of nat.
    `masquerade`: whether its source is replaced in POSTROUTING (None: not decided). `share`: its probability; the outcomes of a
    packet add up to 1 (the share
    of a possible outcome is a placeholder, S5). `possible`: it rests on an undecided match, `unknown_rule`. `nat_rule`: the rule that ended
    destination translation, `final_rule`: the rule (or None: policy, end) that gave the verdict; `untracked`: the rule that kept the
    packet out of nat. `remembered`: the recent lists the client was entered in. `trail`: every rule that matched, when asked for.
    """

    verdict: Verdict
    share: float
    endpoint: str | None = None
    mark: int = 0
    masquerade: bool | None = None
    possible: bool = False
    nat_rule: tuple[str, str, int] | None = None
    final_rule: tuple[str, str, int] | None = None
    snat_rule: tuple[str, str, int] | None = None
    unknown_rule: tuple[str, str, int] | None = None
    untracked: tuple[str, str, int] | None = None
    remembered: tuple[str, ...] = ()
    trail: tuple[tuple[str, str, int], ...] = ()


class _End(NamedTuple):
    flow: Flow
    verdict: int
    rule: tuple[str, str, int] | None


class Run:
    """One packet's way: its facts, and what is collected on it."""

    __slots__ = (
        "affinity", "depth", "destination", "end_limit", "ends", "host", "host_suffix", "in_interface", "lost", "out_interface", "packet", "protocol",
        "protocol_number", "rules", "source", "source_answers", "source_key", "source_type", "tracing", "tracking", "unmodelled", "walks",
    )  # fmt: skip

    def __init__(self, rules: Ruleset, host: Host, packet: Packet, source_answers: dict[str, bool], tracing: bool) -> None:
        self.rules, self.host, self.packet, self.tracing = rules, host, packet, tracing
        self.host_suffix = "/32" if packet.family == 4 else "/128"
        self.destination = address_number(packet.destination)
        self.protocol = packet.protocol
        self.protocol_number = PROTOCOL_NUMBERS.get(packet.protocol)
        self.in_interface = NO_INTERFACE if packet.from_node else packet.in_interface
        self.out_interface = self.first_out_interface
        self.tracking = False  # the first chains of raw come before connection tracking
        self.come_from(packet.source, source_answers)
        self.ends: list[_End] = []
        self.affinity: dict[str, tuple[Affinity, frozenset[str]]] = {}
        self.unmodelled: set[tuple[str, str, int]] = set()
        self.depth = self.walks = 0
        self.end_limit = _END_LIMIT
        self.lost = False

    @property
    def first_out_interface(self) -> Interface:
        """The interface that the whole of OUTPUT sees: the node routes its packet by the destination that it begins with (S9)."""
        if not self.packet.from_node:
            return NO_INTERFACE
        return LOOPBACK if self.host.is_local(self.packet.destination) else self.packet.out_interface

    def tracks(self, flow: Flow) -> bool:
        """Whether the packet belongs to a connection here: not in raw's first chain, not once it is untracked (S6)."""
        return self.tracking and flow.untracked is None

    def come_from(self, source: str, answers: dict[str, bool]) -> None:
        """Give the packet this source, with what is known of it already."""
        self.source = address_number(source)
        self.source_key = source + self.host_suffix
        self.source_answers = answers
        self.source_type = self.address_type(source)

    def address_type(self, text: str) -> str:
        """The addrtype of an address: LOCAL, MULTICAST, BROADCAST, UNSPEC or UNICAST (S8)."""
        if self.host.is_local(text):
            return "LOCAL"
        if text == "255.255.255.255":
            return "BROADCAST"
        if text in ("0.0.0.0", "::"):
            return "UNSPEC"
        number = address_number(text)
        if number >> 28 == 0xE if self.packet.family == 4 else number >> 120 == 0xFF:
            return "MULTICAST"
        return "UNICAST"

    # --- walking ---------------------------------------------------------------------------------------------------------------------

    def walk(self, table: str, name: str, flow: Flow) -> list[Flow]:
        """Send a flow through a chain. Returns the flows that come back to the caller; verdicts go to `ends` (S2, S3)."""
        chain = self.rules.prepared(table, name)
        if chain is None:
            return [flow]
        self.depth += 1
        self.walks += 1
        if self.depth > _DEEP:
            self.rules.find_loops(table, name)
        if chain.looping or self.depth > _DEPTH_LIMIT or self.walks > self.rules.walk_limit:
            # A loop, or nesting that no kernel accepts: what follows is not known (S3).
            if self.walks > self.rules.walk_limit:
                self.rules.walk_limit = max(1000, self.rules.walk_limit // 2)
            self.depth -= 1
            self.lost = flow.possible = True
            return [flow]
        live = [flow]
        returned: list[Flow] = []
        balance = chain.balance
        if balance is None or self.tracing or balance.protocol != self.protocol or self.source_key in balance.sources:
            entries = chain.candidates(flow.key, str(flow.port))
            balance = None
        else:
            entries = chain.head
        if self.walks > _USUAL_WALKS:
            self.walks += len(entries) // _RULES_PER_WALK
        for entry in entries:
            if len(live) == 1:
                live = self.step(table, name, entry, live[0], returned)
            else:
                live = _merge([left for one in live for left in self.step(table, name, entry, one, returned)])
            if not live:
                break
        if balance is not None and live:
            live = [left for one in live for left in self.spread(table, name, balance, one)]
        self.depth -= 1
        if len(self.ends) > self.end_limit:
            self.ends = _merge_ends(self.ends)
            self.end_limit = max(_END_LIMIT, 2 * len(self.ends))
        return live if not returned else _merge(live + returned)

    def spread(self, table: str, name: str, balance: Balance, flow: Flow) -> list[Flow]:
        """Send a flow to all endpoints of a balance at once; what falls through goes on."""
        left = []
        if balance.rest > 1e-12:
            left.append(flow.clone(flow.share * balance.rest))
            if not balance.backends:
                return left
        flow.bundle, flow.translated = balance, True
        self.ends.append(_End(flow, A_DNAT, (table, name, balance.line)))
        return left

    def step(self, table: str, name: str, entry: Entry, flow: Flow, returned: list[Flow]) -> list[Flow]:
        """One rule and one flow: the flows that go on to the next rule; those that return are added to `returned`."""
        plan, values = entry.plan, entry.values
        tests = plan.tests
        answer: bool | None = True
        for test, negated in tests.tests:
            found = test(values, self, flow)
            if found is None:
                answer = None
            elif found is negated:
                return [flow]
        if tests.recall is not None:
            # A new client is in no list (S12); what a remembered one would meet is noted beside the packet's own way.
            if answer is not False:
                self.note_affinity(table, name, entry, flow, tests.recall(values))
            return [flow]
        if answer is None:
            return self.split(table, name, entry, flow, returned)
        if tests.share is not None:
            share = tests.share(values)
            if share <= 0:
                return [flow]
            if share < 1:
                taken = flow.clone(flow.share * share)
                flow.share *= 1 - share
                return [flow, *self.act(table, name, entry, taken, returned)]
        return self.act(table, name, entry, flow, returned)

    def split(self, table: str, name: str, entry: Entry, flow: Flow, returned: list[Flow]) -> list[Flow]:
        """Follow both ways of an undecided rule, unless both lead to the same (S5)."""
        if entry.action == A_NONE and entry.plan.tests.remember is None:
            return [flow]
        before, ends, outer = flow.state(), self.ends, len(returned)
        self.ends = []
        taken = flow.clone(flow.share)
        back = self.act(table, name, entry, taken, returned)
        mine, self.ends = self.ends, ends
        if not mine and len(returned) == outer and len(back) == 1 and back[0].state() == before:
            return [flow]
        rule = (table, name, line) if (line := entry.line) else None
        self.unmodelled.add((table, name, entry.line))
        for one in chained(back, returned[outer:], (end.flow for end in mine)):
            one.share /= 2
            one.possible = True
            one.unknown_rule = one.unknown_rule or rule
        ends.extend(mine)
        flow.share /= 2
        flow.possible = True
        flow.unknown_rule = flow.unknown_rule or rule
        return [flow, *back]

    def note_affinity(self, table: str, name: str, entry: Entry, flow: Flow, asked: Affinity) -> None:
        """Record where a client remembered in this list is sent."""
        if asked.name in self.affinity:
            return
        ends, tracing = self.ends, self.tracing
        self.ends, self.tracing = [], False
        back = self.act(table, name, entry, flow.clone(1.0), [])
        reached: set[str] = set()
        for end in self.ends:
            if end.flow.bundle is not None:
                reached.update(end.flow.bundle.backends)
            elif end.flow.translated:
                reached.add(endpoint_text(end.flow.address, end.flow.port))
        if back or any(not end.flow.translated for end in self.ends):
            reached.add("")
        self.ends, self.tracing = ends, tracing
        self.affinity[asked.name] = (asked, frozenset(reached))

    def act(self, table: str, name: str, entry: Entry, flow: Flow, returned: list[Flow]) -> list[Flow]:
        """Apply a rule's target to a flow that it matched: the flows that go on behind the rule (S2, S3, S7)."""
        plan, values, line, action, target = entry
        if self.tracing:
            flow.trail = (flow.trail, table, name, line)
        if plan.tests.remember is not None:
            flow.remembered = (*flow.remembered, plan.tests.remember(values))
        if action == A_JUMP:
            return self.walk(table, target, flow)
        if action == A_NONE:
            return [flow]
        if action == A_GOTO:
            returned.extend(self.walk(table, target, flow))
            return []
        if action == A_RETURN:
            returned.append(flow)
            return []
        if action == A_MARK:
            self.set_mark(plan, values, flow)
            return [flow]
        if action == A_DNAT:
            self.translate(plan, values, flow)
        elif action == A_REDIRECT:
            ports = plan.argument_slots.get("--to-ports")
            loopback = "127.0.0.1" if self.packet.family == 4 else "::1"
            local = (
                loopback
                if self.packet.from_node
                else next((a for a in sorted(self.host.addresses) if (":" in a) == (self.packet.family == 6)), loopback)
            )
            _send_to(flow, local, port_ranges(values[ports[0]].replace("-", ":"))[0][0] if ports else flow.port, self.host_suffix)
        elif action == A_NOTRACK:
            if not self.tracking:  # back in by lo a packet has its connection already (net/netfilter/xt_CT.c)
                flow.untracked = (table, name, line)
            return [flow]
        elif action == A_CONNMARK:
            self.set_connmark(plan, values, flow)
            return [flow]
        elif action == A_UNKNOWN:
            # What an unmodelled target does is not known: it may let the packet through, drop it, or change nothing (S5).
            self.unmodelled.add((table, name, line))
            flow.share /= 3
            flow.possible = True
            flow.unknown_rule = flow.unknown_rule or (table, name, line)
            self.ends += [_End(flow.clone(flow.share), end, (table, name, line)) for end in (A_UNKNOWN, A_DROP)]
            return [flow]
        self.ends.append(_End(flow, action, (table, name, line)))
        return []

    def set_mark(self, plan: Plan, values: Sequence[str], flow: Flow) -> None:
        """MARK: new = (old & ~mask) ^ value; --set-mark, --and-mark and the like are printed as --set-xmark (S7)."""
        for flag, slots in plan.argument_slots.items():
            value, mask = mark_and_mask(values[slots[0]])
            if flag == "--set-xmark":
                flow.mark = (flow.mark & ~mask) ^ value
            elif flag == "--set-mark":
                flow.mark = (flow.mark & ~mask) | value
            elif flag == "--or-mark":
                flow.mark |= value
            elif flag == "--and-mark":
                flow.mark &= value
            elif flag == "--xor-mark":
                flow.mark ^= value
            if flag in ("--set-xmark", "--set-mark"):
                flow.mark_unknown &= ~mask

    def set_connmark(self, plan: Plan, values: Sequence[str], flow: Flow) -> None:
        """CONNMARK: save, restore and set; the connection's mark is 0 when it begins (S7)."""
        if not self.tracks(flow):
            return
        if "--restore-mark" in plan.flags or "--save-mark" in plan.flags:
            of_packet, of_connection = (_mask_of(plan, values, flag) for flag in ("--nfmask", "--ctmask"))
            if "--save-mark" in plan.flags:
                if flow.connmark is not None:
                    flow.connmark = (flow.connmark & ~of_connection) ^ (flow.mark & of_packet)
            elif flow.connmark is None:
                flow.mark_unknown |= of_packet | of_connection
            else:
                flow.mark = (flow.mark & ~of_packet) ^ (flow.connmark & of_connection)
        else:
            slots = plan.argument_slots.get("--set-xmark") or plan.argument_slots.get("--set-mark")
            if slots and flow.connmark is not None:
                value, mask = mark_and_mask(values[slots[0]])
                flow.connmark = (flow.connmark & ~mask) ^ value
            else:
                flow.connmark = None

    def translate(self, plan: Plan, values: Sequence[str], flow: Flow) -> None:
        """DNAT: the new destination; a range of addresses or several destinations cannot be told apart and stay possible (S7)."""
        slots = plan.argument_slots.get("--to-destination")
        text = values[slots[0]] if slots else ""
        try:
            address, port, certain = destination_of(text, flow.address, flow.port)
        except ValueError:
            flow.possible, flow.translated = True, True
            return
        _send_to(flow, address, port, self.host_suffix)
        if not certain:
            flow.possible = True


def _mask_of(plan: Plan, values: Sequence[str], flag: str) -> int:
    """A mask of CONNMARK: --mask stands for both, none for every bit."""
    slots = plan.argument_slots.get("--mask") or plan.argument_slots.get(flag)
    return int(values[slots[0]], 0) if slots else 0xFFFFFFFF


def destination_of(text: str, address: str, port: int) -> tuple[str, int, bool]:
    """The address and port of a `--to-destination`, with what it leaves out taken from the packet; False when it names a range.

    Raises ValueError when it is none.
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


def _send_to(flow: Flow, address: str, port: int, suffix: str) -> None:
    flow.address, flow.key, flow.number, flow.port = address, address + suffix, address_number(address), port
    flow.translated = True


def _merge(flows: list[Flow]) -> list[Flow]:
    if len(flows) < 2:
        return flows
    kept: dict[tuple[object, ...], Flow] = {}
    for flow in flows:
        key = (flow.state(), flow.possible)
        same = kept.get(key)
        if same is None:
            kept[key] = flow
        else:
            same.share += flow.share
    return list(kept.values()) if len(kept) <= _FLOW_LIMIT else _blurred(list(kept.values()))


def _merge_ends(ends: list[_End]) -> list[_End]:
    """Verdicts that the same rule gave to flows in the same state become one, with their shares added up."""
    kept: dict[tuple[object, ...], _End] = {}
    for end in ends:
        flow = end.flow
        same = kept.setdefault((end.verdict, end.rule, flow.possible, flow.bundle and id(flow.bundle), flow.state()), end)
        if same is not end:
            same.flow.share += flow.share
    return list(kept.values())


def _blurred(flows: list[Flow]) -> list[Flow]:
    """Fewer flows for many: those that differ in their marks only become one, whose mark is not known where they differ; beyond the
    limit the rest is left out. All are possible only from there on (S5).
    """
    kept: dict[tuple[object, ...], Flow] = {}
    for flow in flows:
        flow.possible = True
        same = kept.setdefault(flow.state()[2:], flow)
        if same is not flow:
            same.share += flow.share
            same.mark_unknown |= (same.mark ^ flow.mark) | flow.mark_unknown
            same.unknown_rule = same.unknown_rule or flow.unknown_rule
    return list(kept.values())[:_FLOW_LIMIT]


class _Classes:
    """Which addresses and ports the rules tell apart: all others behave alike, so one answer serves them (S13)."""

    def __init__(self, rules: Ruleset, places: Iterable[tuple[str, str]]) -> None:
        self.exact = {"0.0.0.0", "::", "255.255.255.255"}
        self.ranges: set[tuple[int, int]] = set()
        self.original_ports = False
        bounds: set[int] = set()
        seen: set[tuple[str, str]] = set()
        todo = list(places)
        # What addrtype tells apart without naming it (S8).
        multicast = (0xE << 28, 0xF << 28) if rules.family == 4 else (0xFF << 120, 0xFF << 120)
        prefixes: set[tuple[int, int]] = {multicast}
        while todo:
            place = todo.pop()
            if place in seen:
                continue
            seen.add(place)
            for entry in rules.entries(*place):
                if entry.action in (A_JUMP, A_GOTO):
                    todo.append((place[0], entry.target))
                self._note(entry, prefixes, bounds)
                self.original_ports = self.original_ports or entry.plan.original_port
        self.prefixes = sorted(prefixes)
        self.bounds = sorted(bounds)
        self.coarse = rules.family == 4 and not self.ranges and not any(mask & 0xFF for _base, mask in prefixes)
        self._memo: dict[str, tuple[object, ...]] = {}

    def _note(self, entry: Entry, prefixes: set[tuple[int, int]], bounds: set[int]) -> None:
        for address, ports in named_in(entry):
            if address is not None:
                first, dash, last = address.partition("-")
                if dash:
                    self.ranges.add((address_number(first), address_number(last)))
                    continue
                try:
                    version, base, mask = network(address)
                except ValueError:
                    prefixes.add(mask_of(address) or (0, 0))
                    continue
                if mask == (0xFFFFFFFF if version == 4 else (1 << 128) - 1):
                    self.exact.add(str(ip_address(address.split("/")[0])))
                else:
                    prefixes.add((base, mask))
            if ports is not None:
                for low, high in port_ranges(ports):
                    bounds.update((low, high + 1))

    def of_address(self, text: str) -> tuple[object, ...] | str:
        """The class of an address: itself when a rule names it, else the prefixes it lies in."""
        if text in self.exact:
            return text
        # Where no rule cuts a network of 256 addresses in two, its addresses are of one class: there may be 100,000 of them.
        about = text.rpartition(".")[0] if self.coarse else text
        known = self._memo.get(about)
        if known is None:
            number = address_number(text)
            known = self._memo[about] = (
                *[number & mask == base for base, mask in self.prefixes],
                *[low <= number <= high for low, high in self.ranges],
            )
        return known

    def of_port(self, port: int) -> int:
        """The class of a port: its place among the bounds of all port matches."""
        return bisect_right(self.bounds, port)


def named_in(entry: Entry) -> list[tuple[str | None, str | None]]:
    """The destinations and destination ports that a rule names, as printed: (address or None, ports or None)."""
    return [
        (entry.values[slot], None) if is_address else (None, entry.values[slot]) for slot, is_address in entry.plan.named_slots
    ]


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


class Evaluator:
    """Answers for one ruleset and one node. Keeps what it has worked out, so that further packets of the same kind are cheap."""

    def __init__(self, rules: Ruleset, host: Host) -> None:
        self.rules, self.host = rules, host
        self._answers: dict[tuple[int, str], dict[str, bool]] = {}
        self._later: dict[tuple[object, ...], list[tuple[float, Outcome]]] = {}
        self._classes: _Classes | None = None
        self._groups: dict[Balance, list[tuple[Leaf, dict[str, float]]]] = {}
        self.unmodelled: set[tuple[str, str, int]] = set()
        if sys.getrecursionlimit() < 4 * _DEPTH_LIMIT:
            sys.setrecursionlimit(4 * _DEPTH_LIMIT)

    def run(self, packet: Packet, *, tracing: bool = False) -> Run:
        """A fresh way for a packet."""
        answers = self._answers.setdefault((packet.family, packet.source), {})
        return Run(self.rules, self.host, packet, answers, tracing)

    def evaluate(
        self, packet: Packet, *, tracing: bool = False
    ) -> tuple[list[Outcome], Mapping[str, tuple[Affinity, frozenset[str]]]]:
        """Every outcome of a packet, and per recent list where a remembered client would go.

        Follows the hooks in the kernel's order (S1): raw, mangle, nat, then filter, then POSTROUTING.
        """
        run, outcomes, flows = self.pursue(packet, tracing=tracing)
        for flow in flows:
            outcomes.extend(self.deliver(run, flow))
        self.unmodelled |= run.unmodelled
        return outcomes, run.affinity

    def pursue(self, packet: Packet, *, tracing: bool = False) -> tuple[Run, list[Outcome], list[Flow]]:
        """The way of a packet up to the routing decision: what has ended there, and the flows that go on (some in bundles)."""
        run = self.run(packet, tracing=tracing)
        start = Flow(1.0, packet.destination, packet.destination + run.host_suffix, run.destination, packet.port)
        hook = "OUTPUT" if packet.from_node else "PREROUTING"
        outcomes: list[Outcome] = []
        flows = [start]
        flows = self._stage(run, "raw", hook, flows, outcomes)
        run.tracking = True
        flows = self._stage(run, "mangle", hook, flows, outcomes)
        return run, outcomes, self._translate(run, hook, flows, outcomes)

    def through(
        self, table: str, chain: str, packet: Packet, *, mark: int = 0
    ) -> tuple[list[Flow], list[tuple[Flow, Verdict, tuple[str, str, int] | None]]]:
        """Send a packet through one chain only: flows that come back, and verdicts with their rules."""
        run = self.run(packet)
        run.tracking = table != "raw"
        start = Flow(1.0, packet.destination, packet.destination + run.host_suffix, run.destination, packet.port)
        start.mark = mark
        back = run.walk(table, chain, start)
        return back, [(end.flow, _verdict_of(end), end.rule) for end in run.ends]

    # --- stages ----------------------------------------------------------------------------------------------------------------------

    def _stage(self, run: Run, table: str, chain: str, flows: list[Flow], outcomes: list[Outcome]) -> list[Flow]:
        """Flows through one built-in chain: those that go on. Dropped and rejected ones become outcomes."""
        if not self.rules.entries(table, chain) and self._policy(table, chain) != "DROP":
            return flows
        left: list[Flow] = []
        for flow in flows:
            before_possible, before_rule = flow.possible, flow.unknown_rule
            run.ends = []
            back = run.walk(table, chain, flow)
            policy_drops = self._policy(table, chain) == "DROP"
            accepted = [end.flow for end in run.ends if end.verdict in (A_ACCEPT, A_UNKNOWN)]
            refused = [end for end in run.ends if end.verdict in (A_DROP, A_REJECT)]
            if policy_drops:
                refused.extend(_End(one, A_DROP, (table, chain, 0)) for one in back)
            else:
                accepted.extend(back)
            if run.lost:
                pass
            elif not refused and len({one.state() for one in accepted}) == 1:
                # Whatever was undecided, every way leads on alike (S5).
                one = accepted[0]
                one.share = sum(other.share for other in accepted)
                one.possible, one.unknown_rule = before_possible, before_rule
                accepted = [one]
            elif not accepted and len({end.verdict for end in refused}) == 1:
                end = refused[0]
                end.flow.share = sum(other.flow.share for other in refused)
                end.flow.possible, end.flow.unknown_rule = before_possible, before_rule
                refused = [end]
            outcomes.extend(_outcome(end.flow, _verdict_of(end), end.rule) for end in refused)
            left.extend(accepted)
        return _merge(left)

    def _policy(self, table: str, chain: str) -> str | None:
        known = self.rules.chains(table).get(chain)
        return known.policy if known is not None else None

    def _translate(self, run: Run, hook: str, flows: list[Flow], outcomes: list[Outcome]) -> list[Flow]:
        """The destination pass of the nat table: only the first packet of a tracked connection meets it (S6)."""
        out: list[Flow] = []
        for flow in flows:
            if flow.untracked is not None:
                out.append(flow)
                continue
            run.ends = []
            back = run.walk("nat", hook, flow)
            for end in run.ends:
                end.flow.nat_rule = end.rule
                if end.verdict in (A_DROP, A_REJECT):
                    outcomes.append(_outcome(end.flow, _verdict_of(end), end.rule))
                else:
                    out.append(end.flow)
            out.extend(back)
        return out

    def deliver(self, run: Run, flow: Flow) -> Iterable[Outcome]:
        """From the routing decision to the end: every outcome of a flow, one per endpoint of a bundle."""
        if flow.bundle is None:
            flow.nat_mark = flow.mark
            if run.tracing:
                return self._deliver_now(run, flow)
            endpoint = endpoint_text(flow.address, flow.port) if flow.translated else None
            return [_applied(flow, flow.share * share, endpoint, outcome) for share, outcome in self._later_of(run, flow)]
        return [
            _applied(flow, flow.share * part * share, endpoint, outcome)
            for backends, known in self.deliver_bundle(run, flow)
            for share, outcome in known
            for endpoint, part in backends.items()
        ]

    def deliver_bundle(self, run: Run, flow: Flow) -> list[tuple[dict[str, float], list[tuple[float, Outcome]]]]:
        """The same for a bundle, per group of endpoints that later rules treat alike: (endpoint -> share of the flow, (share, outcome))."""
        bundle = flow.bundle
        assert bundle is not None
        flow.nat_mark = flow.mark
        groups = self._groups.get(bundle)
        if groups is None:
            groups = self._groups[bundle] = self._grouped(run, bundle)
        found = []
        for leaf, backends in groups:
            flow.address, flow.key, flow.number, flow.port = leaf.address, leaf.key, address_number(leaf.address), leaf.port
            found.append((backends, self._later_of(run, flow)))
        return found

    def _grouped(self, run: Run, bundle: Balance) -> list[tuple[Leaf, dict[str, float]]]:
        classes = self._told_apart()
        groups: dict[tuple[object, ...], tuple[Leaf, dict[str, float]]] = {}
        for leaf in bundle.leaves:
            share = bundle.backends.get(leaf.endpoint)
            if share is None:
                continue
            key = (classes.of_address(leaf.address), classes.of_port(leaf.port), run.host.is_local(leaf.address))
            groups.setdefault(key, (leaf, {}))[1][leaf.endpoint] = share
        if len(groups) == 1:
            leaf, _ = next(iter(groups.values()))
            return [(leaf, bundle.backends)]
        return list(groups.values())

    def _told_apart(self) -> _Classes:
        if self._classes is None:
            places = [(table, chain) for table in ("mangle", "filter", "security") for chain in BUILT_IN[table]]
            self._classes = _Classes(self.rules, [*places, ("nat", "POSTROUTING"), ("nat", "INPUT"), ("raw", "PREROUTING")])
        return self._classes

    def _later_of(self, run: Run, flow: Flow) -> list[tuple[float, Outcome]]:
        """What follows the routing decision, remembered per class of destination (S13)."""
        classes = self._told_apart()
        key = (run.packet.key, classes.of_address(flow.address), classes.of_port(flow.port), flow.translated,
               flow.mark, flow.mark_unknown, flow.connmark, flow.untracked is None, run.host.is_local(flow.address),
               run.packet.from_node and run.host.is_local(run.packet.destination),
               None if run.destination == flow.number else classes.of_address(run.packet.destination),
               classes.of_port(run.packet.port) if classes.original_ports else None)  # fmt: skip
        known = self._later.get(key)
        if known is None:
            probe = flow.clone(1.0)
            probe.possible, probe.unknown_rule, probe.bundle = False, None, None
            known = self._later[key] = [(outcome.share, outcome) for outcome in self._deliver_now(run, probe)]
        return known

    def _deliver_now(self, run: Run, flow: Flow) -> list[Outcome]:
        outcomes: list[Outcome] = []
        flows = [flow]
        local = run.host.is_local(flow.address)
        if run.packet.from_node:
            run.out_interface = run.first_out_interface
            flows = self._stage(run, "filter", "OUTPUT", flows, outcomes)
            flows = self._stage(run, "security", "OUTPUT", flows, outcomes)
            run.out_interface = LOOPBACK if local else run.packet.out_interface
            flows = self._postrouting(run, flows, outcomes)
            if local:
                flows = [one for flow in flows for one in self._back_in(run, flow, outcomes)]
        elif local:
            run.out_interface = NO_INTERFACE
            for table in ("mangle", "filter", "security"):
                flows = self._stage(run, table, "INPUT", flows, outcomes)
        else:
            run.out_interface = run.packet.out_interface
            for table in ("mangle", "filter", "security"):
                flows = self._stage(run, table, "FORWARD", flows, outcomes)
            flows = self._postrouting(run, flows, outcomes)
        for one in flows:
            verdict = Verdict.FORWARD if one.translated else Verdict.LOCAL if local else Verdict.PASS
            outcomes.append(_outcome(one, verdict, None))
        return outcomes

    def _back_in(self, run: Run, flow: Flow, outcomes: list[Outcome]) -> list[Flow]:
        """A flow that the node sent to itself, back by lo: the connection is known already, so nat is not consulted again (S6)."""
        run.in_interface, run.out_interface = LOOPBACK, NO_INTERFACE
        sources = [run.packet.source] if flow.snat_rule is None else self._sources_over_lo(run, flow, flow.snat_rule)
        ways: list[tuple[list[Flow], list[Outcome]]] = []
        for source in sources:
            self._come_from(run, source)
            flows, refused = [flow.clone(flow.share)], list[Outcome]()
            for table, chain in _BACK_IN:
                flows = self._stage(run, table, chain, flows, refused)
            ways.append((flows, refused))
        self._come_from(run, run.packet.source)
        run.in_interface = NO_INTERFACE
        if len({(*(one.state() for one in flows), *(one.verdict for one in refused)) for flows, refused in ways}) == 1:
            del ways[1:]
        if len(ways) == 1:
            outcomes.extend(ways[0][1])
            return ways[0][0]
        left = []
        for flows, refused in ways:
            outcomes.extend(replace(one, share=one.share / len(ways), possible=True) for one in refused)
            for one in flows:
                one.share, one.possible, one.unknown_rule = one.share / len(ways), True, one.unknown_rule or flow.snat_rule
            left.extend(flows)
        return left

    def _come_from(self, run: Run, source: str) -> None:
        run.come_from(source, self._answers.setdefault((run.packet.family, source), {}))

    def _sources_over_lo(self, run: Run, flow: Flow, snat_rule: tuple[str, str, int]) -> list[str]:
        """The sources that POSTROUTING may have given a packet that leaves by lo (S7; inet_select_addr in net/ipv4/devinet.c).

        127.0.0.1 is of host scope, so IPv4 takes an address of another interface; IPv6 prefers the destination's own (RFC 6724, rule 1).
        """
        table, chain, line = snat_rule
        given = self.rules.dump_of(table, chain).rule(line).option("--to-source") if line else None
        if given is not None:
            return [destination_of(given.values[0], run.packet.source, 0)[0] or run.packet.source]
        if run.packet.family == 6:
            return [flow.address]
        return sorted(one for one in self.host.addresses if ":" not in one) or [run.packet.source]

    def _postrouting(self, run: Run, flows: list[Flow], outcomes: list[Outcome]) -> list[Flow]:
        run_in, run.in_interface = run.in_interface, NO_INTERFACE
        flows = self._stage(run, "mangle", "POSTROUTING", flows, outcomes)
        out: list[Flow] = []
        for flow in flows:
            if flow.untracked is not None:
                out.append(flow)
                continue
            before_possible, before_rule = flow.possible, flow.unknown_rule
            run.ends = []
            back = run.walk("nat", "POSTROUTING", flow)
            refused = [end for end in run.ends if end.verdict in (A_DROP, A_REJECT)]
            outcomes.extend(_outcome(end.flow, _verdict_of(end), end.rule) for end in refused)
            ways = [end.flow for end in run.ends if end.verdict not in (A_DROP, A_REJECT)] + back
            for end in run.ends:
                if end.verdict in (A_SNAT, A_UNKNOWN):
                    end.flow.snat_rule = end.rule
            if not run.lost and not refused and len({one.snat_rule is None for one in ways}) == 1:
                one = ways[0]
                one.share = sum(other.share for other in ways)
                one.possible, one.unknown_rule = before_possible, before_rule
                ways = [one]
            out.extend(ways)
        run.in_interface = run_in
        return out


def _applied(flow: Flow, share: float, endpoint: str | None, outcome: Outcome) -> Outcome:
    """An outcome remembered for a class, for one flow of it."""
    return Outcome(
        outcome.verdict,
        share,
        endpoint,
        outcome.mark,
        outcome.masquerade,
        flow.possible or outcome.possible,
        flow.nat_rule,
        outcome.final_rule,
        outcome.snat_rule,
        flow.unknown_rule or outcome.unknown_rule,
        flow.untracked,
        flow.remembered,
    )


def _verdict_of(end: _End) -> Verdict:
    if end.verdict == A_DROP:
        return Verdict.DROP
    if end.verdict == A_REJECT:
        return Verdict.REJECT
    return Verdict.FORWARD if end.flow.translated else Verdict.PASS


def _outcome(flow: Flow, verdict: Verdict, rule: tuple[str, str, int] | None) -> Outcome:
    trail: list[tuple[str, str, int]] = []
    node = flow.trail
    while node is not None:
        trail.append((node[1], node[2], node[3]))  # type: ignore[arg-type]  # a linked list of (before, table, chain, line)
        node = node[0]  # type: ignore[assignment]  # as above
    return Outcome(
        verdict=verdict,
        share=flow.share,
        endpoint=endpoint_text(flow.address, flow.port) if flow.translated else None,
        mark=flow.nat_mark,
        masquerade=flow.snat_rule is not None,
        possible=flow.possible,
        nat_rule=flow.nat_rule,
        final_rule=rule,
        snat_rule=flow.snat_rule,
        unknown_rule=flow.unknown_rule,
        untracked=flow.untracked,
        remembered=flow.remembered,
        trail=tuple(reversed(trail)),
    )


__all__ += ["ANY_INTERFACE", "LineKind", "destination_of", "keys_of", "named_in"]
