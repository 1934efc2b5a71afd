from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ruleaudit.errors import InputError
from ruleaudit.formats.ipvsadm import parse, parse_with_grammar

if TYPE_CHECKING:
    from ruleaudit.dumps.virtual_servers import Listing, VirtualServer

FIXTURES = Path(__file__).parents[2] / "fixtures" / "dumps" / "ipvsadm"
FIXTURE_FILES = sorted(FIXTURES.glob("*.txt"))
BANNER = "IP Virtual Server version 1.2.1 (size=4096)\n"
HEAD = "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"


def read(name: str) -> str:
    return (FIXTURES / name).read_text()


def only_listing(text: str) -> Listing:
    dump = parse(text, "dump")
    assert dump.problems == []
    (listing,) = dump.listings
    return listing


def described(server: VirtualServer) -> str:
    """A virtual server and its real servers in one line."""
    real_servers = (
        f"| {real.address} {real.port} {real.forwarding} {real.weight} {real.active} {real.inactive}"
        for real in server.real_servers
    )
    parts = [
        server.name,
        server.scheduler or "?",
        *(f"({flag})" for flag in server.flags),
        *([f"persistent={server.persistence}"] if server.persistence is not None else []),
        *([f"mask={server.mask}"] if server.mask is not None else []),
        *(["ops"] if server.one_packet else []),
        *([f"pe={server.engine}"] if server.engine is not None else []),
        *real_servers,
    ]
    return " ".join(parts)


LISTED = [
    "FWM 4294967294 wlc persistent=300",
    "TCP 10.96.0.1:443 rr | 192.0.2.10 6443 Local 1 3 0",
    "TCP 10.96.0.20:80 rr persistent=10800 | 10.244.1.5 8080 Masq 1 12 340 | 10.244.2.6 8080 Masq 0 1 4",
    "TCP 10.96.0.30:8080 wrr | 10.244.1.7 8080 Masq 65535 0 0 | 10.244.1.8 8080 Masq 2147483647 4000000000 1",
    "TCP 10.96.0.31:80 mh (mh-fallback) (mh-port)",
    "TCP 10.96.0.32:80 mh",
    "TCP 10.96.0.33:0 sh (sh-port) persistent=360 mask=255.255.255.0 | 10.9.0.5 0 Route 1 0 0",
    "TCP 10.96.0.34:80 rr | 10.9.0.6 80 Tunnel 1 0 0 | 10.9.0.7 80 Tunnel 1 0 0",
    "UDP 10.96.0.10:53 rr ops | 10.244.1.3 53 Masq 1 0 7",
    "UDP 10.96.0.40:5060 rr persistent=60 pe=sip | 10.244.1.9 5060 Masq 1 0 0",
    "SCTP 10.96.0.41:3868 rr | 10.244.1.9 3868 Masq 1 2 1",
    "TCP [2001:db8:96::1]:443 rr persistent=900 mask=64 | 2001:db8:244::5 6443 Masq 1 2 0"
    " | 2001:db8:244:aaaa:bbbb:cccc:dddd:eeee 6443 Masq 0 0 0",
    "TCP [::ffff:10.96.7.7]:80 rr",
    "FWM 7 IPv6 sh | 2001:db8:244::5 0 Route 1 0 0",
]


@pytest.mark.parametrize("name", ["listing.txt", "tun-info.txt"])
def test_a_listing_gives_virtual_and_real_servers(name: str) -> None:
    listing = only_listing(read(name))
    assert [described(server) for server in listing.servers] == LISTED
    assert (listing.form, listing.whole, listing.has_schedulers) == ("listing", True, True)
    assert (listing.has_weights, listing.has_forwarding, listing.has_connections) == (True, True, True)


def test_commands_give_the_same_but_connections() -> None:
    listing = only_listing(read("save.txt"))
    listed = only_listing(read("listing.txt"))
    for saved, shown in zip(listing.servers, listed.servers, strict=True):
        assert (saved.scheduler, saved.flags, saved.persistence, saved.mask, saved.one_packet, saved.engine) == (
            shown.scheduler,
            shown.flags,
            shown.persistence,
            shown.mask,
            shown.one_packet,
            shown.engine,
        )
        assert saved.name == shown.name
        assert [(real.address, real.port, real.forwarding, real.weight, real.active) for real in saved.real_servers] == [
            (real.address, real.port, str(real.forwarding).replace("Local", "Route"), real.weight, None)  # both are saved as -g
            for real in shown.real_servers
        ]
    assert (listing.form, listing.columns, listing.has_connections) == ("commands", ("Forward", "Weight"), False)


@pytest.mark.parametrize(
    ("name", "columns", "facts", "real"),
    [
        ("stats.txt", "Conns InPkts OutPkts InBytes OutBytes", (False, False, False, False), (None, None, None, None)),
        ("rate.txt", "CPS InPPS OutPPS InBPS OutBPS", (False, False, False, False), (None, None, None, None)),
        ("thresholds.txt", "Uthreshold Lthreshold ActiveConn InActConn", (True, False, False, True), (None, None, 12, 340)),
        ("persistent-conn.txt", "Weight PersistConn ActiveConn InActConn", (True, True, False, True), (None, 1, 12, 340)),
        ("tun-info.txt", "Forward TunnelInfo Weight ActiveConn InActConn", (True, True, True, True), ("Masq", 1, 12, 340)),
    ],
)
def test_which_columns_a_listing_has_is_said(name: str, columns: str, facts: tuple[bool, ...], real: tuple[object, ...]) -> None:
    listing = only_listing(read(name))
    assert listing.columns == tuple(columns.split())
    assert (listing.has_schedulers, listing.has_weights, listing.has_forwarding, listing.has_connections) == facts
    server = listing.server("10.96.0.20", 80, "TCP")
    assert server is not None
    first = server.real_servers[0]
    assert (first.forwarding, first.weight, first.active, first.inactive) == real
    assert server.scheduler == ("rr" if facts[0] else None)


def test_counters_have_suffixes_in_powers_of_1000() -> None:
    listing = only_listing(read("stats.txt"))
    server = listing.server("10.96.0.1", 443, "TCP")
    assert server is not None
    assert listing.counters(server.line) == {
        "Conns": 3,
        "InPkts": 1234,
        "OutPkts": 99,
        "InBytes": 170_650_000,
        "OutBytes": 2_000_000_000_000_000,
    }


def test_servers_are_found_by_their_frontend_or_mark_and_know_their_lines() -> None:
    listing = only_listing(read("listing.txt"))
    server = listing.server("2001:db8:96::1", 443, "TCP")
    assert server is not None
    assert server.text == "TCP  [2001:db8:96::1]:443 rr persistent 900 mask 64"
    assert listing.dump.text(server.real_servers[0].line).startswith("  -> [2001:db8:244::5]:6443 ")
    assert listing.server("10.96.0.10", 53, "TCP") is None
    assert listing.by_mark[7, 6].family == 6
    assert (7, 4) not in listing.by_mark


def test_a_listing_without_its_banner_is_not_whole() -> None:
    listing = only_listing(read("one-service.txt"))
    assert not listing.whole
    assert [server.name for server in listing.servers] == ["TCP 10.96.0.20:80"]


def test_nothing_listed_is_a_whole_listing() -> None:
    listing = only_listing(read("empty.txt"))
    assert (listing.whole, listing.servers) == (True, [])


def test_lines_without_any_header_are_read_by_what_they_have() -> None:
    text = "TCP  10.96.0.1:443 rr\n  -> 10.0.0.1:6443               Masq    1      3          0         \n"
    listing = only_listing(text)
    assert (listing.whole, listing.has_weights) == (False, True)
    assert listing.servers[0].real_servers[0].weight == 1
    listing = only_listing("TCP  10.96.0.1:443 rr\n  -> 10.0.0.1:6443               1    1      3          0         \n")
    assert listing.servers[0].real_servers[0].weight is None


def test_several_listings_follow_each_other() -> None:
    dump = parse(read("listing.txt") + read("stats.txt") + read("save.txt"), "dump")
    assert dump.problems == []
    assert [(listing.form, listing.line, len(listing.servers)) for listing in dump.listings] == [
        ("listing", 1, 14),
        ("listing", 32, 14),
        ("commands", 63, 14),
    ]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        pytest.param(BANNER + HEAD + "TCP  node-a:30080 rr\n", "ipvsadm -Ln", id="host"),
        pytest.param(BANNER + HEAD + "TCP  10.96.0.1:https rr\n", "ipvsadm -Ln", id="service"),
        pytest.param(BANNER + HEAD + "TCP  [node-a]:80 rr\n", "ipvsadm -Ln", id="IPv6 host"),
        pytest.param(BANNER + HEAD + "TCP  10.96.0.1:80 rr\n  -> db1:80 Masq 1 0 0\n", "ipvsadm -Ln", id="real server"),
        pytest.param("-A -t node-a:https -s rr\n", "ipvsadm -Sn", id="commands"),
    ],
)
def test_names_are_refused_with_the_command_that_prints_numbers(text: str, command: str) -> None:
    with pytest.raises(InputError, match="names instead of numbers") as refused:
        parse(text, "dump")
    assert f"`{command}`" in refused.value.message
    assert refused.value.line == text.count("\n")


@pytest.mark.parametrize(
    ("lines", "problems", "servers"),
    [
        pytest.param("TCP  10.96.0.300:80 rr\n  -> 10.0.0.1:80 Masq 1 0 0\n", ["4 unparsable"], [], id="address"),
        pytest.param("TCP  10.96.0.3:65536 rr\n", ["4 unparsable"], [], id="port"),
        pytest.param("TCP  [fd00:::1]:80 rr\n", ["4 unparsable"], [], id="IPv6 address"),
        pytest.param("TCP  [fd00::a:::b]:80 rr\n", ["4 unparsable"], [], id="IPv6 address with letters"),
        pytest.param("TCP  10.96.0.3:80\n", ["4 unparsable"], [], id="no scheduler"),
        pytest.param("TCP  10.96.0.3:80 rr what ever\n", ["4 unparsable"], [], id="words"),
        pytest.param(
            "TCP  10.96.0.3:80 rr\n  -> 10.0.0.1:80 Masq 1 0\n  -> 10.0.0.2:80 Masq 1 0 0\n",
            ["5 unparsable"],
            ["TCP 10.96.0.3:80 rr | 10.0.0.2 80 Masq 1 0 0"],
            id="a column less",
        ),
        pytest.param("  -> 10.0.0.1:80 Masq 1 0 0\n", ["4 unparsable"], [], id="real server of nothing"),
        pytest.param(
            "TCP  10.96.0.3:80 rr\n\x1b[31mred\n  -> 10.0.0.1:80 Masq 1 0 0\nTCP  10.96.0.4:80 rr\n",
            ["5 unparsable"],
            ["TCP 10.96.0.3:80 rr", "TCP 10.96.0.4:80 rr"],
            id="what follows a broken line is nobody's",
        ),
        pytest.param(
            "TCP  10.96.0.3:80 rr\n  -> 10.0.0.1:80 Masq 1 0 0\n  -> 10.0.0.1:80 Masq 1 0 0\nTCP  10.96.0.3:80 wlc\n",
            ["6 redeclared", "7 redeclared"],
            ["TCP 10.96.0.3:80 rr | 10.0.0.1 80 Masq 1 0 0"],
            id="twice",
        ),
        pytest.param("TCP  10.96.0.3:80 rr\n  -> 10.0.0.1:80    Mas", ["5 truncated"], ["TCP 10.96.0.3:80 rr"], id="cut"),
        pytest.param(
            "TCP  10.96.0.3:80 rr\n  -> 10.0.0.1:80  Masq  1", ["5 truncated"], ["TCP 10.96.0.3:80 rr"], id="cut column"
        ),
        pytest.param(
            "TCP  10.96.0.3:80 rr\r\n  -> 10.0.0.1:80 Masq 1 0 0\r\n",
            [],
            ["TCP 10.96.0.3:80 rr | 10.0.0.1 80 Masq 1 0 0"],
            id="CRLF",
        ),
        pytest.param(BANNER, ["4 truncated"], [], id="a second header that is cut"),
        pytest.param(f"{'x' * 20_000}\nTCP  10.96.0.4:80 rr\n", ["4 unparsable"], ["TCP 10.96.0.4:80 rr"], id="a long line"),
    ],
)
def test_a_line_that_cannot_be_read_costs_no_other(lines: str, problems: list[str], servers: list[str]) -> None:
    text = BANNER + HEAD + lines
    dump = parse(text, "dump")
    assert dump.render() == text
    assert [f"{problem.line} {problem.kind}" for problem in dump.problems] == problems
    assert [described(server) for server in dump.servers()] == servers


def test_commands_for_a_server_that_nothing_adds_are_the_rest_of_a_dump() -> None:
    dump = parse("-a -t 10.96.0.3:80 -r 10.0.0.1:80 -m -w 1\n-a -t 10.96.0.3:80 -r 10.0.0.2:80 -m -w 1\n", "dump")
    assert [(problem.line, problem.kind) for problem in dump.problems] == [(1, "truncated")]
    (server,) = dump.servers()
    assert (server.declared, server.scheduler, len(server.real_servers)) == (False, None, 2)


def test_messages_of_tools_are_notes() -> None:
    dump = parse("No such service\n" + read("listing.txt"), "dump")
    assert dump.problems == []
    assert [note.kind for note in dump.notes] == ["message"]


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
    assert [described(server) for server in dump.servers()] == [described(server) for server in reference.servers()]


def test_empty_lines_before_a_part_of_a_stream_keep_its_line_numbers() -> None:
    text = "\n" * 1000 + read("listing.txt")
    dump = parse(text, "dump")
    assert dump.render() == text
    assert dump.listings[0].line == 1001


def large(servers: int) -> str:
    """Virtual servers with ten busy real servers each."""
    lines = [BANNER + HEAD.rstrip("\n")]
    for n in range(servers):
        lines.append(f"TCP  10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}:80 rr")
        lines.extend(f"  -> {f'10.244.{n % 200}.{m}:8080':<28} Masq    1      {n % 300:<10} {n * m % 999:<10}" for m in range(10))
    return "\n".join(lines) + "\n"


@pytest.mark.benchmark
def test_a_line_costs_about_three_microseconds() -> None:
    text = large(20_000)
    begin = time.process_time()
    dump = parse(text, "large")
    spent = time.process_time() - begin
    assert len(dump.listings[0].servers) == 20_000
    assert spent / dump.line_count < 8e-6, f"{spent:.2f} s for {dump.line_count:,} lines"


def test_a_line_of_100_megabytes_is_a_problem_of_its_own() -> None:
    dump = parse(BANNER + HEAD + "x" * 100_000_000 + "\nTCP  10.96.0.1:80 rr\n", "dump")
    assert [(problem.line, problem.kind) for problem in dump.problems] == [(4, "unparsable")]
    assert "longer ones than 16,384 are not read" in dump.problems[0].message
    assert len(list(dump.servers())) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("x\n" * 3_000_000, "more than a dump can have", id="more lines than a dump has"),
        pytest.param("".join(f"TCP  10.0.0.1:80 {n}what\n" for n in range(60_000)), "take it again", id="lines that are none"),
    ],
)
def test_what_is_no_dump_is_refused_in_bounded_time(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text, "dump")
