"""The kernel as the judge of rules that nobody wrote: random rulesets are loaded, and what becomes of packets is what the evaluator says.

Captured nodes hold the rules that kube-proxy writes and a few others; these hold every match and target that the evaluator models,
in all tables and chains. With RULEAUDIT_KERNEL_ALL set many more are tried.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.kernel.flows import Captured, Tally, compare_loaded
from tests.kernel.laboratory import Node, network_namespace, why_not
from tests.kernel.random_rules import POOLS, RulesetWriter

from ruleaudit.cluster import Cluster
from ruleaudit.formats.iptables_save import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

RULESETS = 300 if os.environ.get("RULEAUDIT_KERNEL_ALL") else 12
POD_INTERFACE = "cni0"

_REASON = why_not()
pytestmark = [pytest.mark.kernel, pytest.mark.skipif(_REASON is not None, reason=_REASON or "")]


@pytest.fixture
def node() -> Iterator[Node]:
    with network_namespace():
        node = Node([one.own for one in POOLS.values()], ["10.244.1.0/24", "fd00:10:244:1::/64"], POD_INTERFACE)
        try:
            yield node
        finally:
            node.close()


@pytest.mark.parametrize("backend", ["legacy", "nft"])
@pytest.mark.parametrize("family", [4, 6])
def test_random_rules(family: int, backend: str, node: Node) -> None:
    total = Tally()
    for seed in range(RULESETS):
        node.load(family, RulesetWriter(family, POD_INTERFACE, seed).write(), backend)
        text = node.saved(family, backend)
        dump = parse(text, f"ruleset {seed}")
        assert not dump.problems
        own, networks = tuple(one.own for one in POOLS.values()), tuple(str(one) for one in node.pod_networks)
        captured = Captured(f"ruleset {seed}", {family: dump}, Cluster(), own, networks, POD_INTERFACE)
        tally = Tally()
        compare_loaded(captured, family, node, tally, flows=150, spread=0)
        assert not tally.disagreements, "\n".join([*tally.disagreements[:5], f"of IPv{family} ruleset {seed}:", text])
        total.verdicts += tally.verdicts
        total.flows += tally.flows
    assert total.flows >= 100 * RULESETS
    assert {"forward", "local", "pass", "reject", "drop"} <= total.verdicts.keys()
