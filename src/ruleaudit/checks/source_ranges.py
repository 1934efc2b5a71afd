"""RA306: whether loadBalancerSourceRanges are enforced, asked with one client per prefix."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from ruleaudit.checks.context import RulePlace, is_own, service_port_of, trail_places
from ruleaudit.checks.judgement import listed
from ruleaudit.checks.observer import Observer, address_inside
from ruleaudit.compare import equal
from ruleaudit.dataplane.observe import observe
from ruleaudit.forwarding import FrontendKind, Vantage, Verdict
from ruleaudit.signs import SERVICE_CHAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ruleaudit.checks.service_chains import ServiceChains
    from ruleaudit.dataplane.packet import Packet
    from ruleaudit.dataplane.walk import Outcome
    from ruleaudit.findings import Finding
    from ruleaudit.kubeproxy.expect import ExpectedServicePort

__all__ = ["SourceRanges"]


class SourceRanges:
    """Asks whom load-balancer IPs let in (RA306; KPR 5.6)."""

    def __init__(self, observer: Observer, chains: ServiceChains) -> None:
        self.observer, self.chains, self.audit = observer, chains, observer.audit

    def source_ranges(self, expected: ExpectedServicePort) -> list[Finding]:
        """RA306: whom the load-balancer IPs let in, asked with one client per prefix that objects or rules name."""
        audit = self.audit
        vips = [frontend for frontend in expected.frontends if frontend.kind is FrontendKind.LOAD_BALANCER_IP]
        if not vips or not expected.selection.any or not self.observer.sees_sources:
            return []
        named = self.chains.named_ranges(expected)
        if not named and not expected.source_ranges:
            return []
        findings = []
        for frontend in vips:
            admitted_wrongly: list[str] = []
            refused_wrongly: list[str] = []
            places: list[RulePlace] = []
            clients: list[tuple[str, str | None]] = list(self.probes({*named, *expected.source_ranges}))
            if expected.source_ranges and frontend.address:
                clients.append(
                    (f"at {frontend.address} itself", frontend.address)
                )  # the node, where it holds the address (KPR 5.6)
            if audit.virtual is not None:
                clients.append(("on the node itself", None))  # it asks each VIP from that VIP (KPR 10.4, KUBE-IPVS-OUT-FILTER)
            for text, source in clients:
                vantage = Vantage.OUTSIDE if source is not None else Vantage.NODE
                accepted = expected.accepted(frontend, vantage, source)
                if not accepted or (source is not None and accepted[0].verdict is Verdict.DROP and expected.admits(source)):
                    continue
                packet = audit.clients.packet(vantage, frontend.protocol, frontend.address or "", frontend.port, source)
                seen = observe(audit.evaluator, packet, audit.mark)
                rejected = any(outcome.verdict is Verdict.REJECT for outcome in seen.refused)
                if any(equal(one, seen) for one in accepted) or (rejected and self.observer.stood_in is not None):
                    continue
                wants_in = any(one.verdict is Verdict.FORWARD for one in accepted)
                got_in = bool(seen.backends)
                refused = (
                    bool(seen.refused)
                    or bool(seen.lost)
                    or (bool(seen.untranslated) and any(one.verdict is Verdict.PASS for one in accepted))
                )
                # Up to 1.24 kube-proxy only marks what kubelet's rules drop: without those it passes untranslated (KPR 6.2).
                left_out = wants_in and bool(seen.untranslated) and self.left_out(packet)
                if wants_in and not got_in and (left_out or self.own_refusal([*seen.refused, *seen.lost])):
                    refused_wrongly.append(text)
                elif not wants_in and not refused:
                    admitted_wrongly.append(text)
                else:
                    continue
                places += trail_places(audit.evaluator.evaluate(packet, tracing=True)[0])
            if not admitted_wrongly and not refused_wrongly:
                continue
            parts = [f"lets in clients {listed(admitted_wrongly)}"] if admitted_wrongly else []
            parts += [f"refuses clients {listed(refused_wrongly)}"] if refused_wrongly else []
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
        ends = {self.chains.dead_end(outcome) for outcome in self.audit.evaluator.evaluate(packet, tracing=True)[0]}
        return any(
            SERVICE_CHAIN.match(entry.target)
            for chain in ends
            if chain is not None and chain.startswith("KUBE-FW-")
            for entry in self.chains.rules.entries("nat", chain)
        )

    def own_refusal(self, outcomes: Iterable[Outcome]) -> bool:
        """Whether kube-proxy's own rules refuse."""
        return any(one.final_rule is not None and is_own(one.final_rule) for one in outcomes)

    def probes(self, prefixes: set[str]) -> Iterator[tuple[str, str]]:
        """One client per prefix, outside of the narrower ones, and one outside of all."""
        parsed = {text: ip_network(text, strict=False) for text in sorted(prefixes)}
        for text, where in parsed.items():
            narrower = [other for other in parsed.values() if other.prefixlen > where.prefixlen]
            source = address_inside(text, [str(one) for one in narrower])
            yield f"in {text}", source
        outside = self.audit.clients.outside
        if not any(_contains(where, outside) for where in parsed.values()):
            yield "of no allowed range", outside


def _contains(where: object, address: str) -> bool:
    from ipaddress import IPv4Network, IPv6Network, ip_address

    assert isinstance(where, IPv4Network | IPv6Network)
    return ip_address(address) in where
