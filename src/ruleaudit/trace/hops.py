"""One node after the other: what its rules do to the connection, what the objects ask for there, and who gets it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from ruleaudit.addresses import canonical_address, family_of, parse_network
from ruleaudit.checks.judgement import percent
from ruleaudit.checks.objects_oddities import broken_ingress_backends, services_without_pods
from ruleaudit.compare import compare, equal
from ruleaudit.dataplane.observe import observe
from ruleaudit.dataplane.packet import ANY_INTERFACE
from ruleaudit.dataplane.ruleset import destination_of
from ruleaudit.findings import Certainty, Severity
from ruleaudit.forwarding import FrontendKind, Vantage, Verdict, endpoint_text, split_endpoint
from ruleaudit.settings import LocalDetection
from ruleaudit.trace.rules import Book, deciding
from ruleaudit.trace.values import Connection, Endpoint, Expected, Outcome, Remark, RuleUse, Step, StepKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ruleaudit.audit import FamilyModel, NodeModel
    from ruleaudit.checks.objects_oddities import Oddity
    from ruleaudit.cluster.objects import Service
    from ruleaudit.dataplane.observe import Observation
    from ruleaudit.dataplane.packet import Packet
    from ruleaudit.dataplane.walk import Outcome as Walked
    from ruleaudit.endpoints import Candidates
    from ruleaudit.endpoints import Endpoint as SliceEndpoint
    from ruleaudit.expect import Expectation, ExpectedServicePort
    from ruleaudit.findings import Finding
    from ruleaudit.forwarding import Forwarding, Frontend
    from ruleaudit.ingress import Backend
    from ruleaudit.trace.nodes import Nodes

__all__ = ["Branch", "Follower", "Sender", "of_several", "scaled", "state_of", "with_share"]

Key = tuple[str, str]
MAX_HOPS: Final = 4
"""So many nodes are followed: more than any connection meets that does not go in a circle."""


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


def of_several(branches: Sequence[Branch]) -> Branch:
    """Branches between which nothing is known to choose: each with the same share."""
    if len(branches) == 1:
        return branches[0]
    part = 1 / len(branches)
    return Branch(
        tuple(step for one in branches for step in with_share(one.steps, part)),
        tuple(outcome for one in branches for outcome in scaled(one.outcomes, part)),
    )


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends a packet to a node: from where it comes to it, and with which address. `source` None: any address of that kind.

    `inside`: it comes from another node or a pod on one, by whichever interface leads there.
    """

    vantage: Vantage
    source: str | None = None
    inside: bool = False


class Follower:
    """Follows connections through nodes, and notes what the objects ask for on the way."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes, self.cluster = nodes, nodes.cluster
        self.expected: list[Expected] = []
        self.findings: dict[str, Finding] = {}
        self._books: dict[int, Book] = {}

    # --- one node ---

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
        family = 6 if ":" in destination else 4
        found = model.family(family)
        name = model.name or "the node"
        if found is None:
            text = f"{name}: the rules of IPv{family} are not known"
            connection = Connection(sender.source, destination, port, protocol, "the client")
            served = ", ".join(f"IPv{one}" for one in model.families) or "no family"
            note = f"kube-proxy serves {served} there, as far as the inputs show"
            step = Step(StepKind.NODE_RULES, text, model.name, certainty=Certainty.POSSIBLE, before=connection, notes=(note,))
            outcome = Outcome(
                Verdict.PASS, 1.0, (destination, port, protocol), certainty=Certainty.POSSIBLE, source=connection, node=model.name
            )
            return Branch((step,), (outcome,))
        packet = self._packet(found, sender, destination, port, protocol)
        walked = _merged(found.evaluator.evaluate(packet, tracing=True)[0])
        if not found.rules_known:
            walked = [replace(one, masquerade=None, possible=True) for one in walked]
        elif not found.audit.rules.has_table("filter"):
            walked = [replace(one, possible=True) for one in walked]
        book = self._book(found)
        rules = [deciding(book, one) for one in walked]
        claims, remarks = self._judged(model, found, sender, packet, protocol, rules, arriving=arriving)
        for claim in claims:
            if not any(one.ready for one in claim.candidates.endpoints):
                remarks += self.oddities_of((claim.name.namespace, claim.name.name))
        before = _connection(sender, packet, destination, port, protocol)
        common = _common(rules)
        steps: list[Step] = []
        outcomes: list[Outcome] = []
        for one, used in zip(walked, rules, strict=True):
            way = self._onward(model, found, sender, one, packet, protocol, used[common:], claims, hop, arriving=arriving)
            steps.extend(way.steps)
            outcomes.extend(replace(each, rules=(*used, *each.rules)) for each in way.outcomes)
        notes = self._node_notes(found, walked, packet)
        if not claims and not arriving:
            notes += self._unserved_node_port(found, destination, port, protocol) + self._passed_over(found, destination)
        if not arriving:
            ends = (each.endpoint.node for each in outcomes if each.endpoint is not None)
            away = sorted({one for one in ends if one is not None and one != model.name and self.nodes.named(one) is None})
            if away:
                notes.append(f"not followed on {', '.join(away)}, whose dumps were not given: their rules may refuse what comes")
        what = "packets for" if not arriving else "brought from another node:"
        step = Step(
            StepKind.NODE_RULES,
            f"node {model.name or '(name not known)'}: {what} {endpoint_text(destination, port)}/{protocol}",
            model.name,
            before=before,
            rules=rules[0][:common] if rules else (),
            notes=tuple(notes),
            remarks=tuple(remarks),
            steps=tuple(steps),
        )
        return Branch((step,), tuple(outcomes))

    def _book(self, found: FamilyModel) -> Book:
        known = self._books.get(id(found))
        if known is None:
            known = self._books[id(found)] = Book(found.audit)
        return known

    def _packet(self, found: FamilyModel, sender: Sender, destination: str, port: int, protocol: str) -> Packet:
        packet = found.audit.clients.packet(sender.vantage, protocol, destination, port, sender.source)
        if sender.inside:
            return replace(packet, in_interface=ANY_INTERFACE, bridged=None)
        return packet

    def _unserved_node_port(self, found: FamilyModel, address: str, port: int, protocol: str) -> list[str]:
        """A node port at an address of the node at which kube-proxy is not to serve it."""
        if not found.evaluator.host.is_local(address):
            return []
        expectation = found.audit.expectation
        if (None, port, protocol) in expectation.by_frontend:
            served = ", ".join(found.audit.node_port_addresses) or "no address that is known"
            return [f"{port} is a node port, but kube-proxy serves node ports at {served}, not at {address}"]
        return [
            f"{port} is a node port of Service {'/'.join(key)}, which kube-proxy passes over here: {reason}"
            for key, reason in expectation.ignored.items()
            for one in self.cluster.services[key].spec.ports
            if one.node_port == port and (one.protocol or "TCP") == protocol
        ]

    def _passed_over(self, found: FamilyModel, address: str) -> list[str]:
        """An address of a Service that kube-proxy does not serve, and why."""
        return [
            f"{address} is an address of Service {'/'.join(key)}, which kube-proxy passes over: {reason}"
            for key, reason in found.audit.expectation.ignored.items()
            if address in _addresses_of(self.cluster.services[key], found.audit.family)
        ]

    def _node_notes(self, found: FamilyModel, walked: Sequence[Walked], packet: Packet) -> list[str]:
        notes = []
        if not found.rules_known:
            notes.append("without the node's rules and sets only its virtual servers are known: masquerade and refusals are not")
        elif not found.audit.rules.has_table("filter"):
            notes.append("the dump has no filter table: what is refused is not known")
        kept = {one.scheduled.persistence for one in walked if one.scheduled is not None and one.scheduled.persistence}
        affinity = found.evaluator.evaluate(packet)[1] if any(one.remembered for one in walked) else {}
        kept |= {question.seconds for question, _ in affinity.values() if question.seconds}
        if kept:
            notes.append(
                f"session affinity: a client comes back to its endpoint for {', '.join(str(one) for one in sorted(kept))} s"
            )
        undecided = {one.unknown_rule for one in walked if one.possible and one.unknown_rule is not None}
        for place in undecided:
            use = self._book(found).use(place)
            if use is not None:
                notes.append(f"not decided by what is known, so both ways are followed: {use.file}:{use.line}: {use.text}")
        return notes

    # --- what the objects ask for ---

    def _judged(
        self,
        model: NodeModel,
        found: FamilyModel,
        sender: Sender,
        packet: Packet,
        protocol: str,
        rules: Sequence[tuple[RuleUse, ...]],
        *,
        arriving: bool,
    ) -> tuple[Sequence[ExpectedServicePort], list[Remark]]:
        """The service ports that claim the destination, and where the rules do not what the objects ask for."""
        audit = found.audit
        first: Sequence[ExpectedServicePort] = ()
        vantage = self._vantage(found, sender, packet)
        seen = None
        best: tuple[int, Forwarding, Frontend, ExpectedServicePort] | None = None
        for expectation in found.expectations():
            frontend, claims = _claims(found, expectation, packet.destination, packet.port, protocol)
            if frontend is None:
                break
            first = first or claims
            observer = found.observer
            guarded = frontend.kind is FrontendKind.LOAD_BALANCER_IP and any(one.source_ranges for one in claims)
            accepted = observer.accepted(claims[0], claims, frontend, vantage, packet.source if guarded else None)
            if audit.node is None and claims[0].uses_local:
                accepted = ()
            port = claims[0].name.port or str(claims[0].port)
            service = f"{claims[0].name.namespace}/{claims[0].name.name}"
            if not accepted:
                self.expected.append(Expected(model.name, vantage, frontend, service, port, None, None))
                return first, []
            seen = seen or observe(found.evaluator, packet, audit.mark)
            same = next((one for one in accepted if equal(one, seen)), None)
            unmasked = self._unmasked(found, same, seen)
            if unmasked is not None:
                best = (0, unmasked, frontend, claims[0])
                break
            if same is not None:
                self.expected.append(Expected(model.name, vantage, frontend, service, port, same, True))
                return first, []
            ranked = min(((compare(one, seen), one) for one in accepted), key=lambda pair: len(pair[0]))
            differences = ranked[0]
            if observer.stood_in is not None:
                differences = observer.certain(claims[0], differences, observer.stood_in)
            if not differences:
                self.expected.append(Expected(model.name, vantage, frontend, service, port, ranked[1], True))
                return first, []
            if best is None or len(differences) < best[0]:
                best = (len(differences), ranked[1], frontend, claims[0])
        if best is None:
            return first, [] if first or arriving else self._stale(found, rules)
        _, forwarding, frontend, expected = best
        port = expected.name.port or str(expected.port)
        service = f"{expected.name.namespace}/{expected.name.name}"
        self.expected.append(Expected(model.name, vantage, frontend, service, port, forwarding, False))
        told = [one for one in found.findings_of(first[0]) if one.frontend in (None, frontend)]
        for one in told:
            named = replace(one, node=one.node or model.name)
            self.findings.setdefault(named.fingerprint, named)
        wanted = f"the objects ask for something else: {_wanted(forwarding)}"
        remarks = [Remark(wanted, told[0].code if told else None)]
        remarks += [Remark(f"{one.name}: {one.message}", one.code) for one in told]
        return first, remarks

    def _unmasked(self, found: FamilyModel, same: Forwarding | None, seen: Observation) -> Forwarding | None:
        """What was asked for, where packets that are marked for masquerade leave the node with their own source all the same (RA402)."""
        if same is None or not same.masquerade:
            return None
        local = found.evaluator.host.is_local
        keeps = any(one.endpoint is not None and not local(split_endpoint(one.endpoint)[0]) for one in seen.not_masqueraded)
        return same if keeps else None

    def _stale(self, found: FamilyModel, rules: Sequence[tuple[RuleUse, ...]]) -> list[Remark]:
        """A destination that no Service has, and kube-proxy's rules lead somewhere all the same."""
        lines = {(one.file, one.line) for used in rules for one in used if not one.foreign and not one.policy}
        told = found.stale_at(lines) if lines else []
        for one in told:
            self.findings.setdefault(one.fingerprint, one)
        return [Remark(f"{one.name}: {one.message}", one.code) for one in told]

    def _vantage(self, found: FamilyModel, sender: Sender, packet: Packet) -> Vantage:
        """Whom kube-proxy takes the sender for: a packet with a local pod's address is one of a local pod, wherever it comes from (KPR 4.7)."""
        detection = found.audit.expectation.local_detection
        if sender.vantage is Vantage.OUTSIDE and isinstance(detection, LocalDetection) and detection.value:
            where = parse_network(detection.value, found.audit.family)
            if where is not None and ip_address(packet.source) in where:
                return Vantage.POD
        return sender.vantage

    # --- what the objects say of themselves ---

    def oddities_of(self, service: Key) -> list[Remark]:
        """RA701 of a Service, as a warning: here it is why a connection ends."""
        known = self.cluster.services.get(service)
        if known is None:
            return []
        return self._odd(services_without_pods(replace(self.cluster, services={service: known})))

    def oddities_of_ingress(self, ingress: Key, backend: Backend) -> list[Remark]:
        """RA704 of the backend that a request is led to, as a warning."""
        one = replace(self.cluster, ingresses={ingress: self.cluster.ingresses[ingress]})
        return self._odd(each for each in broken_ingress_backends(one) if each.subject.endswith(f" {backend}"))

    def _odd(self, oddities: Iterable[Oddity]) -> list[Remark]:
        told = [one.finding(Severity.WARNING) for one in oddities]
        for one in told:
            self.findings.setdefault(one.fingerprint, one)
        return [Remark(f"{one.name}: {one.message}", one.code) for one in told]

    # --- how it goes on ---

    def _onward(
        self,
        model: NodeModel,
        found: FamilyModel,
        sender: Sender,
        walked: Walked,
        packet: Packet,
        protocol: str,
        rules: tuple[RuleUse, ...],
        claims: Sequence[ExpectedServicePort],
        hop: int,
        *,
        arriving: bool,
    ) -> Branch:
        """One outcome of a node's rules, with what follows it; the outcomes have the share of this one."""
        certainty = Certainty.POSSIBLE if walked.possible else Certainty.DEFINITE
        share = walked.share
        if walked.endpoint is not None:
            address, port = split_endpoint(walked.endpoint)
        else:
            address, port = packet.destination, packet.port
        target = (address, port, protocol)
        after = self._after(model, found, sender, walked, packet, target)
        translated = walked.endpoint is not None
        who = self.endpoint(claims, address, port, model)
        base = Outcome(
            walked.verdict,
            share,
            target if walked.verdict not in (Verdict.DROP, Verdict.REJECT) or translated else None,
            who if walked.verdict not in (Verdict.DROP, Verdict.REJECT) else None,
            walked.masquerade if walked.verdict in (Verdict.FORWARD, Verdict.PASS, Verdict.LOCAL) else None,
            certainty,
            source=after,
            node=model.name,
        )
        part = _part(share)
        if walked.verdict in (Verdict.DROP, Verdict.REJECT):
            what = {Verdict.DROP: "dropped: the client waits in vain", Verdict.REJECT: "rejected: the client is told at once"}
            where = f", on its way to {endpoint_text(address, port)}" if translated else ""
            step = Step(StepKind.END, f"{part}{what[walked.verdict]}{where}", model.name, share, certainty, rules=rules)
            return Branch((step,), (base,))
        if not translated and not arriving:
            return self._untranslated(model, walked, base, rules, packet, protocol, hop)
        notes, broken = self._source_notes(model, sender, packet, walked, after, who)
        remarks: list[Remark] = []
        for claim in claims if broken else ():
            told = [one for one in found.findings_of(claim) if one.code == "RA403" and one.endpoint == walked.endpoint]
            for one in told:
                self.findings.setdefault(one.fingerprint, one)
            remarks += [Remark(f"{one.name}: {one.message}", one.code) for one in told]
        reached = who.ready is True and not broken and (not claims or self._belongs(claims, walked.endpoint))
        if claims and not self._belongs(claims, walked.endpoint) and translated:
            notes.append(f"{walked.endpoint} is no endpoint of {claims[0].name.namespace}/{claims[0].name.name}")
        where = _where(who, model)
        lead = "to " if translated else "for "
        text = f"{part}{lead}{endpoint_text(address, port)}, {where}"
        if claims and walked.masquerade is False and who.node != model.name and sender.vantage is Vantage.OUTSIDE:
            certainty = Certainty.POSSIBLE
            base = replace(base, certainty=certainty)
        base = replace(base, reached=reached, verdict=walked.verdict if not arriving or translated else Verdict.FORWARD)
        other = self.nodes.named(who.node) if who.node != model.name and not arriving else None
        steps: tuple[Step, ...] = ()
        outcomes: tuple[Outcome, ...] = (base,)
        if other is not None and hop < MAX_HOPS:
            there = self.at_node(
                other, self._sender_of(found, walked, packet, after), address, port, protocol, hop + 1, arriving=True
            )
            steps = with_share(there.steps, share)
            outcomes = tuple(
                replace(
                    one,
                    share=one.share * share,
                    certainty=Certainty.POSSIBLE if Certainty.POSSIBLE in (one.certainty, certainty) else Certainty.DEFINITE,
                    verdict=Verdict.FORWARD if one.verdict in (Verdict.PASS, Verdict.LOCAL, Verdict.FORWARD) else one.verdict,
                    endpoint=who if one.verdict not in (Verdict.DROP, Verdict.REJECT) else None,
                    destination=target,
                    masquerade=base.masquerade,
                    source=after,
                    reached=reached and one.verdict not in (Verdict.DROP, Verdict.REJECT),
                )
                for one in there.outcomes
            )
        step = Step(
            StepKind.BACKEND,
            text,
            who.node or model.name,
            share,
            certainty,
            _connection(sender, packet, packet.destination, packet.port, protocol),
            after,
            rules,
            tuple(notes),
            tuple(remarks),
            endpoint=who,
            steps=steps,
        )
        return Branch((step,), outcomes)

    def _sender_of(self, found: FamilyModel, walked: Walked, packet: Packet, after: Connection) -> Sender:
        """Who the next node sees."""
        source = after.source or (found.audit.clients.node_address if walked.masquerade else packet.source)
        return Sender(Vantage.OUTSIDE, source, inside=True)

    def _untranslated(
        self, model: NodeModel, walked: Walked, base: Outcome, rules: tuple[RuleUse, ...], packet: Packet, protocol: str, hop: int
    ) -> Branch:
        """What no rule has translated: for the node itself, for a pod or a node that was asked for by its address, or for somebody outside."""
        address, port, part, certainty = packet.destination, packet.port, _part(base.share), base.certainty
        name = model.name or "the node"
        who = base.endpoint
        if walked.verdict is Verdict.LOCAL:
            listener = self._listener(model, port, protocol)
            if listener is not None:
                text = f"{part}delivered to node {name} itself: {listener.text}"
                base = replace(base, endpoint=listener.endpoint(address, port, model.name), reached=listener.ready)
            else:
                text = f"{part}delivered to node {name} itself, untranslated"
                base = replace(base, endpoint=None)
            notes = (
                ()
                if listener is not None
                else (f"no pod on its host network declares port {port}/{protocol}: whether anybody listens is not known",)
            )
            step = Step(
                StepKind.BACKEND if listener else StepKind.END,
                text,
                model.name,
                base.share,
                certainty,
                after=base.source,
                rules=rules,
                notes=notes,
                endpoint=base.endpoint,
            )
            return Branch((step,), (base,))
        owner = self.node_with(address)
        if owner is not None and owner != model.name:
            other = self.nodes.named(owner)
            if other is not None and hop < MAX_HOPS:
                found = model.family(packet.family)
                assert found is not None
                assert base.source is not None
                there = self.at_node(other, self._sender_of(found, walked, packet, base.source), address, port, protocol, hop + 1)
                step = Step(
                    StepKind.END,
                    f"{part}routed on, untranslated, to node {owner}",
                    model.name,
                    base.share,
                    certainty,
                    after=base.source,
                    rules=rules,
                    steps=with_share(there.steps, base.share),
                )
                return Branch((step,), scaled(there.outcomes, base.share, certainty))
            note = f"the rules of node {owner} were not given: what becomes of it there is not known"
            step = Step(
                StepKind.END,
                f"{part}routed on, untranslated, to node {owner}",
                model.name,
                base.share,
                Certainty.POSSIBLE,
                after=base.source,
                rules=rules,
                notes=(note,),
            )
            return Branch((step,), (replace(base, endpoint=None, certainty=Certainty.POSSIBLE),))
        if who is not None and who.pod is not None:
            notes = ()
            if not self._declared(address, port, protocol):
                notes = (
                    f"no container of the pod declares port {port}/{protocol}, no Service names it: whether anybody listens is not known",
                )
                certainty = Certainty.POSSIBLE
            base = replace(base, reached=who.ready is True, certainty=certainty)
            other = self.nodes.named(who.node) if who.node != model.name else None
            steps: tuple[Step, ...] = ()
            outcomes: tuple[Outcome, ...] = (base,)
            if other is not None and hop < MAX_HOPS:
                found = model.family(packet.family)
                assert found is not None
                assert base.source is not None
                there = self.at_node(
                    other, self._sender_of(found, walked, packet, base.source), address, port, protocol, hop + 1, arriving=True
                )
                steps = with_share(there.steps, base.share)
                outcomes = tuple(
                    replace(one, endpoint=who, reached=base.reached and one.verdict not in (Verdict.DROP, Verdict.REJECT))
                    for one in scaled(there.outcomes, base.share, certainty)
                )
            step = Step(
                StepKind.BACKEND,
                f"{part}routed, untranslated, to {endpoint_text(address, port)}, {_where(who, model)}",
                who.node,
                base.share,
                certainty,
                after=base.source,
                rules=rules,
                notes=notes,
                endpoint=who,
                steps=steps,
            )
            return Branch((step,), outcomes)
        step = Step(
            StepKind.END, f"{part}routed on, untranslated", model.name, base.share, certainty, after=base.source, rules=rules
        )
        return Branch((step,), (replace(base, endpoint=None),))

    # --- who is there ---

    def endpoint(self, claims: Sequence[ExpectedServicePort], address: str, port: int, model: NodeModel) -> Endpoint:
        """Who has an endpoint's address: as the Service's slices have it, else the pod that has the address."""
        text = endpoint_text(address, port)
        here = model.name
        for claim in claims:
            for candidates in (claim.candidates, *claim.other_candidates):
                for one in _every(candidates):
                    if (
                        endpoint_text(canonical_address(one.address, 6 if ":" in one.address else 4) or one.address, one.port)
                        != text
                    ):
                        continue
                    pod = one.target
                    key = (pod[0] or claim.name.namespace, pod[1]) if pod is not None else None
                    node = one.node_name or self._node_of(key)
                    return Endpoint(address, port, key, node, one.ready, one.terminating, node is not None and node == here)
        pods = [one for one in self.cluster.pods_at(address) if not one.finished]
        listening = [one for one in pods if any(each.container_port == port for each in one.container_ports)]
        if len(pods) > 1:
            pods = listening[:1]
        if not pods:
            return Endpoint(address, port)
        held = pods[0]
        node = held.spec.node_name
        return Endpoint(
            address,
            port,
            held.metadata.key,
            node,
            held.ready,
            bool(held.metadata.deletion_timestamp),
            node is not None and node == here,
        )

    def _declared(self, address: str, port: int, protocol: str) -> bool:
        """Whether a pod at an address declares a port, or an endpoint of a Service has it."""
        pods = self.cluster.pods_at(address)
        if any(one.container_port == port and (one.protocol or "TCP") == protocol for pod in pods for one in pod.container_ports):
            return True
        family = 6 if ":" in address else 4
        held = [
            ((one.port, one.protocol or "TCP"), text)
            for piece in self.cluster.slices.values()
            for one in piece.ports
            if one.port == port
            for endpoint in piece.endpoints
            for text in endpoint.addresses
        ]
        held += [
            ((one.port, one.protocol or "TCP"), each.ip)
            for endpoints in self.cluster.endpoints.values()
            for subset in endpoints.subsets
            for one in subset.ports
            if one.port == port
            for each in (*subset.addresses, *subset.not_ready_addresses)
        ]
        return any(which == (port, protocol) and canonical_address(text, family) == address for which, text in held)

    def _node_of(self, key: tuple[str, str] | None) -> str | None:
        pod = self.cluster.pods.get(key) if key is not None else None
        return pod.spec.node_name if pod is not None else None

    def _belongs(self, claims: Sequence[ExpectedServicePort], endpoint: str | None) -> bool:
        return any(
            endpoint == endpoint_text(canonical_address(one.address, 6 if ":" in one.address else 4) or one.address, one.port)
            for claim in claims
            for candidates in (claim.candidates, *claim.other_candidates)
            for one in _every(candidates)
        )

    def node_with(self, address: str) -> str | None:
        """The Node that has an address, by the objects."""
        for name, node in self.cluster.nodes.items():
            for one in node.status.addresses:
                family = family_of(one.address or "")
                if family is not None and canonical_address(one.address, family) == address:
                    return name
        return None

    def _listener(self, model: NodeModel, port: int, protocol: str) -> Listener | None:
        """Who listens on a port of the node, as far as objects tell: a pod on its host network that declares the port, or kube-proxy's health
        check.
        """
        for pod in self.cluster.pods.values():
            if pod.finished or not pod.spec.host_network or pod.spec.node_name != model.name:
                continue
            if any(one.container_port == port and (one.protocol or "TCP") == protocol for one in pod.container_ports):
                key = pod.metadata.key
                return Listener(
                    f"pod {'/'.join(key)} on its host network declares the port, {'ready' if pod.ready else 'not ready'}",
                    key,
                    ready=pod.ready,
                )
        for service in self.cluster.services.values():
            if service.spec.health_check_node_port == port and protocol == "TCP" and port:
                return Listener(
                    f"kube-proxy answers there for the health check of Service {'/'.join(service.metadata.key)}", None, ready=True
                )
        return None

    # --- which addresses the pod sees ---

    def _after(
        self, model: NodeModel, found: FamilyModel, sender: Sender, walked: Walked, packet: Packet, target: tuple[str, int, str]
    ) -> Connection:
        address, port, protocol = target
        kept = _connection(sender, packet, address, port, protocol)
        if walked.masquerade is False or walked.verdict in (Verdict.DROP, Verdict.REJECT):
            return kept
        if walked.masquerade is None:
            return Connection(
                None,
                address,
                port,
                protocol,
                f"{kept.source or kept.source_text} or an address of the node, which is not decided",
            )
        if walked.snat_rule is not None and walked.snat_rule[2]:
            table, chain, line = walked.snat_rule
            given = found.audit.rules.dump_of(table, chain).rule(line).option("--to-source")
            if given is not None:
                return Connection(destination_of(given.values[0], packet.source, 0)[0] or packet.source, address, port, protocol)
        return Connection(None, address, port, protocol, f"an address of node {model.name or '(name not known)'}")

    def _source_notes(
        self, model: NodeModel, sender: Sender, packet: Packet, walked: Walked, after: Connection, who: Endpoint
    ) -> tuple[list[str], bool]:
        """What the pod sees as its client, and whether answers cannot find back."""
        hairpin = walked.endpoint is not None and split_endpoint(walked.endpoint)[0] == packet.source
        if hairpin and walked.masquerade is False:
            return [
                "hairpin: the pod is its own backend and sees its own address as the client: its answers do not go back",
            ], True
        lead = "hairpin: the pod is its own backend; it" if hairpin else "the pod" if who.pod is not None else "the endpoint"
        if walked.masquerade:
            if after.source is not None:
                return [f"{lead} sees {after.source} as the client"], False
            own = self._own(model, packet.family)
            leads = "that of the interface that leads there"
            kind = "that of the interface that leads to the pod" if who.local else f"{own}, or {leads}" if own else leads
            return [f"{lead} sees {after.source_text} as the client ({kind})"], False
        if walked.masquerade is None:
            return [f"{lead} sees {after.source_text} as the client"], False
        notes = [f"{lead} sees {after.source or after.source_text} as the client"]
        if walked.endpoint is None or sender.vantage is not Vantage.OUTSIDE or who.node in (None, model.name):
            return notes, False
        # What was translated here is only known here: answers that go another way keep the pod's address, and nobody takes them. Routes are
        # not looked at, so it is not certain, also where kube-proxy itself leaves it so, as in IPVS mode from 1.24 on (T-20).
        return [
            *notes,
            "unless its answers come back by this node, the client sees them come from an address that it has not asked",
        ], False

    def _own(self, model: NodeModel, family: int) -> str:
        """The node's primary address; empty where nothing tells it."""
        found = model.family(family)
        return found.audit.clients.node_address if found is not None and found.audit.clients.node_known else ""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens on a node's port."""

    text: str
    pod: tuple[str, str] | None
    ready: bool

    def endpoint(self, address: str, port: int, node: str | None) -> Endpoint:
        """It as an endpoint."""
        return Endpoint(address, port, self.pod, node, self.ready, local=True)


def _addresses_of(service: Service, family: int) -> set[str | None]:
    """Every address of a Service, canonical."""
    spec = service.spec
    texts = [*spec.cluster_ips, spec.cluster_ip, *spec.external_ips, *(one.ip for one in service.status.load_balancer.ingress)]
    return {canonical_address(one, family) for one in texts if one and family_of(one) == family}


def _connection(sender: Sender, packet: Packet, destination: str, port: int, protocol: str) -> Connection:
    """A packet's addresses; an outside sender without an address of its own, whom another stands for, is a load balancer."""
    if sender.vantage is Vantage.OUTSIDE and sender.source is None:
        return Connection(None, destination, port, protocol, "an address of the load balancer")
    return Connection(packet.source, destination, port, protocol)


def _claims(
    found: FamilyModel, expectation: Expectation, address: str, port: int, protocol: str
) -> tuple[Frontend | None, Sequence[ExpectedServicePort]]:
    """The frontend that a destination is, and the service ports that claim it."""
    claims = expectation.by_frontend.get((address, port, protocol), ())
    wanted: str | None = address
    if not claims and address in found.audit.node_port_addresses:
        claims, wanted = expectation.by_frontend.get((None, port, protocol), ()), None
    if not claims:
        return None, ()
    frontend = next(one for one in claims[0].frontends if (one.address, one.port, one.protocol) == (wanted, port, protocol))
    return frontend, claims


def _every(candidates: Candidates) -> Iterable[SliceEndpoint]:
    return (*candidates.endpoints, *candidates.unready)


def _merged(walked: Sequence[Walked]) -> list[Walked]:
    """Outcomes that end alike become one: undecided rules and several ways to one endpoint split them."""
    kept: dict[tuple[object, ...], Walked] = {}
    for one in walked:
        key = (one.verdict, one.endpoint, one.masquerade, one.possible, one.final_rule if one.endpoint is None else None)
        same = kept.get(key)
        kept[key] = one if same is None else replace(same, share=same.share + one.share)
    return sorted(kept.values(), key=lambda one: (one.verdict is not Verdict.FORWARD, one.possible))


def _common(rules: Sequence[tuple[RuleUse, ...]]) -> int:
    """How many rules all of them begin with; the last of a single one stays with its outcome."""
    if not rules:
        return 0
    shortest = min(len(one) for one in rules)
    count = 0
    while count < shortest and all(one[count] == rules[0][count] for one in rules):
        count += 1
    return count


def _part(share: float) -> str:
    return "" if share > 0.9995 else f"{percent(share)} "


def _where(who: Endpoint, model: NodeModel) -> str:
    if who.pod is None and who.node is None and who.ready is None:
        return "which no pod has and no Service names"
    pod = f"pod {'/'.join(who.pod)}" if who.pod is not None else "an endpoint without a pod"
    node = "" if who.node is None else " on this node" if who.node == model.name else f" on node {who.node}"
    return f"{pod}{node}, {state_of(who.ready, terminating=who.terminating)}"


def state_of(ready: bool | None, *, terminating: bool) -> str:
    """How an endpoint is, in words."""
    if ready:
        return "ready and terminating" if terminating else "ready"
    if terminating:
        return "terminating"
    return "not ready" if ready is False else "of which nothing says whether it is ready"


def _wanted(forwarding: Forwarding) -> str:
    if forwarding.verdict is Verdict.FORWARD:
        ends = sorted(forwarding.backends)
        shown = ", ".join(ends[:6]) + (f" and {len(ends) - 6} more" if len(ends) > 6 else "")
        source = {True: ", masqueraded", False: ", with the client's address", None: ""}[forwarding.masquerade]
        kept = "" if forwarding.affinity is None else f", session affinity of {forwarding.affinity} s"
        return f"to {shown}{source}{kept}"
    return {
        Verdict.REJECT: "a rejection",
        Verdict.DROP: "that it is dropped",
        Verdict.PASS: "that it is left alone",
        Verdict.LOCAL: "that it is left to the node itself",
    }[forwarding.verdict]
