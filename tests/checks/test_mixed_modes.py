"""RA501: what the other mode left behind and is still at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import ruleaudit
from ruleaudit.sources import InputKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ruleaudit.findings import Report

_REFUSAL = (
    ":KUBE-EXTERNAL-SERVICES - [0:0]",
    '-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
    '-A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "demo/gone has no endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 31999 '
    "-j REJECT --reject-with icmp-port-unreachable",
)
_EMPTY = (":KUBE-EXTERNAL-SERVICES - [0:0]", _REFUSAL[1])
_UNHOOKED = (_REFUSAL[0], _REFUSAL[2])
_SERVICE = (
    ":KUBE-SVC-XPGD46QRK7WJZT7O - [0:0]",
    "-A KUBE-SERVICES -d 10.96.77.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O",
    "-A KUBE-SVC-XPGD46QRK7WJZT7O -j RETURN",
)


def _with(lines: tuple[str, ...], table: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        head, rest = text.split(f"*{table}\n", 1)
        body, tail = rest.split("COMMIT\n", 1)
        rows = body.splitlines()
        declared = [*(one for one in rows if one.startswith(":")), *(one for one in lines if one.startswith(":"))]
        rules = [*(one for one in rows if one.startswith("-A")), *(one for one in lines if one.startswith("-A"))]
        return f"{head}*{table}\n" + "\n".join([*declared, *rules]) + f"\nCOMMIT\n{tail}"

    return edit


def _report(folder: Path, edit: Callable[[str], str] | None = None, beside: Path | None = None) -> Report:
    sources = []
    for one in ruleaudit.read([str(folder), *([str(beside)] if beside is not None else [])]):
        text = edit(one.text) if edit is not None and one.path.endswith("/iptables-save.txt") else one.text
        sources.append(ruleaudit.Source(one.path, one.kind, text, one.data, given=True))
    return ruleaudit.audit_inputs(sources)


@pytest.mark.parametrize(
    ("lines", "table", "told"),
    [
        pytest.param(_REFUSAL, "filter", True, id="a chain of refusals with its jump"),
        pytest.param(_EMPTY, "filter", False, id="an empty chain with its jump"),
        pytest.param(_UNHOOKED, "filter", False, id="a chain that nothing jumps to"),
        pytest.param(_SERVICE, "nat", True, id="a service chain that packets come to"),
    ],
)
def test_rules_of_the_iptables_mode_beside_ipvs(nodes: Path, lines: tuple[str, ...], table: str, told: bool) -> None:
    report = _report(nodes / "ipvs-healthy", _with(lines, table))
    assert report.proxy is not None
    assert report.proxy.mode == "ipvs"
    found = [one for one in report.findings if one.code == "RA501"]
    assert bool(found) is told
    for one in found:
        assert "iptables mode" in one.message
        assert any(where.text == lines[1] for where in one.locations) or table == "nat"


def test_virtual_servers_beside_the_rules_of_the_iptables_mode(nodes: Path) -> None:
    report = _report(nodes / "healthy", beside=nodes / "ipvs-healthy" / "ipvsadm.txt")
    assert report.proxy is not None
    assert report.proxy.mode == "iptables"
    found = [one for one in report.findings if one.code == "RA501"]
    assert len(found) == 2
    assert {"IPv4" in one.message for one in found} == {True, False}
    assert all(one.locations and one.locations[0].file.endswith("ipvsadm.txt") for one in found)


def test_a_node_of_one_mode_has_none(nodes: Path) -> None:
    for name in ("healthy", "ipvs-healthy", "changed-destination"):
        assert "RA501" not in {one.code for one in _report(nodes / name).findings}


def test_virtual_servers_of_others_are_no_other_mode(nodes: Path, tmp_path: Path) -> None:
    (tmp_path / "ipvsadm.txt").write_text("-A -t 192.0.2.80:80 -s wlc\n-a -t 192.0.2.80:80 -r 192.0.2.81:80 -g -w 1\n")
    assert ruleaudit.read([str(tmp_path / "ipvsadm.txt")])[0].kind is InputKind.IPVSADM
    assert "RA501" not in {one.code for one in _report(nodes / "healthy", beside=tmp_path / "ipvsadm.txt").findings}
