"""The expectation in IPVS mode, row by row of KPR 2.9, 9, 10 and 11, and against captured nodes."""

from __future__ import annotations

import json
import lzma
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from tests.kubeproxy.test_expect import (
    ALL_KINDS,
    EXTERNAL,
    HERE,
    INTERNAL,
    LEAVING,
    NODE,
    NODES,
    RANGES,
    THERE,
    UNREADY,
    cluster_of,
    endpoint,
    rows,
    service,
    settings_of,
    slice_of,
)

from ruleaudit.cluster import load
from ruleaudit.forwarding import Vantage
from ruleaudit.kubeproxy.expect import Expectation, expect
from ruleaudit.kubeproxy.release import ProxyMode, Release
from ruleaudit.kubeproxy.settings import LocalDetection, combine, read_settings, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.kubeproxy.test_expect import Object

    from ruleaudit.kubeproxy.settings import ProxySettings


def expectation_of(
    *objects: Object,
    minor: int = 36,
    settings: ProxySettings | None = None,
    gates: Mapping[str, bool] | None = None,
    nodes: Sequence[Object] = NODES,
) -> Expectation:
    # Slices are read from 1.19 on; before, they stand for the Endpoints that were not given.
    return expect(
        cluster_of(*objects, nodes=nodes),
        node=NODE,
        family=4,
        settings=settings or settings_of(),
        release=Release(minor, gates or {}),
        mode=ProxyMode.IPVS,
    )


BOTH = ("here+there", "here+there masq", "here+there masq")
HERE_ALONE = ("here", "here masq", "here masq")
THERE_ALONE = ("there", "there masq", "there masq")
MASQUERADED = ("here+there masq",) * 3
KEPT = ("here",) * 3
REJECTED = ("REJECT",) * 3


def all_kinds(cluster: tuple[str, ...], others: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {"cluster": cluster, "external": others, "lb": others, "port": others}


@pytest.mark.parametrize(
    ("minor", "spec", "endpoints", "expected"),
    [
        *(
            pytest.param(minor, ALL_KINDS, [HERE, THERE], all_kinds(BOTH, MASQUERADED), id=f"1.{minor} policies Cluster")
            for minor in (18, 20, 21, 22, 23, 24, 26, 36)
        ),
        *(
            pytest.param(minor, ALL_KINDS | spec, [], all_kinds(REJECTED, REJECTED), id=f"1.{minor} no endpoints, {name}")
            for minor in (20, 22, 23, 25, 36)
            for name, spec in (("policies Cluster", {}), ("policies Local", INTERNAL | EXTERNAL))
        ),
        *(
            pytest.param(minor, ALL_KINDS, [UNREADY], all_kinds(REJECTED, REJECTED), id=f"1.{minor} none ready")
            for minor in (20, 21, 22, 23, 24, 36)
        ),
        *(
            pytest.param(minor, ALL_KINDS | EXTERNAL, [HERE, THERE], all_kinds(BOTH, KEPT), id=f"1.{minor} external Local")
            for minor in (20, 21, 22, 23, 24, 36)
        ),
        pytest.param(
            19,
            ALL_KINDS | EXTERNAL,
            [HERE, THERE],
            {"cluster": BOTH, "external": MASQUERADED, "lb": KEPT, "port": KEPT},
            id="1.19 external IPs do not follow the policy",
        ),
        *(
            pytest.param(
                minor, ALL_KINDS | EXTERNAL, [THERE], all_kinds(THERE_ALONE, REJECTED), id=f"1.{minor} external Local, elsewhere"
            )
            for minor in (20, 21, 23)
        ),
        *(
            pytest.param(
                minor, ALL_KINDS | EXTERNAL, [THERE], all_kinds(THERE_ALONE, ("there",) * 3), id=f"1.{minor} external Local, elsewhere"
            )
            for minor in (24, 25, 36)
        ),
        *(
            pytest.param(minor, INTERNAL, [HERE, THERE], {"cluster": HERE_ALONE}, id=f"1.{minor} internal Local")
            for minor in (22, 23, 24, 36)
        ),
        pytest.param(21, INTERNAL, [HERE, THERE], {"cluster": BOTH}, id="1.21 internal Local is behind a gate"),
        *(
            pytest.param(minor, INTERNAL, [THERE], {"cluster": REJECTED}, id=f"1.{minor} internal Local, elsewhere")
            for minor in (22, 23, 24, 36)
        ),
        pytest.param(
            36,
            ALL_KINDS | INTERNAL,
            [THERE],
            all_kinds(THERE_ALONE, ("there masq",) * 3),
            id="1.36 internal Local, elsewhere, with external addresses: all endpoints stand in",
        ),
        pytest.param(
            36, ALL_KINDS | INTERNAL, [HERE, THERE], all_kinds(HERE_ALONE, MASQUERADED), id="1.36 internal Local, external Cluster"
        ),
        pytest.param(
            23,
            ALL_KINDS | INTERNAL,
            [HERE, THERE],
            all_kinds(HERE_ALONE, ("here masq",) * 3),
            id="1.23 internal Local holds for all of the service",
        ),
        pytest.param(
            23, ALL_KINDS | INTERNAL | EXTERNAL, [HERE, THERE], all_kinds(BOTH, KEPT), id="1.23 external Local goes before internal"
        ),
        pytest.param(
            26,
            ALL_KINDS | EXTERNAL,
            [LEAVING, THERE],
            all_kinds(THERE_ALONE, ("leaving",) * 3) | {"external": ("leaving | REJECT", "leaving", "leaving | REJECT")},
            id="1.26 external Local, one leaving; external IPs may be refused up to 1.29",
        ),
        pytest.param(
            25, ALL_KINDS | EXTERNAL, [LEAVING, THERE], all_kinds(THERE_ALONE, ("there",) * 3), id="1.25 leaving ones do not stand in"
        ),
        pytest.param(
            24, {"externalIPs": ["198.51.100.1"]} | EXTERNAL, [HERE, THERE], {"cluster": BOTH, "external": KEPT}, id="1.24 type ClusterIP"
        ),
        pytest.param(
            23,
            {"externalIPs": ["198.51.100.1"]} | EXTERNAL,
            [HERE, THERE],
            {"cluster": BOTH, "external": MASQUERADED},
            id="1.23 type ClusterIP has no external policy",
        ),
    ],
)  # fmt: skip
def test_what_each_vantage_point_gets(
    minor: int, spec: Object, endpoints: list[Object], expected: Mapping[str, tuple[str, str, str]]
) -> None:
    assert rows(expectation_of(service(**spec), slice_of(*endpoints), minor=minor)) == expected


@pytest.mark.parametrize(
    ("minor", "gates", "spec", "endpoints", "expected"),
    [
        pytest.param(
            18,
            {"ExternalPolicyForExternalIP": True},
            ALL_KINDS | EXTERNAL,
            [HERE, THERE],
            all_kinds(BOTH, KEPT),
            id="ExternalPolicyForExternalIP",
        ),
        pytest.param(
            21,
            {"ServiceInternalTrafficPolicy": True},
            INTERNAL,
            [THERE],
            {"cluster": REJECTED},
            id="ServiceInternalTrafficPolicy",
        ),
        pytest.param(
            20,
            {"ServiceTopology": True},
            ALL_KINDS | EXTERNAL | {"topologyKeys": ["topology.kubernetes.io/zone"]},
            [HERE | {"topology": {"topology.kubernetes.io/zone": "zone-a"}}, THERE],
            all_kinds(HERE_ALONE, KEPT),
            id="ServiceTopology narrows the cluster IP beside an external policy",
        ),
        pytest.param(
            23,
            {"TopologyAwareHints": True},
            {"annotations": {"service.kubernetes.io/topology-aware-hints": "auto"}},
            [endpoint("10.244.1.1", NODE, zones=["zone-a"]), endpoint("10.244.2.1", "node-b", zones=["zone-b"])],
            {"cluster": HERE_ALONE},
            id="TopologyAwareHints",
        ),
    ],
)
def test_gates(
    minor: int, gates: Mapping[str, bool], spec: Object, endpoints: list[Object], expected: Mapping[str, tuple[str, ...]]
) -> None:
    assert rows(expectation_of(service(**spec), slice_of(*endpoints), minor=minor, gates=gates)) == expected


# KPR 10.2.
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(settings_of(), BOTH, id="local detection"),
        pytest.param(settings_of(LocalDetection("InterfaceNamePrefix", "veth")), BOTH, id="by interface"),
        pytest.param(settings_of(masquerade_all=True), MASQUERADED, id="masquerade-all"),
        pytest.param(settings_of(None, masquerade_all=True), MASQUERADED, id="masquerade-all without local detection"),
        pytest.param(settings_of(None), ("here+there", "here+there masq", "here+there"), id="no local detection: the node alone"),
        pytest.param(settings_of("unset"), ("here+there", "here+there masq", "here+there masq?"), id="local detection not known"),
    ],
)
def test_masquerade_of_cluster_ips(settings: ProxySettings, expected: tuple[str, str, str]) -> None:
    assert rows(expectation_of(service(), slice_of(HERE, THERE), settings=settings)) == {"cluster": expected}


def test_without_local_detection_the_node_is_told_by_its_source() -> None:
    (port,) = expectation_of(service(), slice_of(HERE), settings=settings_of(None)).service_ports
    found = [port.forwarding(port.frontends[0], Vantage.NODE, source) for source in (None, "10.96.0.1", "192.168.0.1")]
    assert [one.masquerade if one is not None else None for one in found] == [True, True, False]


@pytest.mark.parametrize(("minor", "masquerade"), [(22, True), (23, False)])
def test_sctp_node_ports_keep_the_source_from_1_23(minor: int, masquerade: bool) -> None:
    sctp = {"name": "http", "port": 80, "protocol": "SCTP", "nodePort": 30080}
    held = slice_of(HERE) | {"ports": [{"name": "http", "port": 8080, "protocol": "SCTP"}]}
    (port,) = expectation_of(service(type="NodePort", ports=[sctp], **EXTERNAL), held, minor=minor).service_ports
    for vantage in Vantage:
        found = port.forwarding(port.frontends[1], vantage)
        assert found is not None
        assert found.masquerade is masquerade


NODE_INSIDE = RANGES | {"loadBalancerSourceRanges": ["192.168.0.0/24"]}
EVERYTHING = RANGES | {"loadBalancerSourceRanges": ["0.0.0.0/0"]}


# KPR 9.2, 10.3, 10.4 at the load-balancer IP: from a pod and from outside with this source, and from the node.
@pytest.mark.parametrize(
    ("minor", "spec", "endpoints", "source", "expected"),
    [
        pytest.param(36, RANGES, [HERE], None, ("here masq", "DROP", "here masq"), id="admitted; the node in no range"),
        pytest.param(36, RANGES, [HERE], "192.0.2.7", ("here masq", "DROP", "here masq"), id="inside"),
        pytest.param(36, RANGES, [HERE], "192.0.3.7", ("DROP",) * 3, id="outside of them"),
        pytest.param(29, RANGES, [HERE], "192.0.3.7", ("DROP",) * 3, id="1.29"),
        pytest.param(28, RANGES, [HERE], "192.0.3.7", ("DROP", "here masq", "DROP"), id="1.28: the node is not restricted"),
        pytest.param(25, RANGES, [HERE], "192.0.3.7", ("DROP", "here masq", "DROP"), id="1.25: the node is not restricted"),
        pytest.param(24, RANGES, [HERE], "192.0.3.7", ("DROP | here masq",) * 3, id="1.24 marks, and kubelet drops"),
        pytest.param(20, RANGES, [HERE], "192.0.3.7", ("DROP | here masq",) * 3, id="1.20 likewise"),
        pytest.param(24, RANGES, [HERE], "192.0.2.7", ("here masq", "here masq", "here masq"), id="1.24 inside"),
        pytest.param(24, RANGES, [HERE], None, ("here masq", "DROP | here masq", "here masq"), id="1.24 the node asks from the VIP"),
        pytest.param(36, NODE_INSIDE, [HERE], "192.0.2.7", ("DROP", "here masq", "DROP"), id="the node is inside"),
        pytest.param(24, NODE_INSIDE, [HERE], None, ("here masq",) * 3, id="1.24 the node is inside"),
        pytest.param(
            36, RANGES | {"loadBalancerSourceRanges": ["203.0.113.0/24"]}, [HERE], None, ("here masq", "DROP", "here masq"), id="VIP inside"
        ),
        pytest.param(36, RANGES, [], "192.0.3.7", ("DROP",) * 3, id="no endpoints: the firewall stands"),
        pytest.param(36, RANGES, [], "192.0.2.7", ("REJECT", "DROP", "REJECT"), id="no endpoints, inside"),
        pytest.param(33, EVERYTHING, [HERE], "192.0.2.7", ("DROP", "here masq", "DROP"), id="1.33: a set holds no network of length zero"),
        pytest.param(34, EVERYTHING, [HERE], "192.0.2.7", ("here masq",) * 3, id="1.34: a range of everything is none"),
        pytest.param(
            36,
            RANGES | EXTERNAL | {"type": "LoadBalancer"},
            [THERE],
            "192.0.2.7",
            ("there", "DROP", "there"),
            id="external Local, elsewhere",
        ),
        pytest.param(
            36, RANGES | {"externalIPs": ["203.0.113.1"]}, [HERE], "192.0.3.7", ("DROP",) * 3, id="an equal external IP changes nothing"
        ),
    ],
)  # fmt: skip
def test_source_ranges(
    minor: int, spec: Object, endpoints: list[Object], source: str | None, expected: tuple[str, str, str]
) -> None:
    expectation = expectation_of(service(**spec), slice_of(*endpoints), minor=minor)
    pod, node, outside = rows(expectation, source)["lb"]
    if source is not None and minor >= 25:
        assert node == rows(expectation)["lb"][1], "from 1.25 on the node's source is not looked at"
    assert (pod, node, outside) == expected


def test_source_ranges_guard_load_balancer_ips_alone() -> None:
    found = rows(expectation_of(service(**(ALL_KINDS | RANGES)), slice_of(HERE)), "192.0.3.7")
    assert found["lb"] == ("DROP",) * 3
    assert found["port"] == found["external"] == ("here masq",) * 3


@pytest.mark.parametrize(("minor", "expected"), [(24, "-"), (28, "here masq"), (36, "-")])
def test_a_node_that_nobody_knows_may_be_inside_a_range(minor: int, expected: str) -> None:
    assert rows(expectation_of(service(**RANGES), slice_of(HERE), nodes=[], minor=minor))["lb"][1] == expected


def test_an_endpoint_held_twice_is_one_real_server() -> None:
    subset = {"addresses": [{"ip": "10.244.1.1"}, {"ip": "10.244.2.1"}], "ports": [{"name": "http", "port": 8080}]}
    held: Object = {
        "kind": "Endpoints",
        "apiVersion": "v1",
        "metadata": {"name": "web", "namespace": "d"},
        "subsets": [subset, subset | {"addresses": [{"ip": "10.244.1.1"}]}],
    }
    assert rows(expectation_of(service(), held, minor=18))["cluster"] == BOTH


# --- captured nodes ----------------------------------------------------------------------------------------------------------------


def content(path: Path) -> str:
    return (path.read_bytes() if path.exists() else lzma.decompress(path.with_name(path.name + ".xz").read_bytes())).decode()


def healthy(folders: Sequence[Path]) -> list[Path]:
    """The captured nodes in IPVS mode without faults."""
    found = []
    for folder in folders:
        if not (folder / "truth.json").is_file() or json.loads((folder / "meta.json").read_text()).get("mode") != "ipvs":
            continue
        truth = json.loads((folder / "truth.json").read_text())
        if truth.get("kind") == "clean" and not truth["expected"]:
            found.append(folder)
    assert found
    return found


def expectations(folder: Path) -> list[tuple[Expectation, list[str]]]:
    """What is expected of each family that the node serves, with the node's own addresses as far as they are captured."""
    settings = resolve(
        combine([read_settings(content(folder / name).encode(), name) for name in ("kube-proxy.args", "meta.json")])
    )
    assert settings.minor is not None
    assert settings.hostname_override is not None
    cluster = load([("objects.json", content(folder / "objects.json").encode())])
    routes = re.findall(r"^local (\S+) dev (?!kube-ipvs0|lo)\S", content(folder / "ip-rule-local.txt"), re.MULTILINE)
    known = [*routes, *json.loads((folder / "meta.json").read_text())["node_ips"]]
    found = []
    for family, name in ((4, "iptables-save.txt"), (6, "ip6tables-save.txt")):
        if "KUBE-SERVICES" in content(folder / name):
            expectation = expect(
                cluster,
                node=settings.hostname_override,
                family=family,
                settings=settings,
                release=settings.release(settings.minor),
                mode=ProxyMode.IPVS,
            )
            found.append((expectation, sorted({one for one in known if (":" in one) == (family == 6)})))
    assert found
    return found


def virtual_servers(text: str) -> dict[tuple[str, int, str], tuple[set[str], int | None]]:
    """From `ipvsadm-save -n`: the real servers of weight above 0 and the persistence of each (address, port, protocol)."""
    servers: dict[tuple[str, int, str], set[str]] = {}
    persistent: dict[tuple[str, int, str], int | None] = defaultdict(lambda: None)
    for line in text.splitlines():
        words = line.split()
        host, _, port = words[2].rpartition(":")
        protocol = {"-t": "TCP", "-u": "UDP", "--sctp-service": "SCTP"}[words[1]]
        key = (host.strip("[]"), int(port), protocol)
        if words[0] == "-A":
            servers[key] = set()
            persistent[key] = int(words[words.index("-p") + 1]) if "-p" in words else None
        elif words[words.index("-w") + 1] != "0":
            servers[key].add(words[words.index("-r") + 1])
    return {key: (found, persistent[key]) for key, found in servers.items()}


def test_healthy_nodes_hold_the_virtual_servers_that_are_expected(capture_folders: list[Path]) -> None:
    for folder in healthy(capture_folders):
        held = virtual_servers(content(folder / "ipvsadm-save.txt"))
        claimed = set()
        families = set()
        for expectation, node_addresses in expectations(folder):
            families.add(expectation.family)
            for port in expectation.service_ports:
                for frontend in port.frontends:
                    wanted = {one.text for one in port.real_servers(frontend, port.selection)}
                    for address in [frontend.address] if frontend.address is not None else node_addresses:
                        key = (address, frontend.port, frontend.protocol)
                        assert held[key] == (wanted, port.affinity), (folder.name, str(port.name), key)
                    for key, found in held.items():
                        if frontend.address in (None, key[0]) and key[1:] == (frontend.port, frontend.protocol):
                            if (":" in key[0]) == (expectation.family == 6) and key[0] not in known(expectation):
                                assert found == (wanted, port.affinity), (folder.name, str(port.name), key)
                            claimed.add(key)
        assert {key for key in held if (6 if ":" in key[0] else 4) in families} <= claimed, folder.name


def known(expectation: Expectation) -> set[str]:
    """The addresses of other frontends than node ports."""
    return {frontend.address for port in expectation.service_ports for frontend in port.frontends if frontend.address is not None}
