"""Static evaluation: what happens to one packet that meets a node's rules (docs/semantics.md; architecture section 1).

`Evaluator.evaluate` follows one packet through raw, mangle, nat and filter and returns every outcome with its share.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from ruleaudit.dataplane.classes import Classes, Place, Places
from ruleaudit.dataplane.observe import observe
from ruleaudit.dataplane.packet import LOOPBACK, NO_INTERFACE, Host, Packet, address_number
from ruleaudit.dataplane.ruleset import (
    A_ACCEPT,
    A_DROP,
    A_REJECT,
    A_SNAT,
    A_UNKNOWN,
    BUILT_IN,
    Balance,
    Leaf,
    Ruleset,
    destination_of,
)  # fmt: skip
from ruleaudit.dataplane.walk import DEPTH_LIMIT, End, Flow, Outcome, Run, merge_flows
from ruleaudit.forwarding import Verdict, endpoint_text, equal_shares

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ruleaudit.dataplane.matches import Affinity

__all__ = ["Evaluator", "outcome_of"]

_BACK_IN = (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("mangle", "INPUT"), ("filter", "INPUT"), ("security", "INPUT"))


class Evaluator:
    """Answers for one ruleset and one node. Keeps what it has worked out, so that further packets of the same kind are cheap."""

    answers_together = True
    """Whether `bundled_for_all` saves anything: not where the node's packets have another source for each destination."""

    def __init__(self, rules: Ruleset, host: Host) -> None:
        self.rules, self.host = rules, host
        self._answers: dict[tuple[int, str], dict[str, bool]] = {}
        self._later: dict[tuple[object, ...], list[tuple[float, Outcome]]] = {}
        self._classes: Classes | None = None
        self._groups: dict[Balance, tuple[int, list[tuple[Leaf, dict[str, float]]]]] = {}
        self._group_keys: dict[tuple[object, ...], int] = {}
        self._places: dict[str, Places] = {}
        self._bundled: dict[tuple[object, ...], tuple[int, bool] | None] = {}
        self._clients: dict[int, tuple[tuple[Packet, ...], dict[bool, Packet], frozenset[str]]] = {}
        """By the identity of several clients: themselves, the first for each hook, and their sources as rules have them."""
        self._together: dict[tuple[object, ...], tuple[int, tuple[bool, ...]] | None] = {}
        self.unmodelled: set[tuple[str, str, int]] = set()
        if sys.getrecursionlimit() < 4 * DEPTH_LIMIT:
            sys.setrecursionlimit(4 * DEPTH_LIMIT)

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
                refused.extend(End(one, A_DROP, (table, chain, 0)) for one in back)
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
            outcomes.extend(outcome_of(end.flow, _verdict_of(end), end.rule) for end in refused)
            left.extend(accepted)
        return merge_flows(left)

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
                    outcomes.append(outcome_of(end.flow, _verdict_of(end), end.rule))
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
        found = []
        for leaf, backends in self.groups_of(bundle)[1]:
            flow.address, flow.key, flow.number, flow.port = leaf.address, leaf.key, address_number(leaf.address), leaf.port
            found.append((backends, self._later_of(run, flow)))
        return found

    def groups_of(self, bundle: Balance) -> tuple[int, list[tuple[Leaf, dict[str, float]]]]:
        """The endpoints of a bundle, in groups that later rules treat alike; and a number: bundles of one number have alike groups."""
        known = self._groups.get(bundle)
        if known is not None:
            return known
        backends = bundle.backends
        alike = self._told_apart().of_all(bundle, self.host) if len(backends) == len(bundle.leaves) else None
        if alike is not None:
            number = self._group_keys.setdefault((alike,), len(self._group_keys))
            one = self._groups[bundle] = number, [(bundle.leaves[0], backends)]
            return one
        groups: dict[tuple[object, ...], tuple[Leaf, dict[str, float]]] = {}
        for leaf, key in zip(bundle.leaves, self._told_apart().of_endpoints(bundle.leaves, self.host), strict=True):
            share = backends.get(leaf.endpoint)
            if share is None:
                continue
            group = groups.get(key)
            if group is None:
                group = groups[key] = (leaf, {})
            group[1][leaf.endpoint] = share
        number = self._group_keys.setdefault(tuple(groups), len(self._group_keys))
        if len(groups) == 1:
            leaf, _ = next(iter(groups.values()))
            found = [(leaf, backends)]
        else:
            found = list(groups.values())
        self._groups[bundle] = number, found
        return number, found

    def place(self, client: Packet, destination: str, port: int) -> Place | None:
        """What the rules see of a destination of `client`'s packets, to be handed to `bundled`; None: it has to be asked in full."""
        hook = "OUTPUT" if client.from_node else "PREROUTING"
        places = self._places.get(hook)
        if places is None:
            places = self._places[hook] = Places(self.rules, hook, next(iter(self._places.values()), None))
        return places.find(destination, "/32" if client.family == 4 else "/128", port)

    def bundled(self, client: Packet, destination: str, port: int, place: Place, mark: int) -> tuple[Balance, bool] | None:
        """Where all connections of a client to a destination are spread over the endpoints of one balance, and delivered for certain: that
        balance, and whether they carry `mark`, the masquerade mark; None: ask in full.

        `client` is a packet of that client to anywhere. Answers are remembered for all destinations that the rules treat alike (S13).
        """
        balances = place.balances
        if not balances:
            return None
        source = client.source + ("/32" if client.family == 4 else "/128")
        for balance in balances:
            if source in balance.sources:
                return None
        later = self._told_apart()
        key = (
            client.key,
            place.key,
            mark,
            self.host.is_local(destination),
            later.of_address(destination),
            later.of_port(port) if later.original_ports else None,
            self.groups_of(balances[0])[0] if len(balances) == 1 else tuple([self.groups_of(balance)[0] for balance in balances]),
        )
        try:
            known = self._bundled[key]
        except KeyError:
            found = self._ask_bundled(client.to(destination, port), balances, mark)
            if len(found) > 1:
                return None  # balances over the same endpoints: which it is, another destination tells
            known = self._bundled[key] = found[0] if found else None
        return None if known is None else (balances[known[0]], known[1])

    def bundled_for_all(
        self, clients: tuple[Packet, ...], destination: str, port: int, mark: int
    ) -> tuple[Balance, tuple[bool, ...]] | None:
        """`bundled` for several clients that all come to the same balance; whether each carries the mark. None: ask one by one."""
        known_clients = self._clients.get(id(clients))
        if known_clients is None:
            sources = frozenset([one.source + ("/32" if one.family == 4 else "/128") for one in clients])
            known_clients = self._clients[id(clients)] = (clients, {one.from_node: one for one in clients}, sources)
        _, first_of, sources = known_clients
        by_hook = {hook: self.place(one, destination, port) for hook, one in first_of.items()}
        first = by_hook[clients[0].from_node]
        if first is None or not first.balances or None in by_hook.values():
            return None
        if any(place is not None and not _same(place.balances, first.balances) for place in by_hook.values()):
            return None  # the hooks lead to different balances: what is remembered is a place among those of the first
        if not all(balance.sources.isdisjoint(sources) for balance in first.balances):
            return None
        later = self._told_apart()
        key = (
            id(clients),
            *[place.key for place in by_hook.values() if place is not None],
            self.host.is_local(destination),
            later.of_address(destination),
            later.of_port(port) if later.original_ports else None,
            tuple([self.groups_of(balance)[0] for balance in first.balances]),
        )
        try:
            known = self._together[key]
        except KeyError:
            found = [
                self.bundled(client, destination, port, place, mark)
                for client in clients
                if (place := by_hook[client.from_node]) is not None
            ]
            if None in found or len({id(one[0]) for one in found if one is not None}) != 1:
                if any(one is not None for one in found) and len(first.balances) > 1:
                    return None  # not for all destinations that are alike: see `bundled`
                known = self._together[key] = None
            else:
                balances = [one[0] for one in found if one is not None]
                known = self._together[key] = (
                    first.balances.index(balances[0]),
                    tuple([one[1] for one in found if one is not None]),
                )
        return None if known is None else (first.balances[known[0]], known[1])

    def _ask_bundled(self, packet: Packet, balances: tuple[Balance, ...], mark: int) -> list[tuple[int, bool]]:
        """The balances, by number, over which all of a packet's connections may be spread, and whether they carry the mark."""
        seen = observe(self, packet, mark)
        if seen.possible or seen.lost or seen.refused or seen.untranslated or seen.not_masqueraded or seen.affinity_fault:
            return []
        if seen.marked and seen.unmarked:
            return []
        return [
            (number, bool(seen.marked))
            for number, balance in enumerate(balances)
            if balance.protocol == packet.protocol
            and seen.affinity == balance.affinity
            and equal_shares(seen.backends, balance.backends)
        ]

    def _told_apart(self) -> Classes:
        if self._classes is None:
            places = [(table, chain) for table in ("mangle", "filter", "security") for chain in BUILT_IN[table]]
            self._classes = Classes(
                self.rules, [*places, ("nat", "POSTROUTING"), ("nat", "INPUT"), ("raw", "PREROUTING"), ("raw", "OUTPUT")]
            )
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
            outcomes.append(outcome_of(one, verdict, None))
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
        chosen = self.host.addresses if self.host.chosen is None else self.host.chosen
        return sorted(one for one in chosen if ":" not in one) or [run.packet.source]

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
            outcomes.extend(outcome_of(end.flow, _verdict_of(end), end.rule) for end in refused)
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


def _same(some: tuple[Balance, ...], others: tuple[Balance, ...]) -> bool:
    """Whether these are the very same balances, in the same order; mostly they are one tuple."""
    return some is others or (len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True)))


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


def _verdict_of(end: End) -> Verdict:
    if end.verdict == A_DROP:
        return Verdict.DROP
    if end.verdict == A_REJECT:
        return Verdict.REJECT
    return Verdict.FORWARD if end.flow.translated else Verdict.PASS


def outcome_of(flow: Flow, verdict: Verdict, rule: tuple[str, str, int] | None) -> Outcome:
    """A flow that has come to its end, as an outcome; `rule` is what gave the verdict, None for the end of all chains."""
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
        scheduled=flow.scheduled,
        trail=tuple(reversed(trail)),
    )
