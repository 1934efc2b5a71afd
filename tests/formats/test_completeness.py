from __future__ import annotations

import pytest

from ruleaudit.formats.completeness import gap_of
from ruleaudit.formats.iptables_save import parse

RAW = ":PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
LISTED = "-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n"


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        pytest.param(f"*raw\n{RAW}:A - [0:0]\n-A PREROUTING -j A\nCOMMIT\n", None, id="whole"),
        pytest.param("*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING\nCOMMIT\n", None, id="nft has only the chains in use"),
        pytest.param("*raw\nCOMMIT\n", None, id="empty"),
        pytest.param(f"*raw\n{RAW}", None, id="without COMMIT, which the parser reports"),
        pytest.param(f"*raw\n{RAW}-A A -j ACCEPT\nCOMMIT\n", (4, "chain A holds"), id="chain undeclared"),
        pytest.param("*raw\n-A PREROUTING -j ACCEPT\nCOMMIT\n", (2, "chain PREROUTING holds"), id="built-in chain undeclared"),
        pytest.param(f"*raw\n{RAW}-A OUTPUT -j A\nCOMMIT\n", None, id="a jump to nowhere is a fault of its own"),
        pytest.param(f"*raw\n{RAW}-A OUTPUT\n:A - [0:0]\nCOMMIT\n", (5, "chain A is declared behind"), id="declared late"),
        pytest.param(f"*raw\n-A OUTPUT\n{RAW}COMMIT\n", (3, "chain PREROUTING is declared behind"), id="rule first"),
        pytest.param(RAW + "-A OUTPUT\n", None, id="whole without its table line"),
        pytest.param(":A - [0:0]\n-A A\n", (1, "declare none"), id="no table line, no built-in chain"),
        pytest.param(":A - [0:0]\n-A A\n-A B\nCOMMIT\n", (3, "chain B holds"), id="no table line, chain undeclared"),
        pytest.param(LISTED + "-N A\n-A A\n", None, id="iptables -S"),
        pytest.param("-N A\n-A A\n", (1, "single chains"), id="iptables -S of a chain"),
        pytest.param("-P INPUT ACCEPT\n-A INPUT\n", (1, "FORWARD, OUTPUT"), id="iptables -S of a built-in chain"),
    ],
)
def test_what_no_tool_prints_is_a_part_of_a_table(text: str, gap: tuple[int, str] | None) -> None:
    (table,) = parse(text, "dump").tables
    found = gap_of(table)
    assert (found is None) == (gap is None)
    if found is not None and gap is not None:
        assert found.line == gap[0]
        assert gap[1] in found.message
