"""The small nodes of the tests are healthy before a test changes them."""

from __future__ import annotations

import pytest
from tests.small_node import BASE, KUBERNETES, NODES, Object, SmallNode, endpoint, serious, service


def node_port(number: int) -> list[Object]:
    return [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": number}]


EXTERNAL = service("shop/external", "10.96.0.26", externalIPs=["203.0.113.6"])
LOADED = [
    *BASE,
    *service("shop/port", "10.96.0.21", type="NodePort", ports=node_port(30080)),
    *service("shop/local", "10.96.0.22", type="NodePort", externalTrafficPolicy="Local", ports=node_port(30081)),
    *service("shop/balanced", "10.96.0.23", type="LoadBalancer", ingress=["203.0.113.5"], loadBalancerSourceRanges=["198.51.100.0/24"],
             ports=node_port(30082)),
    *service("shop/sticky", "10.96.0.24", sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 600}}),
    *service("shop/empty", "10.96.0.25", []),
    *EXTERNAL,
    *service("shop/one", "10.96.0.27", [endpoint("10.244.1.9")]),
]  # fmt: skip


def loaded(minor: int) -> list[Object]:
    """1.22 wrote external IPs as 1.25 does, which the miniature kube-proxy does not."""
    return LOADED if minor != 22 else [one for one in LOADED if one not in EXTERNAL]


@pytest.mark.parametrize("told", [True, False], ids=["told", "inferred"])
@pytest.mark.parametrize("minor", [20, 22, 25, 27, 30, 31, 36])
def test_a_small_node_is_healthy(minor: int, told: bool) -> None:
    report = SmallNode(loaded(minor), minor).report(told=told)
    assert serious(report) == []
    assert report.services == 9 - (minor == 22)


def test_a_small_node_of_ipv6_is_healthy() -> None:
    objects = [*NODES, *KUBERNETES, *service("shop/web6", "fd00:10:96::20", [endpoint("fd00:10:244:1::5", "node-a")], family=6)]
    assert serious(SmallNode(objects, families=(4, 6)).report()) == []
