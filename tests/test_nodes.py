"""The bundled nodes: what must be found on each, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ruleaudit.audit import audit_inputs
from ruleaudit.findings import Severity
from ruleaudit.sources import read

Found = set[tuple[str, str | None, str | None]]

EXPECTED: dict[str, Found] = {
    "healthy": set(),
    "changed-destination": {("RA206", "demo/np", "10.244.99.99:8080")},
    "ipvs-healthy": set(),
    "ipvs-drained-endpoint": {("RA303", "demo/web", "10.244.1.12:8080")},
    "stopped-kube-proxy": {
        ("RA505", None, None),
        ("RA103", "argocd/argocd-server-metrics", None),
        ("RA107", "default/placeholder-821", None),
        ("RA107", "monitoring/grafana", None),
        ("RA201", "voip/diameter", None),
        *(
            ("RA207", "kube-system/kube-dns", f"{host}:{port}")
            for host in ("10.42.48.7", "[2001:db8:42:30::1007]")
            for port in (53, 9153)
        ),
        ("RA207", "monitoring/grafana", "[2001:db8:42:30::100e]:3000"),
    },
}


def test_every_bundled_node_is_judged(nodes: Path) -> None:
    assert {folder.name for folder in nodes.iterdir() if folder.is_dir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_found(nodes: Path, name: str) -> None:
    report = audit_inputs(read([str(nodes / name)]))
    loud = [finding for finding in report.findings if finding.severity is not Severity.INFO]
    assert {(finding.code, finding.service, finding.endpoint) for finding in loud} == EXPECTED[name]
    assert all(finding.code != "RA004" for finding in report.findings)


def test_what_a_stopped_kube_proxy_explains_follows_from_it(nodes: Path) -> None:
    report = audit_inputs(read([str(nodes / "stopped-kube-proxy")]))
    leader, *others = [finding for finding in report.findings if finding.severity is not Severity.INFO]
    assert leader.code == "RA505"
    known = {leader.fingerprint, *(finding.fingerprint for finding in others)}
    assert all(finding.cause in known for finding in others)


def test_every_dump_line_named_is_there(nodes: Path) -> None:
    for name in EXPECTED:
        for finding in audit_inputs(read([str(nodes / name)])).findings:
            for location in finding.locations:
                if location.line:
                    assert Path(location.file).read_text().splitlines()[location.line - 1] == location.text
