from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ruleaudit.errors import InputError
from ruleaudit.formats.ip_addr import parse, parse_with_grammar

if TYPE_CHECKING:
    from ruleaudit.dumps.interfaces import InterfaceDump

FIXTURES = Path(__file__).parents[2] / "fixtures" / "dumps" / "ip-addr"
TEXTS = sorted(FIXTURES.glob("*.txt"))


def read(name: str) -> str:
    return (FIXTURES / name).read_text()


def described(dump: InterfaceDump) -> list[str]:
    return [
        f"{interface.index} {interface.name} {interface.state} {interface.mtu}: "
        + " ".join(
            f"{address.address}/{address.prefix_length}{'>' + address.peer if address.peer else ''}@{address.scope}"
            for address in interface.addresses
        )
        for interface in dump.interfaces
    ]


@pytest.mark.parametrize(
    ("name", "whole", "only", "interfaces"),
    [
        (
            "node.txt",
            True,
            None,
            [
                "1 lo UNKNOWN 65536: 127.0.0.1/8@host ::1/128@host",
                "2 eth0 UP 1500: 192.0.2.10/24@global 10.9.9.1/32>10.9.9.2@global 192.0.2.11/24@global 2001:db8::10/64@global"
                " fe80::2/64@link",
                "3 kube-ipvs0 DOWN 1500: 10.96.0.1/32@global 10.96.0.10/32@global 2001:db8:96::1/128@global",
            ],
        ),
        (
            "device.txt",
            False,
            None,
            ["3 kube-ipvs0 DOWN 1500: 10.96.0.1/32@global 10.96.0.10/32@global 2001:db8:96::1/128@global"],
        ),
        (
            "node-ipv4.txt",
            True,
            4,
            [
                "1 lo UNKNOWN 65536: 127.0.0.1/8@host",
                "2 eth0 UP 1500: 192.0.2.10/24@global 10.9.9.1/32>10.9.9.2@global 192.0.2.11/24@global",
                "3 kube-ipvs0 DOWN 1500: 10.96.0.1/32@global 10.96.0.10/32@global",
            ],
        ),
        (
            "node.json",
            True,
            None,
            [
                "1 lo UNKNOWN 65536: 127.0.0.1/8@host",
                "3 kube-ipvs0 DOWN 1500: 10.96.0.1/32@global 10.9.9.1/32>10.9.9.2@global 2001:db8:96::1/128@global",
            ],
        ),
    ],
)
def test_interfaces_have_their_addresses(name: str, whole: bool, only: int | None, interfaces: list[str]) -> None:
    dump = parse(read(name), name)
    assert described(dump) == interfaces
    assert (dump.whole, dump.only_family, dump.problems) == (whole, only, [])
    assert dump.render() == read(name)
    assert dump.line_count == read(name).count("\n")
    kube = dump.interface("kube-ipvs0")
    assert kube is not None
    assert (kube.is_up, kube.is_loopback, "NOARP" in kube.flags) == (False, False, True)
    assert dump.interface("eth9") is None
    assert "10.96.0.1" in dump.text(kube.addresses[0].line)


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: file.stem)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n  "], ids=["no newline at the end", "newline", "trailing blanks"])
def test_rendering_gives_the_input_back_and_both_ways_read_alike(file: Path, newline: str, end: str) -> None:
    text = read(file.name).rstrip("\n").replace("\n", newline) + end
    dump, reference = parse(text, "dump"), parse_with_grammar(text, "dump")
    assert dump.render() == text
    assert dump.problems == reference.problems == []
    assert all(mine is theirs for mine, theirs in zip(dump.shapes, reference.shapes, strict=True))
    assert dump.values == reference.values
    assert described(dump) == described(reference)


FOREVER = "       valid_lft forever preferred_lft forever\n"
LINK = "3: kube-ipvs0: <BROADCAST,NOARP> mtu 1500 qdisc noop state DOWN group default\n    link/ether 02:00:00:00:00:03\n"


@pytest.mark.parametrize(
    ("text", "problems", "addresses"),
    [
        pytest.param("    inet 10.0.0.1/32 scope global x\n", ["1 unparsable"], [], id="address of nothing"),
        pytest.param(
            LINK + "    inet 10.0.0.300/32 scope\n    inet 10.0.0.1/32\n",
            ["3 unparsable", "4 truncated"],
            ["10.0.0.1"],
            id="address",
        ),
        pytest.param(
            LINK + "    inet 10.0.0.1/33 scope global x\n" + FOREVER,
            ["3 unparsable"],
            [],
            id="prefix length",
        ),
        pytest.param(
            LINK + "    inet6 10.0.0.1/32 scope global x\n" + FOREVER,
            ["3 unparsable"],
            [],
            id="family",
        ),
        pytest.param(
            LINK + "what?\n    inet 10.0.0.1/32 scope global x\n" + FOREVER,
            ["3 unparsable"],
            [],
            id="what follows a broken line is nobody's",
        ),
        pytest.param(LINK + "    inet 10.0.0.1/32 scope glo", ["3 truncated"], ["10.0.0.1"], id="address cut"),
        pytest.param(LINK + "4: eth0: <UP", ["3 truncated"], [], id="interface cut"),
        pytest.param(
            LINK + "    inet 10.0.0.1/32 scope global x\n" + FOREVER + "    RX:  bytes packets\n    0 0\n",
            [],
            ["10.0.0.1"],
            id="counters",
        ),
    ],
)
def test_a_line_that_cannot_be_read_costs_no_other(text: str, problems: list[str], addresses: list[str]) -> None:
    dump = parse(text, "dump")
    assert dump.render() == text
    assert [f"{problem.line} {problem.kind}" for problem in dump.problems] == problems
    assert [address.address for _, address in dump.addresses()] == addresses


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('[{"ifname":"lo","addr_info":[{"fam', "cut short", id="cut"),
        pytest.param('[{"ifname":5}]', "is no output of `ip -j addr`", id="another type"),
        pytest.param("[" * 10_000 + "]" * 10_000, "is no output of `ip -j addr`", id="deep"),
    ],
)
def test_json_that_is_none_of_ip_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        parse("\n\n" + text, "dump")
    assert refused.value.line == 3


def test_an_impossible_address_in_json_is_a_problem() -> None:
    dump = parse('[{"ifname":"x","addr_info":[{"family":"inet","local":"10.0.0.300","prefixlen":32}]}]', "dump")
    assert [problem.kind for problem in dump.problems] == ["unparsable"]
