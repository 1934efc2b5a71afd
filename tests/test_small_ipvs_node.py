"""The small node in IPVS mode is one that a real kube-proxy could have left: captured healthy nodes hold exactly what it writes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from tests.kubeproxy.test_expect_ipvs import content, expectations, healthy
from tests.small_ipvs_node import SmallIpvsNode, Written
from tests.small_node import NODES, endpoint, serious, service
from tests.test_small_node import LOADED

if TYPE_CHECKING:
    from pathlib import Path


def written_on(folder: Path) -> list[Written]:
    """What the miniature writes for each family of a captured node.

    Captures list IPv4's routes only, so an address of IPv6 is known to be the node's by a node port that answers there (KPR 11.2).
    """
    found = []
    for expectation, known in expectations(folder):
        ports = {one.node_port for one in expectation.service_ports if one.node_port}
        answering = re.findall(r"^-A \S+ \[(\S+)\]:(\d+) ", content(folder / "ipvsadm-save.txt"), re.MULTILINE)
        own = [*known, *dict.fromkeys(address for address, port in answering if int(port) in ports and address not in known)]
        found.append(Written(expectation, own))
    return found


def servers(text: str) -> dict[str, list[str]]:
    """Real servers in the order of their text, by the line of their virtual server."""
    found: dict[str, list[str]] = {}
    last: list[str] = []
    for line in text.splitlines():
        if line.startswith("-A "):
            last = found[line] = []
        else:
            last.append(line)
    return {head: sorted(lines) for head, lines in found.items()}


def sets(text: str) -> dict[str, set[str]]:
    """Entries by the line that creates their set, without what depends on the kernel and on how many entries there were."""
    heads: dict[str, str] = {}
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if words[0] == "create":
            heads[words[1]] = re.sub(r" (hashsize|bucketsize|initval) \S+", "", line)
            found[heads[words[1]]] = set()
        else:
            found[heads[words[1]]].add(line)
    return found


def rules(text: str) -> dict[tuple[str, str], list[str]]:
    """Rules by table and chain; those that drop a VIP's packets stand in any order."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    name = ""
    for line in text.splitlines():
        if line.startswith("*"):
            name = line[1:]
        elif line.startswith(":"):
            found[name, line[1:].split()[0]] = []
        elif line.startswith("-A "):
            found[name, line.split()[1]].append(line)
    return {place: sorted(lines) if place[1] == "KUBE-IPVS-OUT-FILTER" else lines for place, lines in found.items()}


def test_healthy_nodes_hold_exactly_what_the_small_node_writes(capture_folders: list[Path]) -> None:
    for folder in healthy(capture_folders):
        written = written_on(folder)
        assert servers("".join(one.commands() for one in written)) == servers(content(folder / "ipvsadm-save.txt")), folder.name
        assert sets("".join(one.ipset() for one in written)) == sets(content(folder / "ipset.txt")), folder.name
        (dummy,) = json.loads(content(folder / "ip-addr-kube-ipvs0.json"))
        held = {one["local"] for one in dummy["addr_info"] if one["scope"] != "link"}
        assert {address for one in written for address in one.dummy} == held, folder.name
        for one in written:
            name = "ip6tables-save.txt" if one.six else "iptables-save.txt"
            assert rules(one.iptables()) == rules(content(folder / name)), (folder.name, name)


@pytest.mark.parametrize("told", [True, False], ids=["told", "inferred"])
@pytest.mark.parametrize("minor", [20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 33, 36])
def test_a_small_node_is_healthy(minor: int, told: bool) -> None:
    report = SmallIpvsNode(LOADED, minor).report(told=told)
    assert serious(report) == []
    assert report.services == 9


@pytest.mark.parametrize("families", [(4, 6), (6,)], ids=["dual-stack", "IPv6 only"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "inferred"])
def test_a_small_node_of_ipv6_is_healthy(families: tuple[int, ...], told: bool) -> None:
    objects = [*NODES, *service("shop/web6", "fd00:10:96::20", [endpoint("fd00:10:244:1::5", "node-a")], family=6)]
    objects += LOADED[len(NODES) :] if 4 in families else []
    assert serious(SmallIpvsNode(objects, families=families).report(told=told)) == []
