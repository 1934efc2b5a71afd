"""What `trace` and `show` say of one service port is what `check` says of it: the same codes, texts and causes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ruleaudit.audit import audit_inputs, open_node
from ruleaudit.findings import Finding, Severity
from ruleaudit.sources import read

FIXTURES = Path(__file__).parents[1] / "fixtures" / "nodes"


def changed(folder: Path, of: str, name: str, old: str, new: str) -> Path:
    """A copy of a fixture in which one text of one file is another."""
    copy = folder / of
    shutil.copytree(FIXTURES / of, copy)
    text = (copy / name).read_text()
    assert old in text
    (copy / name).write_text(text.replace(old, new))
    return copy


def said_by_check(folder: Path, service: str) -> list[Finding]:
    """What `check` says of a Service, but for information."""
    report = audit_inputs(read([str(folder)]))
    return [one for one in report.findings if one.service == service and one.severity is not Severity.INFO]


def said_of_one(folder: Path, service: str) -> list[Finding]:
    """What is said of each port of a Service alone."""
    model = open_node(read([str(folder)]))
    return [
        one
        for family in model.families
        if (found := model.family(family)) is not None
        for port in found.audit.expectation.service_ports
        if f"{port.name.namespace}/{port.name.name}" == service
        for one in found.findings_of(port)
    ]


def alike(findings: list[Finding]) -> set[tuple[str, str, str | None]]:
    """What has to be the same."""
    return {(one.code, one.message, one.cause) for one in findings if one.service is not None}


@pytest.mark.parametrize(
    ("of", "name", "old", "new", "service", "says"),
    [
        pytest.param(
            "healthy",
            "iptables-save.txt",
            '"demo/np:http" -m tcp -j DNAT --to-destination 10.244.1.23:8080',
            '"demo/np:http" -m tcp -j DNAT --to-destination 10.244.1.12:8080',
            "demo/np",
            [
                (
                    "RA206",
                    "demo/np:http sends 33.3% of new connections to 10.244.1.12:8080, an endpoint of demo/web, demo/web-alias",
                )
            ],
            id="another Service's endpoint",
        ),
    ],
)
def test_what_check_says(
    tmp_path: Path, of: str, name: str, old: str, new: str, service: str, says: list[tuple[str, str]]
) -> None:
    folder = changed(tmp_path, of, name, old, new)
    found = said_of_one(folder, service)
    assert [(one.code, one.message) for one in found][: len(says)] == says
    assert alike(found) == alike(said_by_check(folder, service))
