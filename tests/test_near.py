"""Near matches: what somebody may have meant."""

from __future__ import annotations

import pytest

from ruleaudit.near import did_you_mean, near_matches, unknown

PODS = ["demo/client", "demo/client-7d4f9c-abcde", "demo/web-0", "other/web-0", "other/api"]


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        pytest.param("demo/clinet", PODS, ("demo/client",), id="spelt alike"),
        pytest.param("demo/api", PODS, ("other/api",), id="another namespace"),
        pytest.param("demo/web", PODS, ("demo/web-0",), id="the pods of a workload"),
        pytest.param("DEMO/Client-", ["demo/client"], ("demo/client",), id="case"),
        pytest.param("nowhere/clinet", PODS, ("demo/client",), id="both wrong"),
        pytest.param("zzz/qqq", PODS, (), id="nothing alike"),
        pytest.param("demo/nosuch", ["demo/np-2", "demo/sctp-1"], (), id="only the namespace alike"),
        pytest.param("dmeo/web-1", ["demo/web-0", "xyz/web-2"], ("demo/web-0",), id="namespace and name spelt alike"),
        pytest.param("clinet", PODS, ("demo/client",), id="the namespace left out"),
        pytest.param("demo/web-0", ["demo/web-0", "x/web-0"], ("x/web-0",), id="never the name itself"),
        pytest.param("node-1", ["node-a", "node-b", "worker"], ("node-b", "node-a"), id="without a namespace"),
        pytest.param("a", [], (), id="nothing known"),
        pytest.param("pod-77777x", [f"pod-{number}" for number in range(100_000)], ("pod-77777",), id="many"),
    ],
)
def test_near_matches(name: str, known: list[str], near: tuple[str, ...]) -> None:
    assert near_matches(name, known)[: len(near) or None] == near


def test_messages() -> None:
    assert unknown("pod", "demo/clinet", PODS) == "there is no pod 'demo/clinet' among the objects; did you mean demo/client?"
    assert unknown("pod", "demo/a", []) == "there is no pod 'demo/a': the objects hold no pod at all"
    assert unknown("node", "x", ["b", "a"]) == "there is no node 'x' among the objects; there are a, b"
    assert unknown("node", "x", ["a"]) == "there is no node 'x' among the objects; there is a"
    assert unknown("pod", "x/zzzz", [f"demo/{one}" for one in "abcdef"]) == "there is no pod 'x/zzzz' among the objects"
    assert did_you_mean(("a", "b")) == "; did you mean a or b?"
    assert did_you_mean(()) == ""
