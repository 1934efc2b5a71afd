"""What is expected of ipsets and of kube-ipvs0, row by row of KPR 9, and against captured nodes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.kubeproxy.test_expect import (
    ALL_KINDS,
    EXTERNAL,
    HERE,
    NODE,
    RANGES,
    THERE,
    UNREADY,
    cluster_of,
    service,
    settings_of,
    slice_of,
)
from tests.kubeproxy.test_expect_ipvs import content, expectation_of, expectations, healthy

from ruleaudit.kubeproxy.expect import Expectation, expect
from ruleaudit.kubeproxy.expected_sets import expected_dummy_addresses, expected_sets, set_name
from ruleaudit.kubeproxy.release import ProxyMode, Release
from ruleaudit.kubeproxy.settings import ProxySettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.kubeproxy.test_expect import Object

ADDRESSES = ("192.168.0.1", "10.244.1.254", "fd00::1")


def shown(expectation: Expectation, addresses: Sequence[str] = ADDRESSES) -> dict[str, list[str]]:
    """The entries of the sets that hold any; optional ones in parentheses."""
    return {
        name.removeprefix("KUBE-"): [f"({text})" if asked.optional else text for text, asked in sorted(found.entries.items())]
        for name, found in expected_sets(expectation, addresses).items()
        if found.entries
    }


def frontends_alone(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: texts for name, texts in found.items() if name not in ("LOOP-BACK", "IPVS-IPS", "CLUSTER-IP")}


def test_the_sets_of_a_service_with_all_kinds_of_address() -> None:
    assert shown(expectation_of(service(**ALL_KINDS), slice_of(HERE, THERE, UNREADY))) == {
        "LOOP-BACK": ["10.244.1.1,tcp:8080,10.244.1.1", "10.244.1.3,tcp:8080,10.244.1.3"],
        "CLUSTER-IP": ["10.96.0.1,tcp:80"],
        "EXTERNAL-IP": ["198.51.100.1,tcp:80"],
        "LOAD-BALANCER": ["203.0.113.1,tcp:80"],
        "NODE-PORT-TCP": ["30080"],
        "IPVS-IPS": ["10.96.0.1", "198.51.100.1", "203.0.113.1"],
    }


HEALTH = {"healthCheckNodePort": 31000}
LOCAL_SETS = {
    "EXTERNAL-IP-LOCAL": ["198.51.100.1,tcp:80"],
    "LOAD-BALANCER": ["203.0.113.1,tcp:80"],
    "LOAD-BALANCER-LOCAL": ["203.0.113.1,tcp:80"],
    "NODE-PORT-LOCAL-TCP": ["30080"],
    "NODE-PORT-TCP": ["30080"],
}
CHECKED = {"HEALTH-CHECK-NODE-PORT": ["31000"]}
BALANCED = {"LOAD-BALANCER": ["203.0.113.1,tcp:80"], "LOAD-BALANCER-FW": ["203.0.113.1,tcp:80"]}


@pytest.mark.parametrize(
    ("minor", "spec", "expected"),
    [
        pytest.param(20, ALL_KINDS | EXTERNAL | HEALTH, LOCAL_SETS, id="1.20 external Local"),
        pytest.param(21, ALL_KINDS | EXTERNAL | HEALTH, LOCAL_SETS | CHECKED, id="1.21 health checks have a set"),
        pytest.param(36, ALL_KINDS | EXTERNAL | HEALTH, LOCAL_SETS | CHECKED, id="1.36 external Local"),
        pytest.param(
            19,
            ALL_KINDS | EXTERNAL,
            {name: texts for name, texts in LOCAL_SETS.items() if name != "EXTERNAL-IP-LOCAL"}
            | {"EXTERNAL-IP": ["198.51.100.1,tcp:80"]},
            id="1.19 external IPs do not follow the policy",
        ),
        pytest.param(
            36, RANGES, BALANCED | {"LOAD-BALANCER-SOURCE-CIDR": ["203.0.113.1,tcp:80,192.0.2.0/24"]}, id="source ranges"
        ),
        pytest.param(
            36,
            RANGES | {"loadBalancerSourceRanges": ["192.168.0.1/32", "192.0.2.77/24"]},
            BALANCED
            | {
                "LOAD-BALANCER-SOURCE-CIDR": ["203.0.113.1,tcp:80,192.0.2.0/24", "203.0.113.1,tcp:80,192.168.0.1"],
                "LOAD-BALANCER-SOURCE-IP": ["203.0.113.1,tcp:80,203.0.113.1"],
            },
            id="source ranges with the node's address",
        ),
        pytest.param(
            33,
            RANGES | {"loadBalancerSourceRanges": ["0.0.0.0/0"]},
            BALANCED | {"LOAD-BALANCER-SOURCE-IP": ["203.0.113.1,tcp:80,203.0.113.1"]},
            id="1.33 a range of everything cannot be stored",
        ),
        pytest.param(
            34,
            RANGES | {"loadBalancerSourceRanges": ["0.0.0.0/0"]},
            {"LOAD-BALANCER": ["203.0.113.1,tcp:80"]},
            id="1.34 a range of everything is none",
        ),
    ],
)
def test_which_sets_hold_a_frontend(minor: int, spec: Object, expected: dict[str, list[str]]) -> None:
    assert frontends_alone(shown(expectation_of(service(**spec), slice_of(HERE), minor=minor))) == expected


def test_a_node_that_nobody_knows_may_be_inside_a_range() -> None:
    found = shown(expectation_of(service(**RANGES), slice_of(HERE), nodes=[]))
    assert found["LOAD-BALANCER-SOURCE-IP"] == ["(203.0.113.1,tcp:80,203.0.113.1)"]


def test_node_ports_of_sctp_are_there_for_each_address() -> None:
    sctp = {"name": "http", "port": 80, "protocol": "SCTP", "nodePort": 30080}
    sets = expected_sets(expectation_of(service(type="NodePort", ports=[sctp], **EXTERNAL)), ADDRESSES)
    for name in ("KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-LOCAL-SCTP-HASH"):
        found = sets[name]
        assert sorted(found.entries) == ["10.244.1.254,sctp:30080", "192.168.0.1,sctp:30080"]
        elsewhere = found.asked("172.17.0.1,sctp:30080")
        assert elsewhere is not None
        assert elsewhere.optional
        assert found.asked("172.17.0.1,sctp:30081") is None
        assert found.empty is False
    assert sets["KUBE-NODE-PORT-TCP"].empty is True


@pytest.mark.parametrize(("minor", "expected"), [(20, ["here"]), (21, ["here", "unready"])])
def test_hairpins_of_endpoints_that_are_not_ready_are_there_from_1_21(minor: int, expected: list[str]) -> None:
    here = {"10.244.1.1,tcp:8080,10.244.1.1": "here", "10.244.1.3,tcp:8080,10.244.1.3": "unready"}
    found = shown(expectation_of(service(), slice_of(HERE, UNREADY), minor=minor))["LOOP-BACK"]
    assert [here[text] for text in found] == expected


def test_trap_t12_what_differing_entries_leave_open_is_optional() -> None:
    here: Object = {"addresses": ["10.244.1.1"], "nodeName": NODE}
    elsewhere: Object = here | {"nodeName": "node-b"}
    found = shown(expectation_of(service(), slice_of(here), slice_of(elsewhere, name="web-2")))
    assert found["LOOP-BACK"] == ["(10.244.1.1,tcp:8080,10.244.1.1)"]
    found = shown(expectation_of(service(), slice_of(here), slice_of(here, name="web-2")))
    assert found["LOOP-BACK"] == ["10.244.1.1,tcp:8080,10.244.1.1"]


def test_what_only_one_kind_of_object_holds_is_optional_where_either_may_be_read() -> None:
    held: Object = {
        "kind": "Endpoints",
        "apiVersion": "v1",
        "metadata": {"name": "web", "namespace": "d"},
        "subsets": [
            {
                "addresses": [{"ip": "10.244.1.1", "nodeName": NODE}, {"ip": "10.244.1.9", "nodeName": NODE}],
                "ports": [{"name": "http", "port": 8080}],
            }
        ],
    }
    found = shown(expectation_of(service(), held, slice_of(HERE), minor=20))
    assert found["LOOP-BACK"] == ["10.244.1.1,tcp:8080,10.244.1.1", "(10.244.1.9,tcp:8080,10.244.1.9)"]


def test_without_endpoints_nothing_is_known_of_hairpins() -> None:
    found = expected_sets(expectation_of(service()), ADDRESSES)
    assert [name for name, one in found.items() if not one.known] == ["KUBE-LOOP-BACK"]
    assert found["KUBE-LOOP-BACK"].empty is None


def test_node_ports_are_open_where_settings_name_addresses_that_are_not_known() -> None:
    settings = settings_of(nodeport_addresses=("172.16.0.0/12",))
    spec = service(**ALL_KINDS, **EXTERNAL, **HEALTH)
    found = shown(expectation_of(spec, settings=settings), ())
    assert [found[name] for name in ("NODE-PORT-TCP", "NODE-PORT-LOCAL-TCP", "HEALTH-CHECK-NODE-PORT")] == [
        ["(30080)"],
        ["(30080)"],
        ["(31000)"],
    ]
    settings = settings_of(nodeport_addresses=("fd00::/8",))
    assert shown(expectation_of(spec, settings=settings), ())["NODE-PORT-TCP"] == ["30080"]


@pytest.mark.parametrize(("minor", "optional"), [(26, []), (27, []), (28, ["203.0.113.1"]), (36, ["203.0.113.1"])])
def test_addresses_that_another_interface_holds_stay_there_from_1_28(minor: int, optional: list[str]) -> None:
    expectation = expectation_of(service(**ALL_KINDS), minor=minor)
    found = expected_dummy_addresses(expectation, ["203.0.113.1", "10.96.0.1"])
    assert [address for address, asked in found.items() if asked.optional] == optional
    assert list(found) == ["10.96.0.1", "198.51.100.1", "203.0.113.1"]
    assert expected_sets(expectation, ["203.0.113.1"])["KUBE-IPVS-IPS"].entries == found


def test_entries_name_everyone_who_asks_for_them() -> None:
    other = service(clusterIP="10.96.0.2", externalIPs=["198.51.100.1"])
    other["metadata"] = {"name": "other", "namespace": "d"}
    expectation = expectation_of(service(externalIPs=["198.51.100.1"]), other)
    asked = expected_sets(expectation, ())["KUBE-EXTERNAL-IP"].asked("198.51.100.1,tcp:80")
    assert asked is not None
    assert [str(port.name) for port in asked.service_ports] == ["d/web:http", "d/other:http"]


def test_names_of_the_other_family() -> None:
    expectation = expect(cluster_of(), node=NODE, family=6, settings=ProxySettings(), release=Release(36), mode=ProxyMode.IPVS)
    found = expected_sets(expectation, ())
    assert all(len(name) <= 31 and one.name == name for name, one in found.items())
    assert set_name("KUBE-LOAD-BALANCER-SOURCE-CIDR", 6) == "KUBE-6-LOAD-BALANCER-SOURCE-CID"
    assert set_name("KUBE-NODE-PORT-LOCAL-SCTP-HASH", 6) == "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS"
    assert {"KUBE-6-NODE-PORT-TCP", "KUBE-6-IPVS-IPS"} <= set(found)


def held_sets(text: str) -> dict[str, tuple[str, set[str]]]:
    """From `ipset save`: the type and the entries of each set."""
    words = [line.split() for line in text.splitlines() if line]
    found = {one[1]: (one[2], set[str]()) for one in words if one[0] == "create"}
    for one in words:
        if one[0] == "add":
            found[one[1]][1].add(one[2])
    return found


def test_healthy_nodes_hold_the_sets_that_are_expected(capture_folders: list[Path]) -> None:
    for folder in healthy(capture_folders):
        held = held_sets(content(folder / "ipset.txt"))
        dummy = {
            entry["local"]
            for device in json.loads(content(folder / "ip-addr-kube-ipvs0.json"))
            if device["ifname"] == "kube-ipvs0"
            for entry in device["addr_info"]
            if entry["scope"] != "link"
        }
        for expectation, node_addresses in expectations(folder):
            sets = expected_sets(expectation, node_addresses)
            mine = {name for name in held if name.startswith("KUBE-6-") == (expectation.family == 6)}
            assert set(sets) == mine, folder.name
            for name, one in sets.items():
                where = (folder.name, name)
                assert held[name][0] == one.kind.type, where
                assert {text for text in held[name][1] if one.asked(text) is None} == set(), where
                assert {text for text, _asked in one.required if text not in held[name][1]} == set(), where
                assert not any(asked.optional for asked in one.entries.values()), where
            addresses = expected_dummy_addresses(expectation, node_addresses)
            assert set(addresses) == {one for one in dummy if (":" in one) == (expectation.family == 6)}, folder.name
