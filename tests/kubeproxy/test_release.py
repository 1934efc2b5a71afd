from __future__ import annotations

import pytest

from ruleaudit.kubeproxy.release import NEWEST, OLDEST, DuplicateRule, EndpointSource, HintsMode, Layout, Release


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("Kubernetes v1.36.2", 36),
        ("v1.30.5", 30),
        ("kube-proxy:v1.24.17-eks-8cb36c9", 24),
        ("kube-proxy-1.20", 20),
        ("1.9.0", 9),
        ("kube-proxy", None),
        ("v2.1.36", None),
        ("registry.example:5000/kube-proxy:latest", None),
    ],
)
def test_minor_of(text: str, minor: int | None) -> None:
    assert Release.minor_of(text) == minor


# One row for each property: the minors at which its value changes, from 1.16 on (KPR 1.1, 1.3, 1.6, 2.1 to 2.4).
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("layout", {16: Layout.V1_16, 20: Layout.V1_20, 21: Layout.V1_21, 22: Layout.V1_22, 24: Layout.V1_24, 25: Layout.V1_25}),
        ("unnamed_port_suffixes", {16: (":",), 19: ("", ":"), 20: ("",)}),
        ("endpoint_source", {16: EndpointSource.ENDPOINTS, 19: EndpointSource.SLICES}),
        ("endpoint_source_can_be_set", {16: False, 18: True, 22: False}),
        ("canonical_addresses", {16: False, 31: True}),
        ("address_family_checked", {16: True, 33: False}),
        ("legacy_address_type", {16: True, 20: False}),
        ("protocol_in_key", {16: False, 17: True}),
        ("endpoints_sorted_by_address", {16: True, 17: False}),
        ("locality_by_topology", {16: True, 22: False}),
        ("locality_by_node_name", {16: False, 21: True}),
        ("unready_endpoints_kept", {16: False, 21: True}),
        (
            "duplicate_rule",
            {
                16: DuplicateRule.ADDRESS_LOCAL_WINS,
                22: DuplicateRule.ENDPOINT_LOCAL_WINS,
                36: DuplicateRule.ENDPOINT_NON_TERMINATING_WINS,
            },
        ),
        ("common_selection", {16: False, 24: True}),
        ("terminating_fallback", {16: False, 26: True}),
        ("has_endpoints_before_ready_test", {16: False, 22: True, 23: False}),
        ("internal_policy", {16: False, 22: True}),
        ("topology_keys", {16: False}),
        (
            "hints_mode",
            {
                16: HintsMode.NONE,
                24: HintsMode.ANNOTATION,
                27: HintsMode.ANNOTATION_MODE,
                31: HintsMode.SLICES,
                34: HintsMode.SLICES_AND_NODES,
            },
        ),
        ("headless_label_hides_service", {16: True, 36: False}),
        ("families_listed", {16: False, 20: True}),
        ("ip_mode", {16: False, 30: True}),
        ("external_ips", {16: True}),
        ("zero_source_range_means_none", {16: False, 34: True}),
        ("external_policy_of_cluster_ip_service", {16: False, 24: True}),
        ("external_policy_for_external_ip", {16: False, 20: True}),
        ("drop_without_local", {16: False, 25: True}),
    ],
)
def test_behaviour_by_release(name: str, changes: dict[int, object]) -> None:
    expected: object = None
    for minor in range(OLDEST, NEWEST + 1):
        expected = changes.get(minor, expected)
        assert getattr(Release(minor), name) == expected, f"1.{minor}"


@pytest.mark.parametrize(
    ("minor", "gate", "on", "name", "value"),
    [
        pytest.param(20, "EndpointSliceProxying", False, "endpoint_source", EndpointSource.ENDPOINTS, id="Endpoints in 1.20"),
        pytest.param(18, "EndpointSliceProxying", True, "endpoint_source", EndpointSource.SLICES, id="slices in 1.18"),
        pytest.param(17, "EndpointSliceProxying", True, "endpoint_source", EndpointSource.ENDPOINTS, id="not before it exists"),
        pytest.param(22, "EndpointSliceProxying", False, "endpoint_source", EndpointSource.SLICES, id="not once it is locked"),
        pytest.param(21, "ServiceInternalTrafficPolicy", True, "internal_policy", True, id="internal policy in 1.21"),
        pytest.param(25, "ServiceInternalTrafficPolicy", False, "internal_policy", False, id="no internal policy in 1.25"),
        pytest.param(26, "ServiceInternalTrafficPolicy", False, "internal_policy", True, id="internal policy locked in 1.26"),
        pytest.param(25, "ProxyTerminatingEndpoints", True, "terminating_fallback", True, id="fallback in 1.25"),
        pytest.param(27, "ProxyTerminatingEndpoints", False, "terminating_fallback", False, id="no fallback in 1.27"),
        pytest.param(28, "ProxyTerminatingEndpoints", False, "terminating_fallback", True, id="fallback locked in 1.28"),
        pytest.param(21, "ServiceTopology", True, "topology_keys", True, id="topology keys in 1.21"),
        pytest.param(22, "ServiceTopology", True, "topology_keys", False, id="topology keys removed in 1.22"),
        pytest.param(22, "TopologyAwareHints", True, "hints_mode", HintsMode.ANNOTATION_ALL, id="hints in 1.22"),
        pytest.param(23, "TopologyAwareHints", True, "hints_mode", HintsMode.ANNOTATION_READY, id="hints in 1.23"),
        pytest.param(30, "TopologyAwareHints", False, "hints_mode", HintsMode.NONE, id="no hints in 1.30"),
        pytest.param(
            30, "ServiceTrafficDistribution", True, "hints_mode", HintsMode.SLICES, id="hints without annotation in 1.30"
        ),
        pytest.param(32, "ServiceTrafficDistribution", False, "hints_mode", HintsMode.ANNOTATION_MODE, id="annotation in 1.32"),
        pytest.param(
            33, "PreferSameTrafficDistribution", True, "hints_mode", HintsMode.SLICES_AND_NODES, id="node hints in 1.33"
        ),
        pytest.param(34, "PreferSameTrafficDistribution", False, "hints_mode", HintsMode.SLICES, id="no node hints in 1.34"),
        pytest.param(29, "LoadBalancerIPMode", True, "ip_mode", True, id="ipMode in 1.29"),
        pytest.param(19, "ExternalPolicyForExternalIP", True, "external_policy_for_external_ip", True, id="external IPs in 1.19"),
        pytest.param(36, "AllowServiceExternalIPs", False, "external_ips", False, id="no external IPs in 1.36"),
    ],
)
def test_feature_gates(minor: int, gate: str, *, on: bool, name: str, value: object) -> None:
    assert getattr(Release(minor, {gate: on}), name) == value


def test_a_gate_that_nobody_knows_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        Release(30).enabled("NoSuchGate")


def test_layouts_cover_every_release_once() -> None:
    assert [minor for layout in Layout for minor in layout.minors] == list(range(OLDEST, NEWEST + 1))
