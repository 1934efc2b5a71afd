"""The single file for a node that has nothing but Python: built, and run by a Python that has nothing installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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
