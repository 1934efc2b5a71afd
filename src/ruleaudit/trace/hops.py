"""One node after the other: what its rules do to the connection, and who gets it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from ruleaudit.addresses import known_family, parse_network
from ruleaudit.checks.judgement import percent
from ruleaudit.dataplane.packet import NODE_SIDE
from ruleaudit.findings import Certainty, Severity
from ruleaudit.forwarding import FrontendKind, Vantage, Verdict, endpoint_text, split_endpoint
from ruleaudit.trace.holders import (
    addresses_of,
    declares,
    endpoint_at,
    is_endpoint,
    knows_endpoints,
    knows_slices,
    listener,
    named_endpoint,
    node_with,
    where_text,
)
from ruleaudit.trace.rules import Book, deciding
from ruleaudit.trace.seen import after, client_as_seen, node_text
from ruleaudit.trace.values import Choice, Connection, Outcome, Step, StepKind
from ruleaudit.trace.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ruleaudit.audit import FamilyModel, NodeModel
    from ruleaudit.dataplane.packet import Packet
    from ruleaudit.dataplane.walk import Outcome as Walked
    from ruleaudit.kubeproxy.expect import ExpectedServicePort
    from ruleaudit.trace.nodes import Nodes
    from ruleaudit.trace.values import Endpoint, RuleUse

__all__ = ["Branch", "Follower", "Sender", "of_several", "scaled", "with_share"]

MAX_HOPS: Final = 4
"""So many nodes are followed: more than any connection meets that does not go in a circle."""
_ENDED: Final = (Verdict.DROP, Verdict.REJECT)
_MOST_SOURCES: Final = 12


@dataclass(frozen=True, slots=True)
class Branch:
    """A part of the way: its steps, and how it can end; the outcomes' shares add up to 1."""

    steps: tuple[Step, ...]
    outcomes: tuple[Outcome, ...]


def scaled(outcomes: Iterable[Outcome], share: float, certainty: Certainty = Certainty.DEFINITE) -> tuple[Outcome, ...]:
    """The outcomes of a part of the connection."""
    return tuple(
        replace(one, share=one.share * share, certainty=one.certainty if certainty is Certainty.DEFINITE else certainty)
        for one in outcomes
    )


def with_share(steps: Iterable[Step], share: float) -> tuple[Step, ...]:
    """Steps that only a part of the connection takes."""
    return tuple(replace(one, share=one.share * share, steps=with_share(one.steps, share)) for one in steps)


def of_several(ways: Sequence[tuple[str, Branch]]) -> Branch:
    """Branches between which somebody chooses of whom nothing is known, each with what it is called: the same share stands for all."""
    if len(ways) == 1:
        return ways[0][1]
    part = 1 / len(ways)
    return Branch(
        tuple(step for _, one in ways for step in with_share(one.steps, part)),
        tuple(
            replace(outcome, way=(Choice(label, len(ways)), *outcome.way))
            for label, one in ways
            for outcome in scaled(one.outcomes, part)
        ),
    )


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends a packet to a node: from where it comes to it, and with which address. `source` None: any address of that kind.

    `inside`: it comes from another node or a pod on one, by an interface of the host's or an overlay's. `source_text`: what is known of a
    source that only stands for the one that it has.
    """

    vantage: Vantage
    source: str | None = None
    inside: bool = False
    source_text: str = ""


class Follower:
    """Follows connections through nodes. `wanted` gathers what the objects ask for on the way; `not_given` the nodes that the connection may
    come to first, or that a way into a Service begins at, and whose dumps were not given; `conditions` what the way rests on and the objects do
    not show.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.nodes, self.cluster = nodes, nodes.cluster
        self.wanted = Wanted(nodes.cluster)
        self.not_given: dict[str, None] = {}
        self.conditions: dict[str, None] = {}
        self._books: dict[int, Book] = {}

    def at_node(
        self,
        model: NodeModel,
        sender: Sender,
        destination: str,
        port: int,
        protocol: str,
        hop: int = 0,
        *,
        arriving: bool = False,
    ) -> Branch:
        """A packet at a node: the step of its rules, and what follows. `arriving`: another node has sent it to an endpoint here."""
        found = model.family(known_family(destination))
        if found is None:
            return _without_rules(model, sender, destination, port, protocol)
        return _Hop(self, model, found, sender, destination, port, protocol, hop, arriving=arriving).branch()

    def book(self, found: FamilyModel) -> Book:
        """The lines of one family of a node."""
        known = self._books.get(id(found))
        if known is None:
            known = self._books[id(found)] = Book(found.audit)
        return known


def _without_rules(model: NodeModel, sender: Sender, destination: str, port: int, protocol: str) -> Branch:
    """A packet of a family of which no rules are known on the node."""
    family = known_family(destination)
    connection = Connection(sender.source, destination, port, protocol, "the client")
    served = ", ".join(f"IPv{one}" for one in model.families) or "no family"
    step = Step(
        StepKind.NODE_RULES,
        f"{model.name or 'the node'}: the rules of IPv{family} are not known",
        model.name,
        certainty=Certainty.POSSIBLE,
        before=connection,
        notes=(f"kube-proxy serves {served} there, as far as the inputs show",),
    )
    outcome = Outcome(
        Verdict.PASS, 1.0, (destination, port, protocol), certainty=Certainty.POSSIBLE, source=connection, node=model.name
    )
    return Branch((step,), (outcome,))


class _Hop:
    """One packet at one node."""

    def __init__(
        self,
        follower: Follower,
        model: NodeModel,
        found: FamilyModel,
        sender: Sender,
        destination: str,
        port: int,
        protocol: str,
        hop: int,
        *,
        arriving: bool,
    ) -> None:
        self.follower, self.model, self.found, self.sender = follower, model, found, sender
        self.destination, self.port, self.protocol, self.hop, self.arriving = destination, port, protocol, hop, arriving
        self.nodes, self.cluster, self.wanted = follower.nodes, follower.cluster, follower.wanted
        packet = found.audit.clients.packet(sender.vantage, protocol, destination, port, self._source())
        self.packet: Packet = replace(packet, in_interface=NODE_SIDE) if sender.inside else packet
        self.claims: Sequence[ExpectedServicePort] = ()
        text = sender.source_text
        if sender.vantage is Vantage.OUTSIDE and sender.source is None:
            text = "an address of the load balancer"
        self.came = Connection(None if text else self.packet.source, destination, port, protocol, text)

    def _source(self) -> str | None:
        """The source of the packet, where it is known: the kernel gives the node's own packets to one of its addresses that very address, in
        IPVS mode also to what kube-ipvs0 has, and any other that of the interface that leads there.
        """
        if self.sender.vantage is not Vantage.NODE or self.sender.source is not None:
            return self.sender.source
        local = self.found.evaluator.host.is_local(self.destination)
        return self.destination if local else self.found.audit.clients.node

    def branch(self) -> Branch:
        """The node's rules, and what follows each of their outcomes."""
        found, model = self.found, self.model
        walked = _merged(found.evaluator.evaluate(self.packet, tracing=True)[0])
        if not found.rules_known:
            walked = [replace(one, masquerade=None, possible=True) for one in walked]
        elif not found.audit.rules.has_table("filter"):
            walked = [replace(one, possible=True) for one in walked]
        rules = [deciding(self.follower.book(found), one) for one in walked]
        remarks = self.wanted.said((one for one in model.findings if one.severity is not Severity.INFO), model.name)
        contradicted = model.contradicted(found.audit.family)
        remarks += self.wanted.said([contradicted] if contradicted is not None else [], model.name)
        self.claims, parted = self.wanted.at(
            model,
            found,
            self.sender.vantage,
            self.packet,
            self.protocol,
            rules,
            arriving=self.arriving,
            undecided=self.sender.inside and any(one.possible for one in walked),
        )
        remarks += parted
        for claim in self.claims:
            if not any(one.ready for one in claim.candidates.endpoints):
                remarks += self.wanted.oddities_of((claim.name.namespace, claim.name.name))
        common = _common(rules)
        steps: list[Step] = []
        outcomes: list[Outcome] = []
        for one, used in zip(walked, rules, strict=True):
            way = self._onward(one, used[common:])
            steps.extend(way.steps)
            outcomes.extend(replace(each, rules=(*used, *each.rules)) for each in way.outcomes)
        what = "brought from another node:" if self.arriving else "packets for"
        step = Step(
            StepKind.NODE_RULES,
            f"node {node_text(model)}: {what} {endpoint_text(self.destination, self.port)}/{self.protocol}",
            model.name,
            before=self.came,
            rules=rules[0][:common] if rules else (),
            notes=tuple(self._notes(walked, outcomes)),
            remarks=tuple(dict.fromkeys(remarks)),
            steps=tuple(steps),
        )
        return Branch((step,), tuple(outcomes))

    # --- notes on the node's step ---

    def _notes(self, walked: Sequence[Walked], outcomes: Sequence[Outcome]) -> list[str]:
        notes = self._undecided(walked)
        if self.arriving:
            return notes
        if not self.claims:
            notes += self._unserved_node_port() + self._passed_over()
        ends = (each.endpoint.node for each in outcomes if each.endpoint is not None)
        away = sorted({one for one in ends if one is not None and one != self.model.name and self.nodes.named(one) is None})
        if away and self.model.name is not None:
            notes.append(f"not followed on {', '.join(away)}, whose dumps were not given: their rules may refuse what comes")
        return notes

    def _undecided(self, walked: Sequence[Walked]) -> list[str]:
        found, notes = self.found, []
        if not found.rules_known:
            notes.append("without the node's rules and sets only its virtual servers are known: masquerade and refusals are not")
        elif not found.audit.rules.has_table("filter"):
            notes.append("the dump has no filter table: what is refused is not known")
        kept = {one.scheduled.persistence for one in walked if one.scheduled is not None and one.scheduled.persistence}
        affinity = found.evaluator.evaluate(self.packet)[1] if any(one.remembered for one in walked) else {}
        kept |= {question.seconds for question, _ in affinity.values() if question.seconds}
        if kept:
            notes.append(
                f"session affinity: a client comes back to its endpoint for {', '.join(str(one) for one in sorted(kept))} s"
            )
        undecided = {one.unknown_rule for one in walked if one.possible and one.unknown_rule is not None}
        for place in undecided:
            use = self.follower.book(found).use(place)
            if use is not None:
                notes.append(f"not decided by what is known, so both ways are followed: {use.file}:{use.line}: {use.text}")
        return notes

    def _unserved_node_port(self) -> list[str]:
        """A node port at an address of the node at which kube-proxy is not to serve it."""
        found, address, port = self.found, self.destination, self.port
        if not found.evaluator.host.is_local(address):
            return []
        expectation = found.audit.expectation
        if (None, port, self.protocol) in expectation.by_frontend:
            served = ", ".join(found.audit.node_port_addresses) or "no address that is known"
            return [f"{port} is a node port, but kube-proxy serves node ports at {served}, not at {address}"]
        return [
            f"{port} is a node port of Service {'/'.join(key)}, which kube-proxy passes over here: {reason}"
            for key, reason in expectation.ignored.items()
            for one in self.cluster.services[key].spec.ports
            if one.node_port == port and (one.protocol or "TCP") == self.protocol
        ]

    def _passed_over(self) -> list[str]:
        """An address of a Service that kube-proxy does not serve, and why."""
        return [
            f"{self.destination} is an address of Service {'/'.join(key)}, which kube-proxy passes over: {reason}"
            for key, reason in self.found.audit.expectation.ignored.items()
            if self.destination in addresses_of(self.cluster.services[key])
        ]

    # --- how it goes on ---

    def _onward(self, walked: Walked, rules: tuple[RuleUse, ...]) -> Branch:
        """One outcome of the node's rules, with what follows it; the outcomes have the share of this one."""
        certainty = Certainty.POSSIBLE if walked.possible else Certainty.DEFINITE
        place = (self.destination, self.port) if walked.endpoint is None else split_endpoint(walked.endpoint)
        target = (*place, self.protocol)
        gone = after(self.model, self.found, self.came, walked, self.packet, target)
        who = endpoint_at(self.cluster, self.claims, *place, self.protocol, self.model.name)
        ended = walked.verdict in _ENDED
        base = Outcome(
            walked.verdict,
            walked.share,
            target if not ended or walked.endpoint is not None else None,
            None if ended else who,
            None if ended else walked.masquerade,
            certainty,
            source=gone,
            node=self.model.name,
        )
        if ended:
            what = {Verdict.DROP: "dropped: the client waits in vain", Verdict.REJECT: "rejected: the client is told at once"}
            where = f", on its way to {endpoint_text(*place)}" if walked.endpoint is not None else ""
            why = () if walked.endpoint is not None else self._why_refused()
            return self._ended(base, f"{what[walked.verdict]}{where}", rules, notes=why)
        if walked.endpoint is None and not self.arriving:
            return self._untranslated(walked, base, who, rules)
        return self._to_endpoint(walked, base, who, rules)

    def _ended(
        self,
        base: Outcome,
        text: str,
        rules: tuple[RuleUse, ...],
        *,
        notes: tuple[str, ...] = (),
        kind: StepKind = StepKind.END,
        steps: tuple[Step, ...] = (),
        outcomes: tuple[Outcome, ...] = (),
    ) -> Branch:
        """A way that ends without a pod, or goes on elsewhere by `steps` to `outcomes`."""
        step = Step(
            kind,
            f"{_part(base)}{text}",
            self.model.name,
            base.share,
            base.certainty,
            after=None if base.verdict in _ENDED else base.source,
            rules=rules,
            notes=notes,
            steps=steps,
        )
        return Branch((step,), outcomes or (base,))

    def _why_refused(self) -> tuple[str, ...]:
        """Why the objects ask for a refusal, where they do: then it is right."""
        asked = self.wanted.expected[-1] if self.claims and self.wanted.expected else None
        if asked is None or not asked.same or asked.forwarding is None or asked.forwarding.verdict is Verdict.FORWARD:
            return ()
        claim = self.claims[0]
        name = f"{claim.name.namespace}/{claim.name.name}"
        every = claim.candidates.endpoints
        ready = [one for one in every if one.ready]
        ranges = [one for one in claim.source_ranges if parse_network(one, self.packet.family) is not None]
        if asked.frontend.kind is FrontendKind.LOAD_BALANCER_IP and ranges and not _within(self.packet.source, ranges):
            return (f"as the objects ask: {self.packet.source} is in none of loadBalancerSourceRanges, {', '.join(ranges)}",)
        if not ready:
            count = len({one.text for one in (*every, *claim.candidates.unready)})
            return (f"as the objects ask: {name} has {f'{count} endpoints, none of them ready' if count else 'no endpoints'}",)
        return (f"as the objects ask: {name} has no ready endpoint on this node, which its traffic policy asks for (Local)",)

    def _to_endpoint(self, walked: Walked, base: Outcome, who: Endpoint, rules: tuple[RuleUse, ...]) -> Branch:
        """To an endpoint that the rules have chosen, or that another node has."""
        model, claims = self.model, self.claims
        translated = walked.endpoint is not None
        gone = base.source
        assert gone is not None
        notes, broken = client_as_seen(model, self.sender.vantage, self.packet, walked, gone, who)
        if self._asks_as_the_service(walked) and who.node not in (None, model.name):
            notes.append(
                f"node {who.node} has {gone.source} itself, on kube-ipvs0 as every node: an answer that is sent there does not come back"
            )
            base = replace(base, certainty=Certainty.POSSIBLE)
        told = [
            one
            for claim in (claims if broken else ())
            for one in self.found.findings_of(claim)
            if one.code == "RA403" and one.endpoint == walked.endpoint
        ]
        remarks = self.wanted.said(told, model.name)
        theirs = not claims or is_endpoint(claims, walked.endpoint) or not knows_slices(self.cluster)
        if claims and not knows_slices(self.cluster):
            notes.append(f"no EndpointSlices and Endpoints were given: which endpoints {claims[0].name.name} has is not known")
            base = replace(base, certainty=Certainty.POSSIBLE)
        if not theirs and translated:
            notes.append(f"{walked.endpoint} is no endpoint of {claims[0].name.namespace}/{claims[0].name.name}")
        if claims and walked.masquerade is False and who.node != model.name and self.sender.vantage is Vantage.OUTSIDE:
            base = replace(base, certainty=Certainty.POSSIBLE)
        if who.ready is None and not knows_endpoints(self.cluster):
            base = replace(base, certainty=Certainty.POSSIBLE)
        base = replace(base, reached=who.ready is True and not broken and theirs)
        steps, outcomes = self._at_its_node(base, who)
        place = endpoint_text(who.address, who.port)
        step = Step(
            StepKind.BACKEND,
            f"{_part(base)}{'to' if translated else 'for'} {place}, {where_text(self.cluster, who, model.name)}",
            who.node or model.name,
            base.share,
            base.certainty,
            self.came,
            gone,
            rules,
            tuple(notes),
            tuple(remarks),
            endpoint=who,
            reached=base.reached and base.certainty is Certainty.DEFINITE,
            steps=steps,
        )
        return Branch((step,), outcomes)

    def _asks_as_the_service(self, walked: Walked) -> bool:
        """Whether the packet leaves with an address that kube-ipvs0 has on every node (KPR 9.3)."""
        if self.found.ipvs is None or walked.masquerade is not False or not self.packet.from_node:
            return False
        vip = any(one.address == self.destination for claim in self.claims for one in claim.frontends)
        return vip and self.packet.source == self.destination

    def _at_its_node(self, base: Outcome, who: Endpoint) -> tuple[tuple[Step, ...], tuple[Outcome, ...]]:
        """What the rules of an endpoint's node do with a packet for it, where they were given; else the packet is taken to arrive."""
        other = self.nodes.named(who.node) if who.node != self.model.name and not self.arriving else None
        if other is None or self.hop >= MAX_HOPS:
            return (), (base,)
        there = self._at(other, base, (who.address, who.port), arriving=True)
        doubtful = base.certainty is Certainty.POSSIBLE
        outcomes = []
        for one in there.outcomes:
            ended = one.verdict in _ENDED
            outcomes.append(
                replace(
                    one,
                    share=one.share * base.share,
                    certainty=Certainty.POSSIBLE if doubtful else one.certainty,
                    verdict=one.verdict if ended else base.verdict,
                    endpoint=None if ended else who,
                    destination=base.destination,
                    masquerade=base.masquerade,
                    source=base.source,
                    reached=base.reached and not ended,
                )
            )
        return with_share(there.steps, base.share), tuple(outcomes)

    def _at(self, other: NodeModel, base: Outcome, place: tuple[str, int], *, arriving: bool) -> Branch:
        """The packet at the next node, with the source that it has left this one with.

        With masquerade that is an address of the interface that leads there, which nothing shows: the primary one stands for it, and where
        another one of the node's would fare otherwise, nothing is certain.
        """
        gone = base.source
        assert gone is not None
        guessed = gone.source is None and bool(base.masquerade)
        source = gone.source or (self.found.audit.clients.node_address if guessed else self.packet.source)
        sender = Sender(Vantage.OUTSIDE, source, inside=True, source_text=gone.source_text if guessed else "")
        branch = self.follower.at_node(other, sender, *place, self.protocol, self.hop + 1, arriving=arriving)
        found = other.family(self.packet.family) if guessed else None
        if found is None or not self._hangs_on_source(found, sender, place):
            return branch
        note = (
            f"what the rules do here hangs on which address of node {node_text(self.model)} it comes from: taken to be {source}"
        )
        return Branch(
            tuple(replace(one, certainty=Certainty.POSSIBLE, notes=(*one.notes, note)) for one in branch.steps),
            scaled(branch.outcomes, 1.0, Certainty.POSSIBLE),
        )

    def _hangs_on_source(self, found: FamilyModel, sender: Sender, place: tuple[str, int]) -> bool:
        """Whether the rules of the next node do something else with a packet from another address that this node may have."""
        family = self.packet.family
        node = self.cluster.nodes.get(self.model.name or "")
        others = list(self.found.evaluator.host.addresses)
        for text in (*node.spec.pod_cidrs, node.spec.pod_cidr or "") if node is not None else ():
            network = parse_network(text, family)
            if network is not None:  # overlays take the first addresses of the node's range for their interface and the bridge
                others += [str(network.network_address), str(network.network_address + 1)]
        ends = set()
        for source in dict.fromkeys([sender.source, *others][:_MOST_SOURCES]):
            packet = found.audit.clients.packet(Vantage.OUTSIDE, self.protocol, *place, source)
            packet = replace(packet, in_interface=NODE_SIDE)
            ends.add(frozenset((one.verdict, one.endpoint, one.final_rule) for one in found.evaluator.evaluate(packet)[0]))
        return len(ends) > 1

    # --- what no rule has translated ---

    def _untranslated(self, walked: Walked, base: Outcome, who: Endpoint, rules: tuple[RuleUse, ...]) -> Branch:
        """For the node itself, for a pod, an endpoint or a node that was asked for by its address, or for somebody outside."""
        if walked.verdict is Verdict.LOCAL:
            return self._to_the_node(base, rules)
        named = named_endpoint(self.cluster, self.destination, self.port, self.protocol, self.model.name)
        if named is not None:
            return self._to_asked(base, named, rules)
        owner = node_with(self.cluster, self.destination)
        if owner is not None and owner != self.model.name:
            return self._to_other_node(base, owner, rules)
        if who.pod is not None:
            return self._to_asked(base, who, rules)
        base = replace(base, endpoint=None)
        notes: tuple[str, ...] = ()
        if not knows_endpoints(self.cluster):
            base = replace(base, certainty=Certainty.POSSIBLE)
            notes = ("no endpoints and pods were given: who has the address is not known",)
        return self._ended(base, "routed on, untranslated", rules, kind=StepKind.ROUTED_ON, notes=notes)

    def _to_the_node(self, base: Outcome, rules: tuple[RuleUse, ...]) -> Branch:
        """For the node itself: to who listens there, as far as the objects tell. Where a Service was asked for, nobody does."""
        port, protocol = self.port, self.protocol
        lead = f"delivered to node {self.model.name or 'the node'} itself"
        found = listener(self.cluster, self.model.name, port, protocol)
        if found is not None:
            base = replace(base, endpoint=found.endpoint(self.destination, port, self.model.name), reached=found.ready)
            step = Step(
                StepKind.BACKEND,
                f"{_part(base)}{lead}: {found.text}",
                self.model.name,
                base.share,
                base.certainty,
                after=base.source,
                rules=rules,
                endpoint=base.endpoint,
                reached=base.reached and base.certainty is Certainty.DEFINITE,
            )
            return Branch((step,), (base,))
        base = replace(base, endpoint=None)
        if self.claims:
            return self._ended(base, f"{lead}, untranslated", rules)
        note = f"no pod on its host network declares port {port}/{protocol}: whether anybody listens is not known"
        base = replace(
            base,
            certainty=Certainty.POSSIBLE,
            ending="delivered to the node itself, of which nothing says whether anybody listens",
        )
        return self._ended(base, f"{lead}, untranslated", rules, notes=(note,))

    def _to_other_node(self, base: Outcome, owner: str, rules: tuple[RuleUse, ...]) -> Branch:
        """For another node, which was asked for by its address."""
        text = f"routed on, untranslated, to node {owner}"
        other = self.nodes.named(owner)
        if other is None or self.hop >= MAX_HOPS:
            note = f"the rules of node {owner} were not given: what becomes of it there is not known"
            base = replace(base, endpoint=None, certainty=Certainty.POSSIBLE)
            return self._ended(base, text, rules, kind=StepKind.ROUTED_ON, notes=(note,))
        there = self._at(other, base, (self.destination, self.port), arriving=False)
        return self._ended(
            base,
            text,
            rules,
            kind=StepKind.ROUTED_ON,
            steps=with_share(there.steps, base.share),
            outcomes=scaled(there.outcomes, base.share, base.certainty),
        )

    def _to_asked(self, base: Outcome, who: Endpoint, rules: tuple[RuleUse, ...]) -> Branch:
        """To a pod or an endpoint that was asked for by its own address."""
        notes: tuple[str, ...] = ()
        if not declares(self.cluster, who.address, who.port, self.protocol):
            notes = (
                f"no container of the pod declares port {who.port}/{self.protocol}, no Service names it: whether anybody listens is not known",
            )
            base = replace(base, certainty=Certainty.POSSIBLE)
        base = replace(base, reached=who.ready is True)
        steps, outcomes = self._at_its_node(base, who)
        step = Step(
            StepKind.BACKEND,
            f"{_part(base)}routed, untranslated, to {endpoint_text(who.address, who.port)}, {where_text(self.cluster, who, self.model.name)}",
            who.node,
            base.share,
            base.certainty,
            after=base.source,
            rules=rules,
            notes=notes,
            endpoint=who,
            reached=base.reached and base.certainty is Certainty.DEFINITE,
            steps=steps,
        )
        return Branch((step,), outcomes)


def _within(address: str, ranges: Sequence[str]) -> bool:
    """Whether an address lies in one of several CIDRs."""
    parsed = ip_address(address)
    return any((network := parse_network(one, parsed.version)) is not None and parsed in network for one in ranges)


def _merged(walked: Sequence[Walked]) -> list[Walked]:
    """Outcomes that end alike become one: undecided rules and several ways to one endpoint split them."""
    kept: dict[tuple[object, ...], Walked] = {}
    for one in walked:
        key = (one.verdict, one.endpoint, one.masquerade, one.possible, one.final_rule if one.endpoint is None else None)
        same = kept.get(key)
        kept[key] = one if same is None else replace(same, share=same.share + one.share)
    return sorted(kept.values(), key=lambda one: (one.verdict is not Verdict.FORWARD, one.possible))


def _common(rules: Sequence[tuple[RuleUse, ...]]) -> int:
    """How many rules all of them begin with."""
    if not rules:
        return 0
    shortest = min(len(one) for one in rules)
    count = 0
    while count < shortest and all(one[count] == rules[0][count] for one in rules):
        count += 1
    return count


def _part(outcome: Outcome) -> str:
    """The share, where it is a part and no placeholder."""
    return "" if outcome.share > 0.9995 or outcome.certainty is Certainty.POSSIBLE else f"{percent(outcome.share)} "
