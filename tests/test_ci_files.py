"""What repositories take ruleaudit into their CI with: the action's shell lines are run, the rest is read as its reader would."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from ruleaudit import cli
from ruleaudit.cli.lint import lint

ROOT = Path(__file__).resolve().parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
INSTALL, RUN = (step["run"] for step in ACTION["runs"]["steps"])


def inputs(step: int, **given: str) -> dict[str, str]:
    """The environment of a step: each input as the runner puts it there."""
    values = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()} | {
        name.replace("_", "-"): value for name, value in given.items()
    }
    environment: dict[str, str] = {}
    for name, expression in ACTION["runs"]["steps"][step]["env"].items():
        found = re.fullmatch(r"\$\{\{ (inputs|github)\.([\w-]+) \}\}", expression)
        assert found is not None, expression
        environment[name] = values[found[2]] if found[1] == "inputs" else str(ROOT)
    return environment


def run(tmp_path: Path, script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (tmp_path / "outputs").touch()
    more = {"RUNNER_TEMP": str(tmp_path / "runner"), "GITHUB_OUTPUT": str(tmp_path / "outputs"), "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env={**os.environ, **more, **environment}, capture_output=True, text=True, timeout=120
    )


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """What the first step leaves: ruleaudit in a virtualenv, here the one that is tested."""
    program(tmp_path / "runner/ruleaudit/bin/ruleaudit", f'#!/bin/sh\nexec "{sys.executable}" -m ruleaudit "$@"\n')
    shutil.copytree(ROOT / "fixtures" / "nodes", tmp_path / "some nodes")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "status", "printed"),
    [
        ({"command": "lint", "paths": "some nodes"}, 0, "::5 fixtures: 45 findings as expected"),
        ({"paths": "some nodes/healthy"}, 0, "no faults found"),
        (
            {"paths": "some nodes/changed-destination\n"},
            1,
            "::error file=some nodes/changed-destination/iptables-save.txt,line=689",
        ),
        ({"paths": "some nodes/changed-destination", "arguments": "--ignore\nRA206"}, 0, "nothing to show"),
        ({"paths": "some nodes/changed-destination", "format": "text", "fail_on": "error"}, 1, "error RA206 stale-endpoint"),
        ({"paths": "some nodes/healthy/iptables-save.txt\nsome nodes/healthy/objects.json.xz", "node": "node-a"}, 0, "no faults"),
        ({"paths": "some nodes/healthy/iptables-save.txt\nsome nodes/healthy/objects.json.xz", "node": "node-z"}, 2, ""),
        ({"paths": "absent"}, 2, ""),
        ({"paths": "$(touch x)`touch x`;touch x"}, 2, ""),
        ({"paths": "*"}, 2, ""),
        ({"paths": "--help"}, 2, ""),
        ({"command": "lint;touch x", "paths": "some nodes"}, 2, "::error::command is neither check nor lint"),
    ],
)
def test_the_action_runs(installed: Path, given: dict[str, str], status: int, printed: str) -> None:
    done = run(installed, RUN, inputs(1, **given))
    assert done.returncode == status, done.stderr
    assert printed in done.stdout
    if "command" not in given or ";" not in given["command"]:
        assert (installed / "outputs").read_text() == f"status={status}\n"
    assert not (installed / "x").exists()


def test_the_action_writes_sarif_beside_what_it_prints(installed: Path) -> None:
    done = run(installed, RUN, inputs(1, paths="some nodes/changed-destination", sarif="report"))
    assert done.stdout.startswith("::error")
    assert '"version": "2.1.0"' in (installed / "report").read_text()


@pytest.mark.parametrize(("version", "wanted"), [("", str(ROOT)), ("ruleaudit==0.1.0", "ruleaudit==0.1.0")])
def test_the_action_installs_itself_or_what_is_asked_for(tmp_path: Path, version: str, wanted: str) -> None:
    """Without the network: a Python whose virtualenvs only note what is done in them. scripts/smoke does it with a real one."""
    note = '#!/bin/sh\necho "$(basename "$0") $*" >>"$RUNNER_TEMP/done"\n'
    program(
        tmp_path / "python",
        f'#!/bin/sh\nmkdir -p "$3/bin"\nfor one in pip ruleaudit; do cp "{tmp_path}/note" "$3/bin/$one"; done\n',
    )
    program(tmp_path / "note", note)
    (tmp_path / "runner").mkdir()
    done = run(tmp_path, INSTALL, inputs(0, python=str(tmp_path / "python"), version=version))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runner/done").read_text().splitlines() == [
        f"pip install --quiet --disable-pip-version-check {wanted}",
        "ruleaudit --version",
    ]


def test_the_action_is_described() -> None:
    """Every input is used and in the documentation, with its default; every output there is."""
    text = (ROOT / "docs" / "ci.md").read_text()
    used = " ".join(value for step in ACTION["runs"]["steps"] for value in step["env"].values())
    for name in ACTION["inputs"]:
        assert f"inputs.{name} " in used
        assert re.search(rf"^\| `{name}` \|", text, re.MULTILINE)
    assert list(ACTION["outputs"]) == ["status"]
    assert "${{" not in INSTALL + RUN  # an input in the text of a script would be run


def test_the_hook_is_one_that_pre_commit_takes() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["language"] == "python"
    assert hook["entry"].split()[1] == lint.name
    assert hook["require_serial"] is True
    assert re.search(hook["files"], "tests/fixtures/a/iptables-save.txt")
    assert not re.search(hook["files"], "src/ruleaudit/cli/lint.py")


def _blocks() -> list[dict[str, Any]]:
    text = (ROOT / "docs" / "ci.md").read_text()
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]


def test_the_snippets_are_yaml_and_true() -> None:
    hooks, github, gitlab = _blocks()
    assert hooks["repos"][0]["hooks"][0]["id"] == "ruleaudit-lint"
    steps = github["jobs"]["nodes"]["steps"]
    assert set(steps[1]["with"]) <= set(ACTION["inputs"])
    assert steps[2]["with"]["sarif_file"] == steps[1]["with"]["sarif"]
    job = gitlab["ruleaudit"]
    command = job["script"][1].split()
    assert command[0] == "ruleaudit"
    written = [word.partition(":")[2] or word for option, word in itertools.pairwise(command) if option == "--output"]
    assert {*job["artifacts"]["reports"].values()} <= set(written)


def test_the_gitlab_snippet_runs(installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(installed)
    (installed / "some nodes").rename(installed / "fixtures")
    (installed / "fixtures" / "nodes").mkdir()
    (installed / "fixtures" / "healthy").rename(installed / "fixtures" / "nodes" / "healthy")
    words = _blocks()[2]["ruleaudit"]["script"][1].split()[1:]
    assert cli.main(words) == 0
    assert "1 fixture: no faults found" in capsys.readouterr().out
    assert (installed / "gl-code-quality-report.json").read_text() == "[]\n"
    assert "<testsuites" in (installed / "ruleaudit.xml").read_text()


def test_commands_of_other_modules_are_commands_like_any(capsys: pytest.CaptureFixture[str]) -> None:
    context = click.Context(cli.command)
    assert {"check", "lint"} <= set(cli.command.list_commands(context))
    assert cli.command.get_command(context, "lint") is lint
    assert cli.command.get_command(context, "frobnicate") is None
    assert cli.main(["--help"]) == 0
    assert re.search(r"^  lint +Check captured nodes", capsys.readouterr().out, re.MULTILINE)
