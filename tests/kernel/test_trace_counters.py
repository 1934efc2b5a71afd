"""The path that `trace` prints is the path that packets take: the rules that it names are those whose counters move.

Captured rules are loaded, counters are read (`iptables-save -c`), packets are sent from a pod, the node and the outside until every
endpoint must have had some, and counters are read again. With RULEAUDIT_KERNEL_ALL set every frontend of the bundled nodes is tried.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kernel.flows import Captured, without_accounting
from tests.kernel.laboratory import OUTSIDE, Node, Sent, network_namespace, why_not
from tests.trace.every_frontend import ask_everything

from ruleaudit.formats.iptables_save import parse
from ruleaudit.forwarding import Vantage
from ruleaudit.trace import read_nodes
from ruleaudit.trace.values import StepKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ruleaudit.dumps.rules import Dump
    from ruleaudit.trace import Trace
    from ruleaudit.trace.values import Step

NODES = Path(__file__).parents[2] / "fixtures" / "nodes"
EVERYTHING = bool(os.environ.get("RULEAUDIT_KERNEL_ALL"))
SAMPLE = 70
PACKETS_PER_END = 40
"""So many for each endpoint: that one gets none by chance is less likely than 1 in 10 to the 17th."""
ACTING = ("ACCEPT", "CONNMARK", "DNAT", "DROP", "MARK", "MASQUERADE", "REJECT", "SNAT")

_REASON = why_not()
pytestmark = [pytest.mark.kernel, pytest.mark.skipif(_REASON is not None, reason=_REASON or "")]

Place = tuple[str, str, int]
"""(table, chain, which of its rules); -1 stands for the chain's policy."""


def counted(text: str) -> dict[Place, int]:
    """Packets of every rule and policy, from `iptables-save -c`."""
    dump = parse(text, "counters")
    found: dict[Place, int] = {}
    for table in dump.tables:
        for name, chain in table.chains.items():
            slots = dump.shapes[chain.line].counter_slots
            if slots is not None:
                found[table.name, name, -1] = int(dump.values[chain.line][slots[0]])
            for number, line in enumerate(chain.lines):
                counters = dump.rule(line).counters
                assert counters is not None
                found[table.name, name, number] = counters[0]
    return found


def here(steps: Iterable[Step]) -> Iterator[Step]:
    """The steps that a packet takes at the node when it comes there first: what leaves it for a load balancer and comes back is another."""
    for step in steps:
        yield step
        yield from here(
            ()
            if any(one.kind is StepKind.LOAD_BALANCER for one in step.steps) and step.kind is StepKind.ROUTED_ON
            else step.steps
        )


def named(found: Trace, dump: Dump) -> set[Place]:
    """The rules of one dump that a trace names in its steps."""
    tables = {table.name: table for table in dump.tables}
    places = set()
    for step in here(found.steps):
        for rule in step.rules:
            if rule.file == dump.path:
                lines = tables[rule.table].chains[rule.chain].lines
                places.add((rule.table, rule.chain, -1 if rule.policy else lines.index(rule.line)))
    return places


def acts(dump: Dump, place: Place) -> bool:
    """Whether the rule at a place changes a packet or decides about it."""
    table, chain, number = place
    if number < 0:
        return False
    line = next(one for one in dump.tables if one.name == table).chains[chain].lines[number]
    return dump.rule(line).target_name in ACTING


def packets_of(found: Trace, vantage: Vantage, captured: Captured, times: int) -> list[Sent]:
    first = next(step.before for step in found.all_steps() if step.before is not None)
    assert first.source is not None
    interface = {Vantage.POD: captured.pod_interface, Vantage.NODE: None, Vantage.OUTSIDE: OUTSIDE}[vantage]
    return [
        Sent(interface, first.protocol.lower(), first.source, first.destination, first.port, 2_000 + number)
        for number in range(times)
    ]


@pytest.mark.parametrize("backend", ["legacy", "nft"])
@pytest.mark.parametrize("name", ["healthy", "changed-destination"])
def test_counters_of_the_named_rules_move(name: str, backend: str) -> None:
    folder = NODES / name
    captured = Captured.read(folder)
    asked = list(ask_everything(read_nodes([str(folder)])))
    if not EVERYTHING:
        asked = random.Random(f"{name} {backend}").sample(asked, SAMPLE)
    tried = 0
    wrong: list[str] = []
    with network_namespace():
        node = Node(captured.node_addresses, captured.pod_networks, captured.pod_interface)
        try:
            for family, dump in captured.dumps.items():
                node.load(family, without_accounting(dump.render()), backend)
            for frontend, vantage, found in asked:
                dump = captured.dumps[frontend.family]
                keeps = any("session affinity" in note for step in found.all_steps() for note in step.notes)
                before = counted(node.saved(frontend.family, backend, counters=True))
                packets = packets_of(found, vantage, captured, PACKETS_PER_END * len(found.outcomes))
                if keeps:  # a client that is remembered takes another way than the first packet of a new one
                    for one in packets:
                        node.forget_clients()
                        node.send([one], patience=0.002)
                else:
                    node.send(packets)
                after = counted(node.saved(frontend.family, backend, counters=True))
                moved = {place for place, count in after.items() if count > before[place]}
                said = named(found, dump)
                tried += 1
                still = said - moved
                others = {one for one in moved - said if acts(dump, one)}
                if still or others:
                    wrong.append(
                        f"{frontend} from {vantage.value}: named and still {sorted(still)}, moved and not named {sorted(others)}"
                    )
        finally:
            node.close()
    assert not wrong, "\n".join(wrong[:20])
    assert tried >= SAMPLE
