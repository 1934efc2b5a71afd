"""The controller behind an Ingress and the ways to it, on small written clusters and on every captured one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ruleaudit.cluster import Cluster, load
from ruleaudit.findings import Certainty
from ruleaudit.near import UnknownNameError
from ruleaudit.ways.ingress import class_of, parse_url
from ruleaudit.ways.ingress_controllers import ControllerSearch, EntryKind, find_controller, known_products

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Object = dict[str, object]
WEB: list[Object] = [
    {"containerPort": 80, "name": "http"},
    {"containerPort": 443, "name": "https"},
    {"containerPort": 8443, "name": "webhook"},
]


def cluster_of(*items: Object) -> Cluster:
    return load([("objects", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode())])


def pod(
    name: str, labels: Object, *, namespace: str = "in", node: str = "node-a", ports: list[Object] = WEB, **spec: object
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports}], **spec},
        "status": {"phase": "Running", "podIP": "10.244.1.9"},
    }


def service(name: str, selector: Object, *ports: Object, addresses: list[Object] | None = None, **spec: object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "in"},
        "spec": {"selector": selector, "ports": list(ports), "clusterIP": "10.96.0.9", **spec},
        "status": {"loadBalancer": {"ingress": addresses or []}},
    }


def ingress(*, name: str | None = "c", status: list[Object] | None = None, annotation: str | None = None) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": "i",
            "namespace": "d",
            "annotations": {"kubernetes.io/ingress.class": annotation} if annotation else {},
        },
        "spec": {"ingressClassName": name},
        "status": {"loadBalancer": {"ingress": status or []}},
    }


def ingress_class(controller: str) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "c"},
        "spec": {"controller": controller},
    }


def node(name: str, *addresses: str) -> Object:
    listed = [{"type": "InternalIP", "address": one} for one in addresses] + [{"type": "Hostname", "address": name}]
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": listed}}


NODES = [node("node-a", "192.0.2.1", "2001:db8::1"), node("node-b", "192.0.2.2")]
NGINX: Object = {"app.kubernetes.io/name": "ingress-nginx", "app.kubernetes.io/component": "controller"}
HTTP: Object = {"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}
HTTPS: Object = {"name": "https", "port": 443, "targetPort": "https", "nodePort": 30443}
WEBHOOK: Object = {"name": "https-webhook", "port": 443, "targetPort": "webhook"}


def found_in(*items: Object, given: str | None = None) -> ControllerSearch:
    cluster = cluster_of(*NODES, *items)
    one = cluster.ingresses.get(("d", "i"))
    if one is None:
        return find_controller(cluster, given=given)
    return find_controller(cluster, choice=class_of(cluster, one), ingresses=[one], given=given)


def ways(search: ControllerSearch) -> list[str]:
    assert search.controller is not None
    entries = search.controller.entries
    return [f"{one.kind.value} {one.scheme} {' '.join((*one.addresses, *one.hostnames))} {one.port}" for one in entries]


def pods(search: ControllerSearch) -> list[str]:
    return [] if search.controller is None else [one.metadata.name for one in search.controller.pods]


@pytest.mark.parametrize(
    ("controller", "name", "products"),
    [
        ("k8s.io/ingress-nginx", "x", ["ingress-nginx"]),
        ("k8s.io/ingress-nginx-internal", "x", ["ingress-nginx"]),
        ("nginx.org/ingress-controller", "x", ["NGINX Ingress Controller"]),
        ("traefik.io/ingress-controller", "x", ["Traefik"]),
        ("haproxy-ingress.github.io/controller", "x", ["HAProxy Ingress"]),
        ("haproxy.org/ingress-controller/haproxy", "x", ["HAProxy Kubernetes Ingress Controller"]),
        ("projectcontour.io/contour/contour", "x", ["Contour"]),
        ("getambassador.io/ingress-controller", "x", ["Emissary"]),
        ("ingress-controllers.konghq.com/kong", "x", ["Kong"]),
        ("istio.io/ingress-controller", "x", ["Istio"]),
        ("ingress.k8s.aws/alb", "x", ["AWS Load Balancer Controller"]),
        ("example.com/controller", "nginx", []),
        (None, "nginx", ["ingress-nginx", "NGINX Ingress Controller"]),
        (None, "gce", ["GCE"]),
        (None, "mine", []),
        (None, None, []),
    ],
)
def test_known_products(controller: str | None, name: str | None, products: list[str]) -> None:
    assert [one.name for one in known_products(controller, name)] == products


BEHIND_NODE_PORT = [
    ingress(),
    ingress_class("k8s.io/ingress-nginx"),
    pod("nginx-0", NGINX),
    pod("old-job", NGINX) | {"status": {"phase": "Succeeded"}},
    pod("default-0", {**NGINX, "app.kubernetes.io/component": "default-backend"}),
    service("nginx", NGINX, HTTP, HTTPS, type="NodePort"),
    service("admission", NGINX, WEBHOOK),
]


def test_behind_a_node_port() -> None:
    search = found_in(*BEHIND_NODE_PORT)
    assert (pods(search), search.certainty) == (["nginx-0"], Certainty.DEFINITE)
    assert ways(search) == [
        "NodePort http 192.0.2.1 192.0.2.2 30080",
        "ClusterIP http 10.96.0.9 80",
        "NodePort https 192.0.2.1 192.0.2.2 30443",
        "ClusterIP https 10.96.0.9 443",
    ]
    assert search.controller is not None
    assert [one.port for one in search.controller.entries_for(parse_url("https://h.example.com/"))] == [443, 30443]
    assert [one.port for one in search.controller.entries_for(parse_url("http://h.example.com:30080/"))] == [30080, 80]


@pytest.mark.parametrize(
    ("spec", "nodes", "external"),
    [
        ({"clusterIP": "10.96.0.9"}, "192.0.2.1 192.0.2.2", "198.51.100.9"),
        ({"clusterIP": "fd00::9", "clusterIPs": ["fd00::9"], "ipFamilies": ["IPv6"]}, "2001:db8::1", "2001:db8::9"),
        (
            {"clusterIP": "fd00::9", "clusterIPs": ["fd00::9", "10.96.0.9"]},
            "192.0.2.1 2001:db8::1 192.0.2.2",
            "198.51.100.9 2001:db8::9",
        ),
        ({"clusterIP": None, "ipFamilies": ["IPv6"]}, "2001:db8::1", "2001:db8::9"),
        ({"clusterIP": None}, "192.0.2.1 2001:db8::1 192.0.2.2", "198.51.100.9 2001:db8::9"),
    ],
)
def test_only_addresses_of_a_services_families_lead_in(spec: Object, nodes: str, external: str) -> None:
    controller = service("nginx", NGINX, HTTP, type="NodePort", externalIPs=["198.51.100.9", "2001:db8::9"])
    assert isinstance(controller["spec"], dict)
    controller["spec"].update(spec)
    found = ways(found_in(*BEHIND_NODE_PORT[:-2], controller))
    assert {f"NodePort http {nodes} 30080", f"ExternalIP http {external} 80"} <= set(found)


def test_behind_a_load_balancer_and_external_ips() -> None:
    balancer = service(
        "nginx",
        NGINX,
        {"name": "tls", "port": 443, "targetPort": 443},
        type="LoadBalancer",
        externalIPs=["198.51.100.9"],
        addresses=[{"ip": "203.0.113.9"}, {"hostname": "lb.example.com"}],
    )
    search = found_in(ingress(), ingress_class("k8s.io/ingress-nginx"), pod("nginx-0", NGINX), balancer)
    assert ways(search)[:2] == ["LoadBalancer https 203.0.113.9 lb.example.com 443", "ExternalIP https 198.51.100.9 443"]


def test_a_service_without_a_selector_leads_by_its_slices() -> None:
    slices: Object = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s", "namespace": "in", "labels": {"kubernetes.io/service-name": "manual"}},
        "endpoints": [{"addresses": ["10.244.1.9"], "targetRef": {"kind": "Pod", "name": "nginx-0"}}],
    }
    search = found_in(pod("nginx-0", NGINX), service("manual", {}, HTTP, type="NodePort"), slices, given="in/manual")
    assert pods(search) == ["nginx-0"]
    assert search.controller is not None
    assert [str(one) for one in search.controller.entries] == [
        "NodePort 192.0.2.1, 192.0.2.2 port 30080 (Service in/manual)",
        "ClusterIP 10.96.0.9 port 80 (Service in/manual)",
    ]


@pytest.mark.parametrize(
    ("port", "scheme"),
    [
        ({"port": 80, "targetPort": 3128}, "http"),
        ({"port": 9999, "targetPort": 8443}, "https"),
        ({"name": "http2", "port": 9999, "targetPort": 1}, "http"),
        ({"name": "kong-proxy-tls", "port": 9999, "targetPort": 1}, "https"),
        ({"name": "x", "port": 9999, "targetPort": 1}, None),
        ({"name": "http-metrics", "port": 80}, "no entry"),
        ({"name": "https", "port": 443, "protocol": "UDP"}, "no entry"),
    ],
)
def test_what_a_port_serves(port: Object, scheme: str | None) -> None:
    search = found_in(pod("n-0", NGINX, ports=[]), service("s", NGINX, port), given="in/s")
    assert search.controller is not None
    assert [one.scheme for one in search.controller.entries] == ([] if scheme == "no entry" else [scheme])


HOST_PORTS: list[Object] = [
    {"containerPort": 8000, "name": "web", "hostPort": 80},
    {"containerPort": 8443, "name": "websecure", "hostPort": 443, "hostIP": "192.0.2.77"},
    {"containerPort": 9000, "name": "traefik", "hostPort": 9000},
    {"containerPort": 9100, "name": "metrics"},
]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        pytest.param(
            pod("t-0", {"app.kubernetes.io/name": "traefik"}, node="node-b", hostNetwork=True),
            ["HostNetwork http 192.0.2.2 80", "HostNetwork https 192.0.2.2 443"],
            id="host network",
        ),
        pytest.param(
            pod("t-0", {"app.kubernetes.io/name": "traefik"}, node="node-b", ports=HOST_PORTS),
            ["HostPort http 192.0.2.2 80", "HostPort https 192.0.2.77 443"],
            id="host ports",
        ),
    ],
)
def test_on_the_node_itself(one: Object, expected: list[str]) -> None:
    search = found_in(ingress(), ingress_class("traefik.io/ingress-controller"), one)
    assert ways(search) == expected
    assert search.controller is not None
    assert all(entry.node == "node-b" and not entry.kind.through_service for entry in search.controller.entries)


MINE: Object = {"run": "mine"}


@pytest.mark.parametrize(
    ("items", "names", "certainty", "looked"),
    [
        pytest.param(
            [ingress(name=None, annotation="nginx"), pod("n-0", NGINX)],
            ["n-0"],
            Certainty.POSSIBLE,
            "the class name nginx",
            id="class name by custom",
        ),
        pytest.param(
            [ingress(name=None), pod("n-0", NGINX)], ["n-0"], Certainty.POSSIBLE, "the Ingress has no class", id="no class"
        ),
        pytest.param(
            [ingress(), ingress_class("example.com/mine"), pod("n-0", NGINX)],
            ["n-0"],
            Certainty.POSSIBLE,
            "no well-known controller",
            id="unknown controller, one known runs",
        ),
        pytest.param(
            [
                ingress(status=[{"ip": "203.0.113.9"}]),
                ingress_class("example.com/mine"),
                pod("mine-0", MINE),
                pod("n-0", NGINX),
                service("mine", MINE, HTTP, type="LoadBalancer", addresses=[{"ip": "203.0.113.9"}]),
            ],
            ["mine-0"],
            Certainty.DEFINITE,
            "203.0.113.9: Service in/mine",
            id="status names a Service",
        ),
        pytest.param(
            [
                ingress(status=[{"ip": "192.0.2.2"}]),
                ingress_class("example.com/mine"),
                pod("mine-0", MINE, node="node-b", hostNetwork=True),
            ],
            ["mine-0"],
            Certainty.DEFINITE,
            "node node-b",
            id="status names a node",
        ),
        pytest.param(
            [
                ingress(status=[{"hostname": "LB.example.com"}]),
                ingress_class("k8s.io/ingress-nginx"),
                pod("n-0", {**NGINX, "app.kubernetes.io/instance": "one"}),
                pod("n-1", {**NGINX, "app.kubernetes.io/instance": "two"}),
                service(
                    "two",
                    {"app.kubernetes.io/instance": "two"},
                    HTTP,
                    type="LoadBalancer",
                    addresses=[{"hostname": "lb.example.com"}],
                ),
            ],
            ["n-1"],
            Certainty.DEFINITE,
            "lb.example.com: Service in/two",
            id="status tells two of a kind apart",
        ),
        pytest.param(
            [ingress(), ingress_class("k8s.io/ingress-nginx"), pod("n-0", NGINX), pod("n-1", NGINX, namespace="in2")],
            ["n-0", "n-1"],
            Certainty.POSSIBLE,
            "labels",
            id="two of a kind",
        ),
        pytest.param(
            [ingress(), ingress_class("k8s.io/ingress-nginx")], [], Certainty.DEFINITE, "no pods are given", id="no pods given"
        ),
        pytest.param(
            [
                ingress(status=[{"ip": "203.0.113.9"}]),
                ingress_class("k8s.io/ingress-nginx"),
                pod("n-0", NGINX),
                pod("mine-0", MINE),
                service("mine", MINE, HTTP, type="LoadBalancer", addresses=[{"ip": "203.0.113.9"}]),
            ],
            ["n-0"],
            Certainty.POSSIBLE,
            "Service in/mine",
            id="status names another Service",
        ),
        pytest.param(
            [ingress(status=[{"ip": "203.0.113.1"}])], [], Certainty.POSSIBLE, "nobody among the objects has it", id="nobody"
        ),
    ],
)
def test_how_it_is_found(items: list[Object], names: list[str], certainty: Certainty, looked: str) -> None:
    search = found_in(*items)
    assert (pods(search), search.certainty) == (names, certainty)
    assert looked in "; ".join(search.looked_at)


@pytest.mark.parametrize("controller", ["ingress.k8s.aws/alb", "cilium.io/ingress-controller"])
def test_controllers_outside_of_the_cluster(controller: str) -> None:
    search = found_in(ingress(), ingress_class(controller))
    assert search.controller is None
    assert search.outside


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("in/nginx", ["nginx-0"]),
        ("service/in/nginx", ["nginx-0"]),
        ("in/nginx-0", ["nginx-0"]),
        ("pod/in/nginx-0", ["nginx-0"]),
        ("deployment/in/nginx", ["nginx-0"]),
        ("in/default", ["default-0"]),
    ],
)
def test_given(given: str, names: list[str]) -> None:
    search = found_in(*BEHIND_NODE_PORT, given=given)
    assert pods(search) == names
    assert search.controller is not None
    assert search.controller.found_by.startswith("given: ")


@pytest.mark.parametrize(
    ("given", "message"), [("in/ngnix", "did you mean in/nginx"), ("nginx", "give NAMESPACE/NAME"), ("d/nginx", "in/nginx")]
)
def test_given_that_is_not_there(given: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        found_in(*BEHIND_NODE_PORT, given=given)


def test_controllers_of_every_captured_cluster(capture_folders: list[Path]) -> None:
    for folder in (one for one in capture_folders if one.name.startswith("features-")):
        cluster = load([("objects.json", (folder / "objects.json").read_bytes())])
        ports: dict[str | None, set[tuple[EntryKind, str | None, int]]] = {}
        for one in cluster.ingresses.values():
            choice = class_of(cluster, one)
            search = find_controller(cluster, choice=choice, ingresses=[one])
            assert search.controller is not None
            assert search.certainty is Certainty.DEFINITE
            entries: Iterable[tuple[EntryKind, str | None, int]] = ((e.kind, e.scheme, e.port) for e in search.controller.entries)
            ports[choice.name] = set(entries)
        assert {(EntryKind.NODE_PORT, "http", 30800), (EntryKind.NODE_PORT, "https", 30443)} < ports["nginx"]
        assert ports["traefik"] == {(EntryKind.HOST_NETWORK, "http", 9080), (EntryKind.HOST_NETWORK, "https", 9443)}
