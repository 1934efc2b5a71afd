"""docs/json.md: every field that is emitted is named there, in the part of its schema, and what is named there is emitted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ruleaudit import cli

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/json.md").read_text(encoding="utf-8")
PARTS = {title: part for title, _, part in (one.partition("\n") for one in PAGE.split("\n## ")[1:])}
ANCHORS = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-"): title for title in PARTS}
NODE, BROKEN, IPVS = "fixtures/nodes/healthy", "fixtures/nodes/changed-destination", "fixtures/nodes/ipvs-healthy"
BY_NAME = ("summary.codes", "odd.nodes")
"""Whose keys are codes or nodes' names, and no fields."""
COMMANDS = {
    "report": [["check", BROKEN], ["check", "fixtures/nodes/ipvs-drained-endpoint"]],
    "reports": [["check", BROKEN, "fixtures/nodes/stopped-kube-proxy", IPVS, "{broken}"]],
    "lint": [["lint", "fixtures/nodes"]],
    "trace": [
        ["trace", NODE, "--from", "pod/demo/web-0", "--to", "single:80"],
        ["trace", NODE, "--from", "198.51.100.7", "--to", "203.0.113.18:80"],
        ["trace", BROKEN, "--from", "198.51.100.7", "--to", "http://tools.example.com/"],
    ],
    "show": [
        ["show", "service", "demo/np", NODE],
        ["show", "endpoint", "10.244.99.99", BROKEN],
        ["show", "summary", IPVS],
    ],
    "codes": [["codes"]],
}


def fields_of(value: object, path: str = "") -> set[str]:
    """The names of all fields, however deep."""
    if isinstance(value, list):
        return set().union(*(fields_of(one, path) for one in value))
    if not isinstance(value, dict):
        return set()
    inner = set().union(*(fields_of(one, f"{path}.{name}") for name, one in value.items()))
    return inner if path.endswith(BY_NAME) else inner | set(value)


def named(title: str, *, linked: bool) -> set[str]:
    """The fields that the tables of a part name; with `linked` those of the parts that it refers to, too."""
    titles = [title]
    for one in titles:
        links = re.findall(r"\(#([\w-]+)\)", PARTS[one]) if linked else []
        titles += [ANCHORS[anchor] for anchor in links if ANCHORS[anchor] not in titles]
    rows = [line.strip("| ").split(" | ") for one in titles for line in PARTS[one].splitlines() if line.startswith("| `")]
    # In the second column stand the fields of what a field holds, and values of fields; only the latter may be no fields.
    return set().union(*(re.findall(r"`(\w+)`", cell) for row in rows for cell in row))


def fields_only(title: str) -> set[str]:
    rows = [line.strip("| ").split(" | ")[0] for line in PARTS[title].splitlines() if line.startswith("| `")]
    return set().union(*(re.findall(r"`(\w+)`", cell) for cell in rows))


@pytest.mark.parametrize("schema", COMMANDS)
def test_every_field_is_named_and_every_name_is_one(
    schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "iptables-save.txt").write_text("*nat\n-A X\nCOMMIT\n")
    (tmp_path / "broken" / "objects.json").write_text('{"apiVersion": "v1", "kind": "List", "items": [')
    monkeypatch.chdir(ROOT)
    emitted: set[str] = set()
    for words in COMMANDS[schema]:
        cli.main([*(word.format(broken=tmp_path / "broken") for word in words), "--format", "json"])
        document = json.loads(capsys.readouterr().out)
        assert document["schema"] == f"ruleaudit/{schema}/v1"
        emitted |= fields_of(document)
    title = f"ruleaudit/{schema}/v1"
    assert emitted - named(title, linked=True) == set()
    assert fields_only(title) - emitted == set()


def test_every_schema_has_a_part() -> None:
    assert {title for title in PARTS if "/" in title} == {f"ruleaudit/{schema}/v1" for schema in COMMANDS}
