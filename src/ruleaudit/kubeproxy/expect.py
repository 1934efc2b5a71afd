"""What the objects ask of one node: for each frontend and vantage point, what kube-proxy is to do with a connection.

kube-proxy's own decision procedure in iptables mode (KPR 1, 2, 5, 6; pkg/proxy/serviceport.go and
pkg/proxy/iptables/proxier.go) and in IPVS mode (KPR 2.9, 9 to 11; pkg/proxy/ipvs/proxier.go), which knows objects, node, settings
and release, and nothing of rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from ruleaudit.addresses import canonical_address, parse_network
from ruleaudit.forwarding import Forwarding, Frontend, FrontendKind, Vantage, Verdict
from ruleaudit.kubeproxy.endpoints import (
    HEADLESS_LABEL,
    PROXY_NAME_LABEL,
    Candidates,
    Endpoint,
    Policy,
    Selection,
    candidates_from_endpoints,
    candidates_from_slices,
    select,
)
from ruleaudit.kubeproxy.release import EndpointSource, HintsMode, ProxyMode, Release
from ruleaudit.kubeproxy.settings import LocalDetection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ruleaudit.addresses import Network
    from ruleaudit.cluster import Cluster
    from ruleaudit.cluster.objects import Node, Service, ServicePort
    from ruleaudit.kubeproxy.settings import Detection, ProxySettings

__all__ = [
    "LARGE_CLUSTER_ENDPOINTS",
    "Expectation",
    "Expectations",
    "ExpectedServicePort",
    "FrontendKey",
    "ServicePortName",
    "expect",
]

LARGE_CLUSTER_ENDPOINTS: Final = 1000
"""Above so many endpoints kube-proxy leaves out comments and cleans up late (KPR 7.1; largeClusterEndpointsThreshold)."""

DEFAULT_AFFINITY_SECONDS: Final = 10800
"""The API's default of sessionAffinityConfig.clientIP.timeoutSeconds."""

_FAMILY_NAMES: Final = {4: "IPv4", 6: "IPv6"}
_LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}
_ZONE_LABEL: Final = "topology.kubernetes.io/zone"
_HINTS_ANNOTATION: Final = "service.kubernetes.io/topology-aware-hints"
_MODE_ANNOTATION: Final = "service.kubernetes.io/topology-mode"
_MAX_SELECTIONS: Final = 16
_MAX_SITUATIONS: Final = 8

_REJECT: Final = Forwarding(Verdict.REJECT)
_DROP: Final = Forwarding(Verdict.DROP)
_PASS: Final = Forwarding(Verdict.PASS)
_LOCAL: Final = Forwarding(Verdict.LOCAL)

FrontendKey = tuple[str | None, int, str]
"""(address, port, protocol) of a frontend; the address is None for node ports."""


class ServicePortName(NamedTuple):
    """The identity of a service port. `port` is the port's name, "" for a port without one."""

    namespace: str
    name: str
    port: str

    def __str__(self) -> str:
        """As releases from 1.20 on write it."""
        return f"{self.namespace}/{self.name}:{self.port}" if self.port else f"{self.namespace}/{self.name}"

    def texts(self, release: Release) -> tuple[str, ...]:
        """The ways in which `release` may write it, in comments and into chain names, the likelier first (KPR 1.1, T-33)."""
        if self.port:
            return (str(self),)
        return tuple(f"{self.namespace}/{self.name}{suffix}" for suffix in release.unnamed_port_suffixes)

    def text(self, release: Release) -> str:
        """The first of `texts`."""
        return self.texts(release)[0]


@dataclass(frozen=True, slots=True)
class _Terms:
    """What becomes of a connection depends on this beside the service port itself, and on nothing else: in most clusters it is equal for all
    nodes. `endpoints_known`: whether any object gives endpoints.
    """

    release: Release
    minor: int
    mode: ProxyMode
    detection: Detection
    masquerade_all: bool
    endpoints_known: bool
    external_policy_for_external_ip: bool


@dataclass(frozen=True, slots=True)
class _Situation:
    """What is the same for all service ports of one expectation."""

    node: str
    family: int
    settings: ProxySettings
    release: Release
    mode: ProxyMode
    detection: Detection
    terms: _Terms
    node_ip: str | None
    zone: str | None
    zone_known: bool
    labels: Mapping[str, str]
    sources: tuple[EndpointSource, ...]
    hints: HintsMode
    topology_keys: bool
    internal_policy: bool


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedServicePort:
    """One port of one Service, in one family, as kube-proxy on the node is to program it.

    `frontends` are in kube-proxy's order: cluster IP, external IPs, load-balancer IPs, node port. `affinity`: seconds, None
    without. `source_ranges`: the usable ones of the family, as networks in text; () means no firewall. `node_allowed`: whether
    the node's own address is inside one (None: the address is not known). `candidates`: all endpoints of the port, for
    explaining. `selections`: what kube-proxy may have chosen, likeliest first; more than one only where the inputs leave it
    open: duplicates in several slices (T-12), Endpoints or EndpointSlices, a node whose zone is not known. `other_candidates`:
    those of the other kind of object where kube-proxy may read either.
    """

    service: Service
    name: ServicePortName
    protocol: str
    family: int
    port: int
    node_port: int
    frontends: tuple[Frontend, ...]
    affinity: int | None
    source_ranges: tuple[str, ...]
    node_allowed: bool | None
    health_check_node_port: int
    internal_local: bool
    external_local: bool
    uses_cluster: bool
    uses_local: bool
    externally_accessible: bool
    candidates: Candidates
    selections: tuple[Selection, ...]
    other_candidates: tuple[Candidates, ...]
    _terms: _Terms = field(repr=False)
    _made: dict[tuple[int, bool, bool | None], Forwarding] = field(default_factory=dict, repr=False)
    agreed: dict[object, object] = field(default_factory=dict, repr=False)
    """For who holds what is observed against this: what agreed with it, by what it was asked for; nothing else about a node may count there."""
    _backends: dict[tuple[int, bool], Mapping[str, float]] = field(default_factory=dict, repr=False)
    """The shares of all clients, whether they are masqueraded or not: who compares them once need not do it again."""

    @property
    def selection(self) -> Selection:
        """The likeliest of `selections`."""
        return self.selections[0]

    @property
    def ambiguous(self) -> frozenset[str]:
        """The endpoints of which slices hold entries that differ, so that either may count (KPR 2.2)."""
        return self.candidates.ambiguous

    def forwarding(self, frontend: Frontend, vantage: Vantage, source: str | None = None) -> Forwarding | None:
        """What is to happen to a connection to `frontend` from `vantage`; the first of `accepted`. None: not judged."""
        accepted = self.accepted(frontend, vantage, source)
        return accepted[0] if accepted else None

    def accepted(self, frontend: Frontend, vantage: Vantage, source: str | None = None) -> tuple[Forwarding, ...]:
        """Everything that a healthy node may do with a connection to `frontend` from `vantage`, the likeliest first.

        Several only where kube-proxy's outcome is open (see `selections`), or where it rests on another program: up to 1.24
        kube-proxy marks what is to be dropped, and kubelet's rules drop it. Empty: not judged, because the rules for this
        vantage point depend on what objects and settings do not say. `source` is the client's address, canonical; None takes
        the client as admitted by source ranges, and in IPVS mode the node as one that asks a VIP from that VIP, as it does there.
        """
        if not self._terms.endpoints_known:
            return ()
        found: list[Forwarding] = []
        for number, selection in enumerate(self.selections):
            if self._terms.mode is ProxyMode.IPVS:
                outcomes = self._ipvs(number, selection, frontend, vantage, source)
            elif frontend.kind is FrontendKind.CLUSTER_IP:
                outcomes = self._cluster_ip(number, selection, vantage)
            else:
                outcomes = self._external(number, selection, frontend, vantage, source)
            if len(self.selections) == 1 and len(outcomes) == 1:
                return outcomes
            for outcome in outcomes:
                if outcome not in found:
                    found.append(outcome)
        return tuple(found)

    def admits(self, source: str) -> bool | None:
        """Whether `source` passes the source ranges of the load-balancer IPs (KPR 5.6). None: it hangs on the node's address."""
        if not self.source_ranges:
            return True
        client = ip_address(source)
        smallest = 1 if self._terms.mode is ProxyMode.IPVS else 0  # A set does not hold a network of length zero (KPR 9.2).
        if any(
            client in parsed
            for text in self.source_ranges
            if (parsed := parse_network(text, self.family)) is not None and parsed.prefixlen >= smallest
        ):
            return True
        vips = {frontend.address for frontend in self.frontends if frontend.kind is FrontendKind.LOAD_BALANCER_IP}
        return self.node_allowed if source in vips else False

    def _forward(self, number: int, *, local: bool, masquerade: bool | None) -> Forwarding:
        key = (number, local, masquerade)
        made = self._made.get(key)
        if made is None:
            backends = self._backends.get((number, local))
            if backends is None:
                selection = self.selections[number]
                backends = self._backends[number, local] = _shares(selection.local if local else selection.cluster)
            made = self._made[key] = Forwarding(Verdict.FORWARD, backends, masquerade, self.affinity)
        return made

    def _cluster_ip(self, number: int, selection: Selection, vantage: Vantage) -> tuple[Forwarding, ...]:
        """KPR 2.8, 5.1 to 5.3; before 1.24 6.2, 6.3."""
        if not selection.any:
            return (_REJECT,)
        if self.internal_local and self._terms.release.common_selection:
            if selection.local:
                return (self._forward(number, local=True, masquerade=self._cluster_ip_masquerade(vantage)),)
            return self._without_local(_PASS)
        if not selection.cluster:
            return (_PASS,)  # 1.22: an empty chain (T-14).
        return (self._forward(number, local=False, masquerade=self._cluster_ip_masquerade(vantage)),)

    def _cluster_ip_masquerade(self, vantage: Vantage) -> bool | None:
        """KPR 5.3: what does not come from local pods is masqueraded."""
        detection = self._terms.detection
        if self._terms.masquerade_all:
            return True
        if detection is None or vantage is Vantage.POD:
            return False
        return None if detection == "unset" else True

    def _without_local(self, otherwise: Forwarding) -> tuple[Forwarding, ...]:
        """What becomes of traffic under a Local policy without local endpoints; `otherwise`: when a mark is not acted upon."""
        return (_DROP,) if self._terms.release.drop_without_local else (_DROP, otherwise)

    def _external(
        self, number: int, selection: Selection, frontend: Frontend, vantage: Vantage, source: str | None
    ) -> tuple[Forwarding, ...]:
        """KPR 2.8, 5.1, 5.2, 5.5, 5.6; before 1.24 6.2, 6.3."""
        kind, minor = frontend.kind, self._terms.minor
        if not selection.any:
            if vantage is Vantage.NODE and kind is not FrontendKind.NODE_PORT:
                return ()  # KUBE-EXTERNAL-SERVICES is not reached from OUTPUT (KPR 4.2).
            if kind is FrontendKind.EXTERNAL_IP and minor <= 19:
                return (_REJECT, _PASS)  # Only patches of 1.18 and 1.19 reach it from FORWARD (KPR 4.2).
            return (_REJECT,)
        if kind is FrontendKind.EXTERNAL_IP and minor <= 20 and vantage is not Vantage.OUTSIDE:
            return ()  # Whether bridged or addressed to the node decides, which the objects do not tell (KPR 6.3).
        if kind is FrontendKind.LOAD_BALANCER_IP and source is not None and self._firewalled(frontend):
            admitted = self.admits(source)
            if admitted is None:
                return ()
            if not admitted:
                return self._without_local(_PASS)
        otherwise = _LOCAL if kind is FrontendKind.NODE_PORT else _PASS
        local_policy = self.external_local and (
            kind is not FrontendKind.EXTERNAL_IP or self._terms.external_policy_for_external_ip
        )
        if not local_policy:
            if selection.cluster:
                return (self._forward(number, local=False, masquerade=self._external_masquerade(kind, vantage)),)
            return (_DROP, _PASS) if kind is FrontendKind.LOAD_BALANCER_IP else (otherwise,)  # 1.22: an empty chain (T-14).
        if vantage is Vantage.POD and self._terms.detection == "unset":
            as_pod, as_outside = (
                self._external_local(number, selection, who, otherwise) for who in (Vantage.POD, Vantage.OUTSIDE)
            )
            return as_pod if as_pod == as_outside else ()
        if vantage is Vantage.POD and self._terms.detection is None:
            vantage = Vantage.OUTSIDE
        return self._external_local(number, selection, vantage, otherwise)

    def _external_local(
        self, number: int, selection: Selection, vantage: Vantage, otherwise: Forwarding
    ) -> tuple[Forwarding, ...]:
        """External policy Local: pods and the node itself take the short cut to all endpoints (KPR 5.5; T-15, T-16)."""
        from_node = vantage is Vantage.NODE
        if vantage is not Vantage.OUTSIDE and selection.cluster:
            return (self._forward(number, local=False, masquerade=from_node),)
        if selection.local:
            return (self._forward(number, local=True, masquerade=from_node),)
        return self._without_local(otherwise)

    def _external_masquerade(self, kind: FrontendKind, vantage: Vantage) -> bool | None:
        """External policy Cluster: everything is masqueraded, but local pods' traffic to external IPs in 1.21 to 1.23 (KPR 5.5,
        6.2, 6.3).
        """
        if kind is not FrontendKind.EXTERNAL_IP or not 21 <= self._terms.minor <= 23:
            return True
        detection = self._terms.detection
        if detection is None or vantage is not Vantage.POD:
            return True
        return None if detection == "unset" else False

    def real_servers(self, frontend: Frontend, selection: Selection) -> tuple[Endpoint, ...]:
        """The endpoints that serve `frontend` in IPVS mode under `selection`, one of `selections` (KPR 2.9, 11.1).

        External IPs follow the external policy as the iptables mode of the release has it (1.18 and 1.19: by a gate).
        """
        release = self._terms.release
        # Up to 1.23 the internal policy has had its say by now, for the whole service port (KPR 2.5).
        internal = self.internal_local and release.common_selection
        if not (internal if frontend.kind is FrontendKind.CLUSTER_IP else self.keeps_source(frontend)):
            return selection.cluster
        return selection.local or (selection.cluster if release.cluster_stands_in_for_local else ())

    def keeps_source(self, frontend: Frontend) -> bool:
        """Whether `frontend`, which is no cluster IP, follows an external policy Local (KPR 1.3, 6.3)."""
        return self.external_local and (
            frontend.kind is not FrontendKind.EXTERNAL_IP or self._terms.external_policy_for_external_ip
        )

    def _ipvs(
        self, number: int, selection: Selection, frontend: Frontend, vantage: Vantage, source: str | None
    ) -> tuple[Forwarding, ...]:
        """IPVS mode. A virtual server without real servers refuses (ip_vs_leave, net/netfilter/ipvs/ip_vs_core.c in Linux); what
        the source ranges drop does not get that far (KPR 9, 10, 11).
        """
        servers = self.real_servers(frontend, selection)
        if servers:
            masquerade = self._ipvs_masquerade(frontend, vantage, source)
            key = (number, servers is selection.local, masquerade)
            outcome = self._made.get(key)
            if outcome is None:
                backends = self._backends.get(key[:2])
                if backends is None:
                    # A virtual server holds each real server once, whatever an Endpoints object does.
                    backends = MappingProxyType(
                        dict.fromkeys([one.text for one in servers], 1 / len({one.text for one in servers}))
                    )
                    self._backends[key[:2]] = backends
                outcome = self._made[key] = Forwarding(Verdict.FORWARD, backends, masquerade, self.affinity)
        else:
            outcome = _REJECT
        release = self._terms.release
        if not self.source_ranges or not self._is_load_balancer(frontend):
            refused = (
                frontend.kind is FrontendKind.EXTERNAL_IP
                and vantage is not Vantage.NODE
                and release.ipvs_filter_may_refuse_local_external_ips
                and self.keeps_source(frontend)
            )
            return (outcome, _REJECT) if refused and outcome is not _REJECT else (outcome,)
        if vantage is Vantage.NODE:
            if not release.node_held_to_source_ranges:
                return (outcome,)
            admitted = self.node_allowed if release.drop_without_local else self.admits(source or frontend.address or "")
        elif source is None:
            return (outcome,)
        else:
            admitted = self.admits(source)
        if admitted is None:
            return ()
        if admitted:
            return (outcome,)
        return (_DROP,) if release.drop_without_local else (_DROP, outcome)

    def _is_load_balancer(self, frontend: Frontend) -> bool:
        """Whether the address is one of the service port's load-balancer IPs: a set does not know why an address is in it."""
        return frontend.address is not None and any(
            other.kind is FrontendKind.LOAD_BALANCER_IP and other.address == frontend.address for other in self.frontends
        )

    def _ipvs_masquerade(self, frontend: Frontend, vantage: Vantage, source: str | None) -> bool | None:
        """KPR 10.2, 10.3."""
        terms = self._terms
        if frontend.kind is not FrontendKind.CLUSTER_IP:
            if frontend.kind is FrontendKind.NODE_PORT and self.protocol == "SCTP" and terms.release.sctp_node_ports_masqueraded:
                return True
            return not self.keeps_source(frontend)
        if terms.masquerade_all:
            return True
        if vantage is Vantage.POD:
            return False
        # Without local detection the rule asks for VIPs as sources, which only the node's own packets have.
        without = vantage is Vantage.NODE and source in (None, frontend.address)
        if terms.detection is None:
            return without
        return True if without or terms.detection != "unset" else None

    def _firewalled(self, frontend: Frontend) -> bool:
        """Whether the source ranges guard this load-balancer IP; an equal external IP comes first, unguarded (KPR 5.1)."""
        return bool(self.source_ranges) and not any(
            other.kind is FrontendKind.EXTERNAL_IP and other.address == frontend.address for other in self.frontends
        )


@dataclass(frozen=True, slots=True, eq=False)
class Expectation:
    """What the objects ask of one node in one family.

    `by_frontend`: the service ports that claim each frontend; more than one is a conflict of the objects (RA703), and which one
    wins is random. `ignored`: the Services that kube-proxy passes over, with the reason. `total_candidates`: endpoints before
    the choice, summed. `endpoint_sources`: the kinds of object that endpoints are taken from; none: neither was given, and
    nothing can be said of endpoints. `local_detection`: as resolved for this node. `notes`: what the inputs leave open, and
    what was taken instead.
    """

    node: str
    family: int
    settings: ProxySettings
    release: Release
    service_ports: tuple[ExpectedServicePort, ...]
    by_frontend: Mapping[FrontendKey, Sequence[ExpectedServicePort]]
    ignored: Mapping[tuple[str, str], str]
    total_candidates: int
    endpoint_sources: tuple[EndpointSource, ...]
    local_detection: Detection
    notes: tuple[str, ...]
    mode: ProxyMode = ProxyMode.IPTABLES
    _kept: _Elsewhere | None = field(default=None, repr=False)

    @property
    def endpoint_addresses(self) -> frozenset[str]:
        """The addresses of all endpoints of the objects before the choice, which do not depend on the node."""
        kept = self._kept
        if kept is not None and kept.addresses is not None:
            return kept.addresses
        found = frozenset(endpoint.address for expected in self.service_ports for endpoint in expected.candidates.endpoints)
        if kept is not None:
            kept.addresses = found
        return found

    @property
    def large_cluster(self) -> bool:
        """Whether kube-proxy is in large-cluster mode (KPR 7.1)."""
        return self.total_candidates > LARGE_CLUSTER_ENDPOINTS


def expect(
    cluster: Cluster,
    *,
    node: str,
    family: int,
    settings: ProxySettings,
    release: Release,
    mode: ProxyMode = ProxyMode.IPTABLES,
    known: Expectations | None = None,
) -> Expectation:
    """What the objects of `cluster` ask of the node that kube-proxy knows as `node`, in `family` (4 or 6).

    `release` says which kube-proxy it is, with its feature gates; `mode` how it programs the node, iptables or IPVS. `known`
    keeps what was asked of the same objects for other nodes. Nothing raises: what the objects do not say is left open, and in
    `notes`.
    """
    notes: list[str] = []
    situation = _situation(cluster, node, family, settings, release, mode, notes)
    service_ports: list[ExpectedServicePort] = []
    by_frontend: dict[FrontendKey, list[ExpectedServicePort]] = {}
    ignored: dict[tuple[str, str], str] = {}
    total = 0
    kept = None
    if known is not None:
        kept = known.of(situation)
        situation = replace(situation, terms=known.terms(situation.terms))

    def take(expected: ExpectedServicePort) -> None:
        service_ports.append(expected)
        for frontend in expected.frontends:
            claims = by_frontend.setdefault((frontend.address, frontend.port, frontend.protocol), [])
            if not claims or claims[-1] is not expected:
                claims.append(expected)

    for key, alike in kept.alike(cluster, situation) if kept is not None else dict.fromkeys(cluster.services).items():
        ports = None if alike is None else alike.of_node(situation)
        if alike is not None and ports is not None:
            total += alike.candidates
            for expected in ports:
                take(expected)
            continue
        service = cluster.services[key]
        cluster_ip, reason = _cluster_ip_of(service, family, release)
        if cluster_ip is None:
            ignored[key] = reason
            continue
        common = _common(service, cluster_ip, situation)
        for port in service.spec.ports:
            expected = (
                _service_port(cluster, service, port, common, situation)
                if kept is None
                else kept.service_port(cluster, service, port, common, situation)
            )
            total += len(expected.candidates.endpoints)
            take(expected)
    return Expectation(
        node,
        family,
        settings,
        release,
        tuple(service_ports),
        by_frontend,
        ignored,
        total,
        situation.sources,
        situation.detection,
        tuple(notes),
        mode,
        kept,
    )


def _situation(
    cluster: Cluster, name: str, family: int, settings: ProxySettings, release: Release, mode: ProxyMode, notes: list[str]
) -> _Situation:
    node = cluster.nodes.get(name)
    if node is None:
        notes.append(f"no Node object {name!r}: its zone and addresses are not known")
    labels = MappingProxyType(dict((node.metadata.labels if node is not None else None) or {}))
    detection = _resolved_detection(settings.local_detection.get(family, "unset"), node, family)
    sources = _sources(cluster, settings, release, notes)
    return _Situation(
        node=name,
        family=family,
        settings=settings,
        release=release,
        mode=mode,
        detection=detection,
        terms=_Terms(
            release,
            release.minor,
            mode,
            detection,
            settings.masquerade_all,
            bool(sources),
            release.external_policy_for_external_ip,
        ),
        node_ip=_node_ip(node, settings, family),
        zone=labels.get(_ZONE_LABEL),
        zone_known=node is not None,
        labels=labels,
        sources=sources,
        hints=release.hints_mode,
        topology_keys=release.topology_keys,
        internal_policy=release.internal_policy,
    )


def _resolved_detection(detection: Detection, node: Node | None, family: int) -> Detection:
    """NodeCIDR with the Node's own pod CIDR; a Node without one of the family leaves detection unimplemented (KPR 4.7)."""
    if not isinstance(detection, LocalDetection) or detection.mode != "NodeCIDR" or detection.value:
        return detection
    if node is None:
        return "unset"
    for text in node.spec.pod_cidrs or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ()):
        parsed = parse_network(text, family)
        if parsed is not None:
            return LocalDetection(detection.mode, str(parsed))
    return None


def _node_ip(node: Node | None, settings: ProxySettings, family: int) -> str | None:
    """The node's primary address of the family, the loopback address when the Node has none; None when nothing is known (KPR
    1.5).
    """
    listed = [
        entry.address
        for kind in ("InternalIP", "ExternalIP")
        for entry in (node.status.addresses if node else ())
        if entry.type == kind
    ]
    for text in (*listed, *settings.node_addresses):
        address = canonical_address(text, family)
        if address is not None:
            return address
    return None if node is None else _LOOPBACK[family]


def _sources(cluster: Cluster, settings: ProxySettings, release: Release, notes: list[str]) -> tuple[EndpointSource, ...]:
    """Which objects to take endpoints from: what the release reads, as far as it was given, or what was given."""
    given = [source for source in EndpointSource if cluster.has_kind(source.value)]
    wanted = release.endpoint_source
    if not given:
        notes.append("neither EndpointSlices nor Endpoints were given: nothing can be said of endpoints")
        return ()
    if wanted not in given:
        notes.append(
            f"kube-proxy {release} reads {wanted.value} objects, which were not given: {given[0].value} objects stand for them"
        )
        return (given[0],)
    if release.endpoint_source_can_be_set and "feature_gates" not in settings.given and len(given) > 1:
        notes.append(
            f"kube-proxy {release} reads Endpoints or EndpointSlices, by its settings, which were not given: either is accepted"
        )
        return (wanted, *(source for source in given if source is not wanted))
    return (wanted,)


def _cluster_ip_of(service: Service, family: int, release: Release) -> tuple[str | None, str]:
    """The cluster IP in the family, canonical, or None and why kube-proxy passes the Service over (KPR 1.2, 1.4; T-28)."""
    labels = service.metadata.labels
    spec = service.spec
    if labels is not None:
        if PROXY_NAME_LABEL in labels:
            return None, f"the label {PROXY_NAME_LABEL} leaves it to another service proxy"
        if HEADLESS_LABEL in labels and release.headless_label_hides_service:
            return None, f"kube-proxy up to 1.35 does not watch Services with the label {HEADLESS_LABEL}"
    if spec.type == "ExternalName":
        return None, "it is of type ExternalName"
    if not spec.cluster_ip or spec.cluster_ip == "None":
        return None, "it is headless: it has no cluster IP"
    text: str | None = spec.cluster_ip
    if spec.ip_families and release.families_listed:
        ips = spec.cluster_ips
        text = next(
            (ips[at] for at, name in enumerate(spec.ip_families) if name == _FAMILY_NAMES[family] and at < len(ips)), None
        )
    address = None if text is None else canonical_address(text, family)
    if address is None:
        return None, f"it has no {_FAMILY_NAMES[family]} cluster IP"
    return address, ""


@dataclass(frozen=True, slots=True)
class _Common:
    """What all ports of one Service share in one family."""

    cluster_ip: str
    external_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    source_ranges: tuple[str, ...]
    node_allowed: bool | None
    affinity: int | None
    internal_local: bool
    external_local: bool
    health_check_node_port: int
    hints_annotated: bool


def _common(service: Service, cluster_ip: str, situation: _Situation) -> _Common:
    """KPR 1.3."""
    spec, family, release = service.spec, situation.family, situation.release
    external_ips = _addresses(spec.external_ips, family) if spec.external_ips and release.external_ips else ()
    ingress = service.status.load_balancer.ingress
    load_balancer_ips = (
        _addresses((entry.ip for entry in ingress if entry.ip and not (entry.ip_mode == "Proxy" and release.ip_mode)), family)
        if ingress
        else ()
    )
    ranges = _ranges(spec.load_balancer_source_ranges, family, release) if spec.load_balancer_source_ranges else ()
    external_local = spec.external_traffic_policy == "Local" and (
        spec.type in ("LoadBalancer", "NodePort")
        or (release.external_policy_of_cluster_ip_service and bool(spec.external_ips) and spec.type in (None, "", "ClusterIP"))
    )
    affinity = None
    if spec.session_affinity == "ClientIP":
        config = spec.session_affinity_config
        seconds = config.client_ip.timeout_seconds if config is not None and config.client_ip is not None else None
        affinity = DEFAULT_AFFINITY_SECONDS if seconds is None else seconds
    node_allowed: bool | None = False
    if ranges:
        node_allowed = None if situation.node_ip is None else any(ip_address(situation.node_ip) in parsed for parsed in ranges)
    return _Common(
        cluster_ip=cluster_ip,
        external_ips=external_ips,
        load_balancer_ips=load_balancer_ips,
        source_ranges=tuple(str(parsed) for parsed in ranges),
        node_allowed=node_allowed,
        affinity=affinity,
        internal_local=situation.internal_policy and spec.internal_traffic_policy == "Local",
        external_local=external_local,
        health_check_node_port=(spec.health_check_node_port or 0) if spec.type == "LoadBalancer" and external_local else 0,
        hints_annotated=_hints_annotated(service, situation.hints),
    )


def _addresses(texts: Iterable[str], family: int) -> tuple[str, ...]:
    """The addresses of the family, canonical, each once, in order."""
    found: dict[str, None] = {}
    for text in texts:
        address = canonical_address(text, family)
        if address is not None:
            found[address] = None
    return tuple(found)


def _ranges(texts: Iterable[str], family: int, release: Release) -> tuple[Network, ...]:
    found = tuple(parsed for text in texts if (parsed := parse_network(text.strip(), family)) is not None)
    if release.zero_source_range_means_none and any(parsed.prefixlen == 0 for parsed in found):
        return ()
    return found


def _hints_annotated(service: Service, mode: HintsMode) -> bool:
    """Whether the Service's annotations ask for hints, for the modes that look at them (KPR 2.4)."""
    hints = service.metadata.annotation(_HINTS_ANNOTATION)
    if mode is HintsMode.ANNOTATION_MODE:
        value = hints if hints is not None else service.metadata.annotation(_MODE_ANNOTATION)
        return bool(value) and value not in ("disabled", "Disabled")
    return hints in ("Auto", "auto")


def _service_port(
    cluster: Cluster, service: Service, port: ServicePort, common: _Common, situation: _Situation
) -> ExpectedServicePort:
    family, release = situation.family, situation.release
    namespace, name = service.metadata.key
    protocol = port.protocol or "TCP"
    node_port = port.node_port or 0
    frontends = [Frontend(FrontendKind.CLUSTER_IP, common.cluster_ip, port.port, protocol, family)]
    frontends += [Frontend(FrontendKind.EXTERNAL_IP, address, port.port, protocol, family) for address in common.external_ips]
    frontends += [
        Frontend(FrontendKind.LOAD_BALANCER_IP, address, port.port, protocol, family) for address in common.load_balancer_ips
    ]
    if node_port:
        frontends.append(Frontend(FrontendKind.NODE_PORT, None, node_port, protocol, family))
    accessible = len(frontends) > 1
    policy = Policy(
        internal_local=common.internal_local,
        external_local=common.external_local,
        uses_cluster=not common.internal_local or accessible,
        uses_local=common.internal_local or (common.external_local and accessible),
        node=situation.node,
        zone=situation.zone,
        hints_annotated=common.hints_annotated,
        topology_keys=service.spec.topology_keys if situation.topology_keys else (),
        labels=situation.labels,
    )
    held = [_candidates(cluster, source, (namespace, name), port.name or "", protocol, situation) for source in situation.sources]
    candidates = held[0] if held else Candidates(())
    chosen_by = _select_for_ipvs if situation.mode is ProxyMode.IPVS else select
    selections = [chosen_by(candidates.endpoints, policy, release)]
    if len(held) > 1 or candidates.duplicates or not situation.zone_known:
        for found in held:
            for endpoints in found.outcomes():
                for asked in _policies(policy, endpoints, situation):
                    chosen = chosen_by(endpoints, asked, release)
                    if len(selections) < _MAX_SELECTIONS and chosen not in selections:
                        selections.append(chosen)
    return ExpectedServicePort(
        service=service,
        name=ServicePortName(namespace, name, port.name or ""),
        protocol=protocol,
        family=family,
        port=port.port,
        node_port=node_port,
        frontends=tuple(frontends),
        affinity=common.affinity,
        source_ranges=common.source_ranges,
        node_allowed=common.node_allowed,
        health_check_node_port=common.health_check_node_port,
        internal_local=common.internal_local,
        external_local=common.external_local,
        uses_cluster=policy.uses_cluster,
        uses_local=policy.uses_local,
        externally_accessible=accessible,
        candidates=candidates,
        selections=tuple(selections),
        other_candidates=tuple(held[1:]),
        _terms=situation.terms,
    )


class Expectations:
    """What was asked of the same objects for other nodes: a service port none of whose endpoints is on the node, and that no hint
    gives to it, is expected alike of every such node.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[tuple[object, ...], _Elsewhere]] = []
        self._placing: dict[tuple[str, str], _Placing] = {}
        self._terms: list[_Terms] = []

    def terms(self, wanted: _Terms) -> _Terms:
        """The same terms; where other nodes have equal ones, those, so that identity tells."""
        for other in self._terms:
            if other == wanted:
                return other
        self._terms = [*self._terms[-_MAX_SITUATIONS + 1 :], wanted]
        return wanted

    def of(self, situation: _Situation) -> _Elsewhere:
        """What is known for nodes in the same situation, as far as endpoints are chosen by it."""
        key = (situation.family, situation.release, situation.mode, situation.sources)
        for other, kept in self._kept:
            if other == key:
                return kept
        kept = _Elsewhere(self._placing)
        self._kept = [*self._kept[-_MAX_SITUATIONS + 1 :], (key, kept)]
        return kept


class _Placing(NamedTuple):
    """What the objects of a Service say of nodes: those that endpoints are on, and whether hints name zones, or nodes."""

    nodes: frozenset[str]
    zones: bool
    hinted_nodes: bool


class _Alike(NamedTuple):
    """A Service of which all nodes are to have the same but `nodes`, which have endpoints of it. `candidates`: endpoints of its `ports`, summed."""

    nodes: frozenset[str]
    ports: tuple[ExpectedServicePort, ...]
    candidates: int
    hints_annotated: bool

    def of_node(self, situation: _Situation) -> Sequence[ExpectedServicePort] | None:
        """The service ports as a node in this situation is to have them; None where they have to be asked for."""
        if situation.node not in self.nodes:
            return self.ports
        if not situation.release.canonical_addresses or situation.sources != (EndpointSource.SLICES,):
            return None
        found = []
        for port in self.ports:
            candidates = port.candidates.of_node(situation.node)
            if candidates is None:
                return None
            policy = Policy(
                port.internal_local,
                port.external_local,
                port.uses_cluster,
                port.uses_local,
                situation.node,
                situation.zone,
                self.hints_annotated,
                labels=situation.labels,
            )
            chosen_by = _select_for_ipvs if situation.mode is ProxyMode.IPVS else select
            selection = chosen_by(candidates.endpoints, policy, situation.release)
            found.append(replace(port, candidates=candidates, selections=(selection,), _made={}, _backends={}, agreed={}))
        return found


@dataclass(slots=True)
class _Elsewhere:
    """The service ports as nodes are to have them on which none of their endpoints is."""

    placing: dict[tuple[str, str], _Placing]
    ports: dict[tuple[object, ...], tuple[_Common, ExpectedServicePort]] = field(default_factory=dict)
    terms: _Terms | None = None
    """Those under which `services` holds."""
    services: dict[tuple[str, str], _Alike | None] = field(default_factory=dict)
    addresses: frozenset[str] | None = None
    """See `Expectation.endpoint_addresses`."""

    def alike(self, cluster: Cluster, situation: _Situation) -> Iterable[tuple[tuple[str, str], _Alike | None]]:
        """Every Service, with what nodes in this situation have of it unless they have its endpoints; None where more counts than that.

        Worked out for the first node that asks; for others under other terms, each Service is asked about anew.
        """
        if self.terms is None:
            self.terms = situation.terms
            elsewhere = replace(situation, node="")
            self.services = {key: self._alike(cluster, service, elsewhere) for key, service in cluster.services.items()}
        return self.services.items() if self.terms is situation.terms else dict.fromkeys(cluster.services).items()

    def _alike(self, cluster: Cluster, service: Service, elsewhere: _Situation) -> _Alike | None:
        """`elsewhere`: the situation of a node without any endpoint."""
        cluster_ip, _ = _cluster_ip_of(service, elsewhere.family, elsewhere.release)
        # Source ranges are asked for the node's address, topology keys for its labels, hints for its zone or its name.
        if cluster_ip is None or service.spec.load_balancer_source_ranges or service.spec.topology_keys:
            return None
        key = service.metadata.key
        placing = self.placing[key] = _placing(cluster, key)
        if placing.zones or placing.hinted_nodes:
            return None
        common = _common(service, cluster_ip, elsewhere)
        ports = tuple([self.service_port(cluster, service, port, common, elsewhere) for port in service.spec.ports])
        return _Alike(placing.nodes, ports, sum(len(one.candidates.endpoints) for one in ports), common.hints_annotated)

    def service_port(
        self, cluster: Cluster, service: Service, port: ServicePort, common: _Common, situation: _Situation
    ) -> ExpectedServicePort:
        """As `_service_port` has it, taken from what is known where that is the same."""
        key = service.metadata.key
        placing = self.placing.get(key)
        if placing is None:
            placing = self.placing[key] = _placing(cluster, key)
        by_labels = situation.topology_keys and service.spec.topology_keys
        if situation.node in placing.nodes or placing.hinted_nodes or by_labels:
            return _service_port(cluster, service, port, common, situation)
        zone = (situation.zone_known, situation.zone) if placing.zones else None
        name = (key, port.name or "", port.protocol or "TCP", port.port, port.node_port or 0, zone)
        held = self.ports.get(name)
        if held is not None and held[0] == common:
            known = held[1]
            return known if known._terms is situation.terms else replace(known, _terms=situation.terms, agreed={})
        expected = _service_port(cluster, service, port, common, situation)
        self.ports.setdefault(name, (common, expected))
        return expected


def _placing(cluster: Cluster, key: tuple[str, str]) -> _Placing:
    nodes: set[str | None] = set()
    zones = hinted_nodes = False
    for one in cluster.slices_of(*key):
        for endpoint in one.endpoints:
            nodes.add(endpoint.node_name)
            if endpoint.hints is not None:
                zones = zones or bool(endpoint.hints.for_zones)
                hinted_nodes = hinted_nodes or bool(endpoint.hints.for_nodes)
            for topology in (endpoint.topology, endpoint.deprecated_topology):
                if topology:
                    nodes.update(topology.values())
    given = cluster.endpoints.get(key)
    for subset in given.subsets if given is not None else ():
        nodes.update(entry.node_name for entry in (*subset.addresses, *subset.not_ready_addresses))
    return _Placing(frozenset(node for node in nodes if node is not None), zones, hinted_nodes)


def _select_for_ipvs(endpoints: tuple[Endpoint, ...], policy: Policy, release: Release) -> Selection:
    """`select`; up to 1.20 topology keys narrow the cluster IP's real servers under external policy Local too, since each virtual
    server chooses for itself (pkg/proxy/ipvs/proxier.go, syncEndpoint).
    """
    chosen = select(endpoints, policy, release)
    if release.minor > 20 or not (policy.external_local and policy.topology_keys):
        return chosen
    return chosen._replace(cluster=select(endpoints, policy._replace(external_local=False), release).cluster)


def _candidates(
    cluster: Cluster, source: EndpointSource, key: tuple[str, str], port_name: str, protocol: str, situation: _Situation
) -> Candidates:
    release = situation.release
    if source is EndpointSource.SLICES:
        return candidates_from_slices(
            cluster.slices_of(*key), port_name, protocol, family=situation.family, node=situation.node, release=release
        )
    return candidates_from_endpoints(
        cluster.endpoints.get(key),
        port_name,
        protocol,
        family=situation.family,
        node=situation.node,
        release=release,
        with_unready=release.endpoint_source is not source,
    )


def _policies(policy: Policy, endpoints: Sequence[Endpoint], situation: _Situation) -> Iterable[Policy]:
    """`policy`, and where the node's zone is not known and hints count, the same for each zone that it may be in."""
    yield policy
    if situation.zone_known or situation.hints is HintsMode.NONE:
        return
    for zone in sorted({zone for endpoint in endpoints for zone in endpoint.zone_hints}):
        yield policy._replace(zone=zone)


def _shares(endpoints: Sequence[Endpoint]) -> Mapping[str, float]:
    """Equal shares; an endpoint that an Endpoints object holds twice gets two."""
    share = 1 / len(endpoints)
    shares = dict.fromkeys([endpoint.text for endpoint in endpoints], share)
    if len(shares) != len(endpoints):
        shares = dict.fromkeys(shares, 0.0)
        for endpoint in endpoints:
            shares[endpoint.text] += share
    return MappingProxyType(shares)
