"""What an input holds cannot steer a terminal."""

from __future__ import annotations

import pytest

from ruleaudit.reports.printable import printable, shortened


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-A KUBE-SVC-A -j DNAT", "-A KUBE-SVC-A -j DNAT"),
        ("größer 服务 💀", "größer 服务 💀"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("one\ntwo\r\tthree\x00", "one\\ntwo\\r\\tthree\\x00"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("\u202eevil\u2066\u2028", "\\u202eevil\\u2066\\u2028"),
        ("\U000e0041", "\\U000e0041"),
        ("caf\udce9", "caf\\xe9"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_shortened_keeps_both_ends() -> None:
    assert shortened("x" * 20, 20) == "x" * 20
    short = shortened("-A KUBE-SVC-A " + "m" * 200 + " -j KUBE-SEP-B", 60)
    assert len(short) == 60
    assert short.startswith("-A KUBE-SVC-A ")
    assert " ... " in short
    assert short.endswith(" -j KUBE-SEP-B")
