"""Nothing slips through: every kind of change of a healthy node in IPVS mode is told, or decides nothing (tests/metamorphic_ipvs.py).

Here few changes of each kind are tried, on a small node and on captured ones. `python tests/metamorphic_ipvs.py FOLDER...` tries all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.metamorphic_ipvs import HARMLESS, Node, changed, changes, examine
from tests.small_ipvs_node import SmallIpvsNode, kind_of
from tests.small_node import as_list
from tests.test_small_node import LOADED

from ruleaudit.sources import InputKind, Source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.metamorphic_ipvs import Result

CAPTURED = (
    "features-1.20-ipvs",
    "features-1.30-ipvs",
    "features-1.36-ipvs",
    "s7-dual6-1.20-ipvs-n1-clean",
    "s7-dual6-1.36-ipvs-n2-clean",
)


def slipped(results: list[Result]) -> list[str]:
    return [
        f"{one.change.what} {one.change.kind}: {one.change.line}" for one in results if not one.shown and one.harmless is None
    ]


def small_node() -> Node:
    node = SmallIpvsNode(LOADED)
    names = ("iptables-save.txt", "ipvsadm-save.txt", "ipset.txt", "ip-addr.json")
    sources = [Source(name, kind_of(name), node.parts()[name], b"", True) for name in names]
    sources.append(Source("objects.json", InputKind.OBJECTS, "", as_list(node.objects), True))
    sources.append(Source("kube-proxy.args", InputKind.PROXY_CONFIG, "", node.command_line, True))
    sources.append(Source("meta.json", InputKind.CAPTURE_META, "", node.description, True))
    return Node("small", sources)


def test_every_kind_of_change_of_a_small_node_shows() -> None:
    node = small_node()
    results = examine(node, node.changes(3))
    assert not slipped(results)
    assert sum(1 for one in results if one.shown) > 100
    assert len({one.harmless for one in results if one.harmless}) >= 3


@pytest.mark.parametrize("name", CAPTURED)
def test_changes_of_captured_nodes_show(name: str, capture_folders: list[Path]) -> None:
    folder = next((one for one in capture_folders if one.name == name), None)
    if folder is None:
        pytest.skip(f"no capture {name}")
    node = Node.read(folder)
    every = list(node.changes(1))
    results = examine(node, every[CAPTURED.index(name) :: len(CAPTURED)])
    assert not slipped(results)
    assert any(one.shown for one in results)


SERVERS = "-A -t 10.96.0.1:443 -s rr -p 600\n-a -t 10.96.0.1:443 -r 10.244.1.1:80 -m -w 1\n-A -u 10.96.0.9:53 -s rr\n"
ENTRIES = "create KUBE-NODE-PORT-TCP bitmap:port range 0-65535\nadd KUBE-NODE-PORT-TCP 30080\nadd KUBE-X 10.96.0.1,tcp:80\n"


@pytest.mark.parametrize(
    ("kind", "text", "what", "how", "expected"),
    [
        (InputKind.IPVSADM, SERVERS, "virtual server", "removed", "-A -u 10.96.0.9:53 -s rr\n"),
        (InputKind.IPVSADM, SERVERS, "virtual server", "port altered", SERVERS.replace("10.96.0.1:443", "10.96.0.1:450")),
        (InputKind.IPVSADM, SERVERS, "virtual server", "persistence altered", SERVERS.replace("-p 600", "-p 660")),
        (InputKind.IPVSADM, SERVERS, "empty virtual server", "persistence added", SERVERS[:-1] + " -p 300\n"),
        (InputKind.IPVSADM, SERVERS, "real server", "weight 0", SERVERS.replace("-w 1", "-w 0")),
        (InputKind.IPSET, ENTRIES, "KUBE-NODE-PORT-TCP", "altered", ENTRIES.replace("30080", "50080")),
        (InputKind.IPSET, ENTRIES, "KUBE-X", "port altered", ENTRIES.replace("tcp:80", "tcp:87")),
        (InputKind.IPSET, ENTRIES, "KUBE-X", "removed", ENTRIES.replace("add KUBE-X 10.96.0.1,tcp:80\n", "")),
    ],
)
def test_a_change_changes_what_it_says(kind: InputKind, text: str, what: str, how: str, expected: str) -> None:
    dump = Source("dump", kind, text, b"", True)
    (change,) = [one for one in changes(dump) if (one.what, one.kind) == (what, how)]
    assert changed(dump, change) == expected


def test_harmless_classes_say_why() -> None:
    assert all(one.reason for one in HARMLESS)
    assert len({one.name for one in HARMLESS}) == len(HARMLESS)
