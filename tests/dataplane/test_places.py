"""Destinations that the rules treat alike share an answer (S13): each shared answer is what asking in full gives."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

import ruleaudit
from ruleaudit.dataplane.evaluator import Evaluator
from ruleaudit.dataplane.observe import observe

if TYPE_CHECKING:
    from pathlib import Path

    from ruleaudit.dataplane.classes import Place
    from ruleaudit.dataplane.packet import Packet
    from ruleaudit.dataplane.ruleset import Balance


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Whatever is answered from a shared answer while the test runs is asked in full as well; how often each happened."""
    told: Counter[str] = Counter()
    shared = Evaluator.bundled

    def asked_twice(
        self: Evaluator, client: Packet, destination: str, port: int, place: Place, mark: int
    ) -> tuple[Balance, bool] | None:
        found = shared(self, client, destination, port, place, mark)
        told["shared" if found is not None else "in full"] += 1
        if found is not None:
            seen = observe(self, client.to(destination, port), mark)
            balance, marked = found
            told["affinity"] += balance.affinity is not None
            assert dict(seen.backends) == pytest.approx(balance.backends)
            assert (seen.possible, seen.affinity, seen.affinity_fault) == (False, balance.affinity, "")
            assert not seen.lost
            assert not seen.refused
            assert not seen.untranslated
            assert (seen.marked, seen.unmarked) == pytest.approx((1.0, 0.0) if marked else (0.0, 1.0))
        return found

    monkeypatch.setattr(Evaluator, "bundled", asked_twice)
    return told


@pytest.mark.parametrize("name", ["healthy", "changed-destination", "stopped-kube-proxy"])
def test_bundled_nodes(name: str, nodes: Path, compared: Counter[str]) -> None:
    ruleaudit.audit_inputs(ruleaudit.read([str(nodes / name)]))
    assert compared["shared"] > 100
    assert compared["affinity"] > 10


def test_captured_nodes(capture_folders: list[Path], compared: Counter[str]) -> None:
    for folder in capture_folders:
        if any(folder.glob("iptables-save.txt*")):
            ruleaudit.audit_inputs(ruleaudit.read([str(folder)]))
    assert compared["shared"] > 1000
