"""One packet's way through chains: what each rule that matches does to it (docs/semantics.md, S2 to S7).

Where a match cannot be decided both ways are followed and the outcomes say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain as chained
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.dataplane.matches import Affinity, mark_and_mask, port_ranges
from ruleaudit.dataplane.packet import LOOPBACK, NO_INTERFACE, PROTOCOL_NUMBERS, Host, Interface, Packet, address_number
from ruleaudit.dataplane.ruleset import (
    A_CONNMARK,
    A_DNAT,
    A_DROP,
    A_GOTO,
    A_JUMP,
    A_MARK,
    A_NONE,
    A_NOTRACK,
    A_REDIRECT,
    A_RETURN,
    A_UNKNOWN,
    Balance,
    Entry,
    Plan,
    Ruleset,
    destination_of,
)  # fmt: skip
from ruleaudit.forwarding import Verdict, endpoint_text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Flow", "Outcome", "Run", "Scheduled"]

DEPTH_LIMIT = 2000
_DEEP = 100  # no software nests its chains so deeply: from here on loops are looked for
_USUAL_WALKS = 100  # chains that a packet enters on any node; of more, their rules are counted as well
_RULES_PER_WALK = 2
_END_LIMIT = 4096
"""Verdicts kept apart before those that are alike become one: chains that double meet the same rules again and again."""
_FLOW_LIMIT = 64  # ways that one packet may have at once: undecided rules that each set another bit of the mark double them


class Flow:
    """A part of the packet's probability, with what the rules have done to it so far."""

    __slots__ = (
        "address", "bundle", "connmark", "key", "mark", "mark_unknown", "nat_mark", "nat_rule", "number", "port", "possible", "remembered",
        "scheduled", "share", "snat_rule", "trail", "translated", "unknown_rule", "untracked",
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
        self.scheduled: Scheduled | None = None  # the virtual server of IPVS that chose the destination
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
        other.scheduled = self.scheduled
        other.nat_rule = self.nat_rule
        other.snat_rule = self.snat_rule
        other.unknown_rule = self.unknown_rule
        other.trail = self.trail
        return other

    def state(self) -> tuple[object, ...]:
        """What distinguishes flows for everything that follows."""
        return (self.mark, self.mark_unknown, self.connmark, self.key, self.port, self.translated, self.untracked is None,
                self.remembered, self.nat_rule if self.translated else None, self.snat_rule is None)  # fmt: skip


class Scheduled(NamedTuple):
    """What is asked of the virtual server that has scheduled a connection: its address, port and protocol, and how it keeps clients.

    `persistence` is in seconds, None without; `mask` the persistence mask where it is not the whole address; `place` is where it stands;
    `one_packet`: each datagram is scheduled by itself.
    """

    address: str
    port: int
    protocol: str
    persistence: int | None
    mask: str | None
    place: tuple[str, str, int]
    one_packet: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way a packet can go.

    `endpoint`: the translated destination ("ip:port") or None. `mark`: the packet's mark when it leaves the destination pass of nat.
    `masquerade`: whether its source is replaced in POSTROUTING (None: not decided). `share`: its probability; the outcomes of a
    packet add up to 1 (the share
    of a possible outcome is a placeholder, S5). `possible`: it rests on an undecided match, `unknown_rule`. `nat_rule`: the rule that ended
    destination translation, `final_rule`: the rule (or None: policy, end) that gave the verdict; `untracked`: the rule that kept the
    packet out of nat. `remembered`: the recent lists the client was entered in; `scheduled`: the virtual server that chose the endpoint.
    `trail`: every rule that matched, when asked for.
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
    scheduled: Scheduled | None = None
    trail: tuple[tuple[str, str, int], ...] = ()


class End(NamedTuple):
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
        self.ends: list[End] = []
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
        if chain.looping or self.depth > DEPTH_LIMIT or self.walks > self.rules.walk_limit:
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
                live = merge_flows([left for one in live for left in self.step(table, name, entry, one, returned)])
            if not live:
                break
        if balance is not None and live:
            rule = (table, name, chain.balance_line)
            live = [left for one in live for left in self.spread(rule, balance, one)]
        self.depth -= 1
        if len(self.ends) > self.end_limit:
            self.ends = _merge_ends(self.ends)
            self.end_limit = max(_END_LIMIT, 2 * len(self.ends))
        return live if not returned else merge_flows(live + returned)

    def spread(self, rule: tuple[str, str, int], balance: Balance, flow: Flow) -> list[Flow]:
        """Send a flow to all endpoints of a balance at once, which begins with `rule`; what falls through goes on."""
        left = []
        if balance.rest > 0:
            left.append(flow.clone(flow.share * balance.rest))
            if not balance.backends:
                return left
        flow.bundle, flow.translated = balance, True
        self.ends.append(End(flow, A_DNAT, rule))
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
            self.ends += [End(flow.clone(flow.share), end, (table, name, line)) for end in (A_UNKNOWN, A_DROP)]
            return [flow]
        self.ends.append(End(flow, action, (table, name, line)))
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
        address, port, certain = destination_of(text, flow.address, flow.port)
        _send_to(flow, address, port, self.host_suffix)
        if not certain:
            flow.possible = True


def _mask_of(plan: Plan, values: Sequence[str], flag: str) -> int:
    """A mask of CONNMARK: --mask stands for both, none for every bit."""
    slots = plan.argument_slots.get("--mask") or plan.argument_slots.get(flag)
    return int(values[slots[0]], 0) if slots else 0xFFFFFFFF


def _send_to(flow: Flow, address: str, port: int, suffix: str) -> None:
    flow.address, flow.key, flow.number, flow.port = address, address + suffix, address_number(address), port
    flow.translated = True


def merge_flows(flows: list[Flow]) -> list[Flow]:
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


def _merge_ends(ends: list[End]) -> list[End]:
    """Verdicts that the same rule gave to flows in the same state become one, with their shares added up."""
    kept: dict[tuple[object, ...], End] = {}
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
