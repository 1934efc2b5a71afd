"""Service by service: what the rules do with its connections against what the objects ask for (RA1, RA2, RA3, RA4 and RA6).

Every frontend is judged from every vantage point. Differences are gathered per service port first and named afterwards, so that one
cause becomes one finding however many frontends and clients it reaches.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_network
from typing import TYPE_CHECKING

import msgspec

from ruleaudit.chains import chain_hash, endpoint_chain_hash
from ruleaudit.checks.context import FamilyAudit, RulePlace, service_port_of, trail_places
from ruleaudit.compare import Difference, DifferenceKind, compare, equal
from ruleaudit.dataplane.observe import Observation, observe
from ruleaudit.dataplane.ruleset import A_DNAT, Entry, destination_of
from ruleaudit.expect import ExpectedServicePort, expect
from ruleaudit.findings import Finding, ObjectReference, Severity
from ruleaudit.forwarding import Forwarding, Frontend, FrontendKind, Vantage, Verdict, endpoint_text, split_endpoint
from ruleaudit.kubeproxy import SERVICE_CHAIN, entry_value, is_kube_proxy_chain
from ruleaudit.release import EndpointSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ruleaudit.dataplane.packet import Packet
    from ruleaudit.dataplane.walk import Outcome
    from ruleaudit.endpoints import Endpoint

__all__ = ["Judgement", "ServiceJudge", "judge_services"]

_MISSING_CODE = {
    FrontendKind.CLUSTER_IP: "RA102",
    FrontendKind.NODE_PORT: "RA103",
    FrontendKind.EXTERNAL_IP: "RA104",
    FrontendKind.LOAD_BALANCER_IP: "RA105",
}
_KIND_TEXT = {
    FrontendKind.CLUSTER_IP: "cluster IP",
    FrontendKind.NODE_PORT: "node port",
    FrontendKind.EXTERNAL_IP: "external IP",
    FrontendKind.LOAD_BALANCER_IP: "load-balancer IP",
}
_WHENCE = {Vantage.POD: "pods", Vantage.NODE: "the node itself", Vantage.OUTSIDE: "outside clients"}
_POLICY_ENGINES = (
    "cali-",
    "KUBE-NWPLCY-",
    "KUBE-POD-FW-",
    "KUBE-ROUTER-",
    "WEAVE-NPC",
    "CILIUM_",
    "AZURE-NPM",
    "ANTREA-",
    "felix-",
    "ROMANA-",
)
# From how many services on one foreign rule is reported once for the node, not once for each service.
_NODE_WIDE = 6


@dataclass(slots=True)
class Judgement:
    """One frontend seen from one vantage point where rules and objects part."""

    frontend: Frontend
    vantage: Vantage
    destination: str
    expected: Forwarding
    observed: Observation
    differences: list[Difference]
    outcomes: Sequence[Outcome] = ()

    def has(self, *kinds: DifferenceKind) -> bool:
        """Whether a difference of one of these kinds is among them."""
        return any(one.kind in kinds for one in self.differences)

    @property
    def untranslated_share(self) -> float:
        """How much passes untranslated."""
        return sum(one.share for one in self.differences if one.kind is DifferenceKind.UNTRANSLATED)


@dataclass(slots=True)
class _Foreign:
    """What one rule of other software, or a policy, does to service traffic."""

    code: str
    reached: list[tuple[ExpectedServicePort, Judgement, str | None]] = field(default_factory=list)


@dataclass(slots=True)
class _Event:
    """One effect on a service port, with every frontend and client that shows it."""

    code: str
    endpoint: str | None
    judgements: list[Judgement] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    expected: str = ""
    note: str = ""
    places: list[RulePlace] = field(default_factory=list)


class ServiceJudge:
    """Judges the service ports of one family. `findings` after `run`; `judged` the ports that differ, with their judgements."""

    def __init__(self, audit: FamilyAudit) -> None:
        self.audit = audit
        self.rules = audit.repaired
        self.judged: dict[int, list[Judgement]] = {}
        self.foreign: dict[RulePlace, _Foreign] = {}
        self.unmodelled: dict[RulePlace, list[ExpectedServicePort]] = defaultdict(list)
        self.unmasqueraded: list[tuple[ExpectedServicePort, Judgement, Outcome]] = []
        self.frontends = 0
        self.absent: set[int] = set()
        self.passed_over = 0
        self.stood_in = self.stand_in()
        self.blind = not audit.rules.has_table("filter")  # a dump without it cannot show what is refused
        self._hashes: dict[int, frozenset[str]] = {}

    # --- observing ---------------------------------------------------------------------------------------------------------------------

    def differing(self, expected: ExpectedServicePort) -> list[Judgement]:
        """Every frontend and vantage point of a service port at which rules and objects part."""
        found: list[Judgement] = []
        audit = self.audit
        evaluator, clients, mark = audit.evaluator, audit.clients, audit.mark
        claims_of = audit.expectation.by_frontend
        for frontend in expected.frontends:
            claims = claims_of[frontend.address, frontend.port, frontend.protocol]
            guarded = frontend.kind is FrontendKind.LOAD_BALANCER_IP and bool(expected.source_ranges)
            for vantage, destination in self.questions(frontend):
                source = None
                if guarded:
                    source = (
                        self.admitted_source(expected)
                        if vantage is Vantage.OUTSIDE
                        else clients.pod
                        if vantage is Vantage.POD
                        else clients.node
                    )
                accepted = expected.accepted(frontend, vantage, source)
                if len(claims) > 1:
                    accepted += tuple(
                        one for other in claims if other is not expected for one in other.accepted(frontend, vantage, source)
                    )
                if self.blind and any(one.verdict is not Verdict.FORWARD for one in accepted):
                    continue
                if not accepted:
                    continue
                packet = clients.packet(
                    vantage, frontend.protocol, destination, frontend.port, source if vantage is Vantage.OUTSIDE else None
                )
                seen = observe(evaluator, packet, mark)
                if seen.not_masqueraded:
                    self.note_unmasqueraded(expected, frontend, vantage, destination, accepted[0], seen)
                if any(equal(one, seen) for one in accepted):
                    continue
                ranked = min(((compare(one, seen), number) for number, one in enumerate(accepted)), key=lambda pair: len(pair[0]))
                differences = ranked[0] if self.stood_in is None else self.certain(expected, ranked[0], self.stood_in)
                if differences:
                    found.append(Judgement(frontend, vantage, destination, accepted[ranked[1]], seen, differences))
        return found

    def stand_in(self) -> EndpointSource | None:
        """The objects that endpoints are taken from although kube-proxy may have read others, which were not given; None: its own."""
        expectation = self.audit.expectation
        release = expectation.release
        read = {release.endpoint_source}
        if release.endpoint_source_can_be_set and "feature_gates" not in expectation.settings.given:
            read = set(EndpointSource)
        sources = expectation.endpoint_sources
        return sources[0] if sources and not all(self.audit.cluster.has_kind(source.value) for source in read) else None

    def certain(self, expected: ExpectedServicePort, differences: list[Difference], source: EndpointSource) -> list[Difference]:
        """The differences that hold whichever objects kube-proxy read (KPR 2.7).

        Endpoints know one family, no hints, no terminating endpoints and no Service whose slices are made by hand; slices know Services
        that have no Endpoints. So endpoints that get nothing, and refusals, prove nothing; an endpoint that is known and not ready does.
        """
        kind = DifferenceKind
        key = (expected.name.namespace, expected.name.name)
        families = expected.service.spec.ip_families
        primary = not families or families[0] == f"IPv{expected.family}"
        known = {endpoint.text: endpoint for endpoint in (*expected.candidates.endpoints, *expected.candidates.unready)}
        if source is EndpointSource.ENDPOINTS and (key not in self.audit.cluster.endpoints or not primary):
            known = {}
        kept = []
        for one in differences:
            if one.kind in (kind.EXTRA_BACKEND, kind.FORWARDED):
                if one.endpoint in known and not known[one.endpoint].ready and not known[one.endpoint].terminating:
                    kept.append(one)
            elif one.kind in (kind.EXTRA_MASQUERADE, kind.MISSING_MASQUERADE, kind.LOST, kind.AFFINITY) or (
                one.kind is kind.UNTRANSLATED and known
            ):
                kept.append(one)
        return kept

    def questions(self, frontend: Frontend) -> Iterator[tuple[Vantage, str]]:
        """From where, and at which address, a frontend is judged."""
        if frontend.address is not None:
            for vantage in Vantage:
                yield vantage, frontend.address
            return
        for address in self.audit.node_port_addresses:
            if address.startswith("127."):
                yield Vantage.NODE, address
                continue
            for vantage in Vantage:
                yield vantage, address

    def admitted_source(self, expected: ExpectedServicePort) -> str:
        """An outside client's address that the source ranges admit."""
        for text in expected.source_ranges:
            return _inside(text)
        return self.audit.clients.outside

    def note_unmasqueraded(
        self,
        expected: ExpectedServicePort,
        frontend: Frontend,
        vantage: Vantage,
        destination: str,
        want: Forwarding,
        seen: Observation,
    ) -> None:
        """Remember marked connections that leave the node with their source address; those that stay on it meet no POSTROUTING."""
        for outcome in seen.not_masqueraded:
            if (
                outcome.endpoint is not None
                and not self.audit.host.is_local(split_endpoint(outcome.endpoint)[0])
                and want.masquerade
            ):
                self.unmasqueraded.append((expected, Judgement(frontend, vantage, destination, want, seen, []), outcome))
                return

    # --- own chains --------------------------------------------------------------------------------------------------------------------

    def name_texts(self, expected: ExpectedServicePort) -> tuple[str, ...]:
        """How the service port's name may stand in comments and hashes."""
        return expected.name.texts(self.audit.expectation.release)

    def own_hashes(self, expected: ExpectedServicePort) -> frozenset[str]:
        """The sixteen characters that all service chains of this port share (KPR 3.2)."""
        known = self._hashes.get(id(expected))
        if known is None:
            known = self._hashes[id(expected)] = frozenset(
                chain_hash(text, expected.protocol) for text in self.name_texts(expected)
            )
        return known

    def serving_chains(self, expected: ExpectedServicePort) -> dict[str, list[tuple[str, Entry, str]]]:
        """Per endpoint (as DNAT writes it) the endpoint chains of this port: (KUBE-SEP chain, the rule that jumps there, from which chain)."""
        found: dict[str, list[tuple[str, Entry, str]]] = defaultdict(list)
        for name in self.own_hashes(expected):
            for prefix in ("KUBE-SVC-", "KUBE-SVL-", "KUBE-XLB-"):
                for entry in self.rules.entries("nat", prefix + name):
                    if entry.target.startswith("KUBE-SEP-"):
                        destination = self.destination(entry.target)
                        if destination is not None:
                            found[destination].append((entry.target, entry, prefix + name))
        return found

    def destination(self, chain: str) -> str | None:
        """Where an endpoint chain sends packets, None when it does not translate."""
        for entry in self.rules.entries("nat", chain):
            if entry.action == A_DNAT:
                slots = entry.plan.argument_slots.get("--to-destination")
                if slots:
                    try:
                        address, port, _ = destination_of(entry.values[slots[0]], "", 0)
                    except ValueError:
                        return None
                    return endpoint_text(address, port)
        return None

    # --- naming ------------------------------------------------------------------------------------------------------------------------

    def interpret(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> list[Finding]:
        """The findings of one service port."""
        findings: list[Finding] = []
        judgements = self.set_unmodelled_aside(expected, judgements)
        findings.extend(self.source_ranges(expected))
        if findings:
            judgements = [one for one in judgements if one.frontend.kind is not FrontendKind.LOAD_BALANCER_IP]
        if not judgements:
            return findings
        for one in judgements:
            one.outcomes = self.audit.evaluator.evaluate(one.observed.packet, tracing=True)[0]
        judgements = self.set_foreign_aside(expected, judgements)
        if not judgements:
            return findings
        policy = self.other_policy(expected, judgements)
        if policy is not None:
            findings.append(policy)
            findings.extend(self.not_refused(expected, judgements, cause=policy.fingerprint))
            return findings
        wrong_service = self.wrong_service(expected, judgements)
        if wrong_service:
            return findings + wrong_service
        untranslated, rest = self.untranslated(expected, judgements)
        findings.extend(untranslated)
        broken = next((found.fingerprint for found in untranslated if found.code == "RA309"), None)
        for found in self.effects(expected, rest):
            follows = broken is not None and found.code in ("RA106", "RA303") and found.cause is None
            findings.append(replace(found, cause=broken) if follows else found)
        return findings

    def set_unmodelled_aside(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> list[Judgement]:
        """Where what differs rests on an undecided rule and the rest agrees, the rule is named (RA003), not the service."""
        left = []
        for one in judgements:
            bad = (*one.observed.lost, *one.observed.refused, *one.observed.untranslated)
            agrees = (
                one.observed.backends.keys() == one.expected.backends.keys()
                if one.expected.verdict is Verdict.FORWARD
                else any(outcome.verdict is one.expected.verdict for outcome in bad)
            )
            if one.observed.possible and bad and all(outcome.possible for outcome in bad) and agrees:
                for place in one.observed.unknown_rules:
                    self.unmodelled[place].append(expected)
            else:
                left.append(one)
        return left

    def source_ranges(self, expected: ExpectedServicePort) -> list[Finding]:
        """RA306: whom the load-balancer IPs let in, asked with one client per prefix that objects or rules name."""
        audit = self.audit
        vips = [frontend for frontend in expected.frontends if frontend.kind is FrontendKind.LOAD_BALANCER_IP]
        if not vips or not expected.selection.any or self.blind:
            return []
        named = self.named_ranges(expected)
        if not named and not expected.source_ranges:
            return []
        findings = []
        for frontend in vips:
            admitted_wrongly: list[str] = []
            refused_wrongly: list[str] = []
            places: list[RulePlace] = []
            clients = list(self.probes({*named, *expected.source_ranges}))
            if expected.source_ranges and frontend.address:
                clients.append(
                    (f"at {frontend.address} itself", frontend.address)
                )  # the node, where it holds the address (KPR 5.6)
            for text, source in clients:
                accepted = expected.accepted(frontend, Vantage.OUTSIDE, source)
                if not accepted or (accepted[0].verdict is Verdict.DROP and expected.admits(source)):
                    continue
                packet = audit.clients.packet(Vantage.OUTSIDE, frontend.protocol, frontend.address or "", frontend.port, source)
                seen = observe(audit.evaluator, packet, audit.mark)
                rejected = any(outcome.verdict is Verdict.REJECT for outcome in seen.refused)
                if any(equal(one, seen) for one in accepted) or (rejected and self.stood_in is not None):
                    continue
                wants_in = any(one.verdict is Verdict.FORWARD for one in accepted)
                got_in = bool(seen.backends)
                refused = bool(seen.refused) or (bool(seen.untranslated) and any(one.verdict is Verdict.PASS for one in accepted))
                # Up to 1.24 kube-proxy only marks what kubelet's rules drop: without those it passes untranslated (KPR 6.2).
                left_out = wants_in and bool(seen.untranslated) and self.left_out(packet)
                if wants_in and not got_in and (left_out or (seen.refused and self.own_refusal(seen.refused))):
                    refused_wrongly.append(text)
                elif not wants_in and not refused:
                    admitted_wrongly.append(text)
                else:
                    continue
                places += trail_places(audit.evaluator.evaluate(packet, tracing=True)[0])
            if not admitted_wrongly and not refused_wrongly:
                continue
            parts = [f"lets in clients {_of(admitted_wrongly)}"] if admitted_wrongly else []
            parts += [f"refuses clients {_of(refused_wrongly)}"] if refused_wrongly else []
            findings.append(
                audit.finding(
                    "RA306",
                    f"{service_port_of(expected)} {' and '.join(parts)} at {frontend}, against its loadBalancerSourceRanges",
                    of=expected,
                    frontend=frontend,
                    expected="only "
                    + (", ".join(expected.source_ranges) if expected.source_ranges else "no limit: no loadBalancerSourceRanges"),
                    observed="rules name " + (", ".join(sorted(named)) or "no range"),
                    places=dict.fromkeys(places),
                )
            )
        return findings

    def left_out(self, packet: Packet) -> bool:
        """Whether a packet comes back untranslated from a KUBE-FW chain that leads others on."""
        ends = {self.dead_end(outcome) for outcome in self.audit.evaluator.evaluate(packet, tracing=True)[0]}
        return any(
            SERVICE_CHAIN.match(entry.target)
            for chain in ends
            if chain is not None and chain.startswith("KUBE-FW-")
            for entry in self.rules.entries("nat", chain)
        )

    def own_refusal(self, outcomes: Iterable[Outcome]) -> bool:
        """Whether kube-proxy's own rules refuse."""
        return any(one.final_rule is not None and is_kube_proxy_chain(one.final_rule[1]) for one in outcomes)

    def named_ranges(self, expected: ExpectedServicePort) -> set[str]:
        """The source prefixes in the KUBE-FW chain of this port, but for the exception of its own load-balancer IPs (KPR 5.6)."""
        own = {
            f"{frontend.address}{'/32' if frontend.family == 4 else '/128'}"
            for frontend in expected.frontends
            if frontend.address
        }
        return {
            value
            for name in self.own_hashes(expected)
            for entry in self.rules.entries("nat", "KUBE-FW-" + name)
            if (value := entry_value(entry, "-s", negated=None)) is not None and value not in own
        }

    def probes(self, prefixes: set[str]) -> Iterator[tuple[str, str]]:
        """One client per prefix, outside of the narrower ones, and one outside of all."""
        parsed = {text: ip_network(text, strict=False) for text in sorted(prefixes)}
        for text, where in parsed.items():
            narrower = [other for other in parsed.values() if other.prefixlen > where.prefixlen]
            source = _inside(text, [str(one) for one in narrower])
            yield f"in {text}", source
        outside = self.audit.clients.outside
        if not any(_contains(where, outside) for where in parsed.values()):
            yield "of no allowed range", outside

    def set_foreign_aside(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> list[Judgement]:
        """Split off what rules of other software do: RA601, RA602, RA603, RA604 are written once per rule, by `foreign_findings`."""
        left: list[Judgement] = []
        for one in judgements:
            # Refused all the same, only by somebody else's rule or policy: nothing that kube-proxy could do better.
            one.differences = [
                d
                for d in one.differences
                if d.kind is not DifferenceKind.WRONG_REFUSAL
                or any(outcome.final_rule is None or is_kube_proxy_chain(outcome.final_rule[1]) for outcome in d.outcomes)
            ]
            if not one.differences:
                continue
            foreign = False
            for outcome in one.outcomes:
                code, place = self.foreign_cause(one, outcome)
                if place is not None:
                    foreign = True
                    self.foreign.setdefault(place, _Foreign(code)).reached.append((expected, one, outcome.endpoint))
            if foreign:
                # What the objects themselves ask differently (an endpoint that is stale as well) still shows at the other vantage points,
                # or in what is left once the foreign rule's part is taken away.
                kinds = {DifferenceKind.LOST, DifferenceKind.REFUSED, DifferenceKind.UNTRANSLATED, DifferenceKind.NOT_REFUSED}
                whole = (
                    not any(
                        outcome.verdict is Verdict.FORWARD and self.foreign_cause(one, outcome)[1] is None
                        for outcome in one.outcomes
                    )
                    and not one.observed.lost
                )
                remaining = (
                    []
                    if whole
                    else [
                        d
                        for d in one.differences
                        if d.kind not in kinds and not (d.endpoint and self.reached_by_foreign(one, d.endpoint))
                    ]
                )
                if not remaining:
                    continue
                one.differences = remaining
            left.append(one)
        return left

    def reached_by_foreign(self, one: Judgement, endpoint: str) -> bool:
        """Whether a foreign rule sends part of the packets to this endpoint."""
        return any(outcome.endpoint == endpoint and self.foreign_cause(one, outcome)[1] is not None for outcome in one.outcomes)

    def foreign_cause(self, one: Judgement, outcome: Outcome) -> tuple[str, RulePlace | None]:
        """The code and place of the rule that is not kube-proxy's and decided this outcome against the objects; no place: none did."""
        want = one.expected.verdict
        if outcome.untracked is not None and not is_kube_proxy_chain(outcome.untracked[1]):
            return "RA604", outcome.untracked
        if outcome.verdict in (Verdict.DROP, Verdict.REJECT):
            place = outcome.final_rule
            if place is not None and not is_kube_proxy_chain(place[1]) and want is Verdict.FORWARD:
                return (
                    "RA602"
                    if place[0] in ("filter", "security") and (place[1] == "FORWARD" or outcome.endpoint is not None)
                    else "RA601"
                ), place
            return "", None
        place = outcome.nat_rule
        if place is not None and not is_kube_proxy_chain(place[1]):
            if outcome.endpoint is not None:
                return ("RA603", place) if outcome.endpoint not in one.expected.backends else ("", None)
            if want is Verdict.FORWARD and outcome.endpoint is None:
                return "RA601", place
        return "", None

    def other_policy(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> Finding | None:
        """RA305: the rules are exactly right for another traffic policy, or pick from the ready endpoints by other hints."""
        kinds = {kind for one in judgements for kind in {d.kind for d in one.differences}}
        if kinds & {DifferenceKind.AFFINITY, DifferenceKind.UNEVEN} or self.passed_by(expected, judgements):
            return None
        spec = expected.service.spec
        external = "Cluster" if spec.external_traffic_policy == "Local" else "Local"
        internal = "Cluster" if spec.internal_traffic_policy == "Local" else "Local"
        changes: list[tuple[str, str, str, dict[str, object]]] = []
        if expected.externally_accessible:
            changes.append(
                (
                    "externalTrafficPolicy",
                    spec.external_traffic_policy or "Cluster",
                    external,
                    {"external_traffic_policy": external},
                )
            )
        changes.append(
            ("internalTrafficPolicy", spec.internal_traffic_policy or "Cluster", internal, {"internal_traffic_policy": internal})
        )
        for field_name, now, then, change in changes:
            other = self.with_spec(expected, change)
            if other is not None and self.agrees(other):
                return self.audit.finding(
                    "RA305",
                    f"{service_port_of(expected)} is programmed for {field_name} {then}, the Service asks for {now}",
                    of=expected,
                    expected=f"{field_name}: {now}; " + _wanted(judgements[0]),
                    observed=f"as for {field_name}: {then}; " + _seen(judgements[0]),
                    places=_places(judgements),
                )
        return self.other_hints(expected, judgements)

    def passed_by(self, expected: ExpectedServicePort, judgements: Sequence[Judgement]) -> bool:
        """Whether a chain that packets go through holds rules for a missing endpoint: then it is damaged, not written for another policy."""
        serving = self.serving_chains(expected)
        for one in judgements:
            used = {place[1] for outcome in one.outcomes for place in outcome.trail}
            for difference in one.differences:
                found = serving.get(difference.endpoint or "", ()) if difference.kind is DifferenceKind.MISSING_BACKEND else ()
                if any(chain in used for _sep, _entry, chain in found):
                    return True
        return False

    def other_hints(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> Finding | None:
        """RA305 for topology hints: the rules choose from the ready endpoints, but not as the slices' hints ask."""
        allowed = {DifferenceKind.MISSING_BACKEND, DifferenceKind.EXTRA_BACKEND}
        if any(d.kind not in allowed for one in judgements for d in one.differences):
            return None
        ready = {endpoint.text for endpoint in expected.candidates.endpoints if endpoint.ready}
        local = {endpoint.text for endpoint in expected.candidates.endpoints if endpoint.ready and endpoint.is_local}
        hinted = any(endpoint.zone_hints or endpoint.node_hints for endpoint in expected.candidates.endpoints)
        for one in judgements:
            reached = set(one.observed.backends)
            if not reached <= ready:
                return None
            extra = reached - one.expected.backends.keys()
            missing = one.expected.backends.keys() - reached
            if not extra and not (missing and hinted and (reached == local or self.by_zone(expected, reached))):
                return None
            if extra and not hinted and reached not in (ready, local):
                return None
        first = judgements[0]
        return self.audit.finding(
            "RA305",
            f"{service_port_of(expected)} is programmed for other topology hints or another traffic distribution than its EndpointSlices ask for",
            of=expected,
            expected=_wanted(first),
            observed=_seen(first),
            places=_places(judgements),
        )

    def by_zone(self, expected: ExpectedServicePort, reached: set[str]) -> bool:
        """Whether the reached endpoints are all ready ones that share a zone or node hint."""
        ready = [endpoint for endpoint in expected.candidates.endpoints if endpoint.ready]
        hints = {hint for endpoint in ready for hint in (*endpoint.zone_hints, *endpoint.node_hints)}
        nodes = {endpoint.node_name for endpoint in ready}
        groups = [{e.text for e in ready if hint in e.zone_hints or hint in e.node_hints} for hint in hints]
        groups += [{e.text for e in ready if e.node_name == node} for node in nodes]
        return reached in groups

    def with_spec(self, expected: ExpectedServicePort, change: dict[str, object]) -> ExpectedServicePort | None:
        """The same service port if its Service's spec were different."""
        audit = self.audit
        service = msgspec.structs.replace(expected.service, spec=msgspec.structs.replace(expected.service.spec, **change))
        key = (expected.name.namespace, expected.name.name)
        cluster = replace(audit.cluster, services={key: service})
        what_if = expect(
            cluster,
            node=audit.expectation.node,
            family=audit.family,
            settings=audit.expectation.settings,
            release=audit.expectation.release,
        )
        for other in what_if.service_ports:
            if other.name == expected.name and other.protocol == expected.protocol:
                return other
        return None

    def agrees(self, other: ExpectedServicePort) -> bool:
        """Whether the rules are right for `other` at every frontend that both have."""
        audit = self.audit
        for frontend in other.frontends:
            for vantage, destination in self.questions(frontend):
                guarded = frontend.kind is FrontendKind.LOAD_BALANCER_IP and bool(other.source_ranges)
                source = None
                if guarded:
                    source = (
                        self.admitted_source(other)
                        if vantage is Vantage.OUTSIDE
                        else audit.clients.pod
                        if vantage is Vantage.POD
                        else audit.clients.node
                    )
                accepted = other.accepted(frontend, vantage, source)
                if not accepted:
                    continue
                packet = audit.clients.packet(
                    vantage, frontend.protocol, destination, frontend.port, source if vantage is Vantage.OUTSIDE else None
                )
                seen = observe(audit.evaluator, packet, audit.mark)
                if not any(equal(one, seen) for one in accepted):
                    return False
        return True

    def wrong_service(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> list[Finding]:
        """RA301: connections run through the chains of another service port, to endpoints that are not this one's."""
        own = self.own_hashes(expected)
        guilty: dict[Frontend, tuple[Judgement, str, list[Outcome]]] = {}
        for one in judgements:
            if not one.has(DifferenceKind.EXTRA_BACKEND, DifferenceKind.FORWARDED):
                continue
            for outcome in one.outcomes:
                strange = next(
                    (
                        place[1]
                        for place in outcome.trail
                        if place[0] == "nat"
                        and (found := SERVICE_CHAIN.match(place[1]))
                        and found.group(1) != "SEP"
                        and place[1][found.end() :] not in own
                    ),
                    None,
                )
                if strange is not None and outcome.endpoint is not None and outcome.endpoint not in one.expected.backends:
                    guilty.setdefault(one.frontend, (one, strange, []))[2].append(outcome)
        findings = []
        for frontend, (one, chain, outcomes) in guilty.items():
            owner = self.owner_of_hash.get(
                chain[9:] if chain.startswith(("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-XLB-")) else chain[8:]
            )
            name = f"{owner.name}" if owner is not None else self.comment_name(chain) or chain
            findings.append(
                self.audit.finding(
                    "RA301",
                    f"{service_port_of(expected)} at {frontend} leads into {chain}, the chain of {name}",
                    of=expected,
                    possible=one.observed.possible,
                    frontend=frontend,
                    expected=_wanted(one),
                    observed=_seen(one) + f" by {chain} of {name}",
                    places=trail_places(outcomes),
                )
            )
        return findings

    @cached_property
    def owner_of_hash(self) -> dict[str, ExpectedServicePort]:
        """Which expected service port the sixteen characters of a chain name stand for."""
        return {one: expected for expected in self.audit.expectation.service_ports for one in self.own_hashes(expected)}

    def comment_name(self, chain: str) -> str | None:
        """The service port that a chain's own comments name."""
        from ruleaudit.kubeproxy import entry_comment

        for entry in self.rules.entries("nat", chain):
            comment = entry_comment(entry)
            if comment:
                return comment.split(" -> ")[0].removesuffix(" cluster IP")
        return None

    def untranslated(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> tuple[list[Finding], list[Judgement]]:
        """Frontends that no rule translates: missing ones (RA101 to RA105), broken chains (RA309)."""
        audit = self.audit
        rest: list[Judgement] = []
        missing: dict[Frontend, list[Judgement]] = defaultdict(list)
        broken: dict[str, list[Judgement]] = defaultdict(list)
        for one in judgements:
            whole = one.untranslated_share > 0.999
            ends = {
                self.dead_end(outcome)
                for outcome in one.outcomes
                if outcome.endpoint is None and outcome.verdict in (Verdict.PASS, Verdict.LOCAL)
            }
            ends.discard(None)
            if not whole and one.has(DifferenceKind.MISSING_BACKEND):
                # A balancing chain that lost a rule: the endpoint that is missing tells it, with what falls through.
                ends = {chain for chain in ends if chain is not None and not self.rules.entries("nat", chain)}
            if one.has(DifferenceKind.UNTRANSLATED) and ends:
                for chain in ends:
                    broken[str(chain)].append(one)
                if not whole:
                    rest.append(one)
            elif whole:
                missing[one.frontend].append(one)
            else:
                rest.append(one)
        findings: list[Finding] = []
        for chain, reached in broken.items():
            frontends = _frontends(reached)
            state = (
                "is not declared"
                if chain not in self.rules.chains("nat")
                else "is empty"
                if not self.rules.entries("nat", chain)
                else "leads to no endpoint"
            )
            share = max(one.untranslated_share for one in reached)
            findings.append(
                audit.finding(
                    "RA309",
                    f"{service_port_of(expected)}: chain {chain} {state}, so {_percent(share)} of new connections to "
                    f"{_list(str(f) for f in frontends)} pass untranslated",
                    of=expected,
                    possible=all(one.observed.possible for one in reached),
                    frontend=frontends[0] if len(frontends) == 1 else None,
                    expected=_wanted(reached[0]),
                    observed=f"{chain} {state}",
                    places=[*_places(reached), ("nat", chain, 0)],
                )
            )
        if missing and not findings and set(missing) == set(expected.frontends) and not rest:
            first = next(iter(missing.values()))[0]
            self.absent.add(id(expected))
            findings.append(
                audit.finding(
                    "RA101",
                    f"{service_port_of(expected)} is not programmed: none of {_list(str(f) for f in missing)} is translated",
                    of=expected,
                    possible=all(one.observed.possible for group in missing.values() for one in group),
                    expected=_wanted(first),
                    observed="no rule of KUBE-SERVICES or KUBE-NODEPORTS names its frontends",
                    places=[("nat", "KUBE-SERVICES", 0)],
                )
            )
        else:
            for frontend, group in missing.items():
                judged = {vantage for vantage, _ in self.questions(frontend)}
                whence = {one.vantage for one in group}
                partly = "" if whence >= judged else " for " + " and ".join(_WHENCE[one] for one in Vantage if one in whence)
                at = (
                    ""
                    if frontend.address is not None or {one.destination for one in group} >= set(audit.node_port_addresses)
                    else (" at " + ", ".join(sorted({one.destination for one in group})))
                )
                findings.append(
                    audit.finding(
                        _MISSING_CODE[frontend.kind],
                        f"{service_port_of(expected)}: {_KIND_TEXT[frontend.kind]} {_bare(frontend)} is not programmed{partly}{at}",
                        of=expected,
                        possible=all(one.observed.possible for one in group),
                        frontend=frontend,
                        expected=_wanted(group[0]),
                        observed="untranslated" + partly,
                        places=[*_places(group), ("nat", "KUBE-NODEPORTS" if frontend.address is None else "KUBE-SERVICES", 0)],
                    )
                )
        return findings, rest

    def dead_end(self, outcome: Outcome) -> str | None:
        """The service chain into which an untranslated packet was led in vain, None when it was led into none."""
        for table, chain, line in reversed(outcome.trail):
            if table != "nat":
                continue
            for entry in self.rules.entries(table, chain):
                if entry.line == line:
                    if SERVICE_CHAIN.match(entry.target):
                        return entry.target
                    break
            if SERVICE_CHAIN.match(chain):
                return chain
        return None

    def effects(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> list[Finding]:
        """What happens at frontends that are programmed, but not as the objects ask."""
        events: dict[tuple[str, str | None], _Event] = {}

        def event(
            code: str, one: Judgement, endpoint: str | None = None, outcomes: Iterable[Outcome] = (), **texts: str
        ) -> _Event:
            known = events.setdefault((code, endpoint), _Event(code, endpoint))
            known.judgements.append(one)
            known.outcomes.extend(outcomes)
            for name, text in texts.items():
                setattr(known, name, text)
            return known

        serving = self.serving_chains(expected)
        for one in judgements:
            extras = [d for d in one.differences if d.kind in (DifferenceKind.EXTRA_BACKEND, DifferenceKind.FORWARDED)]
            missing = [d.endpoint for d in one.differences if d.kind is DifferenceKind.MISSING_BACKEND and d.endpoint]
            explained: set[str] = set()
            for extra in extras:
                endpoint = extra.endpoint or ""
                outcomes = [outcome for outcome in one.outcomes if outcome.endpoint == endpoint]
                code, wanted, note = self.classify_extra(expected, endpoint, missing, outcomes)
                if wanted:
                    explained.add(wanted)
                event(code, one, endpoint, outcomes, expected=wanted, note=note)
            for endpoint in missing:
                if endpoint in explained:
                    continue
                if endpoint in serving:
                    known = event("RA303", one, endpoint, note="its rules are there, but no packet can reach them")
                    known.places += [("nat", chain, entry.line) for _sep, entry, chain in serving[endpoint]]
                else:
                    event("RA106", one, endpoint)
            for difference in one.differences:
                kind = difference.kind
                if kind is DifferenceKind.UNEVEN:
                    event("RA303", one)
                elif kind is DifferenceKind.UNTRANSLATED and not missing:
                    event("RA303", one, note="the rest passes untranslated")
                elif kind is DifferenceKind.REFUSED:
                    by_firewall = any(
                        o.final_rule is not None and o.final_rule[1] == "KUBE-PROXY-FIREWALL" for o in difference.outcomes
                    )
                    event("RA306" if by_firewall else "RA208", one, None, [o for o in one.outcomes if o.endpoint is None])
                elif kind is DifferenceKind.LOST:
                    event("RA601", one, None, [o for o in one.outcomes if o.verdict in (Verdict.DROP, Verdict.REJECT)])
                elif kind is DifferenceKind.MISSING_MASQUERADE:
                    event("RA401", one)
                elif kind is DifferenceKind.EXTRA_MASQUERADE:
                    event("RA405", one)
                elif kind is DifferenceKind.AFFINITY:
                    event("RA304", one)
        findings = [self.write(expected, one) for one in events.values()]
        refused = next((found.fingerprint for found in findings if found.code == "RA208"), None)
        if refused is not None:  # what is refused as a whole reaches no endpoint: the refusal says it for all of them
            whole = [one for one in judgements if not one.observed.backends and not one.observed.lost]
            only = {id(one) for one in whole} >= {
                id(one) for (code, _), known in events.items() if code == "RA106" for one in known.judgements
            }
            findings = [replace(found, cause=refused) if only and found.code == "RA106" else found for found in findings]
        refusing = [one for one in judgements if one.expected.verdict in (Verdict.REJECT, Verdict.DROP)]
        leader = next((found.fingerprint for found in findings if found.code in ("RA206", "RA207", "RA302")), None)
        return findings + self.not_refused(expected, refusing, cause=leader)

    def classify_extra(
        self, expected: ExpectedServicePort, endpoint: str, missing: Sequence[str], outcomes: Sequence[Outcome]
    ) -> tuple[str, str, str]:
        """(code, the expected endpoint that it stands in for or "", a note) of an endpoint that should get no traffic."""
        known = {one.text: one for one in (*expected.candidates.endpoints, *expected.candidates.unready)}
        candidate = known.get(endpoint)
        if candidate is not None:
            if candidate.ready:
                return "RA305", "", "ready, but not to be used from this node under its traffic policy or hints"
            return "RA207", "", _condition(candidate)
        address, port = split_endpoint(endpoint)
        stood_for = self.stood_for(expected, outcomes, missing)
        same_address = [one for one in known.values() if one.address == address]
        if same_address:
            wanted = next((one.text for one in same_address if one.text in missing), same_address[0].text)
            return (
                "RA302",
                stood_for or (wanted if wanted in missing else ""),
                f"this endpoint serves port {split_endpoint(wanted)[1]}, not {port}",
            )
        owners = self.owners.get(endpoint)
        note = f"an endpoint of {_list(sorted(owners))}" if owners else "no endpoint of any Service"
        return "RA206", stood_for, note

    def stood_for(self, expected: ExpectedServicePort, outcomes: Sequence[Outcome], missing: Sequence[str]) -> str:
        """The missing endpoint whose own chain (its name is a hash of the endpoint) leads elsewhere, "" when there is none."""
        chains = {outcome.nat_rule[1] for outcome in outcomes if outcome.nat_rule is not None}
        for text in self.name_texts(expected):
            for endpoint in missing:
                if "KUBE-SEP-" + endpoint_chain_hash(text, expected.protocol.lower(), endpoint) in chains:
                    return endpoint
        return ""

    @cached_property
    def owners(self) -> dict[str, set[str]]:
        """Which Services' endpoints each endpoint text is."""
        found: dict[str, set[str]] = defaultdict(set)
        for expected in self.audit.expectation.service_ports:
            for endpoint in expected.candidates.endpoints:
                found[endpoint.text].add(f"{expected.name.namespace}/{expected.name.name}")
        return found

    def write(self, expected: ExpectedServicePort, event: _Event) -> Finding:
        """One effect as a finding."""
        name, endpoint, one = service_port_of(expected), event.endpoint, event.judgements[0]
        frontends = _frontends(event.judgements)
        where = "" if set(frontends) == set(expected.frontends) else f" at {_list(str(f) for f in frontends)}"
        whence = {j.vantage for j in event.judgements}
        clients = "" if len(whence) == len(Vantage) else " from " + " and ".join(_WHENCE[v] for v in Vantage if v in whence)
        share = max((d.share for j in event.judgements for d in j.differences if d.endpoint == endpoint), default=0.0)
        share = max([share, *(o.share for j in event.judgements for o in j.outcomes if endpoint and o.endpoint == endpoint)])
        messages = {
            "RA106": f"{name} sends nothing to {endpoint}{where}, which is {self.describe(expected, endpoint)}"
            + _falls_through(event.judgements),
            "RA206": f"{name} sends {_percent(share)} of new connections to {endpoint}{where}, {event.note}",
            "RA207": f"{name} sends {_percent(share)} of new connections to {endpoint}{where}, which is {event.note}",
            "RA208": f"{name} refuses connections{where}{clients} although it has usable endpoints",
            "RA302": f"{name} sends {_percent(share)} of new connections to {endpoint}{where}: {event.note}",
            "RA303": (
                f"{name} never reaches {endpoint}{where}: {event.note}"
                if endpoint
                else f"{name} does not share connections evenly{where}" + (f": {event.note}" if event.note else "")
            ),
            "RA304": f"{name}: session affinity is {_affinity_text(one.observed)}, the Service asks for {_affinity_wanted(one.expected)}",
            "RA305": f"{name} sends {_percent(share)} of new connections to {endpoint}{where}{clients}: {event.note}",
            "RA306": f"{name} refuses admitted clients{where}{clients} by its source-range firewall",
            "RA401": f"{name} does not masquerade connections{clients}{where}, so replies do not come back through this node",
            "RA405": f"{name} masquerades connections{clients}{where} that keep their source address",
            "RA601": f"{name}: connections{clients}{where} are refused after their translation",
        }
        wanted, seen = _wanted(one), _seen(one)
        if endpoint is not None and event.expected:
            wanted = f"{event.expected}, one of {wanted.removeprefix('to ')}"
        if event.code == "RA304":
            wanted, seen = _affinity_wanted(one.expected), _affinity_text(one.observed)
        elif event.code == "RA401":
            wanted, seen = "masqueraded" + clients, "the source address is kept"
        elif event.code == "RA405":
            wanted, seen = "the source address is kept" + clients, "masqueraded"
        outcomes = event.outcomes or list(one.outcomes)
        places = trail_places(outcomes)
        if event.code[:3] in ("RA1", "RA2", "RA3") and event.code not in ("RA208", "RA306"):
            # What is wrong shows on the way to the translation; what follows it is the same for every service.
            places = [place for place in places if place[0] == "nat" and not place[1].endswith("POSTROUTING")] or places
        references = self.endpoint_objects(expected, event.expected or endpoint)
        return self.audit.finding(
            event.code,
            messages[event.code],
            of=expected,
            possible=all(j.observed.possible for j in event.judgements),
            frontend=frontends[0] if len(frontends) == 1 and len(expected.frontends) > 1 else None,
            endpoint=endpoint,
            expected=wanted,
            observed=seen,
            places=[*event.places, *places],
            objects=references,
        )

    def describe(self, expected: ExpectedServicePort, endpoint: str | None) -> str:
        """The condition of an endpoint in words."""
        found = next((one for one in expected.candidates.endpoints if one.text == endpoint), None)
        return _condition(found) if found is not None else "a usable endpoint"

    def endpoint_objects(self, expected: ExpectedServicePort, endpoint: str | None) -> list[ObjectReference]:
        """The EndpointSlices' pods behind an endpoint."""
        if endpoint is None:
            return []
        for one in (*expected.candidates.endpoints, *expected.candidates.unready):
            if one.text == endpoint and one.target is not None:
                return [ObjectReference("Pod", one.target[0] or expected.name.namespace, one.target[1])]
        return []

    def not_refused(self, expected: ExpectedServicePort, judgements: Sequence[Judgement], cause: str | None) -> list[Finding]:
        """RA107: frontends without usable endpoints that are not refused as kube-proxy would (KPR 2.8, 5.2)."""
        audit = self.audit
        by_frontend: dict[Frontend, list[Judgement]] = defaultdict(list)
        for one in judgements:
            if one.expected.verdict in (Verdict.REJECT, Verdict.DROP) and one.has(
                DifferenceKind.NOT_REFUSED, DifferenceKind.FORWARDED, DifferenceKind.WRONG_REFUSAL
            ):
                by_frontend[one.frontend].append(one)
        findings = []
        for frontend, group in by_frontend.items():
            passed = [one for one in group if one.has(DifferenceKind.NOT_REFUSED)]
            if passed == group and all(self.refused_later(one) for one in group):
                self.accepted_first(expected, group)
                continue
            verb = "rejected" if group[0].expected.verdict is Verdict.REJECT else "dropped"
            reason = "has no usable endpoint" if verb == "rejected" else "has none on this node"
            how = (
                "is forwarded"
                if any(one.has(DifferenceKind.FORWARDED) for one in group)
                else "is refused in another way"
                if not passed
                else "passes"
            )
            findings.append(
                audit.finding(
                    "RA107",
                    f"{service_port_of(expected)} {reason}, but traffic to {frontend} {how} instead of being {verb}",
                    of=expected,
                    possible=all(one.observed.possible for one in group),
                    frontend=frontend,
                    expected=verb,
                    observed=_seen(group[0]),
                    places=[
                        *_places(group),
                        (
                            "filter",
                            "KUBE-EXTERNAL-SERVICES" if frontend.kind is not FrontendKind.CLUSTER_IP else "KUBE-SERVICES",
                            0,
                        ),
                    ],
                    cause=cause,
                )
            )
        return findings

    def refused_later(self, one: Judgement) -> bool:
        """Whether kube-proxy's own filter chains, as far as they are on the packet's way, would refuse it if it came to them."""
        # OUTPUT jumps to KUBE-SERVICES only (KPR 4.2); what the node sends to itself comes back through INPUT.
        leaves = one.vantage is Vantage.NODE and not self.audit.host.is_local(one.observed.packet.destination)
        for chain in ("KUBE-SERVICES",) if leaves else ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES"):
            _, ends = self.audit.evaluator.through("filter", chain, one.observed.packet)
            if any(verdict is one.expected.verdict for _flow, verdict, _rule in ends):
                return True
        return False

    def accepted_first(self, expected: ExpectedServicePort, group: Sequence[Judgement]) -> None:
        """The refusing rule is there, but another software's rule lets the packet through before: noted per rule, as information."""
        for one in group:
            self.foreign.setdefault(
                ("filter", "FORWARD" if one.vantage is not Vantage.NODE else "OUTPUT", -1), _Foreign("RA601")
            ).reached.append((expected, one, None))

    # --- everything --------------------------------------------------------------------------------------------------------------------

    def run(self) -> list[Finding]:
        """All findings of the family's services."""
        findings: list[Finding] = []
        for expected in self.audit.expectation.service_ports:
            self.frontends += len(expected.frontends)
            if self.audit.node is None and self.hangs_on_node(expected):
                self.passed_over += 1
                continue
            judgements = self.differing(expected)
            if judgements:
                self.judged[id(expected)] = judgements
                findings.extend(self.interpret(expected, judgements))
            elif expected.source_ranges or self.has_firewall(expected):
                findings.extend(self.source_ranges(expected))
            findings.extend(self.hairpin(expected))
            if expected.health_check_node_port:
                findings.extend(self.health_check(expected))
        findings.extend(self.foreign_findings())
        findings.extend(self.unmodelled_findings())
        return findings

    def hangs_on_node(self, expected: ExpectedServicePort) -> bool:
        """Whether what is right depends on which node this is."""
        return expected.uses_local or any(
            endpoint.zone_hints or endpoint.node_hints for endpoint in expected.candidates.endpoints
        )

    def has_firewall(self, expected: ExpectedServicePort) -> bool:
        """Whether a KUBE-FW chain of this port exists."""
        return any(frontend.kind is FrontendKind.LOAD_BALANCER_IP for frontend in expected.frontends) and any(
            "KUBE-FW-" + name in self.rules.chains("nat") for name in self.own_hashes(expected)
        )

    def hairpin(self, expected: ExpectedServicePort) -> Iterator[Finding]:
        """RA403: an endpoint that reaches itself through the Service must be masqueraded (KPR 5.7)."""
        reachable = expected.selection.reachable
        if not reachable:
            return
        sound: set[str] = set()
        for own in self.own_hashes(expected):
            for prefix in ("KUBE-SVC-", "KUBE-SVL-", "KUBE-XLB-"):
                ready = self.rules.prepared("nat", prefix + own)
                if ready is not None and ready.balance is not None:
                    sound.update(leaf.endpoint for leaf in ready.balance.leaves if leaf.masquerading)
        reachable = tuple(endpoint for endpoint in reachable if endpoint.text not in sound)
        protocol = expected.protocol.lower()
        texts = self.name_texts(expected)
        chains = self.rules.chains("nat")
        suffix = "/32" if expected.family == 4 else "/128"
        for endpoint in reachable:
            for text in texts:
                name = "KUBE-SEP-" + endpoint_chain_hash(text, protocol, endpoint.text)
                if name in chains:
                    break
            else:
                continue
            entries = self.rules.entries("nat", name)
            if entries and entries[0].target == "KUBE-MARK-MASQ" and _plain_source(entries[0], endpoint.address + suffix):
                continue
            if self.destination(name) != endpoint.text:
                continue
            packet = self.audit.clients.packet(Vantage.POD, expected.protocol, endpoint.address, endpoint.port, endpoint.address)
            back, ends = self.audit.evaluator.through("nat", name, packet)
            if all(flow.mark & self.audit.mark for flow in (*back, *(flow for flow, _v, _r in ends))):
                continue
            yield self.audit.finding(
                "RA403",
                f"{service_port_of(expected)}: {endpoint.text} is not masqueraded when it reaches itself through the Service",
                severity=None if endpoint.is_local or endpoint.node_name is None else Severity.WARNING,
                of=expected,
                endpoint=endpoint.text,
                expected=f"a rule of {name} that marks packets from {endpoint.address}",
                observed="no such rule",
                places=[("nat", name, entry.line) for entry in entries] or [("nat", name, 0)],
                objects=self.endpoint_objects(expected, endpoint.text),
            )

    def health_check(self, expected: ExpectedServicePort) -> Iterator[Finding]:
        """RA109: KPR 2.10, 5.2."""
        audit = self.audit
        if audit.expectation.release.minor < 21 or not audit.rules.has_table("filter"):
            return
        packet = audit.clients.packet(Vantage.OUTSIDE, "TCP", audit.clients.node_address, expected.health_check_node_port)
        _, ends = audit.evaluator.through("filter", "KUBE-NODEPORTS", packet)
        if any(verdict in (Verdict.PASS, Verdict.FORWARD) for _flow, verdict, _rule in ends):
            return
        yield audit.finding(
            "RA109",
            f"{service_port_of(expected)}: no rule accepts its health check node port {expected.health_check_node_port}",
            of=expected,
            expected=f"an ACCEPT rule for tcp port {expected.health_check_node_port} in filter KUBE-NODEPORTS",
            observed="none",
            places=[("filter", "KUBE-NODEPORTS", 0)],
        )

    def foreign_findings(self) -> Iterator[Finding]:
        """RA601 to RA604, one per rule and service, or one for the node when a rule reaches many services."""
        audit = self.audit
        for place, foreign in self.foreign.items():
            services: dict[tuple[str, str], list[tuple[ExpectedServicePort, Judgement, str | None]]] = defaultdict(list)
            for item in foreign.reached:
                services[item[0].name.namespace, item[0].name.name].append(item)
            if place[2] < 0:
                names = _list(sorted({f"{a}/{b}" for a, b in services}))
                yield audit.finding(
                    "RA601",
                    f"other rules of {place[0]} {place[1]} accept traffic of {names} before kube-proxy's rules refuse it: clients without a usable "
                    "endpoint wait instead of being refused",
                    severity=Severity.INFO,
                    places=[(place[0], place[1], 0)],
                    subject=f"{place[0]} {place[1]} IPv{audit.family}",
                )
                continue
            text = self.rule_text(place)
            dns = foreign.code == "RA604" and self.node_local_dns(place)
            groups = [list(services.values())] if len(services) >= _NODE_WIDE else [[group] for group in services.values()]
            for group in groups:
                items = [item for one in group for item in one]
                first, judgement, endpoint = items[0]
                ports = list(dict.fromkeys(id(item[0]) for item in items))
                named = list(dict.fromkeys(service_port_of(item[0]) for item in items))
                what = _list(named) if len(group) < _NODE_WIDE else f"{len(named)} service ports ({_list(named, 3)})"
                whence = " and ".join(_WHENCE[v] for v in Vantage if any(item[1].vantage is v for item in items))
                does = {
                    "RA601": "decides about",
                    "RA602": "drops forwarded",
                    "RA603": "takes",
                    "RA604": "keeps out of connection tracking and so out of the nat table",
                }[foreign.code]
                single = len(group) == 1
                endpoints = {item[2] for item in items}
                frontends = _frontends([item[1] for item in items])
                yield audit.finding(
                    foreign.code,
                    f"{text} {does} traffic of {what} from {whence}"
                    + (f" to {', '.join(sorted(str(e) for e in endpoints))}" if len(endpoints) == 1 and endpoint else ""),
                    severity=Severity.INFO if dns else None,
                    possible=all(item[1].observed.possible for item in items),
                    of=first if single and len(ports) == 1 else None,
                    service=f"{first.name.namespace}/{first.name.name}" if single else None,
                    frontend=frontends[0] if single and len(frontends) == 1 else None,
                    endpoint=endpoint if single and len(endpoints) == 1 and endpoint else None,
                    expected=_wanted(judgement),
                    observed=_seen(judgement),
                    places=[
                        place,
                        *trail_places([o for o in judgement.outcomes if place in (o.final_rule, o.nat_rule, o.untracked)]),
                    ],
                    objects=[ObjectReference("Service", *key) for key in services][:20],
                    subject="" if single else f"{place[0]} {place[1]} {text} IPv{audit.family}",
                )

    def rule_text(self, place: RulePlace) -> str:
        """A foreign rule or policy in words."""
        table, chain, line = place
        if not line:
            return f"the {table} policy of {chain}"
        return f"a rule of {table} {chain} that is not kube-proxy's"

    def node_local_dns(self, place: RulePlace) -> bool:
        """Whether NOTRACK belongs to NodeLocal DNSCache: it names itself, and accepts what it took out of tracking (incidents 1.9)."""
        reference = self.rules.reference(*place)
        return "NodeLocal DNS" in reference.text or any(
            "NodeLocal DNS" in self.rules.reference("raw", place[1], entry.line).text
            for entry in self.rules.entries("raw", place[1])
        )

    def unmodelled_findings(self) -> Iterator[Finding]:
        """RA003: rules that nobody models and that decide about service traffic."""
        for place, reached in self.unmodelled.items():
            table, chain, _line = place
            names = _list(dict.fromkeys(service_port_of(one) for one in reached))
            policy = table == "filter" and chain.startswith(_POLICY_ENGINES)
            yield self.audit.finding(
                "RA003",
                f"whether a rule of {table} {chain} applies cannot be decided, and traffic of {names} hangs on it",
                severity=Severity.INFO if policy else None,
                possible=True,
                observed=self.rules.reference(*place).text,
                places=[place],
                subject=f"{table} {chain} {self.rules.reference(*place).text} IPv{self.audit.family}",
            )


def judge_services(audit: FamilyAudit) -> ServiceJudge:
    """The judge of one family's services; `run` gives its findings."""
    return ServiceJudge(audit)


# --- texts -----------------------------------------------------------------------------------------------------------------------------


def _plain_source(entry: Entry, source: str) -> bool:
    """Whether a rule asks for this source address and nothing else."""
    shape = entry.plan.shape
    return (
        len(shape.options) == 1
        and shape.options[0].flag == "-s"
        and not shape.options[0].negated
        and entry.values[shape.options[0].slots[0]] == source
        and all(match.module == "comment" for match in shape.matches)
    )


def _inside(text: str, avoid: Sequence[str] = ()) -> str:
    """An address of a prefix, outside of the prefixes to avoid where that is possible."""
    where = ip_network(text, strict=False)
    narrower = [ip_network(one, strict=False) for one in avoid]
    first, last = int(where.network_address), int(where.broadcast_address)
    candidates = [first + 1 if last - first > 1 else first, first, last, (first + last) // 2]
    for one in narrower:
        candidates += [int(one.broadcast_address) + 1, int(one.network_address) - 1]
    make = type(where.network_address)
    for number in candidates:
        if first <= number <= last and not any(make(number) in one for one in narrower):
            return str(make(number))
    return str(make(first))


def _contains(where: object, address: str) -> bool:
    from ipaddress import IPv4Network, IPv6Network, ip_address

    assert isinstance(where, IPv4Network | IPv6Network)
    return ip_address(address) in where


def _falls_through(judgements: Iterable[Judgement]) -> str:
    share = max((one.untranslated_share for one in judgements), default=0.0)
    return f"; {_percent(share)} of new connections pass untranslated" if share > 0 else ""


def _condition(endpoint: Endpoint) -> str:
    if endpoint.ready:
        return "ready" + (" and terminating" if endpoint.terminating else "")
    if endpoint.terminating:
        return "terminating" + ("" if endpoint.serving else " and not serving")
    return "not ready"


def _frontends(judgements: Iterable[Judgement]) -> list[Frontend]:
    return list(dict.fromkeys(one.frontend for one in judgements))


def _places(judgements: Iterable[Judgement]) -> list[RulePlace]:
    return list(dict.fromkeys(place for one in judgements for place in trail_places(one.outcomes)))


def _list(texts: Iterable[str], most: int = 5) -> str:
    every = list(texts)
    shown = ", ".join(every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most} more"


def _of(texts: Sequence[str]) -> str:
    return _list(texts)


def _bare(frontend: Frontend) -> str:
    return str(frontend).removeprefix("node port ")


def _percent(share: float) -> str:
    if share >= 0.9995:
        return "all"
    return f"{share:.1%}".replace(".0%", "%")


def _backends(backends: Iterable[str]) -> str:
    return _list(sorted(backends), 8) or "no endpoint"


def _wanted(one: Judgement) -> str:
    verdict = one.expected.verdict
    if verdict is Verdict.FORWARD:
        return "to " + _backends(one.expected.backends)
    return {Verdict.REJECT: "rejected", Verdict.DROP: "dropped"}.get(verdict, "untranslated")


def _seen(one: Judgement) -> str:
    seen = one.observed
    parts = []
    if seen.backends:
        expected = 1 / len(seen.backends)
        shares = [
            f"{name} ({_percent(share)})" if abs(share - expected) > 1e-3 else name
            for name, share in sorted(seen.backends.items())
        ]
        parts.append("to " + _list(shares, 8))
    for outcomes, text in (
        (seen.untranslated, "untranslated"),
        (seen.refused, "refused"),
        (seen.lost, "refused after translation"),
    ):
        if outcomes:
            share = sum(outcome.share for outcome in outcomes)
            parts.append(text if share > 0.9995 else f"{_percent(share)} {text}")
    return ", ".join(parts) or "nothing"


def _affinity_wanted(expected: Forwarding) -> str:
    return "no session affinity" if expected.affinity is None else f"ClientIP affinity for {expected.affinity} s"


def _affinity_text(seen: Observation) -> str:
    if seen.affinity_fault:
        return f"incomplete ({seen.affinity_fault})"
    return "none" if seen.affinity is None else f"ClientIP for {seen.affinity} s"
