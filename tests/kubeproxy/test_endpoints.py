"""Endpoint selection, row by row of KPR 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from ruleaudit.cluster.objects import Endpoints, EndpointSlice
from ruleaudit.kubeproxy.endpoints import Candidates, Policy, Selection, candidates_from_endpoints, candidates_from_slices, select
from ruleaudit.kubeproxy.release import Release

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NODE = "node-a"
Entry = dict[str, object]


def entry(address: str, node: str | None = None, **fields: object) -> Entry:
    """An endpoint of a slice; ready, serving and terminating go into its conditions, zones and nodes into its hints."""
    conditions = {name: fields.pop(name) for name in ("ready", "serving", "terminating") if name in fields}
    hints = {
        f"for{name.title()}": [{"name": one} for one in given]
        for name in ("zones", "nodes")
        if isinstance(given := fields.pop(name, None), list)
    }
    return {"addresses": [address], "nodeName": node, "conditions": conditions, "hints": hints, **fields}


def slice_of(
    *entries: Entry, ports: object = ({"name": "http", "port": 80},), address_type: str = "IPv4", **labels: str
) -> EndpointSlice:
    metadata = {"name": "s", "namespace": "d", "labels": {"kubernetes.io/service-name": "web", **labels}}
    return msgspec.convert(
        {"metadata": metadata, "addressType": address_type, "endpoints": list(entries), "ports": ports}, EndpointSlice
    )


def candidates(
    slices: Sequence[EndpointSlice],
    *,
    minor: int = 36,
    port: str = "http",
    protocol: str = "TCP",
    family: int = 4,
    gates: Mapping[str, bool] | None = None,
) -> Candidates:
    return candidates_from_slices(slices, port, protocol, family=family, node=NODE, release=Release(minor, gates or {}))


def texts(endpoints: Sequence[object]) -> list[str]:
    return [getattr(endpoint, "text", "") for endpoint in endpoints]


def policy(**values: object) -> Policy:
    defaults: dict[str, object] = {
        "internal_local": False,
        "external_local": False,
        "uses_cluster": True,
        "uses_local": True,
        "node": NODE,
        "zone": "zone-a",
    }
    return Policy(**{**defaults, **values})  # type: ignore[arg-type]  # the rows below name the fields


def selection(
    entries: Sequence[Entry], *, minor: int = 36, gates: Mapping[str, bool] | None = None, **values: object
) -> Selection:
    release = Release(minor, gates or {})
    return select(candidates([slice_of(*entries)], minor=minor, gates=gates).endpoints, policy(**values), release)


READY, SERVING, TERMINATING = "ready", "serving", "terminating"
OTHER_READY = entry("10.0.0.9", "node-b", ready=True)
LOCAL_READY = entry("10.0.0.8", NODE, ready=True)


# KPR 2.11: alone, beside a ready endpoint elsewhere, beside a ready local one.
@pytest.mark.parametrize(
    ("conditions", "node", "alone", "beside_other", "beside_local"),
    [
        pytest.param({}, NODE, "CL", "CL", "CL", id="no conditions: ready"),
        pytest.param({READY: None, SERVING: None, TERMINATING: None}, NODE, "CL", "CL", "CL", id="null conditions: ready"),
        pytest.param({READY: True, SERVING: True, TERMINATING: False}, "node-b", "C", "C", "C", id="ready elsewhere"),
        pytest.param({READY: True}, None, "C", "C", "C", id="no node name is never local"),
        pytest.param({READY: False, SERVING: False, TERMINATING: False}, NODE, "", "", "", id="not ready"),
        pytest.param({READY: False, SERVING: True, TERMINATING: True}, NODE, "CL", "L", "", id="terminating, serving"),
        pytest.param({READY: False, TERMINATING: True}, NODE, "CL", "L", "", id="terminating, serving not said"),
        pytest.param({READY: False, SERVING: True, TERMINATING: False}, NODE, "", "", "", id="serving, not terminating"),
        pytest.param({READY: False, SERVING: False, TERMINATING: True}, NODE, "", "", "", id="terminating, not serving"),
        pytest.param({READY: True, SERVING: True, TERMINATING: True}, NODE, "CL", "CL", "CL", id="published though terminating"),
    ],
)
@pytest.mark.parametrize("minor", [26, 30, 36])
def test_worked_truth_table(
    conditions: Entry, node: str | None, alone: str, beside_other: str, beside_local: str, minor: int
) -> None:
    judged = entry("10.0.0.1", node, **conditions)
    for others, expected in (([], alone), ([OTHER_READY], beside_other), ([LOCAL_READY], beside_local)):
        chosen = selection([judged, *others], minor=minor)
        found = ("C" if "10.0.0.1:80" in texts(chosen.cluster) else "") + ("L" if "10.0.0.1:80" in texts(chosen.local) else "")
        assert found == expected, others
        assert ("10.0.0.1:80" in texts(chosen.reachable)) == bool(expected), others
        assert chosen.any == bool(others or expected), others


FALLING_BACK = [entry("10.0.0.1", NODE, ready=False, serving=True, terminating=True)]
UNREADY = [entry("10.0.0.1", NODE, ready=False, serving=True)]
MIXED = [
    entry("10.0.0.1", NODE),
    entry("10.0.0.2", "node-b"),
    entry("10.0.0.3", NODE, ready=False, serving=True, terminating=True),
]
ELSEWHERE = [
    entry("10.0.0.2", "node-b", ready=False, serving=True, terminating=True),
    entry("10.0.0.3", "node-b", ready=False),
]
BOTH_GATES = {"ProxyTerminatingEndpoints": True, "TopologyAwareHints": True}
ONE, TWO, THREE = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


@pytest.mark.parametrize(
    ("minor", "gates", "entries", "asked", "cluster", "local", "reachable", "usable"),
    [
        pytest.param(25, {}, FALLING_BACK, {}, [], [], [], False, id="1.25: no fallback"),
        pytest.param(
            25, {"ProxyTerminatingEndpoints": True}, FALLING_BACK, {}, [ONE], [ONE], [ONE], True, id="1.25 with the gate"
        ),
        pytest.param(26, {}, FALLING_BACK, {}, [ONE], [ONE], [ONE], True, id="1.26: fallback"),
        pytest.param(36, {}, MIXED, {"uses_local": False}, [ONE, TWO], [], [ONE, TWO], True, id="Cluster alone"),
        pytest.param(36, {}, MIXED, {"uses_cluster": False}, [], [ONE], [ONE], True, id="Local alone"),
        pytest.param(36, {}, MIXED[1:2], {"uses_cluster": False}, [], [], [], True, id="Local alone, endpoints elsewhere"),
        pytest.param(36, {}, UNREADY, {"uses_cluster": False}, [], [], [], False, id="Local alone, nothing usable"),
        pytest.param(36, {}, MIXED[1:], {}, [TWO], [THREE], [TWO, THREE], True, id="each list falls back by itself"),
        pytest.param(36, {}, [], {}, [], [], [], False, id="no endpoints at all"),
        pytest.param(
            23, {}, MIXED, {"internal_local": True}, [ONE], [ONE], [ONE], True, id="1.23: internal Local restricts everything"
        ),
        pytest.param(
            23, {}, MIXED[1:2], {"internal_local": True}, [], [], [], False, id="1.23: internal Local without local ones: none"
        ),
        pytest.param(
            23,
            {},
            MIXED,
            {"internal_local": True, "external_local": True},
            [ONE, TWO],
            [ONE],
            [ONE, TWO],
            True,
            id="1.23: external Local wins",
        ),
        pytest.param(23, {}, UNREADY, {}, [], [], [], False, id="1.23: unready ones are none"),
        pytest.param(
            23,
            {"ProxyTerminatingEndpoints": True},
            FALLING_BACK,
            {"external_local": True},
            [],
            [ONE],
            [ONE],
            True,
            id="1.23 with the gate: the local list alone falls back",
        ),
        pytest.param(21, {}, UNREADY, {}, [], [], [], False, id="1.21: unready ones are none"),
        pytest.param(
            36, {}, ELSEWHERE, {"uses_cluster": False}, [], [], [], True, id="Local alone, one that ends elsewhere, one unready"
        ),
        pytest.param(
            23,
            BOTH_GATES,
            FALLING_BACK,
            {},
            [],
            [ONE],
            [ONE],
            False,
            id="1.23: hints not asked for leave terminating ones in the list",
        ),
        pytest.param(23, {}, FALLING_BACK, {"external_local": True}, [], [], [], False, id="1.23 without the gate: no fallback"),
        pytest.param(
            23,
            {"ProxyTerminatingEndpoints": True},
            FALLING_BACK,
            {},
            [],
            [ONE],
            [ONE],
            False,
            id="1.23: no fallback of policy Cluster",
        ),
        pytest.param(
            23,
            {"ProxyTerminatingEndpoints": True},
            UNREADY,
            {"external_local": True},
            [],
            [],
            [],
            False,
            id="1.23: unready ones are no fallback",
        ),
        pytest.param(
            23,
            {"ProxyTerminatingEndpoints": True},
            ELSEWHERE,
            {"external_local": True},
            [],
            [],
            [],
            True,
            id="1.23: one that ends is usable",
        ),
        pytest.param(
            22,
            {},
            [MIXED[0], *ELSEWHERE],
            {"hints_annotated": True},
            [ONE],
            [ONE],
            [ONE, TWO, THREE],
            True,
            id="1.22: unready ones stay in",
        ),
        pytest.param(20, {"ServiceTopology": True}, MIXED, {}, [ONE, TWO], [ONE], [ONE, TWO], True, id="1.20: no topology keys"),
        pytest.param(
            20,
            {},
            MIXED,
            {"topology_keys": ("a/b",)},
            [ONE, TWO],
            [ONE],
            [ONE, TWO],
            True,
            id="1.20: topology keys without the gate",
        ),
        pytest.param(
            20,
            {"ServiceTopology": True},
            MIXED,
            {"topology_keys": ("a/b",), "labels": None},
            [],
            [],
            [],
            False,
            id="1.20: a node without labels",
        ),
        pytest.param(
            20,
            {"ServiceTopology": True},
            MIXED,
            {"topology_keys": ("a/b",), "labels": {"a/b": "c"}},
            [],
            [],
            [],
            False,
            id="1.20: endpoints without topology",
        ),
        pytest.param(20, {}, MIXED, {}, [ONE, TWO], [ONE], [ONE, TWO], True, id="1.20: ready ones"),
    ],
)
def test_select(
    minor: int,
    gates: Mapping[str, bool],
    entries: list[Entry],
    asked: Entry,
    cluster: list[str],
    local: list[str],
    reachable: list[str],
    *,
    usable: bool,
) -> None:
    chosen = selection(entries, minor=minor, gates=gates, **asked)
    assert texts(chosen.cluster) == cluster
    assert texts(chosen.local) == local
    assert texts(chosen.reachable) == reachable
    assert chosen.any is usable


def test_trap_t14_unready_endpoints_count_as_endpoints_in_1_22() -> None:
    chosen = selection(UNREADY, minor=22)
    assert (chosen.cluster, chosen.local, texts(chosen.reachable), chosen.any) == ((), (), [ONE], True)


A, B = ["zone-a"], ["zone-b"]
ON = {"hints_annotated": True}


# KPR 2.4. The rows give zones (or nodes) of two ready endpoints, and which of them node-a in zone-a uses.
@pytest.mark.parametrize(
    ("minor", "gates", "first", "second", "asked", "used"),
    [
        pytest.param(36, {}, {"zones": A}, {"zones": B}, {}, [ONE], id="own zone"),
        pytest.param(31, {}, {"zones": A}, {"zones": B}, {}, [ONE], id="1.31 needs no annotation"),
        pytest.param(30, {}, {"zones": A}, {"zones": B}, {}, [ONE, TWO], id="1.30 needs the annotation"),
        pytest.param(30, {}, {"zones": A}, {"zones": B}, ON, [ONE], id="1.30 with the annotation"),
        pytest.param(24, {}, {"zones": A}, {"zones": B}, ON, [ONE], id="1.24 with the annotation"),
        pytest.param(23, {}, {"zones": A}, {"zones": B}, ON, [ONE, TWO], id="1.23 without the gate"),
        pytest.param(23, {"TopologyAwareHints": True}, {"zones": A}, {"zones": B}, ON, [ONE], id="1.23 with the gate"),
        pytest.param(
            23,
            {"TopologyAwareHints": True},
            {"zones": A},
            {"zones": B},
            {**ON, "external_local": True},
            [ONE, TWO],
            id="1.23, external Local",
        ),
        pytest.param(22, {"TopologyAwareHints": True}, {"zones": A}, {"zones": B}, ON, [ONE], id="1.22 with the gate"),
        pytest.param(30, {"TopologyAwareHints": False}, {"zones": A}, {"zones": B}, ON, [ONE, TWO], id="1.30 with the gate off"),
        pytest.param(36, {}, {"zones": [*A, *B]}, {"zones": A}, {}, [ONE, TWO], id="several zones"),
        pytest.param(36, {}, {"zones": A}, {}, {}, [ONE, TWO], id="a ready endpoint without hints"),
        pytest.param(36, {}, {"zones": B}, {"zones": B}, {}, [ONE, TWO], id="none for this zone"),
        pytest.param(36, {}, {"zones": A}, {"zones": B}, {"zone": None}, [ONE, TWO], id="a node without zone"),
        pytest.param(36, {}, {"zones": A}, {"zones": B}, {"zone": ""}, [ONE, TWO], id="a node with an empty zone"),
        pytest.param(36, {}, {"nodes": [NODE], "zones": B}, {"nodes": ["node-b"], "zones": A}, {}, [ONE], id="nodes beat zones"),
        pytest.param(
            36,
            {},
            {"nodes": ["node-c"], "zones": B},
            {"nodes": ["node-b"], "zones": A},
            {},
            [TWO],
            id="no endpoint for this node: zones",
        ),
        pytest.param(36, {}, {"nodes": [NODE]}, {}, {}, [ONE, TWO], id="node hints on some only"),
        pytest.param(33, {}, {"nodes": [NODE]}, {"nodes": ["node-b"]}, {}, [ONE, TWO], id="1.33 knows no node hints by default"),
        pytest.param(
            33,
            {"PreferSameTrafficDistribution": True},
            {"nodes": [NODE]},
            {"nodes": ["node-b"]},
            {},
            [ONE],
            id="1.33 with the gate",
        ),
    ],
)
def test_topology_hints(
    minor: int, gates: Mapping[str, bool], first: Entry, second: Entry, asked: Entry, used: list[str]
) -> None:
    chosen = selection([entry("10.0.0.1", NODE, **first), entry("10.0.0.2", NODE, **second)], minor=minor, gates=gates, **asked)
    assert texts(chosen.cluster) == used
    if minor >= 24:
        assert texts(chosen.local) == [ONE, TWO]
        assert texts(chosen.reachable) == [ONE, TWO]


@pytest.mark.parametrize(
    ("minor", "used"),
    [
        pytest.param(36, [ONE], id="later releases look at ready ones"),
        pytest.param(23, [ONE], id="so does 1.23"),
        pytest.param(22, [ONE, TWO], id="1.22 at all"),
    ],
)
def test_an_unready_endpoint_without_hints(minor: int, used: list[str]) -> None:
    entries = [entry("10.0.0.1", zones=A), entry("10.0.0.2", zones=B), entry("10.0.0.3", ready=False)]
    chosen = selection(entries, minor=minor, gates={"TopologyAwareHints": True}, **ON)
    assert texts(chosen.cluster) == used


def test_terminating_endpoints_stand_in_whatever_their_hints() -> None:
    chosen = selection([entry("10.0.0.1", zones=B, ready=False, serving=True, terminating=True)])
    assert texts(chosen.cluster) == [ONE]


# KPR 2.6.
@pytest.mark.parametrize(
    ("keys", "used"),
    [
        (("kubernetes.io/hostname", "*"), [ONE]),
        (("topology.kubernetes.io/zone", "kubernetes.io/hostname"), [ONE, TWO]),
        (("example.com/rack", "*"), [ONE, TWO, THREE]),
        (("example.com/rack",), []),
    ],
)
def test_topology_keys(keys: tuple[str, ...], used: list[str]) -> None:
    places = ((NODE, "zone-a"), ("node-b", "zone-a"), ("node-c", "zone-b"))
    entries = [
        entry(f"10.0.0.{number}", topology={"kubernetes.io/hostname": node, "topology.kubernetes.io/zone": zone})
        for number, (node, zone) in enumerate(places, 1)
    ]
    labels = {"kubernetes.io/hostname": NODE, "topology.kubernetes.io/zone": "zone-a"}
    gates = {"ServiceTopology": True}
    assert texts(selection(entries, minor=20, gates=gates, topology_keys=keys, labels=labels).cluster) == used
    assert texts(selection(entries, minor=20, gates=gates, topology_keys=keys, labels=labels, external_local=True).cluster) == [
        ONE,
        TWO,
        THREE,
    ]


HTTP = {"name": "http", "port": 80}


@pytest.mark.parametrize(
    ("minor", "given", "found"),
    [
        pytest.param(36, slice_of(entry("10.0.0.1"), ports=[]), [], id="no ports"),
        pytest.param(36, slice_of(entry("10.0.0.1"), ports=[{"port": 80}]), [], id="a port name that is absent is not empty"),
        pytest.param(36, slice_of(entry("10.0.0.1"), ports=[{"name": "http"}]), [], id="no port number"),
        pytest.param(36, slice_of(entry("10.0.0.1"), ports=[{"name": "http", "port": 0}]), [], id="port 0"),
        pytest.param(
            36, slice_of(entry("10.0.0.1"), ports=[{"name": "https", "port": 443}]), [], id="a port that the Service lacks"
        ),
        pytest.param(36, slice_of(entry("10.0.0.1"), ports=[{**HTTP, "protocol": "UDP"}]), [], id="another protocol"),
        pytest.param(
            16, slice_of(entry("10.0.0.1"), ports=[{**HTTP, "protocol": "UDP"}]), [ONE], id="1.16 matches by name alone"
        ),
        pytest.param(36, slice_of(entry("example.com"), address_type="FQDN"), [], id="names instead of addresses"),
        pytest.param(36, slice_of(entry("fd00::1"), address_type="IPv6"), [], id="another family"),
        pytest.param(36, slice_of(entry("10.0.0.1"), address_type="IP"), [], id="the old address type"),
        pytest.param(19, slice_of(entry("10.0.0.1"), address_type="FQDN"), [], id="names instead of addresses in 1.19"),
        pytest.param(19, slice_of(entry("10.0.0.1"), address_type="IP"), [ONE], id="the old address type in 1.19"),
        pytest.param(32, slice_of(entry("fd00::1")), [], id="1.32 skips an address of the wrong family"),
        pytest.param(33, slice_of(entry("fd00::1")), ["[fd00::1]:80"], id="1.33 does not"),
        pytest.param(36, slice_of({"addresses": []}), [], id="no address"),
        pytest.param(36, slice_of({"addresses": ["10.0.0.1", "10.0.0.2"]}), [ONE], id="only the first address counts"),
        pytest.param(36, slice_of(entry("10.0.0.1"), **{"service.kubernetes.io/headless": ""}), [], id="of a headless Service"),
        pytest.param(
            36, slice_of(entry("10.0.0.1"), **{"service.kubernetes.io/service-proxy-name": ""}), [], id="of another proxy"
        ),
        pytest.param(
            36, slice_of(entry("10.0.0.1"), ports=[HTTP, {"name": "http", "port": 81}]), [ONE, "10.0.0.1:81"], id="a name twice"
        ),
        pytest.param(
            36,
            slice_of(entry("10.0.0.2"), entry("10.0.0.10"), entry("10.0.0.1")),
            ["10.0.0.10:80", ONE, TWO],
            id="in the order of their text",
        ),
        pytest.param(16, slice_of(entry("10.0.0.10"), entry("10.0.0.1")), [ONE, "10.0.0.10:80"], id="1.16: of their address"),
    ],
)
def test_trap_t30_what_a_slice_holds_for_a_port(minor: int, given: EndpointSlice, found: list[str]) -> None:
    assert texts(candidates([given], minor=minor).endpoints) == found


@pytest.mark.parametrize(("minor", "text"), [(30, "[FD00:0::0a]:80"), (31, "[fd00::a]:80")])
def test_addresses_are_made_canonical_from_1_31(minor: int, text: str) -> None:
    given = slice_of(entry("FD00:0::0a"), address_type="IPv6")
    assert texts(candidates([given], minor=minor, family=6).endpoints) == [text]


@pytest.mark.parametrize(
    ("minor", "gates", "given", "local"),
    [
        pytest.param(36, {}, entry("10.0.0.1", NODE), True, id="by node name"),
        pytest.param(36, {}, entry("10.0.0.1", topology={"kubernetes.io/hostname": NODE}), False, id="1.22 on ignores topology"),
        pytest.param(
            22, {}, entry("10.0.0.1", "node-b", deprecatedTopology={"kubernetes.io/hostname": NODE}), False, id="node name first"
        ),
        pytest.param(
            21, {}, entry("10.0.0.1", topology={"kubernetes.io/hostname": NODE}), True, id="1.21 takes topology without node name"
        ),
        pytest.param(
            21, {}, entry("10.0.0.1", "node-b", topology={"kubernetes.io/hostname": NODE}), False, id="1.21: node name first"
        ),
        pytest.param(20, {}, entry("10.0.0.1", "node-b", topology={"kubernetes.io/hostname": NODE}), True, id="1.20: topology"),
        pytest.param(
            20,
            {"EndpointSliceNodeName": True},
            entry("10.0.0.1", "node-b", topology={"kubernetes.io/hostname": NODE}),
            False,
            id="1.20 with gate",
        ),
        pytest.param(30, {}, entry("10.0.0.1", topology={"kubernetes.io/hostname": NODE}), False, id="1.30 ignores topology"),
        pytest.param(
            19, {}, entry("10.0.0.1", deprecatedTopology={"kubernetes.io/hostname": NODE}), True, id="the topology of v1 slices"
        ),
        pytest.param(
            19,
            {},
            entry("10.0.0.1", NODE, topology={"topology.kubernetes.io/zone": "a"}),
            True,
            id="a topology without host name",
        ),
        pytest.param(19, {}, entry("10.0.0.1", NODE), True, id="v1 slices hold the topology's host name as node name"),
    ],
)
def test_locality(minor: int, gates: Mapping[str, bool], given: Entry, *, local: bool) -> None:
    (found,) = candidates([slice_of(given)], minor=minor, gates=gates).endpoints
    assert found.is_local is local


HERE, THERE = entry("10.0.0.1", NODE), entry("10.0.0.1", "node-b")
GONE, LEAVING = entry("10.0.0.1", "node-b", ready=False), entry("10.0.0.1", NODE, ready=False, terminating=True)


# KPR 2.2: (slices, the node names and readiness of the entries that may count).
@pytest.mark.parametrize(
    ("minor", "slices", "possible"),
    [
        pytest.param(35, [[THERE], [HERE]], {(NODE, True)}, id="a local one wins"),
        pytest.param(35, [[THERE], [LEAVING]], {(NODE, False)}, id="a local one wins, though terminating"),
        pytest.param(35, [[THERE], [GONE]], {("node-b", True), ("node-b", False)}, id="the order of slices is random"),
        pytest.param(35, [[HERE], [LEAVING]], {(NODE, True), (NODE, False)}, id="two local ones: either"),
        pytest.param(36, [[GONE], [THERE]], {("node-b", True), ("node-b", False)}, id="1.36: neither is terminating"),
        pytest.param(36, [[LEAVING], [THERE]], {("node-b", True)}, id="1.36: the one that is not terminating wins"),
        pytest.param(36, [[LEAVING], [LEAVING]], {(NODE, False)}, id="equal ones are one"),
        pytest.param(35, [[THERE, GONE]], {("node-b", True)}, id="within a slice the first wins"),
        pytest.param(35, [[HERE, LEAVING]], {(NODE, False)}, id="within a slice the last local one wins"),
        pytest.param(36, [[GONE, THERE]], {("node-b", True)}, id="1.36: within a slice the last not terminating one wins"),
        pytest.param(35, [[THERE, GONE], [GONE]], {("node-b", True), ("node-b", False)}, id="within and across"),
        pytest.param(21, [[THERE], [HERE]], {(NODE, True)}, id="1.21: a local one replaces another"),
        pytest.param(21, [[THERE, HERE]], {(NODE, True)}, id="1.21: within a slice, too"),
        pytest.param(21, [[HERE, LEAVING]], {(NODE, True)}, id="1.21: the first local one stays"),
        pytest.param(21, [[THERE, GONE]], {("node-b", True)}, id="1.21: the first stays where none is local"),
        pytest.param(36, [[HERE], [THERE]], {(NODE, True), ("node-b", True)}, id="1.36: a local one does not win"),
        pytest.param(20, [[GONE], [THERE]], {("node-b", True)}, id="1.20: unready ones are never taken up"),
    ],
)
def test_trap_t12_duplicates_in_several_slices(minor: int, slices: list[list[Entry]], possible: set[tuple[str, bool]]) -> None:
    found = candidates([slice_of(*entries) for entries in slices], minor=minor)
    outcomes = list(found.outcomes())
    assert {(one.node_name, one.ready) for (one,) in outcomes} == possible
    assert outcomes[0] == found.endpoints
    assert found.ambiguous == ({ONE} if len(possible) > 1 else set())


def test_up_to_1_21_a_second_port_number_of_an_address_is_lost() -> None:
    given = [slice_of(entry("10.0.0.1")), slice_of(entry("10.0.0.1"), ports=[{"name": "http", "port": 81}])]
    assert [texts(outcome) for outcome in candidates(given, minor=21).outcomes()] == [[ONE], ["10.0.0.1:81"]]
    assert texts(candidates(given, minor=22).endpoints) == [ONE, "10.0.0.1:81"]


def test_outcomes_are_all_combinations_up_to_a_limit() -> None:
    twins = [[entry(f"10.0.0.{number}", ready=ready) for number in range(3)] for ready in (True, False)]
    found = candidates([slice_of(*entries) for entries in twins])
    assert len({tuple(one.ready for one in outcome) for outcome in found.outcomes()}) == 8
    many = [[entry(f"10.0.0.{number}", ready=ready) for number in range(50)] for ready in (True, False)]
    assert len(list(candidates([slice_of(*entries) for entries in many]).outcomes())) == 16


ENDPOINTS = msgspec.convert(
    {
        "metadata": {"name": "web", "namespace": "d"},
        "subsets": [
            {
                "addresses": [
                    {"ip": "10.0.0.2", "nodeName": NODE, "targetRef": {"kind": "Pod", "name": "p", "namespace": "d"}},
                    {"ip": "10.0.0.1"},
                ],
                "notReadyAddresses": [{"ip": "10.0.0.3"}],
                "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}],
            },
            {"addresses": [{"ip": "10.0.0.2"}, {"ip": "fd00::1"}, {"ip": ""}], "ports": [{"name": "http", "port": 80}]},
        ],
    },
    Endpoints,
)


def from_endpoints(
    given: Endpoints | None, port: str = "http", protocol: str = "TCP", family: int = 4, *, minor: int = 20
) -> Candidates:
    return candidates_from_endpoints(
        given, port, protocol, family=family, node=NODE, release=Release(minor), with_unready=minor > 21
    )


def test_endpoints_objects_keep_their_order_and_their_duplicates() -> None:
    found = from_endpoints(ENDPOINTS)
    assert texts(found.endpoints) == [TWO, ONE, TWO]
    assert texts(found.unready) == [THREE]
    assert [one.is_local for one in found.endpoints] == [True, False, False]
    assert found.endpoints[0].target == ("d", "p")
    assert found.endpoints[1].target is None


def test_endpoints_objects_in_place_of_slices_are_sorted_and_hold_unready_ones() -> None:
    found = from_endpoints(ENDPOINTS, minor=30)
    assert texts(found.endpoints) == [ONE, TWO, THREE]
    assert [one.ready for one in found.endpoints] == [True, True, False]
    assert texts(select(found.endpoints, policy(), Release(30)).cluster) == [ONE, TWO]


@pytest.mark.parametrize(
    ("port", "protocol", "family", "found"),
    [
        ("dns", "UDP", 4, ["10.0.0.2:53", "10.0.0.1:53"]),
        ("dns", "TCP", 4, []),
        ("", "TCP", 4, []),
        ("http", "TCP", 6, ["[fd00::1]:80"]),
    ],
)
def test_endpoints_objects_by_port_and_family(port: str, protocol: str, family: int, found: list[str]) -> None:
    assert texts(from_endpoints(ENDPOINTS, port, protocol, family).endpoints) == found
    assert from_endpoints(None, port, protocol, family) == Candidates(())


def test_endpoints_of_a_headless_service_are_not_read() -> None:
    labelled = msgspec.structs.replace(
        ENDPOINTS, metadata=msgspec.structs.replace(ENDPOINTS.metadata, labels={"service.kubernetes.io/headless": ""})
    )
    assert from_endpoints(labelled) == Candidates(())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"ready": False, "serving": True}, {"ready": False, "serving": False}),
        ({"ready": True, "terminating": True}, {"ready": True}),
        ({"zones": A}, {"zones": B}),
        ({"nodes": [NODE]}, {"nodes": ["node-b"]}),
        ({"zones": A}, {}),
    ],
)
def test_duplicates_that_differ_in_what_decides(one: Entry, other: Entry) -> None:
    """KPR 2.2: by 1.35's rule a local one wins, of two local ones either may."""
    minor = 35
    slices = [slice_of(entry("10.0.0.1", NODE, **given)) for given in (one, other)]
    assert len(list(candidates(slices, minor=minor).outcomes())) == 2
    assert len(list(candidates([slices[0], slices[0]], minor=minor).outcomes())) == 1


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (None, None),
        ({"kind": "Node", "namespace": "d", "name": "p"}, None),
        ({"kind": "Pod", "name": "p"}, ("", "p")),
        ({"kind": "Pod", "namespace": "d"}, ("d", "")),
    ],
)
def test_the_pod_behind_an_endpoint(target: Entry | None, found: tuple[str, str] | None) -> None:
    (one,) = candidates([slice_of(entry("10.0.0.1", targetRef=target))]).endpoints
    assert one.target == found


def test_an_endpoint_without_conditions_is_ready_and_serves() -> None:
    (one,) = candidates([slice_of({"addresses": ["10.0.0.1"]})]).endpoints
    assert (one.ready, one.serving, one.terminating, one.usable_when_terminating) == (True, True, False, False)


def test_hints_for_nodes_are_read_where_the_release_knows_them() -> None:
    given = [slice_of(entry("10.0.0.1", nodes=[NODE]))]
    assert [candidates(given, minor=minor).endpoints[0].node_hints for minor in (33, 36)] == [frozenset(), {NODE}]


def test_up_to_1_20_unready_endpoints_are_kept_to_explain_only() -> None:
    found = candidates(
        [slice_of(entry("10.0.0.1"), entry("10.0.0.2", ready=False)), slice_of(entry("10.0.0.3", ready=False))], minor=20
    )
    assert (texts(found.endpoints), texts(found.unready)) == ([ONE], [TWO, THREE])


def test_the_topology_of_v1_slices_serves_topology_keys() -> None:
    entries = [entry("10.0.0.1", deprecatedTopology={"a/b": "c"}), entry("10.0.0.2", topology={"a/b": "d"}), entry("10.0.0.3")]
    chosen = selection(entries, minor=20, gates={"ServiceTopology": True}, topology_keys=("a/b",), labels={"a/b": "c"})
    assert texts(chosen.cluster) == [ONE]


def endpoints_object(*ports: Entry, ip: str = "10.0.0.1", **labels: str) -> Endpoints:
    metadata = {"name": "web", "namespace": "d", "labels": labels}
    return msgspec.convert({"metadata": metadata, "subsets": [{"addresses": [{"ip": ip}], "ports": list(ports)}]}, Endpoints)


@pytest.mark.parametrize(
    ("given", "port", "minor", "found"),
    [
        pytest.param(endpoints_object({"port": 80}), "", 20, [ONE], id="a port without a name"),
        pytest.param(endpoints_object({"port": 80}), "http", 20, [], id="no port of that name"),
        pytest.param(endpoints_object({"name": "http", "port": 0}), "http", 20, [], id="port 0"),
        pytest.param(endpoints_object({"name": "http", "port": 80, "protocol": "UDP"}), "http", 17, [], id="another protocol"),
        pytest.param(
            endpoints_object({"name": "http", "port": 80, "protocol": "UDP"}), "http", 16, [ONE], id="1.16: by name alone"
        ),
        pytest.param(
            endpoints_object({"port": 80}, **{"service.kubernetes.io/service-proxy-name": "x"}), "", 20, [], id="of another proxy"
        ),
        pytest.param(endpoints_object({"port": 80}, a="b"), "", 20, [ONE], id="of a label that says nothing"),
        pytest.param(
            endpoints_object({"port": 80}, ip="FD00:0::A"), "", 30, ["[FD00:0::A]:80"], id="as it is written up to 1.30"
        ),
        pytest.param(endpoints_object({"port": 80}, ip="FD00:0::A"), "", 31, ["[fd00::a]:80"], id="canonical from 1.31"),
    ],
)
def test_endpoints_objects_port_by_port(given: Endpoints, port: str, minor: int, found: list[str]) -> None:
    family = 6 if "[" in "".join(found) else 4
    assert texts(from_endpoints(given, port, family=family, minor=minor).endpoints) == found
