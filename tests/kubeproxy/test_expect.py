"""The expectation, row by row of KPR 2.8, 5 and 6."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ruleaudit.cluster import Cluster, load
from ruleaudit.forwarding import Forwarding, FrontendKind, Vantage, Verdict
from ruleaudit.kubeproxy.expect import Expectation, ExpectedServicePort, ServicePortName, expect
from ruleaudit.kubeproxy.release import EndpointSource, Release
from ruleaudit.kubeproxy.settings import LocalDetection, ProxySettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ruleaudit.kubeproxy.settings import Detection

NODE = "node-a"
POD_CIDR = LocalDetection("ClusterCIDR", "10.244.0.0/16")
Object = dict[str, object]

NODES: list[Object] = [
    {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": f"zone-{name[-1]}"}},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    }
    for name, address in ((NODE, "192.168.0.1"), ("node-b", "192.168.0.2"))
]


def endpoint(address: str, node: str | None, *, zones: Sequence[str] = (), **conditions: bool) -> Object:
    return {
        "addresses": [address],
        "nodeName": node,
        "conditions": conditions,
        "hints": {"forZones": [{"name": zone} for zone in zones]},
    }


HERE = endpoint("10.244.1.1", NODE)
THERE = endpoint("10.244.2.1", "node-b")
LEAVING = endpoint("10.244.1.2", NODE, ready=False, serving=True, terminating=True)
UNREADY = endpoint("10.244.1.3", NODE, ready=False)
NAMES = {"10.244.1.1:8080": "here", "10.244.2.1:8080": "there", "10.244.1.2:8080": "leaving", "10.244.1.3:8080": "unready"}


def service(**spec: object) -> Object:
    """A Service d/web with port http; `labels` and `annotations` go into its metadata, `ingress` into its status."""
    metadata: Object = {"name": "web", "namespace": "d"}
    metadata.update({name: spec.pop(name) for name in ("labels", "annotations") if name in spec})
    ingress = spec.pop("ingress", [])
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": spec.pop("nodePort", None)}]
    held = {"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": ports, **spec}
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": metadata,
        "spec": held,
        "status": {"loadBalancer": {"ingress": ingress}},
    }


def slice_of(*endpoints: Object, name: str = "web-1", address_type: str = "IPv4", port: str = "http") -> Object:
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "namespace": "d", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": address_type,
        "endpoints": list(endpoints),
        "ports": [{"name": port, "port": 8080, "protocol": "TCP"}],
    }


def cluster_of(*objects: Object, nodes: Sequence[Object] = NODES) -> Cluster:
    return load([("objects.json", json.dumps({"kind": "List", "apiVersion": "v1", "items": [*objects, *nodes]}).encode())])


def settings_of(detection: Detection = POD_CIDR, **values: object) -> ProxySettings:
    settings = ProxySettings(**values)  # type: ignore[arg-type]  # the tests name the fields
    return settings.with_detection(4, detection)


def expectation_of(
    *objects: Object,
    minor: int = 36,
    family: int = 4,
    settings: ProxySettings | None = None,
    gates: Mapping[str, bool] | None = None,
    nodes: Sequence[Object] = NODES,
) -> Expectation:
    cluster = cluster_of(*objects, nodes=nodes)
    return expect(cluster, node=NODE, family=family, settings=settings or settings_of(), release=Release(minor, gates or {}))


def shown(outcomes: Sequence[Forwarding]) -> str:
    """Forwardings as the tables below write them: "here+there masq | DROP"; "-" for what is not judged."""
    texts = []
    for outcome in outcomes:
        if outcome.verdict is not Verdict.FORWARD:
            texts.append(outcome.verdict.name)
            continue
        shares = set(outcome.backends.values())
        assert shares == {1 / len(outcome.backends)}
        masquerade = {True: " masq", False: "", None: " masq?"}[outcome.masquerade]
        texts.append("+".join(NAMES[text] for text in outcome.backends) + masquerade)
    return " | ".join(texts) or "-"


KINDS = {
    "cluster": FrontendKind.CLUSTER_IP,
    "external": FrontendKind.EXTERNAL_IP,
    "lb": FrontendKind.LOAD_BALANCER_IP,
    "port": FrontendKind.NODE_PORT,
}
ALL_KINDS = {"type": "LoadBalancer", "nodePort": 30080, "externalIPs": ["198.51.100.1"], "ingress": [{"ip": "203.0.113.1"}]}
INTERNAL = {"internalTrafficPolicy": "Local"}
EXTERNAL = {"externalTrafficPolicy": "Local"}


def rows(expectation: Expectation, source: str | None = None) -> dict[str, tuple[str, str, str]]:
    """For each kind of frontend what is shown from pod, node and outside."""
    (port,) = expectation.service_ports
    kinds = {kind: name for name, kind in KINDS.items()}
    return {
        kinds[frontend.kind]: (
            shown(port.accepted(frontend, Vantage.POD, source)),
            shown(port.accepted(frontend, Vantage.NODE, source)),
            shown(port.accepted(frontend, Vantage.OUTSIDE, source)),
        )
        for frontend in port.frontends
    }


BOTH = ("here+there", "here+there masq", "here+there masq")
MASQUERADED = ("here+there masq",) * 3
DROPPED = ("DROP",) * 3
REJECTED = ("REJECT",) * 3
REJECTED_BUT_NOT_FROM_NODE = ("REJECT", "-", "REJECT")
NO_ENDPOINTS = {"cluster": REJECTED, "external": REJECTED_BUT_NOT_FROM_NODE, "lb": REJECTED_BUT_NOT_FROM_NODE, "port": REJECTED}
SHORT_CUT = ("here+there", "here+there masq", "here")
ONLY_THERE = ("there", "there masq", "DROP")


# KPR 2.8, 5.1 to 5.5: 1.25 and later.
@pytest.mark.parametrize("minor", [26, 30, 36])
@pytest.mark.parametrize(
    ("spec", "endpoints", "expected"),
    [
        pytest.param({}, [HERE, THERE], {"cluster": BOTH}, id="cluster IP alone"),
        pytest.param(
            ALL_KINDS,
            [HERE, THERE],
            {"cluster": BOTH, "external": MASQUERADED, "lb": MASQUERADED, "port": MASQUERADED},
            id="policies Cluster",
        ),
        pytest.param(ALL_KINDS, [], NO_ENDPOINTS, id="no endpoints"),
        pytest.param(ALL_KINDS, [UNREADY], NO_ENDPOINTS, id="no usable endpoints"),
        pytest.param(ALL_KINDS | INTERNAL | EXTERNAL, [UNREADY], NO_ENDPOINTS, id="no usable endpoints, policies Local"),
        pytest.param(INTERNAL, [HERE, THERE], {"cluster": ("here", "here masq", "here masq")}, id="internal Local"),
        pytest.param(INTERNAL, [THERE], {"cluster": DROPPED}, id="internal Local, endpoints elsewhere only"),
        pytest.param(
            INTERNAL, [LEAVING, THERE], {"cluster": ("leaving", "leaving masq", "leaving masq")}, id="internal Local, leaving"
        ),
        pytest.param(
            {}, [LEAVING, THERE], {"cluster": ("there", "there masq", "there masq")}, id="one leaving beside a ready one"
        ),
        pytest.param({}, [LEAVING], {"cluster": ("leaving", "leaving masq", "leaving masq")}, id="one leaving alone"),
        pytest.param(
            ALL_KINDS | EXTERNAL,
            [HERE, THERE],
            {"cluster": BOTH, "external": SHORT_CUT, "lb": SHORT_CUT, "port": SHORT_CUT},
            id="external Local: pods and the node take the short cut",
        ),
        pytest.param(
            ALL_KINDS | INTERNAL,
            [HERE, THERE],
            {"cluster": ("here", "here masq", "here masq"), "external": MASQUERADED, "lb": MASQUERADED, "port": MASQUERADED},
            id="internal Local with external Cluster",
        ),
        pytest.param(
            {"externalIPs": ["198.51.100.1"]} | EXTERNAL,
            [HERE, THERE],
            {"cluster": BOTH, "external": SHORT_CUT},
            id="external Local of type ClusterIP with external IPs",
        ),
    ],
)
def test_what_each_vantage_point_gets(
    minor: int, spec: Object, endpoints: list[Object], expected: Mapping[str, tuple[str, str, str]]
) -> None:
    assert rows(expectation_of(service(**spec), slice_of(*endpoints), minor=minor)) == expected


def test_trap_t15_external_local_without_local_endpoints_drops_only_what_comes_from_outside() -> None:
    found = rows(expectation_of(service(**ALL_KINDS, **EXTERNAL), slice_of(THERE)))
    assert found == {
        "cluster": ("there", "there masq", "there masq"),
        "external": ONLY_THERE,
        "lb": ONLY_THERE,
        "port": ONLY_THERE,
    }


def test_trap_t16_remote_endpoints_are_reached_under_two_local_policies() -> None:
    expectation = expectation_of(service(**ALL_KINDS, **EXTERNAL, **INTERNAL), slice_of(HERE, THERE))
    assert rows(expectation) == {
        "cluster": ("here", "here masq", "here masq"),
        "external": SHORT_CUT,
        "lb": SHORT_CUT,
        "port": SHORT_CUT,
    }
    (port,) = expectation.service_ports
    assert [one.text for one in port.selection.reachable] == ["10.244.1.1:8080", "10.244.2.1:8080"]


# KPR 5.3, 5.5, 4.7: what local detection and masquerade-all change.
@pytest.mark.parametrize(
    ("settings", "spec", "expected"),
    [
        pytest.param(settings_of(None), {}, {"cluster": ("here+there",) * 3}, id="no local detection: no masquerade"),
        pytest.param(settings_of(masquerade_all=True), {}, {"cluster": MASQUERADED}, id="masquerade-all"),
        pytest.param(
            settings_of(None, masquerade_all=True), {}, {"cluster": MASQUERADED}, id="masquerade-all without local detection"
        ),
        pytest.param(
            settings_of("unset"),
            {},
            {"cluster": ("here+there", "here+there masq?", "here+there masq?")},
            id="local detection not known",
        ),
        pytest.param(
            settings_of(None),
            {"type": "NodePort", "nodePort": 30080} | EXTERNAL,
            {"cluster": ("here+there",) * 3, "port": ("here", "here+there masq", "here")},
            id="without local detection pods are outside",
        ),
        pytest.param(
            settings_of("unset", masquerade_all=True),
            {"type": "NodePort", "nodePort": 30080} | EXTERNAL,
            {"cluster": MASQUERADED, "port": ("-", "here+there masq", "here")},
            id="local detection not known: pods are not judged under external Local",
        ),
        pytest.param(
            settings_of(LocalDetection("BridgeInterface", "cni0"), masquerade_all=True),
            {"type": "NodePort", "nodePort": 30080} | EXTERNAL,
            {"cluster": MASQUERADED, "port": SHORT_CUT},
            id="masquerade-all leaves the short cut alone",
        ),
    ],
)
def test_local_detection_and_masquerade_all(
    settings: ProxySettings, spec: Object, expected: Mapping[str, tuple[str, str, str]]
) -> None:
    assert rows(expectation_of(service(**spec), slice_of(HERE, THERE), settings=settings)) == expected


@pytest.mark.parametrize(
    ("detection", "pods"),
    [(POD_CIDR, "here+there"), (None, "here+there masq"), ("unset", "here+there masq?")],
)
def test_what_pods_send_to_external_ips_in_1_23(detection: Detection, pods: str) -> None:
    found = rows(expectation_of(service(**ALL_KINDS), slice_of(HERE, THERE), minor=23, settings=settings_of(detection)))
    assert found["external"] == (pods, "here+there masq", "here+there masq")


def test_pods_are_judged_where_both_ways_lead_to_the_same() -> None:
    """Under external Local with unknown local detection a pod takes the short cut or not: all endpoints, or the local ones."""
    spec = {"type": "NodePort", "nodePort": 30080} | EXTERNAL
    found = rows(expectation_of(service(**spec), slice_of(HERE), settings=settings_of("unset")))
    assert found["port"] == ("here", "here masq", "here")


def test_1_23_falls_back_to_what_ends_here_where_policy_local_asks_for_it() -> None:
    gates = {"ProxyTerminatingEndpoints": True}
    found = rows(expectation_of(service(**(ALL_KINDS | EXTERNAL)), slice_of(LEAVING), minor=23, gates=gates))
    assert found["lb"] == found["port"] == ("leaving", "leaving masq", "leaving")
    assert found["cluster"] == ("PASS",) * 3


def test_1_19_with_the_gate_has_a_policy_for_external_ips() -> None:
    gates = {"ExternalPolicyForExternalIP": True}
    found = rows(expectation_of(service(**(ALL_KINDS | EXTERNAL)), slice_of(HERE, THERE), minor=19, gates=gates))
    assert found["external"] == ("-", "-", "here")


def without_pod_cidr(*cidrs: str) -> list[Object]:
    return [{**NODES[0], "spec": {"podCIDRs": list(cidrs)}}]


@pytest.mark.parametrize(
    ("nodes", "resolved"),
    [
        pytest.param(NODES, LocalDetection("NodeCIDR", "10.244.1.0/24"), id="the Node's own"),
        pytest.param(
            without_pod_cidr("fd00::/64", "10.244.7.9/24"), LocalDetection("NodeCIDR", "10.244.7.0/24"), id="the family's"
        ),
        pytest.param(without_pod_cidr("fd00::/64"), None, id="none of the family"),
        pytest.param(
            [{**NODES[0], "spec": {"podCIDR": "10.244.7.0/24"}}], LocalDetection("NodeCIDR", "10.244.7.0/24"), id="the only one"
        ),
        pytest.param([{**NODES[0], "spec": {}}], None, id="none at all"),
        pytest.param([], "unset", id="no Node"),
    ],
)
def test_node_cidr_is_the_nodes(nodes: list[Object], resolved: Detection) -> None:
    settings = settings_of(LocalDetection("NodeCIDR", ""))
    assert expectation_of(service(), slice_of(HERE), settings=settings, nodes=nodes).local_detection == resolved


RANGES = {"loadBalancerSourceRanges": [" 192.0.2.0/24 ", "fd00::/64", "nonsense"], "ingress": [{"ip": "203.0.113.1"}]}


# KPR 5.6 and 1.3: (spec, release, client, what a client from outside gets at the load-balancer IP).
@pytest.mark.parametrize(
    ("spec", "minor", "endpoints", "source", "expected"),
    [
        pytest.param(RANGES, 36, [HERE], None, "here masq", id="no client named: admitted"),
        pytest.param(RANGES, 36, [HERE], "192.0.2.7", "here masq", id="inside"),
        pytest.param(RANGES, 36, [HERE], "192.0.3.7", "DROP", id="outside"),
        pytest.param(RANGES, 36, [], "192.0.3.7", "REJECT", id="no endpoints: ranges are not enforced"),
        pytest.param(RANGES, 24, [HERE], "192.0.3.7", "DROP | PASS", id="1.24 marks, and kubelet drops"),
        pytest.param(RANGES, 20, [HERE], "192.0.3.7", "DROP | PASS", id="1.20 likewise"),
        pytest.param(RANGES | ALL_KINDS | EXTERNAL, 36, [THERE], "192.0.2.7", "DROP", id="admitted, but no local endpoint"),
        pytest.param(
            RANGES | {"loadBalancerSourceRanges": ["192.168.0.0/24"]},
            36,
            [HERE],
            "203.0.113.1",
            "here masq",
            id="the VIP, from the node",
        ),
        pytest.param(RANGES, 36, [HERE], "203.0.113.1", "DROP", id="the VIP, when the node is in no range"),
        pytest.param(
            RANGES | {"loadBalancerSourceRanges": ["fd00::/64"]}, 36, [HERE], "192.0.3.7", "here masq", id="other family's only"
        ),
        pytest.param(
            RANGES | {"loadBalancerSourceRanges": ["192.0.2.0/24", "0.0.0.0/0"]},
            34,
            [HERE],
            "192.0.3.7",
            "here masq",
            id="1.34: all of it",
        ),
        pytest.param(
            RANGES | {"externalIPs": ["203.0.113.1"]}, 36, [HERE], "192.0.3.7", "here masq", id="an equal external IP is first"
        ),
    ],
)
def test_source_ranges(spec: Object, minor: int, endpoints: list[Object], source: str | None, expected: str) -> None:
    assert rows(expectation_of(service(**spec), slice_of(*endpoints), minor=minor), source)["lb"][2] == expected


@pytest.mark.parametrize(
    "detection",
    [LocalDetection("NodeCIDR", "10.9.0.0/16"), LocalDetection("ClusterCIDR", ""), LocalDetection("BridgeInterface", "cni0")],
)
def test_other_local_detection_is_as_given(detection: LocalDetection) -> None:
    assert expectation_of(service(), settings=settings_of(detection)).local_detection == detection


def node_of(*addresses: tuple[str, str]) -> list[Object]:
    return [{**NODES[0], "status": {"addresses": [{"type": kind, "address": address} for kind, address in addresses]}}]


@pytest.mark.parametrize(
    ("nodes", "settings", "ranges", "allowed"),
    [
        pytest.param(node_of(("InternalIP", "192.0.2.7")), (), ["192.0.2.0/24"], True, id="inside"),
        pytest.param(node_of(("InternalIP", "192.0.3.7")), (), ["192.0.2.0/24"], False, id="outside"),
        pytest.param(
            node_of(("InternalIP", "192.0.2.7")), (), ["198.51.100.0/24", "192.0.2.0/24"], True, id="inside of one of two"
        ),
        pytest.param(
            node_of(("ExternalIP", "203.0.113.5"), ("InternalIP", "192.0.2.7")),
            (),
            ["203.0.113.4/30"],
            False,
            id="the internal one first",
        ),
        pytest.param(node_of(("ExternalIP", "203.0.113.5")), (), ["203.0.113.4/30"], True, id="the external one alone"),
        pytest.param(node_of(("Hostname", "203.0.113.5")), (), ["203.0.113.4/30"], False, id="no host name"),
        pytest.param(
            node_of(("InternalIP", "fd00::7"), ("InternalIP", "192.0.2.7")), (), ["192.0.2.0/24"], True, id="the family's"
        ),
        pytest.param(node_of(), (), ["127.0.0.0/8"], True, id="a Node without addresses: loopback"),
        pytest.param([], ("192.0.2.7",), ["192.0.2.0/24"], True, id="addresses that settings give"),
        pytest.param([], (), ["192.0.2.0/24"], None, id="not known"),
        pytest.param([], (), [], False, id="no ranges"),
    ],
)
def test_whether_the_node_itself_is_admitted(
    nodes: list[Object], settings: tuple[str, ...], ranges: list[str], allowed: bool | None
) -> None:
    given = settings_of(node_addresses=settings)
    spec = {"type": "LoadBalancer", "ingress": [{"ip": "203.0.113.1"}], "loadBalancerSourceRanges": ranges}
    (port,) = expectation_of(service(**spec), slice_of(HERE), nodes=nodes, settings=given).service_ports
    assert port.node_allowed is allowed
    assert port.admits("203.0.113.1") is (True if not ranges else allowed)
    assert port.admits("10.96.0.1") is (not ranges)


def test_a_node_without_addresses_is_admitted_at_loopback_of_ipv6_as_well() -> None:
    spec = {
        "type": "LoadBalancer", "ingress": [{"ip": "fd01::1"}], "loadBalancerSourceRanges": ["::1/128"], "clusterIP": "fd00::1",
        "clusterIPs": ["fd00::1"], "ipFamilies": ["IPv6"],
    }  # fmt: skip
    (port,) = expectation_of(service(**spec), nodes=node_of(), family=6).service_ports
    assert port.node_allowed is True


def test_source_ranges_guard_load_balancer_ips_alone_and_every_vantage_point() -> None:
    found = rows(expectation_of(service(**(ALL_KINDS | RANGES)), slice_of(HERE)), "192.0.3.7")
    assert found["lb"] == DROPPED
    assert found["port"] == found["external"] == ("here masq",) * 3


def test_a_node_that_nobody_knows_may_be_inside_a_range() -> None:
    (port,) = expectation_of(service(**RANGES), slice_of(HERE), nodes=[]).service_ports
    assert port.node_allowed is None
    assert port.admits("203.0.113.1") is None
    assert port.accepted(port.frontends[1], Vantage.OUTSIDE, "203.0.113.1") == ()


@pytest.mark.parametrize(("minor", "ranges"), [(33, ("0.0.0.0/0",)), (34, ())])
def test_a_range_of_everything_is_none_from_1_34(minor: int, ranges: tuple[str, ...]) -> None:
    (port,) = expectation_of(service(loadBalancerSourceRanges=["0.0.0.0/0"]), minor=minor).service_ports
    assert port.source_ranges == ranges
    (port,) = expectation_of(service(loadBalancerSourceRanges=["10.0.0.0/8", "0.0.0.0/0"]), minor=minor).service_ports
    assert port.source_ranges == (("10.0.0.0/8", *ranges) if ranges else ())


MARKED = ("there", "there masq", "DROP | PASS")
MARKED_PORT = ("there", "there masq", "DROP | LOCAL")
OLD_EXTERNAL = ("-", "-", "here+there masq")


# KPR 6.
@pytest.mark.parametrize(
    ("minor", "spec", "endpoints", "expected"),
    [
        pytest.param(25, INTERNAL, [THERE], {"cluster": DROPPED}, id="1.25 internal Local, none local: dropped"),
        pytest.param(24, INTERNAL, [THERE], {"cluster": ("DROP | PASS",) * 3}, id="1.24 internal Local, none local: marked"),
        pytest.param(
            24,
            ALL_KINDS | EXTERNAL,
            [THERE],
            {"cluster": ("there", "there masq", "there masq"), "external": MARKED, "lb": MARKED, "port": MARKED_PORT},
            id="1.24 external Local, none local: marked",
        ),
        pytest.param(24, ALL_KINDS, [], NO_ENDPOINTS, id="1.24 no endpoints"),
        pytest.param(24, ALL_KINDS, [LEAVING], NO_ENDPOINTS, id="1.24 does not fall back"),
        pytest.param(23, INTERNAL, [THERE], {"cluster": REJECTED}, id="1.23 internal Local, none local: rejected"),
        pytest.param(
            23,
            ALL_KINDS | INTERNAL,
            [HERE, THERE],
            dict.fromkeys(("cluster", "external"), ("here", "here masq", "here masq"))
            | dict.fromkeys(("lb", "port"), ("here masq",) * 3),
            id="1.23 internal Local restricts the whole Service",
        ),
        pytest.param(
            23,
            ALL_KINDS,
            [HERE, THERE],
            {"cluster": BOTH, "external": BOTH, "lb": MASQUERADED, "port": MASQUERADED},
            id="1.23 pods' traffic to external IPs keeps its source",
        ),
        pytest.param(
            23,
            ALL_KINDS | EXTERNAL,
            [HERE, THERE],
            {"cluster": BOTH, "external": SHORT_CUT, "lb": SHORT_CUT, "port": SHORT_CUT},
            id="1.23 external Local",
        ),
        pytest.param(
            23,
            {"externalIPs": ["198.51.100.1"]} | EXTERNAL,
            [HERE, THERE],
            {"cluster": BOTH, "external": BOTH},
            id="1.23 external Local does not count for type ClusterIP",
        ),
        pytest.param(
            21,
            ALL_KINDS | EXTERNAL | INTERNAL,
            [THERE],
            {"cluster": ("there", "there masq", "there masq"), "external": MARKED, "lb": MARKED, "port": MARKED_PORT},
            id="1.21 no internal policy; marked without local endpoints",
        ),
        pytest.param(
            20,
            ALL_KINDS,
            [HERE, THERE],
            {"cluster": BOTH, "external": OLD_EXTERNAL, "lb": MASQUERADED, "port": MASQUERADED},
            id="1.20 external IPs are judged from outside only",
        ),
        pytest.param(
            20,
            ALL_KINDS | EXTERNAL,
            [HERE, THERE],
            {"cluster": BOTH, "external": ("-", "-", "here"), "lb": SHORT_CUT, "port": SHORT_CUT},
            id="1.20 external Local",
        ),
        pytest.param(
            21,
            ALL_KINDS,
            [HERE, THERE],
            {"cluster": BOTH, "external": BOTH, "lb": MASQUERADED, "port": MASQUERADED},
            id="1.21 pods' traffic to external IPs keeps its source, too",
        ),
        pytest.param(
            24,
            ALL_KINDS,
            [HERE, THERE],
            {"cluster": BOTH, "external": MASQUERADED, "lb": MASQUERADED, "port": MASQUERADED},
            id="1.24 it no longer does",
        ),
        pytest.param(22, INTERNAL, [UNREADY], {"cluster": ("PASS",) * 3}, id="1.22 internal Local, unready: neither"),
        pytest.param(20, ALL_KINDS, [], NO_ENDPOINTS, id="1.20 no endpoints"),
        pytest.param(
            19,
            ALL_KINDS,
            [],
            NO_ENDPOINTS | {"external": ("REJECT | PASS", "-", "REJECT | PASS")},
            id="1.19 no endpoints: external IPs may not be rejected in FORWARD, either",
        ),
        pytest.param(
            19,
            ALL_KINDS | EXTERNAL,
            [HERE, THERE],
            {"cluster": BOTH, "external": OLD_EXTERNAL, "lb": SHORT_CUT, "port": SHORT_CUT},
            id="1.19 external Local does not count for external IPs",
        ),
        pytest.param(
            18,
            ALL_KINDS,
            [],
            NO_ENDPOINTS | {"external": ("REJECT | PASS", "-", "REJECT | PASS")},
            id="1.18 no endpoints: external IPs may not be rejected in FORWARD",
        ),
    ],
)
def test_older_layouts(minor: int, spec: Object, endpoints: list[Object], expected: Mapping[str, tuple[str, str, str]]) -> None:
    assert rows(expectation_of(service(**spec), slice_of(*endpoints), minor=minor)) == expected


def test_trap_t14_1_22_neither_forwards_nor_rejects_with_unready_endpoints_alone() -> None:
    assert rows(expectation_of(service(**ALL_KINDS), slice_of(UNREADY), minor=22)) == {
        "cluster": ("PASS",) * 3,
        "external": ("PASS",) * 3,
        "lb": ("DROP | PASS",) * 3,
        "port": ("LOCAL",) * 3,
    }


# Frontends and values of a service port (KPR 1.3, 1.4; T-13).
@pytest.mark.parametrize(
    ("spec", "minor", "family", "frontends"),
    [
        pytest.param({}, 36, 4, ["10.96.0.1:80/TCP"], id="cluster IP"),
        pytest.param(
            {"externalIPs": ["198.51.100.2", "x", "fd00::1", "198.51.100.2", "198.051.100.1"]},
            36,
            4,
            ["10.96.0.1:80/TCP", "198.51.100.2:80/TCP", "198.51.100.1:80/TCP"],
            id="external IPs of the family, each once, canonical",
        ),
        pytest.param(
            {"ingress": [{"hostname": "x"}, {"ip": "203.0.113.1", "ipMode": "Proxy"}, {"ip": "203.0.113.2", "ipMode": "VIP"}]},
            36,
            4,
            ["10.96.0.1:80/TCP", "203.0.113.2:80/TCP"],
            id="load-balancer IPs that a proxy serves are not kube-proxy's",
        ),
        pytest.param(
            {"ingress": [{"ip": "203.0.113.1", "ipMode": "Proxy"}]},
            29,
            4,
            ["10.96.0.1:80/TCP", "203.0.113.1:80/TCP"],
            id="1.29 does not look at ipMode",
        ),
        pytest.param({"nodePort": 30080}, 36, 4, ["10.96.0.1:80/TCP", "node port 30080/TCP"], id="node port, whatever the type"),
        pytest.param(
            {"clusterIPs": ["10.96.0.1", "FD00::0001"], "ipFamilies": ["IPv4", "IPv6"]},
            36,
            6,
            ["[fd00::1]:80/TCP"],
            id="second family",
        ),
        pytest.param({"clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv6", "IPv4"]}, 36, 4, [], id="families without an IP"),
        pytest.param(
            {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]},
            19,
            6,
            [],
            id="1.19 knows one cluster IP",
        ),
        pytest.param({"clusterIP": "10.96.0.1"}, 36, 6, [], id="no families listed: the cluster IP's"),
    ],
)
def test_frontends(spec: Object, minor: int, family: int, frontends: list[str]) -> None:
    found = expectation_of(service(**spec), minor=minor, family=family)
    assert [str(frontend) for port in found.service_ports for frontend in port.frontends] == frontends
    keys = {(frontend.address, frontend.port, frontend.protocol) for port in found.service_ports for frontend in port.frontends}
    assert set(found.by_frontend) == keys


# T-28.
@pytest.mark.parametrize(
    ("spec", "minor", "reason"),
    [
        pytest.param({"clusterIP": "None"}, 36, "headless", id="headless"),
        pytest.param({"clusterIP": ""}, 36, "headless", id="no cluster IP yet"),
        pytest.param({"type": "ExternalName"}, 36, "ExternalName", id="ExternalName, even with a cluster IP"),
        pytest.param(
            {"labels": {"service.kubernetes.io/service-proxy-name": ""}}, 36, "another service proxy", id="another proxy's"
        ),
        pytest.param(
            {"labels": {"service.kubernetes.io/headless": ""}}, 35, "service.kubernetes.io/headless", id="labelled, 1.35"
        ),
        pytest.param({"labels": {"service.kubernetes.io/headless": ""}}, 36, None, id="labelled, 1.36"),
        pytest.param({"clusterIP": "fd00::1"}, 36, "no IPv4 cluster IP", id="the other family's"),
    ],
)
def test_trap_t28_ignored_services(spec: Object, minor: int, reason: str | None) -> None:
    found = expectation_of(service(**spec), minor=minor)
    if reason is None:
        assert not found.ignored
        assert len(found.service_ports) == 1
    else:
        assert reason in found.ignored["d", "web"]
        assert not found.service_ports


def port_of(spec: Object, *, minor: int = 36, gates: Mapping[str, bool] | None = None) -> ExpectedServicePort:
    (port,) = expectation_of(service(**spec), slice_of(HERE), minor=minor, gates=gates).service_ports
    return port


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, None),
        ({"sessionAffinity": "None"}, None),
        ({"sessionAffinity": "ClientIP"}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 30}}}, 30),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": None}}, 10800),
    ],
)
def test_affinity(spec: Object, seconds: int | None) -> None:
    port = port_of(spec)
    forwarding = port.forwarding(port.frontends[0], Vantage.POD)
    assert forwarding == Forwarding(Verdict.FORWARD, {"10.244.1.1:8080": 1.0}, masquerade=False, affinity=seconds)


@pytest.mark.parametrize(
    ("spec", "minor", "port"),
    [
        ({"type": "LoadBalancer", "healthCheckNodePort": 32000} | EXTERNAL, 36, 32000),
        ({"type": "LoadBalancer", "healthCheckNodePort": 32000}, 36, 0),
        ({"type": "NodePort", "healthCheckNodePort": 32000} | EXTERNAL, 36, 0),
        ({"type": "LoadBalancer"} | EXTERNAL, 36, 0),
    ],
)
def test_health_check_node_port(spec: Object, minor: int, port: int) -> None:
    assert port_of(spec, minor=minor).health_check_node_port == port


def test_without_its_gate_1_36_has_no_external_ips() -> None:
    assert len(port_of({"externalIPs": ["198.51.100.1"]}, gates={"AllowServiceExternalIPs": False}).frontends) == 1


@pytest.mark.parametrize(
    ("annotations", "minor", "used"),
    [
        ({}, 36, "here"),
        ({}, 30, "here+there"),
        ({"service.kubernetes.io/topology-mode": "Auto"}, 30, "here"),
        ({"service.kubernetes.io/topology-mode": "Whatever"}, 27, "here"),
        ({"service.kubernetes.io/topology-mode": "Disabled"}, 30, "here+there"),
        ({"service.kubernetes.io/topology-mode": "Auto"}, 26, "here+there"),
        ({"service.kubernetes.io/topology-aware-hints": "auto"}, 24, "here"),
        ({"service.kubernetes.io/topology-aware-hints": "Auto"}, 24, "here"),
        ({"service.kubernetes.io/topology-aware-hints": "yes"}, 24, "here+there"),
        (
            {"service.kubernetes.io/topology-aware-hints": "disabled", "service.kubernetes.io/topology-mode": "Auto"},
            30,
            "here+there",
        ),
    ],
)
def test_hints_by_annotation(annotations: Object, minor: int, used: str) -> None:
    hinted = [endpoint("10.244.1.1", NODE, zones=["zone-a"]), endpoint("10.244.2.1", "node-b", zones=["zone-b"])]
    found = rows(expectation_of(service(annotations=annotations), slice_of(*hinted), minor=minor))
    assert found["cluster"][0] == used


def test_trap_t12_duplicates_leave_either_outcome() -> None:
    twice = [slice_of(THERE, HERE, name="web-1"), slice_of(endpoint("10.244.2.1", "node-b", ready=False), name="web-2")]
    expectation = expectation_of(service(), *twice)
    (port,) = expectation.service_ports
    assert port.ambiguous == {"10.244.2.1:8080"}
    assert rows(expectation)["cluster"][0] == "here+there | here"


def test_a_node_of_unknown_zone_may_use_any_zone_s_endpoints() -> None:
    hinted = [endpoint("10.244.1.1", None, zones=["zone-a"]), endpoint("10.244.2.1", None, zones=["zone-b"])]
    expectation = expectation_of(service(), slice_of(*hinted), nodes=[])
    assert rows(expectation)["cluster"][0] == "here+there | here | there"
    assert any("zone" in note for note in expectation.notes)


def test_open_outcomes_are_counted_once_and_up_to_a_limit() -> None:
    zones = [endpoint(f"10.244.1.{number}", None, zones=[f"zone-{number:02}"]) for number in range(1, 30)]
    (port,) = expectation_of(service(), slice_of(*zones), nodes=[]).service_ports
    assert len(port.selections) == 16
    assert all(one not in port.selections[:at] for at, one in enumerate(port.selections))
    alike = [endpoint(f"10.244.1.{number}", None, zones=["zone-a", "zone-b"]) for number in range(1, 4)]
    (port,) = expectation_of(service(), slice_of(*alike), nodes=[]).service_ports
    assert len(port.selections) == 1


def test_outcomes_that_make_no_difference_are_one() -> None:
    """From 1.36 on either of two entries counts: whether the endpoint is here is open, and matters to policy Local alone."""
    twice = [slice_of(endpoint("10.244.2.1", node), name=f"web-{node}") for node in ("node-b", NODE)]
    found = rows(expectation_of(service(type="NodePort", nodePort=30080, **EXTERNAL), *twice))
    assert found["cluster"] == ("there", "there masq", "there masq")
    assert found["port"][2] == "DROP | there"


def test_a_known_zone_is_the_only_one() -> None:
    hinted = [endpoint("10.244.1.1", None, zones=["zone-a"]), endpoint("10.244.2.1", None, zones=["zone-b"])]
    twice = [slice_of(*hinted), slice_of(endpoint("10.244.2.1", None, zones=["zone-b"], ready=False), name="web-2")]
    assert rows(expectation_of(service(), *twice))["cluster"][0] == "here"


@pytest.mark.parametrize(
    ("spec", "external_local", "uses_cluster", "uses_local"),
    [
        ({}, False, True, False),
        (INTERNAL, False, False, True),
        (EXTERNAL, False, True, False),
        ({"type": "NodePort", "nodePort": 30080}, False, True, False),
        ({"type": "NodePort", "nodePort": 30080} | EXTERNAL, True, True, True),
        ({"type": "NodePort", "nodePort": 30080} | INTERNAL, False, True, True),
        ({"type": "LoadBalancer"} | EXTERNAL, True, True, False),
    ],
)
def test_which_lists_a_service_port_uses(spec: Object, external_local: bool, uses_cluster: bool, uses_local: bool) -> None:
    port = port_of(spec)
    assert (port.external_local, port.uses_cluster, port.uses_local) == (external_local, uses_cluster, uses_local)


def test_what_a_port_leaves_out() -> None:
    bare: Object = {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}
    unnamed = slice_of(HERE, port="")
    (port,) = expectation_of(service(**bare), unnamed).service_ports
    assert (str(port.name), port.protocol, port.node_port, len(port.frontends)) == ("d/web", "TCP", 0, 1)
    assert [one.text for one in port.candidates.endpoints] == ["10.244.1.1:8080"]
    assert port.forwarding(port.frontends[0], Vantage.POD) is not None


def test_what_is_not_judged_has_no_forwarding() -> None:
    port = port_of(ALL_KINDS, minor=20)
    external = next(one for one in port.frontends if one.kind is FrontendKind.EXTERNAL_IP)
    assert port.forwarding(external, Vantage.POD) is None


@pytest.mark.parametrize(
    ("minor", "gates", "used"), [(20, {"ServiceTopology": True}, "here"), (20, {}, "here+there"), (36, {}, "here+there")]
)
def test_topology_keys_of_a_service(minor: int, gates: Mapping[str, bool], used: str) -> None:
    placed = [{**one, "topology": {"kubernetes.io/hostname": one["nodeName"]}} for one in (HERE, THERE)]
    labelled = [{**NODES[0], "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}}]
    found = rows(
        expectation_of(
            service(topologyKeys=["kubernetes.io/hostname"]), slice_of(*placed), minor=minor, gates=gates, nodes=labelled
        )
    )
    assert found["cluster"][0] == used


def test_one_service_port_claims_a_frontend_once() -> None:
    """An address may be external IP and load-balancer IP of one Service, which is no conflict."""
    other = {**service(**ALL_KINDS | {"ingress": [{"ip": "198.51.100.1"}], "clusterIP": "10.96.0.2"})}
    other["metadata"] = {"name": "twin", "namespace": "d"}
    expectation = expectation_of(service(externalIPs=["198.51.100.1"]), other)
    claims = expectation.by_frontend["198.51.100.1", 80, "TCP"]
    assert sorted(one.name.name for one in claims) == ["twin", "web"]


def test_trap_t13_two_services_on_one_frontend_are_both_kept() -> None:
    other = service(clusterIP="10.96.0.2", externalIPs=["10.96.0.1"])
    other["metadata"] = {"name": "other", "namespace": "d"}
    found = expectation_of(service(ingress=[{"ip": "10.96.0.1"}]), other)
    assert [port.name.name for port in found.by_frontend["10.96.0.1", 80, "TCP"]] == ["web", "other"]


def test_trap_t26_the_release_is_kube_proxys_own() -> None:
    objects = (service(**INTERNAL), slice_of(THERE))
    by_minor = {minor: rows(expectation_of(*objects, minor=minor))["cluster"][0] for minor in (20, 23, 24, 25)}
    assert by_minor == {20: "there", 23: "REJECT", 24: "DROP | PASS", 25: "DROP"}


def test_trap_t27_the_dns_service_of_a_vendor_is_a_service_like_any_other() -> None:
    dns = service(annotations={"traffic-policy.network.alpha.openshift.io/local-with-fallback": ""}, **ALL_KINDS, **EXTERNAL)
    assert rows(expectation_of(dns, slice_of(THERE)))["port"] == ONLY_THERE


def test_trap_t29_endpoints_may_be_anywhere() -> None:
    expectation = expectation_of(service(selector=None, **INTERNAL), slice_of(endpoint("10.244.2.1", None)))
    assert rows(expectation)["cluster"] == DROPPED


@pytest.mark.parametrize(
    "slices",
    [
        pytest.param([], id="no slice"),
        pytest.param([slice_of(HERE, port="other")], id="another port's"),
        pytest.param([slice_of(HERE, address_type="FQDN")], id="names"),
        pytest.param([{**slice_of(HERE), "ports": None}], id="ports null"),
        pytest.param([{**slice_of(), "endpoints": None}], id="endpoints null"),
    ],
)
def test_trap_t30_slices_that_hold_nothing_for_the_port(slices: list[Object]) -> None:
    elsewhere = slice_of(HERE, name="x")
    elsewhere["metadata"] = {"name": "x", "namespace": "e", "labels": {"kubernetes.io/service-name": "web"}}
    assert rows(expectation_of(service(), elsewhere, *slices))["cluster"] == REJECTED


@pytest.mark.parametrize(
    ("port", "minor", "texts"),
    [
        ("http", 16, ("d/web:http",)),
        ("", 18, ("d/web:",)),
        ("", 19, ("d/web", "d/web:")),
        ("", 20, ("d/web",)),
    ],
)
def test_trap_t33_names_of_unnamed_ports(port: str, minor: int, texts: tuple[str, ...]) -> None:
    name = ServicePortName("d", "web", port)
    assert name.texts(Release(minor)) == texts
    assert name.text(Release(minor)) == texts[0]


ENDPOINTS: Object = {
    "kind": "Endpoints",
    "apiVersion": "v1",
    "metadata": {"name": "web", "namespace": "d"},
    "subsets": [{"addresses": [{"ip": "10.244.2.1", "nodeName": "node-b"}], "ports": [{"name": "http", "port": 8080}]}],
}


@pytest.mark.parametrize(
    ("minor", "gates", "given", "objects", "used", "sources"),
    [
        pytest.param(36, {}, (), [slice_of(HERE), ENDPOINTS], "here", [EndpointSource.SLICES], id="slices"),
        pytest.param(16, {}, (), [slice_of(HERE), ENDPOINTS], "there", [EndpointSource.ENDPOINTS], id="Endpoints"),
        pytest.param(
            20,
            {},
            (),
            [slice_of(HERE), ENDPOINTS],
            "here | there",
            [EndpointSource.SLICES, EndpointSource.ENDPOINTS],
            id="not known: either",
        ),
        pytest.param(
            20, {}, ("feature_gates",), [slice_of(HERE), ENDPOINTS], "here", [EndpointSource.SLICES], id="known: by default"
        ),
        pytest.param(
            20,
            {"EndpointSliceProxying": False},
            ("feature_gates",),
            [slice_of(HERE), ENDPOINTS],
            "there",
            [EndpointSource.ENDPOINTS],
            id="known: by its gate",
        ),
        pytest.param(36, {}, (), [ENDPOINTS], "there", [EndpointSource.ENDPOINTS], id="Endpoints stand for slices"),
        pytest.param(18, {}, (), [slice_of(HERE)], "here", [EndpointSource.SLICES], id="slices stand for Endpoints"),
        pytest.param(
            20, {}, (), [slice_of(HERE)], "here", [EndpointSource.SLICES], id="not known, but one of them was given only"
        ),
        pytest.param(36, {}, (), [], "-", [], id="neither: nothing is said"),
    ],
)
def test_where_endpoints_come_from(
    minor: int, gates: Mapping[str, bool], given: Sequence[str], objects: list[Object], used: str, sources: list[EndpointSource]
) -> None:
    settings = settings_of(feature_gates=gates, given=frozenset(given))
    expectation = expectation_of(service(), *objects, minor=minor, gates=gates, settings=settings)
    assert rows(expectation)["cluster"][0] == used
    assert list(expectation.endpoint_sources) == sources
    read = {EndpointSource(str(one["kind"])) for one in objects}
    said = [note for note in expectation.notes if "zone" not in note]
    if not read:
        assert said == ["neither EndpointSlices nor Endpoints were given: nothing can be said of endpoints"]
    elif Release(minor, gates).endpoint_source not in read:
        assert [note.partition(":")[2] for note in said] == [f" {sources[0].value} objects stand for them"]
    elif len(sources) > 1:
        assert [note.partition(":")[2] for note in said] == [" either is accepted"]
    else:
        assert said == []


def test_an_endpoint_that_endpoints_hold_twice_gets_two_shares() -> None:
    subset = {
        "addresses": [{"ip": "10.244.2.1"}, {"ip": "10.244.1.1"}, {"ip": "10.244.2.1"}],
        "ports": [{"name": "http", "port": 8080}],
    }
    (port,) = expectation_of(service(), {**ENDPOINTS, "subsets": [subset]}, minor=16).service_ports
    forwarding = port.forwarding(port.frontends[0], Vantage.POD)
    assert forwarding is not None
    assert forwarding.backends == pytest.approx({"10.244.2.1:8080": 2 / 3, "10.244.1.1:8080": 1 / 3})


@pytest.mark.parametrize(("count", "large"), [(1000, False), (1001, True)])
def test_large_cluster_mode_counts_candidates_before_the_choice(count: int, *, large: bool) -> None:
    endpoints = [endpoint(f"10.244.{number >> 8}.{number & 255}", None, ready=number > 0) for number in range(count)]
    found = expectation_of(service(), slice_of(*endpoints))
    assert found.total_candidates == count
    assert found.large_cluster is large
