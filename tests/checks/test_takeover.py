"""RA801: an external IP takes what is somebody else's, and what only looks so."""

from __future__ import annotations

import json

import pytest
from tests.small_node import KUBERNETES, NODES, SmallNode, service

from ruleaudit.checks.takeover import takeovers
from ruleaudit.cluster import Cluster, load
from ruleaudit.findings import Finding, Severity
from ruleaudit.forwarding import Frontend, FrontendKind

Object = dict[str, object]


def cluster_of(*items: Object) -> Cluster:
    return load([("objects", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode())])


def svc(name: str, cluster_ip: str, port: Object | None = None, *, status: Object | None = None, **spec: object) -> Object:
    labels = spec.pop("labels", {})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "d", "labels": labels},
        "spec": {"clusterIP": cluster_ip, "ports": [{"port": 80, "protocol": "TCP", **(port or {})}], **spec},
        "status": status or {},
    }


NODE: Object = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "node-a"},
    "status": {
        "addresses": [
            {"type": "InternalIP", "address": "192.0.2.1"},
            {"type": "ExternalIP", "address": "2001:db8::1"},
            {"type": "Hostname", "address": "192.0.2.99"},
        ]
    },
}
WEB = svc("web", "10.96.0.1", {"nodePort": 30080})
BALANCED = svc("lb", "10.96.0.2", status={"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}, {"hostname": "x.example"}]}})
NOTE, LOUD = Severity.INFO, Severity.WARNING


def taker(*addresses: str, port: Object | None = None, **spec: object) -> Object:
    return svc("taker", "10.96.0.9", port, status=None, externalIPs=list(addresses), **spec)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (
            taker("192.0.2.1"),
            [(NOTE, "192.0.2.1:80/TCP of d/taker is an address of node node-a: on every node it takes what that")],
        ),
        (taker("2001:db8:0::1"), [(NOTE, "[2001:db8::1]:80/TCP of d/taker is an address of node node-a: ")]),
        (
            taker("192.0.2.1", port={"port": 30080}),
            [
                (
                    LOUD,
                    "192.0.2.1:30080/TCP of d/taker is an address of node node-a and the node port of d/web: on every node it takes "
                    "connections that are meant for d/web",
                )
            ],
        ),
        (taker("10.96.0.1"), [(LOUD, "10.96.0.1:80/TCP of d/taker is the cluster IP of d/web: ")]),
        (taker("198.51.100.7"), [(LOUD, "198.51.100.7:80/TCP of d/taker is the load-balancer IP of d/lb: ")]),
        (taker("10.96.0.1", "192.0.2.1"), [(LOUD, "is the cluster IP of d/web"), (NOTE, "is an address of node node-a")]),
        # What only looks like it.
        (taker("203.0.113.1"), []),
        (taker("192.0.2.99"), []),
        (taker("10.96.0.1", port={"port": 81}), []),
        (taker("10.96.0.1", port={"protocol": "UDP"}), []),
        (taker("192.0.2.1", port={"port": 30080, "protocol": "UDP"}), [(NOTE, "is an address of node node-a: ")]),
        (taker("10.96.0.9"), []),
        (taker("192.0.2.1", type="ExternalName"), []),
        (svc("taker", "None", externalIPs=["192.0.2.1"]), []),
        (taker("192.0.2.1", labels={"service.kubernetes.io/service-proxy-name": "other"}), []),
        (taker("no address"), []),
        (svc("taker", "10.96.0.9", status={"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}), []),
        (taker("192.0.2.1", port={"port": 30080, "nodePort": 30080}), [(LOUD, "and the node port of d/web")]),
    ],
)
def test_takeovers(one: Object, expected: list[tuple[Severity, str]]) -> None:
    found = list(takeovers(cluster_of(NODE, WEB, BALANCED, one), ()))
    assert [finding.severity for finding in found] == [severity for severity, _ in expected]
    for finding, (_, text) in zip(found, expected, strict=True):
        assert text in finding.message
        assert finding.code == "RA801"
        assert finding.service == "d/taker"
        assert finding.frontend is not None
        assert finding.frontend.kind is FrontendKind.EXTERNAL_IP
        assert str(finding.objects[0].name) == "taker"


def test_its_own_node_port_is_its_own() -> None:
    one = taker("192.0.2.1", port={"port": 31000, "nodePort": 31000})
    assert [finding.severity for finding in takeovers(cluster_of(NODE, one), ())] == [NOTE]


def test_what_claims_the_same_is_its_cause() -> None:
    where = Frontend(FrontendKind.CLUSTER_IP, "10.96.0.1", 80, "TCP", 4)
    claim = Finding("RA703", "duplicate-frontend", Severity.ERROR, "m", service="d/web", frontend=where)
    (found,) = takeovers(cluster_of(NODE, WEB, taker("10.96.0.1")), (claim,))
    assert found.cause == claim.fingerprint
    (free,) = takeovers(cluster_of(NODE, WEB, taker("192.0.2.1")), (claim,))
    assert free.cause is None


@pytest.mark.parametrize(
    ("minor", "addresses", "severities"),
    [
        (30, ["192.0.2.10"], {"RA801": NOTE}),
        (30, ["10.96.0.20"], {"RA801": LOUD, "RA703": Severity.ERROR}),
        (30, ["203.0.113.1"], {}),
    ],
)
def test_a_whole_audit(minor: int, addresses: list[str], severities: dict[str, Severity]) -> None:
    objects = [*NODES, *KUBERNETES, *service("shop/web", "10.96.0.20"), *service("shop/x", "10.96.0.26", externalIPs=addresses)]
    report = SmallNode(objects, minor).report()
    assert {one.code: one.severity for one in report.findings if one.code in ("RA801", "RA703")} == severities
    assert all(one.node == "node-a" for one in report.findings)
