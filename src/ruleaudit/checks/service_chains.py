"""The chains of service ports: which are whose, where they lead, and what they must hold besides the way to endpoints (RA109, RA403)."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from ruleaudit.checks.context import FamilyAudit, RulePlace, service_port_of
from ruleaudit.checks.judgement import Judgement, endpoint_objects
from ruleaudit.dataplane.ruleset import A_DNAT, Entry, destination_of
from ruleaudit.findings import Finding, Severity
from ruleaudit.forwarding import FrontendKind, Vantage, Verdict, endpoint_text
from ruleaudit.kubeproxy.chains import chain_hash, endpoint_chain_hash
from ruleaudit.signs import SERVICE_CHAIN, entry_comment, entry_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ruleaudit.dataplane.walk import Outcome
    from ruleaudit.kubeproxy.expect import ExpectedServicePort

__all__ = ["ServiceChains"]


class ServiceChains:
    """kube-proxy's own chains, by the service port that their names stand for (KPR 3).

    `hints`: by code, what to do where the catalogue's advice is of another mode.
    """

    hints: ClassVar[Mapping[str, str]] = {}

    def __init__(self, audit: FamilyAudit) -> None:
        self.audit = audit
        self.rules = audit.repaired
        self._hashes: dict[int, frozenset[str]] = {}

    def unreached(self, endpoint: str, places: Sequence[RulePlace]) -> str:  # noqa: ARG002
        """What is said of an endpoint that `serving` names, with these places, and that gets nothing."""
        return "its rules are there, but no packet can reach them"

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

    def serving(self, expected: ExpectedServicePort, one: Judgement) -> Mapping[str, list[RulePlace]]:  # noqa: ARG002
        """Per endpoint (as DNAT writes it) the rules of this port's chains that jump to an endpoint chain which leads there."""
        found: dict[str, list[RulePlace]] = defaultdict(list)
        for name in self.own_hashes(expected):
            for prefix in ("KUBE-SVC-", "KUBE-SVL-", "KUBE-XLB-"):
                for entry in self.rules.entries("nat", prefix + name):
                    if entry.target.startswith("KUBE-SEP-"):
                        destination = self.destination(entry.target)
                        if destination is not None:
                            found[destination].append(("nat", prefix + name, entry.line))
        return found

    def destination(self, chain: str) -> str | None:
        """Where an endpoint chain sends packets, None when it does not translate."""
        for entry in self.rules.entries("nat", chain):
            if entry.action == A_DNAT:
                slots = entry.plan.argument_slots.get("--to-destination")
                if slots:
                    address, port, _ = destination_of(entry.values[slots[0]], "", 0)
                    return endpoint_text(address, port)
        return None

    @cached_property
    def owner_of_hash(self) -> dict[str, ExpectedServicePort]:
        """Which expected service port the sixteen characters of a chain name stand for."""
        return {one: expected for expected in self.audit.expectation.service_ports for one in self.own_hashes(expected)}

    def comment_name(self, chain: str) -> str | None:
        """The service port that a chain's own comments name."""
        for entry in self.rules.entries("nat", chain):
            comment = entry_comment(entry)
            if comment:
                return comment.split(" -> ")[0].removesuffix(" cluster IP")
        return None

    def dead_end(self, outcome: Outcome) -> str | None:
        """The service chain into which an untranslated packet was led in vain, None when it was led into none."""
        for table, chain, line in reversed(outcome.trail):
            if table != "nat":
                continue
            entry = next(one for one in self.rules.entries(table, chain) if one.line == line)
            if SERVICE_CHAIN.match(entry.target):
                return entry.target
            if SERVICE_CHAIN.match(chain):
                return chain
        return None

    def stood_for(self, expected: ExpectedServicePort, outcomes: Sequence[Outcome], missing: Sequence[str]) -> str:
        """The missing endpoint whose own chain (its name is a hash of the endpoint) leads elsewhere, "" when there is none."""
        chains = {outcome.nat_rule[1] for outcome in outcomes if outcome.nat_rule is not None}
        for text in self.name_texts(expected):
            for endpoint in missing:
                if "KUBE-SEP-" + endpoint_chain_hash(text, expected.protocol.lower(), endpoint) in chains:
                    return endpoint
        return ""

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

    def has_firewall(self, expected: ExpectedServicePort) -> bool:
        """Whether a KUBE-FW chain of this port exists."""
        return any(frontend.kind is FrontendKind.LOAD_BALANCER_IP for frontend in expected.frontends) and any(
            "KUBE-FW-" + name in self.rules.chains("nat") for name in self.own_hashes(expected)
        )

    def hairpin(self, expected: ExpectedServicePort, sound: Mapping[str, float]) -> Iterator[Finding]:
        """RA403: an endpoint that reaches itself through the Service must be masqueraded (KPR 5.7); `sound` names some that are."""
        reachable = [endpoint for endpoint in expected.selection.reachable if endpoint.text not in sound]
        if not reachable:
            return
        sound = dict(sound)
        for own in self.own_hashes(expected):
            for prefix in ("KUBE-SVC-", "KUBE-SVL-", "KUBE-XLB-"):
                ready = self.rules.prepared("nat", prefix + own)
                if ready is not None and ready.balance is not None:
                    if ready.balance.masquerading:
                        sound.update(ready.balance.backends)
                    else:
                        sound.update((leaf.endpoint, 0.0) for leaf in ready.balance.leaves if leaf.masquerading)
        reachable = [endpoint for endpoint in reachable if endpoint.text not in sound]
        if not reachable:
            return
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
                objects=endpoint_objects(expected, endpoint.text),
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
