"""Nothing slips through: every kind of change of a healthy node's rules is told, or decides nothing (tests/metamorphic.py).

Here each fourth kind of change is tried on the bundled node, and other few kinds on each captured one.
`python tests/metamorphic.py FOLDER...` tries all changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.metamorphic import HARMLESS, Change, Rule, changed, changes, examine, rules_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.metamorphic import Result

# Layouts, backends, local detection and node port addresses each at least once.
CAPTURED = (
    "features-1.20-iptables",
    "features-1.30-iptables",
    "features-1.36-iptables-bridge",
    "features-1.36-iptables-legacy",
    "features-1.36-iptables-masqall",
    "features-1.36-iptables-nodecidr",
    "features-1.36-iptables-npprimary",
    "s2-k3s-1.20-iptables-n3-clean",
    "s2-k3s-1.30-iptables-n1-clean",
    "s2-k3s-1.36-iptables-legacy-n3-clean",
    "s2-k3s-1.36-iptables-n3-clean",
)


def slipped(results: list[Result]) -> list[str]:
    return [
        f"{one.node}: {one.change.kind}: {one.change.rule.text} {one.unlike}"
        for one in results
        if (not one.shown and one.harmless is None) or one.unlike
    ]


def test_every_kind_of_change_of_the_bundled_node_shows(nodes: Path) -> None:
    results = examine([nodes / "healthy"], sample=1, every=4)
    assert not slipped(results)
    assert sum(1 for one in results if one.shown) > 200
    used = {one.harmless for one in results if one.harmless}
    assert len(used) >= 3, f"of the harmless classes only {used} are met"


@pytest.mark.parametrize("name", CAPTURED)
def test_changes_of_captured_nodes_show(name: str, capture_folders: list[Path]) -> None:
    folder = next((one for one in capture_folders if one.name == name), None)
    if folder is None:
        pytest.skip(f"no capture {name}")
    results = examine([folder], sample=1, every=len(CAPTURED) * 4, first=CAPTURED.index(name))
    assert not slipped(results)
    assert any(one.shown for one in results)


DUMP = """*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "a/b c" -m tcp --dport 443 -j KUBE-SVC-A
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
"""


def kinds() -> dict[str, Change]:
    rules, chains = rules_of(DUMP)
    service = rules[1]
    return {one.kind: one for one in changes(service, [one for one in rules if one.chain == "KUBE-SERVICES"], chains["nat"], 4)}


@pytest.mark.parametrize(
    ("kind", "line", "expected"),
    [
        (
            "-d altered",
            6,
            '-A KUBE-SERVICES -d 11.96.0.1/32 -p tcp -m comment --comment "a/b c" -m tcp --dport 443 -j KUBE-SVC-A',
        ),
        (
            "--dport negated",
            6,
            '-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "a/b c" -m tcp ! --dport 443 -j KUBE-SVC-A',
        ),
        (
            "-p altered",
            6,
            '-A KUBE-SERVICES -d 10.96.0.1/32 -p udp -m comment --comment "a/b c" -m udp --dport 443 -j KUBE-SVC-A',
        ),
        ("-d dropped", 6, '-A KUBE-SERVICES -p tcp -m comment --comment "a/b c" -m tcp --dport 443 -j KUBE-SVC-A'),
        ("target dropped", 6, '-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "a/b c" -m tcp --dport 443'),
        ("removed", 6, "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"),
        ("moved to the end", 6, "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"),
        (
            "moved to another chain",
            7,
            '-A KUBE-NODEPORTS -d 10.96.0.1/32 -p tcp -m comment --comment "a/b c" -m tcp --dport 443 -j KUBE-SVC-A',
        ),
    ],
)
def test_a_change_changes_what_it_says(kind: str, line: int, expected: str) -> None:
    lines = DUMP.rstrip("\n").split("\n")
    after = changed(kinds()[kind], lines)
    assert after[line - 1] == expected
    assert len(after) == len(lines) - (kind == "removed")


ACCEPT = Rule(1, "filter", ("-A", "KUBE-FORWARD", "-m", "mark", "--mark", "0x4000/0x4000", "-j", "ACCEPT"))
DROP = Rule(2, "filter", ("-A", "KUBE-FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"))
WEB = Rule(3, "nat", ("-A", "KUBE-SERVICES", "-d", "10.96.0.1/32", "-p", "tcp", "--dport", "80", "-j", "KUBE-SVC-A"))
MAIL = Rule(4, "nat", ("-A", "KUBE-SERVICES", "-d", "10.96.0.2/32", "-p", "tcp", "--dport", "80", "-j", "KUBE-SVC-B"))
MARK = Rule(5, "nat", ("-A", "KUBE-SERVICES", "-d", "10.96.0.1/32", "-p", "tcp", "--dport", "80", "-j", "KUBE-MARK-MASQ"))


@pytest.mark.parametrize(
    ("change", "harmless"),
    [
        (Change(WEB, "moved to the end", WEB.words, passed=(MAIL,)), True),
        (Change(WEB, "moved to the start", WEB.words, passed=(MARK,)), False),
        (Change(WEB, "removed", None), False),
        (Change(DROP, "moved to the end", DROP.words, passed=(ACCEPT,)), False),
        (Change(DROP, "removed", None), True),
        (Change(ACCEPT, "removed", None), False),
        (Change(ACCEPT, "removed", None, others=(ACCEPT,)), True),
    ],
)
def test_what_decides_nothing(change: Change, harmless: bool) -> None:
    assert any(one.holds(change) for one in HARMLESS) is harmless
