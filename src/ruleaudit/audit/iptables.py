"""The audit of one family of a node in iptables mode."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ruleaudit.addresses import canonical_address, parse_network
from ruleaudit.audit.coverage import unsettled
from ruleaudit.audit.inputs import note
from ruleaudit.audit.node import clients_of, own_addresses
from ruleaudit.checks import alone, leftovers, nodewide, objects
from ruleaudit.checks.context import FamilyAudit
from ruleaudit.checks.other_node import other_node
from ruleaudit.checks.services import ServiceJudge
from ruleaudit.dataplane.packet import Host
from ruleaudit.findings import Finding, ProxySummary, Severity
from ruleaudit.forwarding import Vantage
from ruleaudit.kubeproxy.expect import Expectation, expect
from ruleaudit.kubeproxy.release import NEWEST, Release
from ruleaudit.kubeproxy.settings import Detection, GivenSettings, LocalDetection, ProxySettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ruleaudit.audit.opened import OpenNode
    from ruleaudit.cluster import Cluster
    from ruleaudit.dataplane.ruleset import Ruleset
    from ruleaudit.dumps.rules import Table
    from ruleaudit.signs import Signs

__all__ = ["OpenFamily", "Summary", "audit_family", "collapsed", "open_family", "releases_of", "settled"]

DEFAULT_MARK = 0x4000
_LOCALHOST = ip_address("127.0.0.1")


@dataclass
class Summary:
    """What an audit has looked at, counted over the families."""

    services: set[tuple[str, str]] = field(default_factory=set)
    frontends: int = 0
    endpoints: int = 0
    releases: list[Release] = field(default_factory=list)
    detections: dict[int, Detection] = field(default_factory=dict)
    mark: int | None = None
    node_ports: tuple[str, ...] = ()
    inferred: list[str] = field(default_factory=list)
    audits: list[FamilyAudit] = field(default_factory=list)
    other_node: str | None = None
    """The node whose rules these are, where they are not those of the node that was named."""

    def count(self, audit: FamilyAudit, sign: Signs, inferred: list[str], frontends: int, *, endpoints: bool = True) -> None:
        """Count one family in: so many `frontends` were asked; `endpoints`: what leads to endpoints was given."""
        expectation = audit.expectation
        self.services.update((one.name.namespace, one.name.name) for one in expectation.service_ports)
        self.frontends += frontends
        if endpoints:
            self.endpoints += sum(len(one.candidates.endpoints) for one in expectation.service_ports)
        self.releases.append(expectation.release)
        self.detections[audit.family] = expectation.local_detection
        self.mark = audit.mark
        self.node_ports = tuple(dict.fromkeys((*self.node_ports, *(sign.nodeport_addresses or ()))))
        self.inferred.extend(inferred)
        self.audits.append(audit)

    def proxy(self, settings: ProxySettings) -> ProxySummary:
        """What is known of kube-proxy."""
        if not self.audits:
            return ProxySummary(mode=settings.mode)
        known = [one for one in self.detections.values() if isinstance(one, LocalDetection)]
        return ProxySummary(
            mode=self.audits[0].expectation.mode.value,
            layout=self.releases[0].layout.value if self.releases else None,
            cluster_cidr=tuple(one.value for one in known if one.mode in ("ClusterCIDR", "NodeCIDR")),
            local_detection=known[0].mode if known else None,
            masquerade_mark=f"{self.mark:#x}" if self.mark is not None else None,
            nodeport_addresses=self.node_ports,
            inferred=tuple(dict.fromkeys(self.inferred)),
        )


@dataclass
class OpenFamily:
    """One family made ready to be judged: under the newest of the `releases` that can have written its rules.

    `faults`: what is wrong with the masquerade path; `inferred`: the settings that were read off the rules.
    """

    audit: FamilyAudit
    faults: list[str]
    releases: list[Release]
    inferred: list[str]


def open_family(family: int, node: OpenNode) -> OpenFamily:
    """One family of a node: its settings, what the objects ask of it, its clients, its rules with node-wide faults put right."""
    given, sign, cluster, name = node.proxy, node.signs[family], node.cluster, node.name
    settings, inferred = settled(family, given, sign, cluster, name)
    mark = (1 << given.masquerade_bit) if "masquerade_bit" in given.given else sign.mark or DEFAULT_MARK
    if "masquerade_bit" not in given.given:
        inferred.append("masquerade_mark")
    releases = releases_of(given, node.signs)
    if given.minor is None:
        inferred.append("layout")
    expectation = expect(
        cluster, node=name or "", family=family, settings=settings, release=releases[0], known=node.inputs.expectations
    )
    audit, faults = _family_audit(
        family, cluster, node.tables, node.rulesets[family], sign, settings, expectation, name, mark, node.inputs.given
    )
    return OpenFamily(audit, faults, releases, inferred)


def audit_family(family: int, node: OpenNode, summary: Summary) -> Iterator[Finding]:
    """Every finding of one family; `summary` counts what was looked at."""
    opened = open_family(family, node)
    family_audit, faults, releases, inferred = opened.audit, opened.faults, opened.releases, opened.inferred
    cluster, name, sign, settings = node.cluster, node.name, node.signs[family], family_audit.settings
    judge = ServiceJudge(family_audit)
    if not cluster.services:
        yield from nodewide.hooks(family_audit)
        yield from nodewide.masquerade(family_audit, judge, faults)
        yield from nodewide.dispatching(family_audit)
        yield from alone.self_contradictions(family_audit, judge)
        yield from leftovers.chains(family_audit, judge)
        summary.count(family_audit, sign, inferred, judge.frontends)
        return
    findings = judge.run()
    if len(releases) > 1 and judge.judged:
        family_audit, judge, findings = _best_release(family_audit, judge, findings, releases, name, settings)
    expectation = family_audit.expectation
    elsewhere = other_node(family_audit, judge, summary.other_node) if judge.judged else None
    if elsewhere is not None:
        summary.other_node = elsewhere.node
        yield elsewhere.finding
        findings = [
            replace(one, cause=elsewhere.finding.fingerprint) if one.service in elsewhere.services and one.cause is None else one
            for one in findings
        ]
    leader = nodewide.empty_dispatch(family_audit)
    if leader is not None:
        yield leader
        # Nothing is dispatched, so no finding about one service says anything more; what other software's rules do still stands.
        findings = [one for one in findings if one.code.startswith("RA6")]
    yield from nodewide.hooks(family_audit)
    yield from nodewide.masquerade(family_audit, judge, faults)
    yield from nodewide.dispatching(family_audit)
    yield from nodewide.local_detection(family_audit)
    yield from collapsed(family_audit, findings)
    yield from leftovers.stale_frontends(family_audit, judge)
    yield from leftovers.chains(family_audit, judge)
    yield from objects.duplicate_frontends(family_audit)
    yield from unsettled(expectation, judge.passed_over, named=name is not None)
    if "local_detection" in inferred:
        detection = settings.local_detection[family]
        if detection == "unset":
            yield note(
                f"detection {family}",
                f"how kube-proxy tells local pods in IPv{family} cannot be seen: masquerade is not checked where it matters",
                "give --kube-proxy-config",
            )
    summary.count(family_audit, sign, inferred, judge.frontends)


def collapsed(audit: FamilyAudit, findings: list[Finding]) -> Iterator[Finding]:
    """When most service ports are missing in the same way, one finding leads and the others follow it (incidents 7)."""
    total = sum(1 for expected in audit.expectation.service_ports if expected.selection.any)
    for code in ("RA101", "RA103"):
        group = [one for one in findings if one.code == code]
        lacking = len({(one.service, one.port) for one in group})
        wanted = total if code == "RA101" else sum(1 for e in audit.expectation.service_ports if e.node_port and e.selection.any)
        if lacking >= 10 and lacking * 10 >= wanted * 6:
            leader = audit.finding(
                code,
                f"{lacking} of {wanted} service ports {'are not programmed' if code == 'RA101' else 'lack their node port'} "
                f"in IPv{audit.family}: most likely one cause, first {group[0].service}",
                hint=group[0].hint,
                places=[("nat", "KUBE-SERVICES" if code == "RA101" else "KUBE-NODEPORTS", 0)],
                subject=f"most IPv{audit.family}",
            )
            yield leader
            findings = [
                replace(one, cause=leader.fingerprint) if one.code == code and one.cause is None else one for one in findings
            ]
    yield from findings


def settled(
    family: int, given: ProxySettings, sign: Signs, cluster: Cluster, name: str | None
) -> tuple[ProxySettings, list[str]]:
    """The settings of one family: given ones, else what the rules show, else unset; and which were inferred."""
    inferred: list[str] = []
    settings = given
    detection: Detection = given.local_detection[family]
    if "local_detection" not in given.given or detection == "unset":
        inferred += ["local_detection", "cluster_cidr"]
        detection = "unset" if sign.detects is None and sign.local_match is None else None
        if sign.local_match is not None:
            flag, value = sign.local_match
            if flag == "-i":
                detection = (
                    LocalDetection("InterfaceNamePrefix", value.removesuffix("+"))
                    if value.endswith("+")
                    else LocalDetection("BridgeInterface", value)
                )
            else:
                node = cluster.nodes.get(name or "")
                own = node is not None and any(
                    (parsed := parse_network(text, family)) is not None and str(parsed) == value
                    for text in (*node.spec.pod_cidrs, node.spec.pod_cidr or "")
                )
                detection = LocalDetection("NodeCIDR" if own else "ClusterCIDR", value)
        elif sign.masquerade_all and sign.detects is not True:
            detection = None
        settings = settings.with_detection(family, detection)
    if "masquerade_all" not in given.given and sign.masquerade_all:
        inferred.append("masquerade_all")
        settings = replace(settings, masquerade_all=True)
    if "nodeport_addresses" not in given.given:
        inferred.append("nodeport_addresses")
    return settings, inferred


def releases_of(given: ProxySettings, signs: dict[int, Signs]) -> list[Release]:
    """The releases that may have written the rules, the newest first, one for each behaviour that differs."""
    if given.minor is not None:
        return [given.release(min(given.minor, NEWEST))]
    served = [sign for sign in signs.values() if sign.served]
    oldest = max(sign.oldest for sign in served)
    newest = min(sign.newest for sign in served)
    if oldest > newest:
        # The families disagree (one was written by another release): each is judged by its own layout's newest release.
        oldest, newest = served[0].oldest, served[0].newest
    found: dict[tuple[object, ...], Release] = {}
    for minor in range(newest, oldest - 1, -1):
        release = given.release(minor)
        found.setdefault(_behaviour(release), release)
    return list(found.values())


def _behaviour(release: Release) -> tuple[object, ...]:
    properties = sorted(name for name, value in vars(Release).items() if isinstance(value, property))
    return tuple(str(getattr(release, name)) for name in properties)


def _best_release(
    audit: FamilyAudit,
    judge: ServiceJudge,
    findings: list[Finding],
    releases: Sequence[Release],
    name: str | None,
    settings: ProxySettings,
) -> tuple[FamilyAudit, ServiceJudge, list[Finding]]:
    """Of the releases that can have written the rules, the one under which the fewest services are at fault; the newest of equals.

    Stale rules count as well, or a release that passes Services over would win by looking at less.
    """
    best = (_at_fault(audit, judge, findings), audit, judge, findings)
    for release in releases[1:]:
        other = expect(audit.cluster, node=name or "", family=audit.family, settings=settings, release=release)
        if not _disagree(audit.expectation, other, judge):
            continue
        candidate = replace(audit, expectation=other)
        candidate.__dict__["evaluator"] = audit.evaluator
        again = ServiceJudge(candidate)
        result = again.run()
        count = _at_fault(candidate, again, result)
        if count < best[0]:
            best = (count, candidate, again, result)
    return best[1:]


def _at_fault(audit: FamilyAudit, judge: ServiceJudge, findings: Iterable[Finding]) -> int:
    """How many services and stale frontends the rules are wrong about; what other software's rules do is not held against a release."""
    services = {one.service for one in findings if one.severity is not Severity.INFO and not one.code.startswith("RA6")}
    return len(services) + sum(1 for one in leftovers.stale_frontends(audit, judge) if one.severity is Severity.ERROR)


def _disagree(one: Expectation, other: Expectation, judge: ServiceJudge) -> bool:
    """Whether another release asks something else of a service port that differs now."""
    ports = {(p.name, p.protocol): p for p in other.service_ports}
    if len(ports) != len(one.service_ports):
        return True
    for port in one.service_ports:
        if id(port) not in judge.judged:
            continue
        same = ports.get((port.name, port.protocol))
        if same is None or same.frontends != port.frontends or same.source_ranges != port.source_ranges:
            return True
        if [tuple(e.text for e in s.cluster + s.local) for s in same.selections] != [
            tuple(e.text for e in s.cluster + s.local) for s in port.selections
        ]:
            return True
        if (same.internal_local, same.external_local, same.selection.any) != (
            port.internal_local,
            port.external_local,
            port.selection.any,
        ):
            return True
        if one.release.layout is not other.release.layout:
            return True
    return False


def _family_audit(
    family: int,
    cluster: Cluster,
    tables: Sequence[Table],
    rules: Ruleset,
    sign: Signs,
    settings: ProxySettings,
    expectation: Expectation,
    name: str | None,
    mark: int,
    given: GivenSettings | None,
) -> tuple[FamilyAudit, list[str]]:
    node_object = cluster.nodes.get(name or "")
    tails = [text for text in sign.nodeport_addresses or () if canonical_address(text, family)]
    own = own_addresses(family, node_object, given)
    everywhere = [*own, *(text for text in tails if text not in own and not text.startswith("127."))]
    clients = clients_of(family, rules, cluster, node_object, expectation, everywhere)
    host = Host(frozenset({*everywhere, clients.node_address}))
    oldest = expectation.release.minor if given is not None and given.minor is not None else sign.oldest
    lost = nodewide.missing_hooks(rules, sign, oldest)
    packet = clients.packet(Vantage.OUTSIDE, "TCP", clients.node_address, 9)
    repaired, faults = nodewide.repair(family, tables, rules, lost, mark, packet)
    audit = FamilyAudit(
        family=family,
        cluster=cluster,
        tables=tables,
        rules=rules,
        repaired=repaired,
        host=host,
        signs=sign,
        settings=settings,
        expectation=expectation,
        clients=clients,
        mark=mark,
        node=name,
        node_object=node_object,
        node_port_addresses=_node_port_addresses(family, settings, sign, everywhere, tails, clients.node_address, expectation),
        missing_hooks=lost,
    )
    return audit, faults


def _node_port_addresses(
    family: int,
    settings: ProxySettings,
    sign: Signs,
    own: Sequence[str],
    tails: Sequence[str],
    fallback: str,
    expectation: Expectation,
) -> tuple[str, ...]:
    """The addresses at which node ports are judged: those that the settings, or else the rules, serve (KPR 1.5, 4.4)."""
    wanted: list[str] = []
    cidrs = settings.nodeport_addresses if "nodeport_addresses" in settings.given else None
    if cidrs:
        for text in cidrs:
            if text == "primary":
                wanted += list(own[:1])
            elif (where := parse_network(text, family)) is not None:
                wanted += [one for one in own if ip_address(one) in where]
        if not any(text == "primary" or parse_network(text, family) is not None for text in cidrs):
            wanted = list(own)
    elif tails and sign.nodeport_addresses:
        wanted = [one for one in tails if not one.startswith("127.")]
    else:
        wanted = list(own) or [fallback]
    every_local = not tails
    on_localhost = sign.localhost_nodeports
    if (
        on_localhost is None
    ):  # the rules that would tell are not there: as the settings have it, all local addresses where they name none
        networks = [parse_network(text, family) for text in cidrs or ()]
        on_localhost = not cidrs or any(one is not None and _LOCALHOST in one for one in networks)
    if (
        family == 4
        and every_local
        and on_localhost
        and settings.localhost_nodeports
        and expectation.release.minor >= 20
        and wanted
    ):
        wanted.append(str(_LOCALHOST))
    return tuple(dict.fromkeys(wanted))
