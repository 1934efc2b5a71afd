"""What rules of other software do to service traffic (RA601 to RA604), and what undecided rules leave open (RA003)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ruleaudit.checks.context import FamilyAudit, RulePlace, is_own, service_port_of, trail_places
from ruleaudit.checks.judgement import WHENCE, Judgement, frontends_of, listed, seen_text, wanted_text
from ruleaudit.compare import DifferenceKind
from ruleaudit.findings import Finding, ObjectReference, Severity
from ruleaudit.forwarding import Vantage, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.dataplane.walk import Outcome
    from ruleaudit.kubeproxy.expect import ExpectedServicePort

__all__ = ["ForeignRules"]

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
class Foreign:
    """What one rule of other software, or a policy, does to service traffic."""

    code: str
    reached: list[tuple[ExpectedServicePort, Judgement, str | None]] = field(default_factory=list)


class ForeignRules:
    """Rules of other software, and rules that nobody models, with the service traffic that they decide about."""

    def __init__(self, audit: FamilyAudit) -> None:
        self.audit = audit
        self.foreign: dict[RulePlace, Foreign] = {}
        self.unmodelled: dict[RulePlace, list[ExpectedServicePort]] = defaultdict(list)

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

    def set_foreign_aside(self, expected: ExpectedServicePort, judgements: list[Judgement]) -> list[Judgement]:
        """Split off what rules of other software do: RA601, RA602, RA603, RA604 are written once per rule, by `foreign_findings`."""
        left: list[Judgement] = []
        for one in judgements:
            # Refused all the same, only by somebody else's rule or policy: nothing that kube-proxy could do better.
            one.differences = [
                d
                for d in one.differences
                if d.kind is not DifferenceKind.WRONG_REFUSAL
                or any(outcome.final_rule is None or is_own(outcome.final_rule) for outcome in d.outcomes)
            ]
            if not one.differences:
                continue
            foreign = False
            for outcome in one.outcomes:
                code, place = self.foreign_cause(one, outcome)
                if place is not None:
                    foreign = True
                    self.foreign.setdefault(place, Foreign(code)).reached.append((expected, one, outcome.endpoint))
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
        if outcome.untracked is not None and not is_own(outcome.untracked):
            return "RA604", outcome.untracked
        if outcome.verdict in (Verdict.DROP, Verdict.REJECT):
            place = outcome.final_rule
            if place is not None and not is_own(place) and want is Verdict.FORWARD:
                return (
                    "RA602"
                    if place[0] in ("filter", "security") and (place[1] == "FORWARD" or outcome.endpoint is not None)
                    else "RA601"
                ), place
            return "", None
        place = outcome.nat_rule
        if place is not None and not is_own(place):
            if outcome.endpoint is not None:
                return ("RA603", place) if outcome.endpoint not in one.expected.backends else ("", None)
            if want is Verdict.FORWARD and outcome.endpoint is None:
                return "RA601", place
        return "", None

    def accepted_first(self, expected: ExpectedServicePort, group: Sequence[Judgement]) -> None:
        """The refusing rule is there, but another software's rule lets the packet through before: noted per rule, as information."""
        for one in group:
            self.foreign.setdefault(
                ("filter", "FORWARD" if one.vantage is not Vantage.NODE else "OUTPUT", -1), Foreign("RA601")
            ).reached.append((expected, one, None))

    def foreign_findings(self) -> Iterator[Finding]:
        """RA601 to RA604, one per rule and service, or one for the node when a rule reaches many services."""
        audit = self.audit
        for place, foreign in self.foreign.items():
            services: dict[tuple[str, str], list[tuple[ExpectedServicePort, Judgement, str | None]]] = defaultdict(list)
            for item in foreign.reached:
                services[item[0].name.namespace, item[0].name.name].append(item)
            if place[2] < 0:
                names = listed(sorted({f"{a}/{b}" for a, b in services}))
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
                what = listed(named) if len(group) < _NODE_WIDE else f"{len(named)} service ports ({listed(named, 3)})"
                whence = " and ".join(WHENCE[v] for v in Vantage if any(item[1].vantage is v for item in items))
                does = {
                    "RA601": "decides about",
                    "RA602": "drops forwarded",
                    "RA603": "takes",
                    "RA604": "keeps out of connection tracking and so out of the nat table",
                }[foreign.code]
                single = len(group) == 1
                endpoints = {item[2] for item in items}
                frontends = frontends_of([item[1] for item in items])
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
                    expected=wanted_text(judgement),
                    observed=seen_text(judgement),
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
        reference = self.audit.repaired.reference(*place)
        return "NodeLocal DNS" in reference.text or any(
            "NodeLocal DNS" in self.audit.repaired.reference("raw", place[1], entry.line).text
            for entry in self.audit.repaired.entries("raw", place[1])
        )

    def unmodelled_findings(self) -> Iterator[Finding]:
        """RA003: rules that nobody models and that decide about service traffic."""
        for place, reached in self.unmodelled.items():
            table, chain, _line = place
            names = listed(dict.fromkeys(service_port_of(one) for one in reached))
            policy = table == "filter" and chain.startswith(_POLICY_ENGINES)
            yield self.audit.finding(
                "RA003",
                f"whether a rule of {table} {chain} applies cannot be decided, and traffic of {names} hangs on it",
                severity=Severity.INFO if policy else None,
                possible=True,
                observed=self.audit.repaired.reference(*place).text,
                places=[place],
                subject=f"{table} {chain} {self.audit.repaired.reference(*place).text} IPv{self.audit.family}",
            )
