"""The kernel, read through python-iptables, says of a loaded dump what the parser says of its text."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from ruleaudit.dumps.rules import Argument, Option, Rule, unescape
from ruleaudit.formats.iptables_save import parse

FIXTURE = Path(__file__).parents[2] / "fixtures" / "dumps" / "iptables-save" / "second-opinion.txt"
READER = Path(__file__).with_name("read_with_iptc.py")

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root to make a network namespace"),
    pytest.mark.skipif(
        shutil.which("iptables-legacy-restore") is None, reason="needs iptables-legacy-restore (package iptables)"
    ),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare (package util-linux)"),
    pytest.mark.skipif(importlib.util.find_spec("iptc") is None, reason="needs python-iptables"),
]


@pytest.fixture(scope="module")
def read_back() -> dict[str, dict[str, list[dict[str, object]]]]:
    in_namespace = ["unshare", "--net"]
    probe = subprocess.run([*in_namespace, "iptables-legacy-save"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"no network namespace with legacy tables here: {probe.stderr.strip()}")
    dump = FIXTURE.read_text()
    loaded = subprocess.run([*in_namespace, "iptables-legacy-restore"], input=dump, capture_output=True, text=True)
    if loaded.returncode != 0:
        pytest.skip(f"this kernel lacks a match of the dump: {loaded.stderr.strip()}")
    done = subprocess.run(
        [*in_namespace, sys.executable, str(READER), "nat", "filter"], input=dump, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, dict[str, list[dict[str, object]]]] = json.loads(done.stdout)
    return read


def network(argument: Argument | None) -> str:
    """An address as python-iptables prints it: with a netmask, `!` before it."""
    if argument is None:
        return "0.0.0.0/0.0.0.0"
    return ("!" if argument.negated else "") + str(ip_network(argument.values[0]).with_netmask)


def plain(argument: Argument | None) -> str | None:
    return None if argument is None else ("!" if argument.negated else "") + argument.values[0]


def parameters(rule: Rule, options: tuple[Option, ...]) -> dict[str, list[str]]:
    return {
        option.flag.lstrip("-"): (["!"] if option.negated else [])
        + [unescape(rule.values[slot]) if rule.shape.quoted[slot] else rule.values[slot] for slot in option.slots]
        for option in options
    }


def as_iptc_says_it(rule: Rule) -> dict[str, object]:
    target = rule.shape.target
    return {
        "source": network(rule.option("-s")),
        "destination": network(rule.option("-d")),
        "in": plain(rule.option("-i")),
        "out": plain(rule.option("-o")),
        "protocol": plain(rule.option("-p")) or "ip",
        "fragment": rule.option("-f") is not None,
        "matches": [[match.module, parameters(rule, match.options)] for match in rule.matches],
        "target": rule.target_name or "",
        "goto": rule.goto,
        "parameters": {} if target is None else parameters(rule, target.options),
    }


def test_the_kernel_agrees_with_the_parser(read_back: dict[str, dict[str, list[dict[str, object]]]]) -> None:
    dump = parse(FIXTURE.read_text(), str(FIXTURE))
    assert dump.problems == []
    for table in dump.tables:
        in_kernel = {chain: rules for chain, rules in read_back[table.name].items() if rules}
        in_text = {
            chain.name: [as_iptc_says_it(dump.rule(line)) for line in chain.lines]
            for chain in table.chains.values()
            if chain.lines
        }
        assert in_text == in_kernel
        assert table.chains.keys() <= read_back[table.name].keys()
