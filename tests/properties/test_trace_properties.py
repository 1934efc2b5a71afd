"""Whatever is asked, `trace` answers, or says what is wrong with the question; and what it answers adds up."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ruleaudit.errors import RuleauditError
from ruleaudit.reports.text import plain
from ruleaudit.trace import Nodes, read_nodes, trace
from ruleaudit.trace.picture import dot_trace, mermaid_trace
from ruleaudit.trace.question import parse_target
from ruleaudit.trace.structured import json_trace
from ruleaudit.trace.text import trace_lines

FIXTURES = Path(__file__).parents[2] / "fixtures" / "nodes"


@cache
def node(name: str) -> Nodes:
    return read_nodes([str(FIXTURES / name)])


@pytest.fixture(scope="module", autouse=True)
def _opened() -> None:
    """An evaluator raises the recursion limit when it is made, which Hypothesis does not like to see within an example."""
    for name in ("healthy", "ipvs-healthy"):
        node(name).first.family(4)


PORTS = st.sampled_from(["", ":80", ":443", ":http", ":30080", ":53", ":0", ":x y"]) | st.integers(0, 70_000).map(":{}".format)
NAMES = [
    "web",
    "web.demo",
    "dual",
    "headless",
    "extname",
    "node-a",
    "lb.example.com",
    "shop.example.com",
    "10.244.1.12",
    "127.0.0.1",
]
ADDRESSES = [
    "10.96.1.1",
    "203.0.113.10",
    "203.0.113.14",
    "192.168.100.11",
    "192.168.100.12",
    "[fd00:10:96::136]",
    "[::1]",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
]
URLS = ["http://shop.example.com/", "https://tools.example.com/empty", "http://web.demo/", "http://10.96.1.1/", "http://[::1]/"]
TARGETS = st.builds(
    "{}{}{}".format, st.sampled_from([*NAMES, *ADDRESSES]) | st.text(max_size=20), PORTS, st.sampled_from(["", "/tcp", "/udp", "/sctp", "/x"])
) | st.sampled_from(URLS) | st.text(max_size=30).map("http://{}".format)  # fmt: skip
CLIENTS = st.sampled_from(
    ["node", "pod/demo/web-0", "pod/demo/hostnet-0", "pod/demo/web-1", "198.51.100.7", "10.244.1.12", "192.168.100.12", "2001:db8::7", "127.0.0.1", "0.0.0.0"]
)  # fmt: skip


@given(st.text(max_size=60) | TARGETS)
@example("http://[")
@example("[]:80")
@example(":80")
@example("a" * 300)
def test_every_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_target(text)
    except RuleauditError:
        return
    else:
        assert found.host
        assert found.port is None or isinstance(found.port, str) or 0 < found.port < 65_536


@given(st.sampled_from(["healthy", "ipvs-healthy"]), CLIENTS, TARGETS)
def test_every_question_is_answered_or_refused(name: str, client: str, target: str) -> None:
    try:
        found = trace(node(name), client, target)
    except RuleauditError:
        return
    assert sum(one.share for one in found.outcomes) == pytest.approx(1)
    assert found.reached is found.answer.startswith("reached: ")
    assert all(0 < step.share <= 1 + 1e-9 for step in found.all_steps())
    assert plain(trace_lines(found))
    assert json_trace(found).isascii()
    assert dot_trace(found)
    assert mermaid_trace(found)
