"""Service by service: what the rules do with its connections against what the objects ask for (RA1, RA2, RA3, RA4 and RA6).

Every frontend is judged from every vantage point. Differences are gathered per service port first and named afterwards, so that one
cause becomes one finding however many frontends and clients it reaches.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ruleaudit.checks.context import FamilyAudit, RulePlace, service_port_of, trail_places
from ruleaudit.checks.foreign import ForeignRules
from ruleaudit.checks.judgement import (
    WHENCE,
    Judgement,
    affinity_seen,
    affinity_wanted,
    bare,
    condition,
    endpoint_objects,
    falls_through,
    frontends_of,
    listed,
    percent,
    places_of,
    seen_text,
    wanted_text,
)  # fmt: skip
from ruleaudit.checks.observer import Observer
from ruleaudit.checks.service_chains import ServiceChains
from ruleaudit.checks.source_ranges import SourceRanges
from ruleaudit.compare import DifferenceKind
from ruleaudit.dataplane.ipvs import TABLE
from ruleaudit.forwarding import Frontend, FrontendKind, Vantage, Verdict, split_endpoint
from ruleaudit.signs import SERVICE_CHAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ruleaudit.dataplane.walk import Outcome
    from ruleaudit.findings import Finding
    from ruleaudit.kubeproxy.expect import ExpectedServicePort

__all__ = ["KIND_TEXT", "MISSING_CODE", "ServiceJudge"]

MISSING_CODE = {
    FrontendKind.CLUSTER_IP: "RA102",
    FrontendKind.NODE_PORT: "RA103",
    FrontendKind.EXTERNAL_IP: "RA104",
    FrontendKind.LOAD_BALANCER_IP: "RA105",
}
KIND_TEXT = {
    FrontendKind.CLUSTER_IP: "cluster IP",
    FrontendKind.NODE_PORT: "node port",
    FrontendKind.EXTERNAL_IP: "external IP",
    FrontendKind.LOAD_BALANCER_IP: "load-balancer IP",
}


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

    def __init__(self, audit: FamilyAudit, observer: Observer | None = None, chains: ServiceChains | None = None) -> None:
        self.audit = audit
        self.rules = audit.repaired
        self.observer = observer or Observer(audit)
        self.chains = chains or ServiceChains(audit)
        self.foreign_rules = ForeignRules(audit)
        self.ranges = SourceRanges(self.observer, self.chains)
        self.judged: dict[int, list[Judgement]] = {}
        self.frontends = 0
        self.passed_over = 0
        self.names_policies = True
        """Whether another traffic policy is thought of at all (RA305)."""

    def run(self) -> list[Finding]:
        """All findings of the family's services."""
        findings: list[Finding] = []
        for expected in self.audit.service_ports:
            self.frontends += len(expected.frontends)
            if self.audit.node is None and self.hangs_on_node(expected):
                self.passed_over += 1
                continue
            judgements = self.observer.differing(expected)
            if judgements:
                self.judged[id(expected)] = judgements
                findings.extend(self.interpret(expected, judgements))
            elif expected.source_ranges or self.chains.has_firewall(expected):
                findings.extend(self.ranges.source_ranges(expected))
            findings.extend(self.chains.hairpin(expected, self.observer.sound))
            if expected.health_check_node_port:
                findings.extend(self.chains.health_check(expected))
        findings.extend(self.foreign_rules.foreign_findings())
        findings.extend(self.foreign_rules.unmodelled_findings())
        return findings

    def hangs_on_node(self, expected: ExpectedServicePort) -> bool:
        """Whether what is right depends on which node this is."""
        return expected.uses_local or any(
            endpoint.zone_hints or endpoint.node_hints for endpoint in expected.candidates.endpoints
        )

    def interpret(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> list[Finding]:
        """The findings of one service port."""
        findings: list[Finding] = []
        judgements = self.foreign_rules.set_unmodelled_aside(expected, judgements)
        findings.extend(self.ranges.source_ranges(expected))
        if findings:
            judgements = [one for one in judgements if one.frontend.kind is not FrontendKind.LOAD_BALANCER_IP]
        if not judgements:
            return findings
        for one in judgements:
            one.outcomes = self.audit.evaluator.evaluate(one.observed.packet, tracing=True)[0]
        judgements = self.foreign_rules.set_foreign_aside(expected, judgements)
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

    def other_policy(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> Finding | None:
        """RA305: the rules are exactly right for another traffic policy, or pick from the ready endpoints by other hints."""
        kinds = {kind for one in judgements for kind in {d.kind for d in one.differences}}
        if kinds & {DifferenceKind.AFFINITY, DifferenceKind.UNEVEN} or self.passed_by(expected, judgements):
            return None
        if not self.names_policies:
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
            other = self.observer.with_spec(expected, change)
            if self.observer.agrees(other):
                return self.audit.finding(
                    "RA305",
                    f"{service_port_of(expected)} is programmed for {field_name} {then}, the Service asks for {now}",
                    of=expected,
                    expected=f"{field_name}: {now}; " + wanted_text(judgements[0]),
                    observed=f"as for {field_name}: {then}; " + seen_text(judgements[0]),
                    places=places_of(judgements),
                )
        return self.other_hints(expected, judgements)

    def passed_by(self, expected: ExpectedServicePort, judgements: Sequence[Judgement]) -> bool:
        """Whether a chain that packets go through holds rules for a missing endpoint: then it is damaged, not written for another policy."""
        for one in judgements:
            serving = self.chains.serving(expected, one)
            used = {place[1] for outcome in one.outcomes for place in outcome.trail}
            for difference in one.differences:
                found = serving.get(difference.endpoint or "", ()) if difference.kind is DifferenceKind.MISSING_BACKEND else ()
                if any(chain in used for _table, chain, _line in found):
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
            expected=wanted_text(first),
            observed=seen_text(first),
            places=places_of(judgements),
        )

    def by_zone(self, expected: ExpectedServicePort, reached: set[str]) -> bool:
        """Whether the reached endpoints are all ready ones that share a zone or node hint."""
        ready = [endpoint for endpoint in expected.candidates.endpoints if endpoint.ready]
        hints = {hint for endpoint in ready for hint in (*endpoint.zone_hints, *endpoint.node_hints)}
        nodes = {endpoint.node_name for endpoint in ready}
        groups = [{e.text for e in ready if hint in e.zone_hints or hint in e.node_hints} for hint in hints]
        groups += [{e.text for e in ready if e.node_name == node} for node in nodes]
        return reached in groups

    def wrong_service(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> list[Finding]:
        """RA301: connections run through the chains of another service port, to endpoints that are not this one's."""
        own = self.chains.own_hashes(expected)
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
            owner = self.chains.owner_of_hash.get(
                chain[9:] if chain.startswith(("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-XLB-")) else chain[8:]
            )
            name = f"{owner.name}" if owner is not None else self.chains.comment_name(chain) or chain
            findings.append(
                self.audit.finding(
                    "RA301",
                    f"{service_port_of(expected)} at {frontend} leads into {chain}, the chain of {name}",
                    of=expected,
                    possible=one.observed.possible,
                    frontend=frontend,
                    expected=wanted_text(one),
                    observed=seen_text(one) + f" by {chain} of {name}",
                    places=trail_places(outcomes),
                )
            )
        return findings

    def untranslated(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> tuple[list[Finding], list[Judgement]]:
        """Frontends that no rule translates: missing ones (RA101 to RA105), broken chains (RA309)."""
        audit = self.audit
        rest: list[Judgement] = []
        missing: dict[Frontend, list[Judgement]] = defaultdict(list)
        broken: dict[str, list[Judgement]] = defaultdict(list)
        for one in judgements:
            whole = one.untranslated_share > 0.999
            ends = {
                self.chains.dead_end(outcome)
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
            frontends = frontends_of(reached)
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
                    f"{service_port_of(expected)}: chain {chain} {state}, so {percent(share)} of new connections to "
                    f"{listed(str(f) for f in frontends)} pass untranslated",
                    of=expected,
                    possible=all(one.observed.possible for one in reached),
                    frontend=frontends[0] if len(frontends) == 1 else None,
                    expected=wanted_text(reached[0]),
                    observed=f"{chain} {state}",
                    places=[*places_of(reached), ("nat", chain, 0)],
                )
            )
        if missing and not findings and set(missing) == set(expected.frontends) and not rest:
            first = next(iter(missing.values()))[0]
            findings.append(
                audit.finding(
                    "RA101",
                    f"{service_port_of(expected)} is not programmed: none of {listed(str(f) for f in missing)} is translated",
                    of=expected,
                    possible=all(one.observed.possible for group in missing.values() for one in group),
                    expected=wanted_text(first),
                    observed="no rule of KUBE-SERVICES or KUBE-NODEPORTS names its frontends",
                    places=[("nat", "KUBE-SERVICES", 0)],
                )
            )
        else:
            for frontend, group in missing.items():
                judged = {vantage for vantage, _ in self.observer.questions(frontend)}
                whence = {one.vantage for one in group}
                partly = "" if whence >= judged else " for " + " and ".join(WHENCE[one] for one in Vantage if one in whence)
                at = (
                    ""
                    if frontend.address is not None or {one.destination for one in group} >= set(audit.node_port_addresses)
                    else (" at " + ", ".join(sorted({one.destination for one in group})))
                )
                findings.append(
                    audit.finding(
                        MISSING_CODE[frontend.kind],
                        f"{service_port_of(expected)}: {KIND_TEXT[frontend.kind]} {bare(frontend)} is not programmed{partly}{at}",
                        of=expected,
                        possible=all(one.observed.possible for one in group),
                        frontend=frontend,
                        expected=wanted_text(group[0]),
                        observed="untranslated" + partly,
                        places=[*places_of(group), ("nat", "KUBE-NODEPORTS" if frontend.address is None else "KUBE-SERVICES", 0)],
                    )
                )
        return findings, rest

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

        for one in judgements:
            serving = self.chains.serving(expected, one)
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
                    known = event("RA303", one, endpoint, note=self.chains.unreached(endpoint, serving[endpoint]))
                    known.places += serving[endpoint]
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
            return "RA207", "", condition(candidate)
        address, port = split_endpoint(endpoint)
        stood_for = self.chains.stood_for(expected, outcomes, missing)
        same_address = [one for one in known.values() if one.address == address]
        if same_address:
            wanted = next((one.text for one in same_address if one.text in missing), same_address[0].text)
            return (
                "RA302",
                stood_for or (wanted if wanted in missing else ""),
                f"this endpoint serves port {split_endpoint(wanted)[1]}, not {port}",
            )
        owners = self.audit.endpoint_owners.get(endpoint)
        note = f"an endpoint of {listed(sorted(owners))}" if owners else "no endpoint of any Service"
        return "RA206", stood_for, note

    def write(self, expected: ExpectedServicePort, event: _Event) -> Finding:
        """One effect as a finding."""
        name, endpoint, one = service_port_of(expected), event.endpoint, event.judgements[0]
        frontends = frontends_of(event.judgements)
        where = "" if set(frontends) == set(expected.frontends) else f" at {listed(str(f) for f in frontends)}"
        whence = {j.vantage for j in event.judgements}
        clients = "" if len(whence) == len(Vantage) else " from " + " and ".join(WHENCE[v] for v in Vantage if v in whence)
        share = max((d.share for j in event.judgements for d in j.differences if d.endpoint == endpoint), default=0.0)
        share = max([share, *(o.share for j in event.judgements for o in j.outcomes if endpoint and o.endpoint == endpoint)])
        messages = {
            "RA106": f"{name} sends nothing to {endpoint}{where}, which is {self.describe(expected, endpoint)}"
            + falls_through(event.judgements),
            "RA206": f"{name} sends {percent(share)} of new connections to {endpoint}{where}, {event.note}",
            "RA207": f"{name} sends {percent(share)} of new connections to {endpoint}{where}, which is {event.note}",
            "RA208": f"{name} refuses connections{where}{clients} although it has usable endpoints",
            "RA302": f"{name} sends {percent(share)} of new connections to {endpoint}{where}: {event.note}",
            "RA303": (
                f"{name} never reaches {endpoint}{where}: {event.note}"
                if endpoint
                else f"{name} does not share connections evenly{where}" + (f": {event.note}" if event.note else "")
            ),
            "RA304": f"{name}: session affinity is {affinity_seen(one.observed)}, the Service asks for {affinity_wanted(one.expected)}",
            "RA305": f"{name} sends {percent(share)} of new connections to {endpoint}{where}{clients}: {event.note}",
            "RA306": f"{name} refuses admitted clients{where}{clients} by its source-range firewall",
            "RA401": f"{name} does not masquerade connections{clients}{where}, so replies do not come back through this node",
            "RA405": f"{name} masquerades connections{clients}{where} that keep their source address",
            "RA601": f"{name}: connections{clients}{where} are refused after their translation",
        }
        wanted, seen = wanted_text(one), seen_text(one)
        if endpoint is not None and event.expected:
            wanted = f"{event.expected}, one of {wanted.removeprefix('to ')}"
        if event.code == "RA304":
            wanted, seen = affinity_wanted(one.expected), affinity_seen(one.observed)
        elif event.code == "RA401":
            wanted, seen = "masqueraded" + clients, "the source address is kept"
        elif event.code == "RA405":
            wanted, seen = "the source address is kept" + clients, "masqueraded"
        outcomes = event.outcomes or list(one.outcomes)
        places = trail_places(outcomes)
        if event.code[:3] in ("RA1", "RA2", "RA3") and event.code not in ("RA208", "RA306"):
            # What is wrong shows on the way to the translation; what follows it is the same for every service.
            places = [place for place in places if place[0] in ("nat", TABLE) and not place[1].endswith("POSTROUTING")] or places
        references = endpoint_objects(expected, event.expected or endpoint)
        return self.audit.finding(
            event.code,
            messages[event.code],
            of=expected,
            possible=all(j.observed.possible for j in event.judgements),
            frontend=frontends[0] if len(frontends) == 1 and len(expected.frontends) > 1 else None,
            endpoint=endpoint,
            expected=wanted,
            observed=seen,
            hint=self.chains.hints.get(event.code, ""),
            places=[*event.places, *places],
            objects=references,
        )

    def describe(self, expected: ExpectedServicePort, endpoint: str | None) -> str:
        """The condition of an endpoint in words."""
        found = next((one for one in expected.candidates.endpoints if one.text == endpoint), None)
        return condition(found) if found is not None else "a usable endpoint"

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
                self.foreign_rules.accepted_first(expected, group)
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
                    observed=seen_text(group[0]),
                    places=[
                        *places_of(group),
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
