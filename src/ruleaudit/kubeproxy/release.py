"""What each Kubernetes release's kube-proxy does, one name per behaviour.

"KPR n" in these docstrings is the project's rule reference, which docs/design.md explains; the files are those of
kubernetes/kubernetes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KNOWN_GATES", "NEWEST", "OLDEST", "DuplicateRule", "EndpointSource", "HintsMode", "Layout", "ProxyMode", "Release"]

OLDEST: Final = 16
NEWEST: Final = 36


class Layout(Enum):
    """The arrangements of iptables rules that differ in what happens to traffic, named after the first release of each (KPR 5,
    6).
    """

    V1_16 = "1.16-1.19"
    V1_20 = "1.20"
    V1_21 = "1.21"
    V1_22 = "1.22-1.23"
    V1_24 = "1.24"
    V1_25 = "1.25+"

    @property
    def minors(self) -> range:
        """The minor releases that write this layout; the last one reaches to the newest known."""
        starts = {Layout.V1_16: 16, Layout.V1_20: 20, Layout.V1_21: 21, Layout.V1_22: 22, Layout.V1_24: 24, Layout.V1_25: 25}
        ends = {
            Layout.V1_16: 20,
            Layout.V1_20: 21,
            Layout.V1_21: 22,
            Layout.V1_22: 24,
            Layout.V1_24: 25,
            Layout.V1_25: NEWEST + 1,
        }
        return range(starts[self], ends[self])


class ProxyMode(str, Enum):
    """How kube-proxy programs a node; the values are those of its setting `mode`."""

    IPTABLES = "iptables"
    IPVS = "ipvs"
    NFTABLES = "nftables"


class EndpointSource(Enum):
    """Which objects kube-proxy takes endpoints from."""

    ENDPOINTS = "Endpoints"
    SLICES = "EndpointSlice"


class DuplicateRule(Enum):
    """Which of several entries for one endpoint counts (KPR 2.2; pkg/proxy/endpointslicecache.go, addEndpoints)."""

    ADDRESS_LOCAL_WINS = "by address; the first, unless a later one is local and it is not"
    ENDPOINT_LOCAL_WINS = "by address and port; the first, unless a later one is local"
    ENDPOINT_NON_TERMINATING_WINS = "by address and port; the first, unless a later one is not terminating"


class HintsMode(Enum):
    """When topology hints count (KPR 2.4; pkg/proxy/topology.go)."""

    NONE = "never"
    ANNOTATION_ALL = (
        "annotation topology-aware-hints: Auto; every endpoint must carry hints, unready ones too; never with a Local policy"
    )
    ANNOTATION_READY = "annotation topology-aware-hints: Auto; every ready endpoint must carry hints; never with a Local policy"
    ANNOTATION = "annotation topology-aware-hints: Auto; every ready endpoint must carry hints"
    ANNOTATION_MODE = "annotation topology-aware-hints or topology-mode with any value but disabled"
    SLICES = "whenever the slices hold zone hints"
    SLICES_AND_NODES = "whenever the slices hold node or zone hints"


class _Gate(NamedTuple):
    """A feature gate: from which minor it exists, is on by default, can no longer be changed, is gone; None: never."""

    exists: int
    on: int | None
    locked: int | None
    removed: int | None = None


# KPR 1.6; pkg/features/kube_features.go.
_GATES: Final[Mapping[str, _Gate]] = MappingProxyType(
    {
        "ServiceTopology": _Gate(17, None, None, removed=22),
        "EndpointSliceProxying": _Gate(18, 19, 22),
        "ExternalPolicyForExternalIP": _Gate(18, 20, 20),
        "EndpointSliceNodeName": _Gate(20, 21, 21),
        "ServiceInternalTrafficPolicy": _Gate(21, 22, 26),
        "TopologyAwareHints": _Gate(21, 24, 33),
        "ProxyTerminatingEndpoints": _Gate(22, 26, 28),
        "LoadBalancerIPMode": _Gate(29, 30, 32),
        "ServiceTrafficDistribution": _Gate(30, 31, 33),
        "PreferSameTrafficDistribution": _Gate(33, 34, 35),
        "AllowServiceExternalIPs": _Gate(36, 36, None),
    }
)
KNOWN_GATES: Final = frozenset(_GATES)
"""The feature gates that change what is expected."""

_VERSION: Final = re.compile(r"(?<![\d.])v?1\.(\d{1,2})(?![\d])")


@dataclass(frozen=True, slots=True)
class Release:
    """kube-proxy of Kubernetes 1.`minor`, with feature gates that were set beside their defaults.

    Minors outside 16 to 36 behave as the nearest known one.
    """

    minor: int
    gates: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        return f"1.{self.minor}"

    @staticmethod
    def minor_of(text: str) -> int | None:
        """The minor in a version text ("v1.30.5", "Kubernetes v1.36.2", "kube-proxy:v1.24.0-eks-1"), None without one."""
        found = _VERSION.search(text)
        return None if found is None else int(found[1])

    def enabled(self, gate: str) -> bool:
        """Whether a feature gate is on: as set where the release lets it be set, else by default. Raises KeyError for an
        unknown gate.
        """
        known = _GATES[gate]
        if self.minor < known.exists or (known.removed is not None and self.minor >= known.removed):
            return False
        if known.locked is not None and self.minor >= known.locked:
            return True
        default = known.on is not None and self.minor >= known.on
        return self.gates.get(gate, default)

    @property
    def layout(self) -> Layout:
        """The layout of iptables rules (KPR 5, 6)."""
        for layout in reversed(Layout):
            if self.minor >= layout.minors.start:
                return layout
        return Layout.V1_16

    @property
    def unnamed_port_suffixes(self) -> tuple[str, ...]:
        """What may follow the Service's name when its port has none: ":" up to 1.18, nothing from 1.20, either in 1.19 (KPR
        1.1).
        """
        if self.minor <= 18:
            return (":",)
        return ("", ":") if self.minor == 19 else ("",)

    @property
    def endpoint_source(self) -> EndpointSource:
        """Which objects this release reads under its gates (KPR 1.6, 2.1, 2.7; Linux)."""
        return EndpointSource.SLICES if self.enabled("EndpointSliceProxying") else EndpointSource.ENDPOINTS

    @property
    def endpoint_source_can_be_set(self) -> bool:
        """Whether a gate decides between Endpoints and EndpointSlices (1.18 to 1.21)."""
        return 18 <= self.minor <= 21

    @property
    def canonical_addresses(self) -> bool:
        """Endpoint addresses are parsed and printed again before use, from 1.31 (KPR 2.1.3; pkg/proxy/endpointslicecache.go)."""
        return self.minor >= 31

    @property
    def address_family_checked(self) -> bool:
        """Addresses of another family than their slice are skipped, up to 1.32 (KPR 2.1.1)."""
        return self.minor <= 32

    @property
    def legacy_address_type(self) -> bool:
        """Slices of the old addressType IP are used, up to 1.19 (KPR 2.1.1)."""
        return self.minor <= 19

    @property
    def protocol_in_key(self) -> bool:
        """Endpoint ports match by name and protocol, from 1.17; by name alone before (KPR 1.1)."""
        return self.minor >= 17

    @property
    def endpoints_sorted_by_address(self) -> bool:
        """Endpoints are ordered by address alone in 1.16, by address and port after (KPR 2.2.1)."""
        return self.minor <= 16

    @property
    def locality_by_topology(self) -> bool:
        """An endpoint without nodeName is local by its topology entry kubernetes.io/hostname, up to 1.21 (KPR 2.1.2)."""
        return self.minor <= 21

    @property
    def locality_by_node_name(self) -> bool:
        """An endpoint is local by its nodeName: from 1.20 under gate EndpointSliceNodeName (KPR 2.1.2)."""
        return self.enabled("EndpointSliceNodeName")

    @property
    def unready_endpoints_kept(self) -> bool:
        """Endpoints that are not ready stay among the candidates, from 1.21 (KPR 2.5, 2.6)."""
        return self.minor >= 21

    @property
    def duplicate_rule(self) -> DuplicateRule:
        """KPR 2.2."""
        if self.minor <= 21:
            return DuplicateRule.ADDRESS_LOCAL_WINS
        return DuplicateRule.ENDPOINT_LOCAL_WINS if self.minor <= 35 else DuplicateRule.ENDPOINT_NON_TERMINATING_WINS

    @property
    def common_selection(self) -> bool:
        """CategorizeEndpoints decides for every mode, from 1.24 (KPR 2.3; pkg/proxy/topology.go); each mode for itself before
        (KPR 2.5, 2.6).
        """
        return self.minor >= 24

    @property
    def terminating_fallback(self) -> bool:
        """Serving, terminating endpoints stand in where no endpoint is ready (KPR 2.3.1): gate ProxyTerminatingEndpoints."""
        return self.enabled("ProxyTerminatingEndpoints")

    @property
    def has_endpoints_before_ready_test(self) -> bool:
        """1.22 takes unready endpoints for "has endpoints": empty chains, and no REJECT (KPR 2.5, T-14)."""
        return self.minor == 22

    @property
    def internal_policy(self) -> bool:
        """InternalTrafficPolicy is honoured: gate ServiceInternalTrafficPolicy, 1.21 off, 1.22 on (KPR 1.3)."""
        return self.enabled("ServiceInternalTrafficPolicy")

    @property
    def topology_keys(self) -> bool:
        """TopologyKeys are honoured: gate ServiceTopology, 1.17 to 1.21, off by default (KPR 2.6)."""
        return self.enabled("ServiceTopology")

    @property
    def hints_mode(self) -> HintsMode:
        """KPR 2.4."""
        if not self.enabled("TopologyAwareHints"):
            return HintsMode.NONE
        if self.minor <= 22:
            return HintsMode.ANNOTATION_ALL
        if self.minor == 23:
            return HintsMode.ANNOTATION_READY
        if self.minor <= 26:
            return HintsMode.ANNOTATION
        if not self.enabled("ServiceTrafficDistribution"):
            return HintsMode.ANNOTATION_MODE
        return HintsMode.SLICES_AND_NODES if self.enabled("PreferSameTrafficDistribution") else HintsMode.SLICES

    @property
    def headless_label_hides_service(self) -> bool:
        """A Service labelled service.kubernetes.io/headless is ignored, up to 1.35; only such slices from 1.36 (KPR 1.2)."""
        return self.minor <= 35

    @property
    def families_listed(self) -> bool:
        """IpFamilies and clusterIPs are read, from 1.20; clusterIP alone before (KPR 1.4)."""
        return self.minor >= 20

    @property
    def ip_mode(self) -> bool:
        """Load-balancer ingress addresses with ipMode Proxy are skipped: gate LoadBalancerIPMode (KPR 1.3)."""
        return self.enabled("LoadBalancerIPMode")

    @property
    def external_ips(self) -> bool:
        """ExternalIPs are programmed: off only in 1.36 without gate AllowServiceExternalIPs (KPR 1.3)."""
        return self.minor < 36 or self.enabled("AllowServiceExternalIPs")

    @property
    def zero_source_range_means_none(self) -> bool:
        """A source range of length zero switches the firewall off, from 1.34 (KPR 1.3)."""
        return self.minor >= 34

    @property
    def external_policy_of_cluster_ip_service(self) -> bool:
        """ExternalTrafficPolicy Local counts for type ClusterIP with external IPs, from 1.24 (KPR 1.3)."""
        return self.minor >= 24

    @property
    def external_policy_for_external_ip(self) -> bool:
        """ExternalTrafficPolicy Local counts for external IPs: from 1.20, by gate ExternalPolicyForExternalIP in 1.18 and 1.19
        (KPR 6.3).
        """
        return self.enabled("ExternalPolicyForExternalIP")

    @property
    def external_ip_policy_decides_masquerade(self) -> bool:
        """External IPs are masqueraded only under policy Cluster, from 1.18; always in 1.16 and 1.17 (KPR 6.3)."""
        return self.minor >= 18

    @property
    def drop_without_local(self) -> bool:
        """Traffic that finds no local endpoint under a Local policy is dropped in the filter table, from 1.25 (KPR 5.2)."""
        return self.minor >= 25

    @property
    def ipvs_filter_may_refuse_local_external_ips(self) -> bool:
        """Whether KUBE-IPVS-FILTER refuses external IPs under external policy Local, which it lets by from 1.30 on, and from late patches
        before (KPR 10.4, 20).
        """
        return 26 <= self.minor <= 29

    @property
    def cluster_stands_in_for_local(self) -> bool:
        """In IPVS mode all endpoints serve under a Local policy without a local one, from 1.24 (KPR 2.9; T-20)."""
        return self.minor >= 24

    @property
    def node_held_to_source_ranges(self) -> bool:
        """In IPVS mode the node's own packets are held to source ranges: up to 1.24 by nat OUTPUT, from 1.29 by chain
        KUBE-IPVS-OUT-FILTER; between these KUBE-PROXY-FIREWALL hangs in INPUT and FORWARD alone (KPR 10.1, 10.4).
        """
        return not 25 <= self.minor <= 28

    @property
    def sctp_node_ports_masqueraded(self) -> bool:
        """In IPVS mode SCTP node ports under external policy Local are masqueraded, up to 1.22 (KPR 10.3)."""
        return self.minor <= 22
