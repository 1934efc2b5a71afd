"""Workflow commands: what the runner of GitHub Actions makes of them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

import pytest
from tests.reports.samples import FOLDER, HOSTILE_TEXTS, STALE, USUAL, hostile

from ruleaudit.findings import ProxySummary, Report, Severity, Suppressed
from ruleaudit.reports.evidence import Context
from ruleaudit.reports.github import github_report
from ruleaudit.reports.nodes import Failure, compared


class Command(NamedTuple):
    name: str
    properties: dict[str, str]
    message: str


def unescaped(text: str, **more: str) -> str:
    for escaped, plain in {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}.items():
        text = text.replace(escaped, plain)
    return text


def parsed(text: str) -> list[Command]:
    """As actions/runner reads a log (src/Runner.Common/ActionCommand.cs): every line here must be a command."""
    commands = []
    for line in re.split(r"[\r\n]", text.removesuffix("\n")):
        found = re.fullmatch(r"::(\w+)(?: ([^:]*))?::(.*)", line)
        assert found, line
        pairs = [one.partition("=") for one in (found[2] or "").split(",") if one]
        commands.append(Command(found[1], {name: unescaped(value) for name, _, value in pairs}, unescaped(found[3])))
    return commands


def github(*reports: Report, threshold: Severity = Severity.WARNING, notices: tuple[str, ...] = ()) -> list[Command]:
    return parsed(github_report(reports, Context(threshold, FOLDER, notices)))


def test_a_finding_is_an_annotation_of_its_line() -> None:
    command = github(replace(USUAL, findings=(STALE,)))[0]
    assert command.name == "error"
    assert command.properties == {"file": "node-a/iptables-save.txt", "line": "689", "title": "RA206 stale-endpoint on node-a"}
    assert command.message.splitlines() == [
        STALE.message,
        f"expected: {STALE.expected}",
        f"observed: {STALE.observed}",
        f"node-a/iptables-save.txt:689: {STALE.locations[3].text}",
        f"to do: {STALE.hint}",
    ]


@pytest.mark.parametrize(
    ("threshold", "names"),
    [
        (Severity.WARNING, ["error", "error", "error", "warning", "notice"]),
        (Severity.INFO, ["error", "error", "error", "warning", "notice", "notice", "notice"]),
    ],
)
def test_errors_come_first_and_the_summary_last(threshold: Severity, names: list[str]) -> None:
    commands = github(USUAL, threshold=threshold, notices=("1 finding not shown",))
    assert [command.name for command in commands] == names
    assert commands[-1].properties == {"title": "ruleaudit"}
    assert commands[-1].message.startswith("node-a: 3 errors, 1 warning, 1 note in 4 services")
    assert commands[-1].message.endswith("\n1 finding not shown")


def test_nothing_found_is_said() -> None:
    (command,) = github(Report(None, (), ProxySummary(), 0, 0, 0))
    assert command.name == "notice"
    assert "no faults found" in command.message


def test_many_nodes_have_one_summary() -> None:
    clean = [replace(USUAL, node=f"node-{number}", findings=()) for number in range(400)]
    (command,) = github(*clean)
    assert (command.name, command.message) == ("notice", "400 nodes: no faults found")
    commands = github(USUAL, *clean)
    assert [command.name for command in commands] == ["error", "error", "error", "warning", "notice"]
    assert commands[-1].message == "401 nodes: 3 errors, 1 warning on 1 node; 1 note on 1 node; 1 part not checked on 1 node"


def test_what_is_expected_is_said_as_such() -> None:
    suppressed = (Suppressed(STALE, "expected", "", "expected.json"),)
    (command,) = github(replace(USUAL, findings=(), suppressed=suppressed))
    assert command.message.startswith("node-a: 1 finding as expected in 4 services")


def test_a_node_that_was_not_audited_is_an_error_and_comes_first() -> None:
    comparison = compared([USUAL], failures=[Failure("b::c,\n/", "holds\nnothing")])
    commands = parsed(github_report([USUAL], Context(folder=FOLDER, comparison=comparison)))
    assert commands[0].name == "error"
    assert commands[0].properties == {"title": "ruleaudit: not audited"}
    assert commands[0].message == r"b::c,\n/: holds\nnothing"
    assert commands[-1].message.endswith("; 1 not audited")


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_is_inert(text: str) -> None:
    commands = github(hostile(text), notices=(text,))
    assert [command.name for command in commands] == ["error", "warning", "notice"]
    assert [set(command.properties) for command in commands] == [{"file", "line", "title"}, {"file", "line", "title"}, {"title"}]
    for command in commands:
        assert all(line.isprintable() for value in (*command.properties.values(), command.message) for line in value.split("\n"))
