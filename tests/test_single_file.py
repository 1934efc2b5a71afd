"""The single file for a node that has nothing but Python: built, and run by a Python that has nothing installed."""

from __future__ import annotations

import ast
import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
START = str(runpy.run_path(str(ROOT / "scripts" / "single_file.py"))["start"]())
OFFLINE = ("NewConnectionError", "Temporary failure in name resolution", "Network is unreachable", "ConnectTimeoutError")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("shiv") is None:
        pytest.skip("shiv is not installed")
    path = tmp_path_factory.mktemp("single") / "ruleaudit.pyz"
    words = [str(ROOT / "scripts" / "single-file"), sys.executable, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    if any(sign in done.stdout + done.stderr for sign in OFFLINE) and done.returncode:
        pytest.skip("pip reaches no packages: the single file was not built")
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def run(single: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As by `env -i python3 FILE`: the interpreter that virtualenvs are made of, and no environment but the folder to unpack into."""
    words = [os.path.realpath(sys.executable), str(single), *arguments]
    environment = {"SHIV_ROOT": str(single.parent / "unpacked")}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["check", "fixtures/nodes/healthy"], 0, "node-a: no faults found"),
        (["check", "fixtures/nodes/healthy", "fixtures/nodes/stopped-kube-proxy", "--jobs", "2"], 1, "RA505 stopped-kube-proxy"),
        (["check", "fixtures/nodes/ipvs-healthy", "--format", "html"], 0, "<!doctype html>"),
        (["explain", "stale-endpoint"], 0, "RA206 stale-endpoint"),
        (["collect", "--script"], 0, "#!/bin/sh"),
    ],
)
def test_it_needs_python_alone(single: Path, arguments: list[str], status: int, said: str) -> None:
    done = run(single, *arguments)
    assert (done.returncode, done.stderr) == (status, "")
    assert said.lower() in done.stdout.lower()


def test_it_is_a_program_by_itself(single: Path) -> None:
    assert single.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert os.access(single, os.X_OK)


# --- where it cannot be run ---


def started(text: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """The start alone, as a script."""
    (tmp_path / "ruleaudit.pyz").write_text(text)
    return subprocess.run([sys.executable, str(tmp_path / "ruleaudit.pyz")], capture_output=True, text=True, timeout=60)


def test_every_python_3_reads_the_start() -> None:
    tree = ast.parse(START, feature_version=(3, 4))
    assert not any(isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr) for node in ast.walk(tree))


def test_another_python_is_told_before_anything_else(tmp_path: Path) -> None:
    mine = f"{sys.version_info[0]}.{sys.version_info[1]}"
    other = START.replace(f"= '{mine}', ", "= '3.0', ").replace(f"cpython-{mine.replace('.', '')}", "cpython-30")
    done = started(other, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ruleaudit: ruleaudit.pyz is built for Python 3.0 on ")
    assert f"and this is Python {mine} on " in done.stderr
    assert done.stderr.count("\n") == 1


def test_other_pythons_say_so_themselves(single: Path) -> None:
    named = [shutil.which(f"python3.{minor}") for minor in range(4, 20) if minor != sys.version_info[1]]
    others = [one for one in named if one is not None and not subprocess.run([one, "--version"], capture_output=True).returncode]
    if not others:
        pytest.skip("there is no other Python here")
    for other in others:
        done = subprocess.run([other, str(single), "--version"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"is built for Python 3.{sys.version_info[1]} on " in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_written_to_is_named(single: Path) -> None:
    words = [os.path.realpath(sys.executable), str(single), "--version"]
    done = subprocess.run(words, env={"SHIV_ROOT": "/dev/null/x"}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "ruleaudit: cannot unpack itself into /dev/null/x: Not a directory; set SHIV_ROOT to a folder that can be written to\n"
    )
