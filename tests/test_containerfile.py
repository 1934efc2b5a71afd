"""The Containerfile, as far as can be seen without a container engine and without the image that it begins with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINES = [line for line in (ROOT / "Containerfile").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
INSTRUCTIONS = [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in LINES]
LAST = [number for number, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM"][-1]


def values(name: str, after: int = 0) -> list[str]:
    return [value for found, value in INSTRUCTIONS[after:] if found == name]


def copied() -> list[tuple[str, str]]:
    """(what of the repository, where to) of each COPY from it."""
    pairs = []
    for value in values("COPY"):
        if not value.startswith("--from="):
            *sources, target = value.split()
            pairs += [(source, target) for source in sources]
    return pairs


def test_it_starts_from_one_pinned_slim_python() -> None:
    images = {value.removesuffix(" AS build") for value in values("FROM")}
    assert len(images) == 1
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-[a-z]+", images.pop())


def test_it_runs_as_nobody_who_is_somebody() -> None:
    """A number: Kubernetes' runAsNonRoot cannot tell what a name stands for. Nothing is done as root once it is set."""
    (user,) = values("USER", LAST)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    names = [name for name, _ in INSTRUCTIONS[LAST:]]
    assert not {"RUN", "COPY", "ADD"} & {*names[names.index("USER") :]}


def test_it_runs_the_command_without_a_shell() -> None:
    assert json.loads(values("ENTRYPOINT", LAST)[-1]) == ["ruleaudit"]
    assert "VOLUME" not in dict(INSTRUCTIONS)
    assert "PYTHONDONTWRITEBYTECODE=1" in values("ENV", LAST)[-1]


def test_no_secret_and_nothing_unneeded_gets_in() -> None:
    assert not {"ARG", "ADD"} & {name for name, _ in INSTRUCTIONS}
    assert not re.search(r"(?i)secret|token|passw|credential|--mount|--index-url|\.git\b", "\n".join(LINES))
    assert {source for source, _ in copied()} <= {"pyproject.toml", "README.md", "LICENSE", "src", "grammars", "man"}


def test_what_is_copied_is_enough_to_build_the_package(tmp_path: Path) -> None:
    for source, target in copied():
        place = tmp_path / target.lstrip("/")
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place)
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place)
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(tmp_path / "source")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"ruleaudit/cli/check.py", "ruleaudit/live/collect.sh"} <= {*names}
    assert any(name.startswith("ruleaudit/grammars/") for name in names)


def test_it_works_where_nothing_can_be_written(nodes: Path) -> None:
    if shutil.which("unshare") is None or os.geteuid():
        pytest.skip("needs root and unshare")
    script = 'mount -o remount,bind,ro / && ! touch /etc/probe 2>/dev/null && exec "$@"'
    command = [sys.executable, "-m", "ruleaudit", "check", str(nodes / "healthy"), str(nodes / "stopped-kube-proxy")]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error", "TMPDIR": "/nonexistent"}
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "permission denied" in done.stderr:
        pytest.skip("the root filesystem cannot be made read-only here")
    assert (done.returncode, done.stderr) == (1, "")
    assert "RA505 stopped-kube-proxy" in done.stdout
