"""What the kernel has taught: small rulesets about which the evaluator was wrong once, or easily is.

Each says what becomes of a packet. The evaluator must say the same everywhere; where a namespace can be made, the kernel is asked too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from tests.kernel.laboratory import MASQUERADES, OUTSIDE, Node, Sent, network_namespace, why_not

from ruleaudit.dataplane.evaluator import Evaluator
from ruleaudit.dataplane.packet import Host, Interface, Packet
from ruleaudit.dataplane.ruleset import Ruleset
from ruleaudit.formats.iptables_save import parse
from ruleaudit.forwarding import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN, POD, OTHER, SERVICE = "192.168.100.11", "10.244.1.5", "203.0.113.7", "10.96.0.1"
PODS = "cni0"

FROM_POD = Sent(PODS, "tcp", POD, SERVICE, 80, 40_000)
FROM_OUTSIDE = Sent(OUTSIDE, "tcp", OTHER, OWN, 80, 40_000)
FROM_NODE = Sent(None, "tcp", OWN, OTHER, 80, 40_000)
NODE_TO_ITSELF = Sent(None, "tcp", OWN, OWN, 80, 40_000)
OVER_LOOPBACK = Sent(None, "tcp", "127.0.0.1", "127.0.0.1", 80, 40_000)


class Lesson(NamedTuple):
    rules: dict[str, list[str]]
    sent: Sent
    verdict: Verdict


LESSONS = {
    "masquerading over lo takes no loopback address, so what guards 127.0.0.0/8 drops the packet": Lesson(
        {"nat": ["POSTROUTING -j MASQUERADE"], "filter": ["INPUT ! -s 127.0.0.0/8 -d 127.0.0.0/8 -j DROP"]},
        OVER_LOOPBACK,
        Verdict.DROP,
    ),
    "without masquerading it comes back as it went": Lesson(
        {"filter": ["INPUT ! -s 127.0.0.0/8 -d 127.0.0.0/8 -j DROP"]}, OVER_LOOPBACK, Verdict.LOCAL
    ),
    "what comes back by lo has the source that SNAT gave it": Lesson(
        {"nat": ["POSTROUTING -j SNAT --to-source 198.18.99.9"], "filter": ["INPUT -s 198.18.99.9/32 -j REJECT"]},
        NODE_TO_ITSELF,
        Verdict.REJECT,
    ),
    "after SNAT a connection has state SNAT": Lesson(
        {"nat": ["POSTROUTING -j SNAT --to-source 198.18.99.9"], "filter": ["INPUT -m conntrack --ctstate SNAT -j DROP"]},
        NODE_TO_ITSELF,
        Verdict.DROP,
    ),
    "in raw a packet has no connection yet: its state is INVALID": Lesson(
        {"raw": ["PREROUTING -m conntrack --ctstate INVALID -j DROP"]}, FROM_POD, Verdict.DROP
    ),
    "in raw it is not NEW": Lesson({"raw": ["PREROUTING -m conntrack --ctstate NEW -j DROP"]}, FROM_POD, Verdict.PASS),
    "without a connection there is nothing but the state to ask: negation does not help": Lesson(
        {"raw": ["PREROUTING -m conntrack ! --ctorigdst 198.51.100.1 -j DROP"]}, FROM_POD, Verdict.PASS
    ),
    "without a connection the state decides alone": Lesson(
        {"raw": ["PREROUTING -m conntrack --ctstate INVALID --ctorigdst 198.51.100.1 -j DROP"]}, FROM_POD, Verdict.DROP
    ),
    "an untracked packet has no connection mark, not even another one": Lesson(
        {"raw": ["PREROUTING -j NOTRACK"], "filter": ["FORWARD -m connmark ! --mark 0x1 -j DROP"]}, FROM_POD, Verdict.PASS
    ),
    "a tracked packet has another connection mark": Lesson(
        {"filter": ["FORWARD -m connmark ! --mark 0x1 -j DROP"]}, FROM_POD, Verdict.DROP
    ),
    "an untracked packet keeps its mark when a connection's is to be restored": Lesson(
        {
            "raw": ["PREROUTING -j NOTRACK"],
            "mangle": ["PREROUTING -j MARK --set-xmark 0x1/0xffffffff", "PREROUTING -j CONNMARK --restore-mark"],
            "filter": ["FORWARD -m mark --mark 0x1 -j DROP"],
        },
        FROM_POD,
        Verdict.DROP,
    ),
    "a tracked packet gets the mark of its connection": Lesson(
        {
            "mangle": ["PREROUTING -j MARK --set-xmark 0x1/0xffffffff", "PREROUTING -j CONNMARK --restore-mark"],
            "filter": ["FORWARD -m mark --mark 0x1 -j DROP"],
        },
        FROM_POD,
        Verdict.PASS,
    ),
    "an untracked packet passes nat by": Lesson(
        {"raw": ["PREROUTING -j CT --notrack"], "nat": [f"PREROUTING -j DNAT --to-destination {OTHER}"]}, FROM_POD, Verdict.PASS
    ),
    "what comes back by lo is tracked already, so NOTRACK comes too late": Lesson(
        {"raw": ["PREROUTING -j NOTRACK"], "filter": ["INPUT -m conntrack --ctstate UNTRACKED -j DROP"]},
        NODE_TO_ITSELF,
        Verdict.LOCAL,
    ),
    "what comes from elsewhere is not": Lesson(
        {"raw": ["PREROUTING -j NOTRACK"], "filter": ["INPUT -m conntrack --ctstate UNTRACKED -j DROP"]},
        FROM_OUTSIDE,
        Verdict.DROP,
    ),
    "all of OUTPUT sees the interface of the first destination: lo, though it is translated away": Lesson(
        {"nat": [f"OUTPUT -d {OWN}/32 -j DNAT --to-destination {OTHER}"], "filter": ["OUTPUT -o lo -j DROP"]},
        NODE_TO_ITSELF,
        Verdict.DROP,
    ),
    "all of OUTPUT sees the interface of the first destination: another than lo, though it is translated to the node": Lesson(
        {"nat": [f"OUTPUT -d {OTHER}/32 -j DNAT --to-destination {OWN}"], "filter": ["OUTPUT -o lo -j DROP"]},
        FROM_NODE,
        Verdict.FORWARD,
    ),
    "POSTROUTING sees the interface of the last destination": Lesson(
        {"nat": [f"OUTPUT -d {OTHER}/32 -j DNAT --to-destination {OWN}"], "mangle": ["POSTROUTING -o lo -j DROP"]},
        FROM_NODE,
        Verdict.DROP,
    ),
    "a mark's value is added by exclusive or, outside of the mask too": Lesson(
        {
            "mangle": ["PREROUTING -j MARK --set-xmark 0x2/0xffffffff", "PREROUTING -j MARK --set-xmark 0x3/0x1"],
            "filter": ["FORWARD -m mark --mark 0x1 -j DROP"],
        },
        FROM_POD,
        Verdict.DROP,
    ),
    "ACCEPT in mangle is not the last word": Lesson(
        {"mangle": ["FORWARD -j ACCEPT"], "filter": ["FORWARD -j DROP"]}, FROM_POD, Verdict.DROP
    ),
    "what mangle drops filter cannot refuse": Lesson(
        {"mangle": ["FORWARD -j DROP"], "filter": ["FORWARD -j REJECT"]}, FROM_POD, Verdict.DROP
    ),
}


def text_of(rules: dict[str, list[str]]) -> str:
    chains = {"raw": "PREROUTING OUTPUT", "mangle": "PREROUTING INPUT FORWARD OUTPUT POSTROUTING", "nat": "PREROUTING INPUT OUTPUT POSTROUTING",
              "filter": "INPUT FORWARD OUTPUT"}  # fmt: skip
    return "".join(
        f"*{table}\n"
        + "".join(f":{chain} ACCEPT [0:0]\n" for chain in names.split())
        + "".join(f"-A {rule}\n" for rule in rules.get(table, ()))
        + "COMMIT\n"
        for table, names in chains.items()
    )


lessons = pytest.mark.parametrize("lesson", [pytest.param(lesson, id=name) for name, lesson in LESSONS.items()])


@lessons
def test_the_evaluator_knows_it(lesson: Lesson) -> None:
    sent = lesson.sent
    rules = Ruleset(4, parse(text_of(lesson.rules), "lesson").tables)
    evaluator = Evaluator(rules, Host(frozenset({OWN, *MASQUERADES[4].values()})))
    packet = Packet(
        4, sent.protocol, sent.source, sent.destination, sent.port, from_node=sent.interface is None,
        in_interface=Interface(sent.interface or ""), out_interface=Interface(OUTSIDE), source_port=sent.source_port, bridged=False,
    )  # fmt: skip
    outcomes, _ = evaluator.evaluate(packet)
    assert [(one.verdict, one.possible) for one in outcomes] == [(lesson.verdict, False)]


@pytest.fixture(scope="module", params=["legacy", "nft"])
def kernel(request: pytest.FixtureRequest) -> Iterator[tuple[Node, str]]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with network_namespace():
        node = Node([OWN], ["10.244.1.0/24"], PODS)
        try:
            yield node, request.param
        finally:
            node.close()


@pytest.mark.kernel
@lessons
def test_the_kernel_does_it(lesson: Lesson, kernel: tuple[Node, str]) -> None:
    node, backend = kernel
    node.load(4, text_of(lesson.rules), backend)
    (fate,) = node.send([lesson.sent])
    assert fate.verdict is lesson.verdict
