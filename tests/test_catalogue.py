"""The catalogue: what was published stays, and every entry says what a reader needs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import ruleaudit
from ruleaudit.catalogue import CATALOGUE, GROUPS, RESERVED, Entry

# Codes are stable for ever: rows are added here, never changed and never taken away.
PUBLISHED = """
    RA001 error   unparsable-line
    RA002 error   truncated-dump
    RA003 warning unmodelled-rule
    RA004 info    not-checked
    RA005 error   no-kube-proxy-rules
    RA006 warning time-skew
    RA007 warning other-node
    RA008 warning other-settings
    RA011 warning incomplete-capture
    RA012 error   wrong-description
    RA013 error   unmet-expectation
    RA101 error   missing-service
    RA102 error   missing-cluster-ip
    RA103 error   missing-node-port
    RA104 error   missing-external-ip
    RA105 error   missing-load-balancer-ip
    RA106 error   missing-endpoint
    RA107 error   missing-reject
    RA108 error   missing-hook
    RA109 warning missing-health-check-port
    RA110 error   missing-set-entry
    RA111 error   missing-address
    RA201 error   stale-service
    RA202 error   stale-cluster-ip
    RA203 error   stale-node-port
    RA204 error   stale-external-ip
    RA205 error   stale-load-balancer-ip
    RA206 error   stale-endpoint
    RA207 error   not-ready-endpoint
    RA208 error   stale-reject
    RA209 info    orphan-chain
    RA210 warning stale-set-entry
    RA301 error   wrong-service
    RA302 error   wrong-target-port
    RA303 error   uneven-shares
    RA304 error   wrong-session-affinity
    RA305 error   wrong-traffic-policy
    RA306 error   wrong-source-ranges
    RA307 info    duplicate-rule
    RA308 warning rule-order
    RA309 error   broken-chain
    RA310 warning altered-rule
    RA401 error   missing-masquerade
    RA402 error   broken-masquerade
    RA403 error   missing-hairpin
    RA404 warning wrong-local-detection
    RA405 error   unexpected-masquerade
    RA501 error   mixed-modes
    RA502 error   split-backends
    RA503 warning leftover-chains
    RA504 error   blocked-sync
    RA505 error   stopped-kube-proxy
    RA601 error   shadowed-service
    RA602 error   forward-drop
    RA603 error   host-port-conflict
    RA604 warning untracked-service
    RA701 info    no-matching-pod
    RA702 warning slice-disagrees
    RA703 error   duplicate-frontend
    RA704 warning broken-ingress-backend
    RA801 warning external-ip-takeover
    RA802 warning exposed-localhost
    RA803 error   exposed-secret
"""


def test_codes_names_and_severities_are_those_that_were_published() -> None:
    published = [tuple(line.split()) for line in PUBLISHED.strip().splitlines()]
    assert [(entry.code, entry.severity.value, entry.name) for entry in CATALOGUE.values()] == published


def test_codes_are_in_order_and_names_are_unique() -> None:
    assert list(CATALOGUE) == sorted(CATALOGUE)
    assert len({entry.name for entry in CATALOGUE.values()}) == len(CATALOGUE)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_an_entry_is_complete(entry: Entry) -> None:
    assert re.fullmatch(r"RA\d{3}", entry.code)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", entry.name)
    assert entry.group in GROUPS
    assert entry.group not in RESERVED
    for paragraph in (entry.meaning, entry.why, entry.action):
        assert paragraph.endswith(".")
    for paragraph in (entry.meaning, entry.why, entry.action, entry.exceptions, entry.varies):
        assert paragraph == " ".join(paragraph.split())
        assert set(re.findall(r"RA\d{3}", paragraph)) <= set(CATALOGUE)


def test_every_group_has_codes() -> None:
    assert {entry.group for entry in CATALOGUE.values()} == set(GROUPS)


def test_an_example_is_what_the_code_says() -> None:
    """The longest words that a message of the source has in common with an example: a message that was reworded has none."""
    pieces = {
        part.strip()
        for path in Path(ruleaudit.__file__).parent.rglob("*.py")
        if path.name != "catalogue.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for part in node.value.split("\n")
        if len(part.strip()) >= 10
    }
    for entry in CATALOGUE.values():
        assert entry.example == " ".join(entry.example.split())
        assert "`" not in entry.example
        assert any(piece in entry.example for piece in pieces), entry.code
