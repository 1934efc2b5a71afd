"""The node that benchmarks generate is one that kube-proxy could have written: nothing is wrong with it, nothing odd in its dump."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ruleaudit.audit import audit_inputs
from ruleaudit.formats import ipset, ipvsadm
from ruleaudit.formats.iptables_save import parse
from ruleaudit.sources import InputKind, read

GENERATOR = Path(__file__).resolve().parents[1] / "benchmarks" / "node.py"


@pytest.mark.parametrize(
    ("services", "endpoints", "large"),
    [
        pytest.param(50, 10, False, id="small cluster, with comments"),
        pytest.param(50, 30, True, id="large cluster, without"),
        pytest.param(50, 1, False, id="Services without local endpoints"),
        pytest.param(50, 0, False, id="no endpoints at all"),
    ],
)
def test_generated_node_is_healthy(tmp_path: Path, services: int, endpoints: int, large: bool) -> None:
    subprocess.run(
        [sys.executable, GENERATOR, "--services", str(services), "--endpoints", str(endpoints), tmp_path], check=True, timeout=60
    )
    text = (tmp_path / "iptables-save.txt").read_text()
    dump = parse(text, "iptables-save.txt")
    assert (dump.render(), dump.problems, dump.notes) == (text, [], [])
    assert (" -> " in text) == (not large)
    report = audit_inputs(read([str(tmp_path)]))
    assert [finding.message for finding in report.findings] == []
    assert report.services == services + 1
    assert report.endpoints == 1 + endpoints * 52  # of the 50 Services 47 have endpoints, 5 of them for two ports


@pytest.mark.parametrize(("services", "endpoints"), [(50, 10), (11, 3), (3, 1), (50, 0)])
def test_generated_node_in_ipvs_mode_is_healthy(tmp_path: Path, services: int, endpoints: int) -> None:
    size = ["--services", str(services), "--endpoints", str(endpoints)]
    subprocess.run([sys.executable, GENERATOR, *size, "--mode", "ipvs", tmp_path], check=True, timeout=60)
    sources = read([str(tmp_path)])
    report = audit_inputs(sources)
    assert [finding.message for finding in report.findings] == []
    assert report.services == services + 1
    for source in sources:
        if source.kind in (InputKind.IPVSADM, InputKind.IPSET):
            dump = (ipvsadm if source.kind is InputKind.IPVSADM else ipset).parse(source.text, source.path)
            assert (dump.render(), dump.problems, dump.notes) == (source.text, [], [])
