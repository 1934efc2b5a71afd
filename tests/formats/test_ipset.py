from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ruleaudit.errors import InputError
from ruleaudit.formats.ipset import canonical_entry, parse, parse_with_grammar

if TYPE_CHECKING:
    from ruleaudit.dumps.ip_sets import IpSet, IpSetDump

FIXTURES = Path(__file__).parents[2] / "fixtures" / "dumps" / "ipset"
FIXTURE_FILES = sorted(FIXTURES.glob("*.txt"))


def read(name: str) -> str:
    return (FIXTURES / name).read_text()


def clean(text: str) -> IpSetDump:
    dump = parse(text, "dump")
    assert dump.problems == []
    return dump


def described(one: IpSet) -> str:
    """A set and its entries in one line."""
    entries = (
        "unknown"
        if one.entries is None
        else " ".join(
            entry + "".join(f"[{key}{value and '='}{value}]" for key, value in one.options_of(entry).items())
            for entry in sorted(one.entries)
        )
    )
    return f"{one.name} {one.type} {one.family}: {entries}".rstrip()


SETS = [
    "KUBE-CLUSTER-IP hash:ip,port 4: 10.96.0.1,tcp:443 10.96.0.10,udp:53 10.96.0.41,sctp:3868",
    "KUBE-LOOP-BACK hash:ip,port,ip 4: 10.244.1.5,tcp:8080,10.244.1.5[comment=\"demo/web: the 'first' one\"]",
    "KUBE-NODE-PORT-TCP bitmap:port None: 30080 31000",
    "KUBE-LOAD-BALANCER-SOURCE-CIDR hash:ip,port,net 4: 192.0.2.9,tcp:80,10.0.0.0/8 192.0.2.9,tcp:80,198.51.100.7",
    "KUBE-6-CLUSTER-IP hash:ip,port 6: 2001:db8:96::1,tcp:443[packets=5][bytes=300]",
    "blocked hash:net 4: 10.244.0.0/26[timeout=297] 10.244.0.7[timeout=297][nomatch]",
    "net-if hash:net,iface 4: 10.0.0.0/24,eth0[skbmark=0x1/0xff]",
    "EMPTY hash:ip 4:",
    "list0 list:set None: EMPTY",
]


@pytest.mark.parametrize(("name", "form"), [("save.txt", "save"), ("list.txt", "list"), ("list-xml.txt", "xml")])
def test_save_list_and_xml_give_the_same_sets(name: str, form: str) -> None:
    dump = clean(read(name))
    assert [described(one) for one in dump.sets.values()] == SETS
    assert dump.form == form
    first = dump.sets["KUBE-CLUSTER-IP"]
    assert first.options == {
        "family": "inet",
        "hashsize": "1024",
        "maxelem": "65536",
        "bucketsize": "12",
        "initval": "0x55d91030",
    }
    assert first.size == (None if form == "save" else 3)
    assert "10.96.0.10,udp:53" in first
    assert "10.96.0.10,tcp:53" not in first
    assert first.entries is not None
    assert "10.96.0.10,udp:53" in dump.text(first.entries["10.96.0.10,udp:53"])
    assert "KUBE-CLUSTER-IP" in dump.text(first.line)


@pytest.mark.parametrize("name", ["list-terse.txt", "list-names.txt"])
def test_entries_that_are_not_listed_are_unknown_not_none(name: str) -> None:
    dump = clean(read(name))
    assert list(dump.sets) == [line.split()[0] for line in SETS]
    assert all(one.entries is None for one in dump.sets.values())
    one = dump.sets["KUBE-CLUSTER-IP"]
    assert (one.type, one.size) == (("hash:ip,port", 3) if name == "list-terse.txt" else (None, None))


def test_networks_are_found_by_what_stands_before_them() -> None:
    dump = clean(read("save.txt"))
    networks = dump.sets["KUBE-LOAD-BALANCER-SOURCE-CIDR"].networks("192.0.2.9,tcp:80")
    assert [(str(network), dump.text(line).rpartition(",")[2]) for network, line in networks] == [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("198.51.100.7/32", "198.51.100.7"),
    ]
    assert [str(network) for network, _ in dump.sets["blocked"].networks("")] == ["10.244.0.7/32", "10.244.0.0/26"]
    assert dump.sets["KUBE-LOAD-BALANCER-SOURCE-CIDR"].networks("192.0.2.9,tcp:81") == ()


@pytest.mark.parametrize(
    ("kind", "entry", "canonical"),
    [
        pytest.param("hash:ip family inet", "10.0.0.1/32", "10.0.0.1", id="/32"),
        pytest.param("hash:ip family inet6", "FD00:0:0::1/128", "fd00::1", id="/128 and capitals"),
        pytest.param("hash:ip family inet6", "::ffff:10.0.0.1", "::ffff:10.0.0.1", id="mapped"),
        pytest.param("hash:ip family inet6", "0:0:0:0:0:0:0:1", "::1", id="loopback"),
        pytest.param("hash:ip,port family inet", "10.0.0.1,80", "10.0.0.1,tcp:80", id="port alone"),
        pytest.param("hash:ip,port family inet", "10.0.0.1,6:80", "10.0.0.1,tcp:80", id="protocol by number"),
        pytest.param("hash:ip,port family inet", "10.0.0.1,TCP:80", "10.0.0.1,tcp:80", id="protocol in capitals"),
        pytest.param("hash:ip,port family inet", "10.0.0.1,icmp:echo-request", "10.0.0.1,icmp:echo-request", id="icmp"),
        pytest.param("hash:ip,port,net family inet6", "fd00::1,tcp:80,FD00::/64", "fd00::1,tcp:80,fd00::/64", id="net"),
        pytest.param("hash:net family inet", "0.0.0.0/0", "0.0.0.0/0", id="everything"),
        pytest.param("hash:mac", "01:02:03:04:05:06", "01:02:03:04:05:06", id="mac"),
        pytest.param("hash:ip,mark family inet", "10.0.0.1,0x00000063", "10.0.0.1,0x00000063", id="mark"),
    ],
)
def test_entries_are_known_by_their_canonical_text(kind: str, entry: str, canonical: str) -> None:
    dump = clean(f"create X {kind}\nadd X {entry} timeout 5\n")
    one = dump.sets["X"]
    assert one.entries == {canonical: 2}
    assert one.options_of(canonical) == {"timeout": "5"}
    assert canonical_entry(entry, one) == canonical


LISTED = "Name: X\nType: hash:ip\nHeader: family inet\n"
XML = '<ipsets>\n<ipset name="X">\n<type>hash:ip</type>\n<members>\n'
XML_END = "</members>\n</ipset>\n</ipsets>\n"


@pytest.mark.parametrize(
    ("text", "problems", "entries"),
    [
        pytest.param(
            "create X hash:ip family inet\nadd X 10.0.0.300\nadd X 10.0.0.3\n", ["2 unparsable"], "10.0.0.3", id="address"
        ),
        pytest.param("create X hash:ip family inet\nadd X fd00::1\nadd X 10.0.0.3\n", ["2 unparsable"], "10.0.0.3", id="family"),
        pytest.param("create X bitmap:port\nadd X 65536\nadd X 1\n", ["2 unparsable"], "1", id="port"),
        pytest.param(
            "create X hash:ip,port\nadd X 10.0.0.1\nadd X 10.0.0.1,tcp:70000\n", ["2 unparsable", "3 unparsable"], "", id="parts"
        ),
        pytest.param("create X hash:ip\nadd X 10.0.0.1-10.0.0.9\n", ["2 unparsable"], "", id="range"),
        pytest.param(
            "create X hash:ip\nadd X 10.0.0.1\nadd X 10.0.0.1/32\nadd X 10.0.0.1\n",
            ["3 redeclared", "4 redeclared"],
            "10.0.0.1",
            id="twice",
        ),
        pytest.param("create X hash:ip\nadd X 10.0.0.1\ncreate X hash:ip\n", ["3 redeclared"], "10.0.0.1", id="created twice"),
        pytest.param("add X 10.0.0.1\nadd X 10.0.0.2\n", ["1 truncated"], "10.0.0.1 10.0.0.2", id="beginning cut"),
        pytest.param("create X hash:ip\nadd X 10.0.0.1\nadd X", ["3 truncated"], "10.0.0.1", id="end cut"),
        pytest.param("create X hash:ip\nadd X 10.0.0.1\ncreate Y", ["3 truncated"], "10.0.0.1", id="create cut"),
        pytest.param("create Y\nadd Y 10.0.0.2\ncreate X hash:ip\n", ["1 unparsable"], "", id="broken create"),
        pytest.param("create X hash:ip\r\nadd X 10.0.0.1\r\n", [], "10.0.0.1", id="CRLF"),
        pytest.param("create X hash:ip\nadd X 10.0.0.1 \x1b[0m\nadd X 10.0.0.2\n", ["2 unparsable"], "10.0.0.2", id="escape"),
        pytest.param(
            LISTED + "Number of entries: 3\nMembers:\n10.0.0.1\n",
            ["6 truncated"],
            "10.0.0.1",
            id="members cut",
        ),
        pytest.param(LISTED + "Members:\n10.0.0.1\n", [], "10.0.0.1", id="old ipset without a number"),
        pytest.param(
            "Name: X\nType: hash:ip\nMembers:\n10.0.0.1\n\nName: Y\nType: hash:ip\n",
            ["7 truncated"],
            "10.0.0.1",
            id="members missing",
        ),
        pytest.param(
            "Name: X\nType: hash:ip\nMembers:\n10.0.0.1\n\nName: Y\n", ["6 truncated"], "10.0.0.1", id="description cut"
        ),
        pytest.param(
            XML + "<member><elem>10.0.0.1</elem></member>\n",
            ["5 truncated"],
            "10.0.0.1",
            id="XML cut",
        ),
        pytest.param(
            f'<!DOCTYPE x [<!ENTITY a "aaaa">]>\n{XML}<member><elem>&a;</elem></member>\n{XML_END}',
            ["1 unparsable", "6 unparsable"],
            "",
            id="XML with entities",
        ),
        pytest.param("ipset v7.17: Warning\ncreate X hash:ip\nadd X 10.0.0.1\n", [], "10.0.0.1", id="message"),
    ],
)
def test_a_line_that_cannot_be_read_costs_no_other(text: str, problems: list[str], entries: str) -> None:
    for way in (parse, parse_with_grammar):
        dump = way(text, "dump")
        assert dump.render() == text
        assert [f"{problem.line} {problem.kind}" for problem in dump.problems] == problems
        assert " ".join(dump.sets["X"].entries or ()) == entries


@pytest.mark.parametrize(
    "entry", ["10.0.0.1,tcp:https", "node-a,tcp:443", "web.demo.example,udp:domain"], ids=["port", "host", "both"]
)
def test_names_are_refused_with_the_command_that_prints_numbers(entry: str) -> None:
    with pytest.raises(InputError, match="`ipset save`") as refused:
        parse(f"create X hash:ip,port family inet\nadd X 10.0.0.1,tcp:80\nadd X {entry}\n", "dump")
    assert refused.value.line == 3


@pytest.mark.parametrize("file", FIXTURE_FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n  "], ids=["no newline at the end", "newline", "trailing blanks"])
def test_rendering_gives_the_input_back_and_both_ways_read_alike(file: Path, newline: str, end: str) -> None:
    text = read(file.name).rstrip("\n").replace("\n", newline) + end
    dump, reference = parse(text, "dump"), parse_with_grammar(text, "dump")
    assert dump.render() == text
    assert dump.problems == reference.problems == []
    assert all(mine is theirs for mine, theirs in zip(dump.shapes, reference.shapes, strict=True))
    assert dump.values == reference.values
    assert [described(one) for one in dump.sets.values()] == [described(one) for one in reference.sets.values()]


@pytest.mark.benchmark
@pytest.mark.parametrize("family", ["inet", "inet6"])
def test_300_000_entries_are_read_in_about_half_a_second(family: str) -> None:
    host = "10.{}.{}.{}" if family == "inet" else "fd00:10:96::{:x}:{:x}:{:x}"
    lines = [f"create X hash:ip,port family {family} hashsize 1024 maxelem 65536"]
    lines.extend(
        f"add X {host.format(1 + (n >> 16), 1 + (n >> 8 & 127), 1 + (n & 127))},tcp:{n % 60_000}" for n in range(300_000)
    )
    begin = time.process_time()
    dump = parse("\n".join(lines) + "\n", "large")
    spent = time.process_time() - begin
    assert len(dump.sets["X"].entries or ()) > 100_000
    assert spent < 3, f"{spent:.2f} s"


def test_more_sets_than_a_kernel_has_are_refused() -> None:
    with pytest.raises(InputError, match="more sets than a kernel can have"):
        parse("".join(f"n{number}\n" for number in range(70_000)), "dump")
