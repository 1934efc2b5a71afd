"""Service ports in IPVS mode: their virtual servers, and what besides them a service needs (RA101 to RA105, RA109, RA403).

The effects on traffic are judged and named as in iptables mode (`services`); here stands what only virtual servers and sets can tell.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import msgspec

from ruleaudit.checks.context import FamilyAudit, RulePlace, service_port_of
from ruleaudit.checks.judgement import Judgement, bare, endpoint_objects, listed
from ruleaudit.checks.observer import Observer
from ruleaudit.checks.service_chains import ServiceChains
from ruleaudit.checks.services import KIND_TEXT, MISSING_CODE, ServiceJudge
from ruleaudit.compare import DifferenceKind
from ruleaudit.dataplane.ipvs import TABLE, usable
from ruleaudit.dataplane.ruleset import A_SNAT
from ruleaudit.forwarding import Forwarding, Frontend, FrontendKind, Vantage, Verdict, endpoint_text
from ruleaudit.kubeproxy.expected_sets import set_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ruleaudit.dataplane.ipvs import VirtualTable
    from ruleaudit.dataplane.ruleset import Ruleset
    from ruleaudit.dataplane.walk import Outcome
    from ruleaudit.dumps.virtual_servers import RealServer
    from ruleaudit.findings import Finding
    from ruleaudit.kubeproxy.expect import ExpectedServicePort

__all__ = ["VirtualServerJudge", "loop_back"]

_LOCALHOST = ("127.", "::1")
_WEIGHTS_HINT = (
    "Compare the real servers of the virtual server in `ipvsadm -Ln`: kube-proxy gives each the weight 1 and masquerading (Masq), and weight 0 "
    "only to one that is leaving. Find out who changed it, then restart kube-proxy: its first sync after a start gives all real servers their weight."
)
_NODE_PORT_HINT = (
    "Look whether `ipvsadm -Ln` has a virtual server for the port at any of the node's addresses, and whether --nodeport-addresses leaves out "
    "the ones that lack it. Look at kube-proxy's log on the node for failing syncs; when it runs without errors, restart it: it makes what is "
    "missing."
)


class _VirtualObserver(Observer):
    """Asks only for what has a virtual server, and only for what the inputs can show.

    `rules_known`: rules and sets were given, so that masquerade and source ranges can be judged.
    """

    def __init__(self, audit: FamilyAudit, virtual: VirtualTable, *, rules_known: bool) -> None:
        super().__init__(audit)
        self.virtual, self.rules_known = virtual, rules_known
        self.blind = False
        self.sees_sources = rules_known

    def differing(self, expected: ExpectedServicePort) -> list[Judgement]:
        """See `Observer.differing`. Without weights, a real server that should get nothing may be one that drains (KPR 11.4)."""
        found = super().differing(expected)
        if self.virtual.listing.cut:
            for one in found:
                self._leave_out_lost(one)
            found = [one for one in found if one.differences]
        if self.virtual.listing.has_weights or expected.protocol != "TCP":
            return found
        kinds = (DifferenceKind.EXTRA_BACKEND, DifferenceKind.FORWARDED)
        for one in found:
            one.differences = [difference for difference in one.differences if difference.kind not in kinds]
        return [one for one in found if one.differences]

    def _leave_out_lost(self, one: Judgement) -> None:
        """Leave out what real servers that were cut off may explain: only one too many is wrong whatever stood there."""
        found = self.virtual.find(one.destination, one.frontend.port, one.frontend.protocol.lower())
        if found is None or found.server.whole:
            return
        kept = {
            DifferenceKind.EXTRA_BACKEND,
            DifferenceKind.FORWARDED,
            DifferenceKind.MISSING_MASQUERADE,
            DifferenceKind.EXTRA_MASQUERADE,
        }
        if found.server.declared and found.server.real_servers:
            kept.add(DifferenceKind.AFFINITY)
        one.differences = [difference for difference in one.differences if difference.kind in kept]

    def questions(self, frontend: Frontend) -> Iterator[tuple[Vantage, str]]:
        """See `Observer.questions`: what has no virtual server is told by itself; node ports do not answer on loopback (KPR 11.2)."""
        for vantage, destination in super().questions(frontend):
            if destination.startswith(_LOCALHOST):
                continue
            if self.virtual.find(destination, frontend.port, frontend.protocol.lower()) is not None:
                yield vantage, destination

    def accepted(
        self,
        expected: ExpectedServicePort,
        claims: Sequence[ExpectedServicePort],
        frontend: Frontend,
        vantage: Vantage,
        source: str | None,
    ) -> tuple[Forwarding, ...]:
        """See `Observer.accepted`."""
        if vantage is Vantage.NODE:
            source = None  # it asks each VIP from that VIP
        accepted = super().accepted(expected, claims, frontend, vantage, source)
        if not self.virtual.listing.has_schedulers:
            accepted = tuple(msgspec.structs.replace(one, affinity=None) for one in accepted)
        if self.rules_known:
            return accepted
        if any(one.verdict is Verdict.DROP for one in accepted):
            return ()
        return tuple(msgspec.structs.replace(one, masquerade=None) for one in accepted)


class _VirtualServers(ServiceChains):
    """What virtual servers and sets say of service ports, where chains say it in iptables mode."""

    hints: ClassVar[Mapping[str, str]] = {"RA303": _WEIGHTS_HINT}

    def __init__(self, audit: FamilyAudit, virtual: VirtualTable) -> None:
        super().__init__(audit)
        self.virtual = virtual

    def unreached(self, endpoint: str, places: Sequence[RulePlace]) -> str:
        """Why the real servers of an endpoint take no new connections."""
        found = [
            one
            for line in dict.fromkeys(line for _table, _name, line in places)
            if (one := self._real_servers.get((line, endpoint))) is not None
        ]
        ways = sorted({one.forwarding for one in found if one.forwarding not in (None, "Masq")})
        reasons = ["it has weight 0"] if any(one.weight == 0 for one in found) else []
        if ways:
            reasons.append(f"is not reached by masquerading, but by {' and '.join(ways)}")
        said = " and ".join(reasons)
        return "its real server takes no new connections" + (
            f": {said if said.startswith('it ') else 'it ' + said}" if said else ""
        )

    @cached_property
    def _real_servers(self) -> Mapping[tuple[int, str], RealServer]:
        return {
            (one.line, endpoint_text(one.address, one.port)): one
            for server in self.virtual.servers()
            for one in server.real_servers
        }

    def addresses(self, frontend: Frontend) -> list[str]:
        """The addresses at which a frontend must have virtual servers."""
        if frontend.address is not None:
            return [frontend.address]
        return [one for one in self.audit.node_port_addresses if not one.startswith(_LOCALHOST)]

    def own_hashes(self, expected: ExpectedServicePort) -> frozenset[str]:  # noqa: ARG002
        """No chain belongs to a service port."""
        return frozenset()

    def serving(self, expected: ExpectedServicePort, one: Judgement) -> Mapping[str, list[RulePlace]]:
        """The real servers that keep new connections away from the virtual server that was asked, by endpoint."""
        found: dict[str, list[RulePlace]] = defaultdict(list)
        service = self.virtual.find(one.destination, one.frontend.port, expected.protocol.lower())
        if service is not None:
            for server in service.server.real_servers:
                if not usable(server):
                    found[endpoint_text(server.address, server.port)].append((TABLE, service.server.name, server.line))
        return found

    def dead_end(self, outcome: Outcome) -> str | None:  # noqa: ARG002
        """No service chain leads anywhere."""
        return None

    def stood_for(self, expected: ExpectedServicePort, outcomes: Sequence[Outcome], missing: Sequence[str]) -> str:  # noqa: ARG002
        """No name says which endpoint a real server stands for."""
        return ""

    def named_ranges(self, expected: ExpectedServicePort) -> set[str]:
        """The source networks in the set of source ranges for this port's load-balancer IPs (KPR 9.1)."""
        sets = self.rules.sets
        known = sets.get(set_name("KUBE-LOAD-BALANCER-SOURCE-CIDR", self.audit.family)) if sets is not None else None
        if known is None:
            return set()
        return {
            str(network)
            for frontend in expected.frontends
            if frontend.kind is FrontendKind.LOAD_BALANCER_IP
            for network, _line in known.networks(f"{frontend.address},{expected.protocol.lower()}:{frontend.port}")
        }

    def has_firewall(self, expected: ExpectedServicePort) -> bool:
        """Whether its load-balancer IPs are held to source ranges."""
        sets = self.rules.sets
        known = sets.get(set_name("KUBE-LOAD-BALANCER-FW", self.audit.family)) if sets is not None else None
        return known is not None and any(
            f"{frontend.address},{expected.protocol.lower()}:{frontend.port}" in known
            for frontend in expected.frontends
            if frontend.kind is FrontendKind.LOAD_BALANCER_IP
        )

    def hairpin(self, expected: ExpectedServicePort, sound: Mapping[str, float]) -> Iterator[Finding]:  # noqa: ARG002
        """RA403: a local endpoint that reaches itself must be in the set KUBE-LOOP-BACK (KPR 9.3)."""
        sets = self.rules.sets
        name = set_name("KUBE-LOOP-BACK", self.audit.family)
        known = sets.get(name) if sets is not None else None
        if known is None or known.entries is None or not known.whole:
            return
        protocol = expected.protocol.lower()
        for endpoint in expected.selection.reachable:
            if not endpoint.is_local:
                continue
            entry = f"{endpoint.address},{protocol}:{endpoint.port},{endpoint.address}"
            if entry in known:
                continue
            wanted = self.audit.sets_wanted.get(name)
            asked = wanted.entries.get(entry) if wanted is not None else None
            if asked is not None and asked.optional:
                continue  # whether it is local hangs on what the inputs leave open
            yield self.audit.finding(
                "RA403",
                f"{service_port_of(expected)}: {endpoint.text} is not masqueraded when it reaches itself through the Service",
                of=expected,
                endpoint=endpoint.text,
                expected=f"the entry {entry} in set {name}",
                observed="no such entry",
                places=[("ipset", name, known.line)],
                objects=endpoint_objects(expected, endpoint.text),
            )

    def health_check(self, expected: ExpectedServicePort) -> Iterator[Finding]:
        """RA109: KPR 2.10, 10.4."""
        audit = self.audit
        if audit.expectation.release.minor < 21 or not audit.rules.has_table("filter") or self.rules.sets is None:
            return
        packet = audit.clients.packet(Vantage.OUTSIDE, "TCP", audit.clients.node_address, expected.health_check_node_port)
        _, ends = audit.evaluator.through("filter", "KUBE-NODE-PORT", packet)
        if any(verdict in (Verdict.PASS, Verdict.FORWARD) for _flow, verdict, _rule in ends):
            return
        name = set_name("KUBE-HEALTH-CHECK-NODE-PORT", audit.family)
        yield audit.finding(
            "RA109",
            f"{service_port_of(expected)}: no rule accepts its health check node port {expected.health_check_node_port}",
            of=expected,
            expected=f"{expected.health_check_node_port} in set {name}, which filter KUBE-NODE-PORT accepts",
            observed="no rule accepts it",
            places=[("filter", "KUBE-NODE-PORT", 0)],
        )


class VirtualServerJudge(ServiceJudge):
    """Judges the service ports of one family of a node in IPVS mode.

    `rules_known`: rules and sets were given, so that masquerade, source ranges and hairpin can be judged.
    """

    def __init__(self, audit: FamilyAudit, virtual: VirtualTable, *, rules_known: bool) -> None:
        self.virtual = virtual
        self.servers = _VirtualServers(audit, virtual)
        super().__init__(audit, _VirtualObserver(audit, virtual, rules_known=rules_known), self.servers)
        self.rules_known = rules_known

    def run(self) -> list[Finding]:
        """All findings of the family's services."""
        findings: list[Finding] = []
        if self.virtual.listing.whole:
            for expected in self.audit.service_ports:
                findings.extend(self.missing(expected))
        findings.extend(super().run())
        if not self.virtual.listing.whole:
            findings = [one for one in findings if one.code != "RA306" or not self._cut(one.frontend)]
        return findings

    def _cut(self, frontend: Frontend | None) -> bool:
        """Whether real servers of a frontend's virtual server may have been cut off, so that all that it refuses may be for that."""
        addresses = [] if frontend is None else self.servers.addresses(frontend)
        found = [self.virtual.find(one, frontend.port, frontend.protocol.lower()) for one in addresses if frontend is not None]
        return any(one is None or not one.server.whole for one in found)

    def missing(self, expected: ExpectedServicePort) -> Iterator[Finding]:
        """RA101 to RA105: frontends without a virtual server, which stands whether or not there are endpoints (KPR 11.1)."""
        audit = self.audit
        protocol = expected.protocol.lower()
        absent: dict[Frontend, list[str]] = {}
        for frontend in expected.frontends:
            addresses = self.servers.addresses(frontend)
            lacking = [one for one in addresses if self.virtual.find(one, frontend.port, protocol) is None]
            if lacking:
                absent[frontend] = lacking
        if not absent:
            return
        head: list[RulePlace] = [(TABLE, "", self.virtual.listing.line)]
        whole = all(len(absent.get(one, ())) == len(self.servers.addresses(one)) for one in expected.frontends)
        if whole:
            yield audit.finding(
                "RA101",
                f"{service_port_of(expected)} has no virtual server: none for {listed(str(one) for one in absent)}",
                of=expected,
                expected="a virtual server for " + listed(str(one) for one in absent),
                observed="none",
                places=head,
            )
            return
        for frontend, lacking in absent.items():
            at = "" if frontend.address is not None else " at " + listed(lacking)
            yield audit.finding(
                MISSING_CODE[frontend.kind],
                f"{service_port_of(expected)}: {KIND_TEXT[frontend.kind]} {bare(frontend)} has no virtual server{at}",
                of=expected,
                frontend=frontend,
                expected=f"a virtual server for {frontend}{at}",
                observed="none",
                hint=_NODE_PORT_HINT if frontend.kind is FrontendKind.NODE_PORT else "",
                places=head,
            )


def loop_back(audit: FamilyAudit) -> Iterator[Finding]:
    """RA403 for the node as a whole: what the set KUBE-LOOP-BACK holds must be masqueraded when it reaches itself (KPR 9.3, 10.3)."""
    sets = audit.rules.sets
    name = set_name("KUBE-LOOP-BACK", audit.family)
    known = sets.get(name) if sets is not None else None
    if known is None or any(hook.chain == "POSTROUTING" for hook in audit.missing_hooks):
        return
    chain = "KUBE-POSTROUTING"
    for expected in audit.service_ports:
        protocol = expected.protocol.lower()
        for endpoint in expected.selection.reachable:
            entry = f"{endpoint.address},{protocol}:{endpoint.port},{endpoint.address}"
            if not endpoint.is_local or entry not in known:
                continue
            packet = audit.clients.packet(Vantage.POD, expected.protocol, endpoint.address, endpoint.port, endpoint.address)
            _, ends = audit.evaluator.through("nat", chain, packet)
            if not any(rule is not None and _masquerades(audit.repaired, rule) for _flow, _verdict, rule in ends):
                yield audit.finding(
                    "RA403",
                    f"{chain} does not masquerade endpoints that reach themselves through a Service, "
                    f"in IPv{audit.family} none of the {len(known.entries or ())} in set {name}, first {endpoint.text}",
                    expected=f"a rule of nat {chain} that masquerades what is in set {name}",
                    observed="none",
                    places=[("nat", chain, 0), *(("nat", chain, one.line) for one in audit.rules.entries("nat", chain))],
                    subject=f"{chain} {name}",
                )
            return


def _masquerades(rules: Ruleset, place: RulePlace) -> bool:
    """Whether the rule at a place replaces the source."""
    table, chain, line = place
    return any(one.line == line and one.action == A_SNAT for one in rules.entries(table, chain))
