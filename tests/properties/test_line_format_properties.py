"""Dumps of ipvsadm, ipset and ip, whatever the text: reading loses nothing, and the fast way reads every line as the grammar does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruleaudit.errors import InputError
from ruleaudit.formats import ip_addr, ipset, ipvsadm

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from ruleaudit.dumps.lines import Lines


class Format(NamedTuple):
    parse: Callable[[str, str], Lines]
    reference: Callable[[str, str], Lines]
    starts: tuple[str, ...]
    """How lines begin."""
    tokens: tuple[str, ...]
    """Pieces of which lines are made: what dumps hold, and what could be mistaken for it."""
    lines: tuple[str, ...]
    """Lines that the format allows, wherever they stand."""


FORMATS = {
    "ipvsadm": Format(
        ipvsadm.parse,
        ipvsadm.parse_with_grammar,
        ("TCP ", "UDP  10.0.0.1:53", "SCTP", "FWM  1", "  ->", "  -> 10.0.0.1:80", "-A -t 10.0.0.1:80", "-a -f 1 -6", "Prot", "", " "),
        (
            *("10.0.0.1:80", "[fd00::1]:80", "10.0.0.300:80", "rr", "wlc", "()", "(mh-port)", "persistent", "300", "mask", "64", "pe"),
            *("sip", "ops", "Masq", "Local", "Tunnel", "Route", "n/a", "gue:6080:-c", "0", "1", "17K", "5T", "-w", "-m", "-g", "-s"),
            *("-r", "-p", "-M", "--pe", "-b", "-o", "--tun-type", "LocalAddress:Port", "RemoteAddress:Port", "Scheduler", "Flags"),
            *("Weight", "IPv6", "-6", "1.2.1", "(size=4096)", "%s", "é", "persistent 300", "255.255.255.0", "-t", "--sctp-service"),
        ),
        (
            "TCP  10.96.0.1:443 rr",
            "TCP  10.96.0.1:443 rr persistent 10800",
            "UDP  [fd00::1]:53 wrr (mh-port) persistent 5 mask 64 pe sip ops",
            "FWM  1 IPv6 rr",
            "  -> 10.244.0.5:6443              Masq    1      3          0         ",
            "  -> [fd00:10:244::5]:6443        Masq    1      12         340       ",
            "  -> 10.244.0.6:6443              Tunnel  0      0          0         ",
            "-A -t 10.96.0.1:443 -s rr -p 300",
            "-A -f 1 -6 -s mh -b mh-port",
            "-a -t 10.96.0.1:443 -r 10.244.0.5:6443 -m -w 1",
            "-a -t 10.96.0.1:443 -r 10.244.0.5:6443 -i -w 65535 --tun-type gue --tun-port 6080 --tun-nocsum",
            "IP Virtual Server version 1.2.1 (size=4096)",
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
            "",
        ),
    ),
    "ipset": Format(
        ipset.parse,
        ipset.parse_with_grammar,
        ("create", "create X", "create X hash:ip", "add", "add X", "add X 10.0.0.1", "Name:", "Type:", "Header:", "Members:", "", " ",
         "10.0.0.1", "<member><elem>", "<header>", "<ipset name=\"X\">", "Number of entries:", "Size", "Warning:"),
        (
            *("X", "hash:ip", "hash:ip,port", "bitmap:port", "list:set", "family", "inet", "inet6", "timeout", "5", "comment"),
            *('"a b"', '"', "counters", "nomatch", "10.0.0.1", "10.0.0.1,tcp:80", "fd00::1", "10.0.0.0/8", "80", "add", "create"),
            *("Members:", "in memory: 5", "<elem>", "</elem>", "</member>", "<comment/>", "<timeout>", "</timeout>", "&a;", "%s"),
            *("packets", "bytes", "-exist", "-", "é", "<members>", "Size in memory: 5"),
        ),
        (
            "create X hash:ip,port family inet hashsize 1024 maxelem 65536",
            "create Y hash:net family inet6 timeout 300 counters",
            "add X 10.0.0.1,tcp:80",
            "add X 10.0.0.2,udp:53 timeout 5 comment \"a 'b'\"",
            "add Y fd00::/64 nomatch",
            "Name: Z",
            "Type: hash:ip",
            "Header: family inet comment",
            "Size in memory: 344",
            "Number of entries: 3",
            "Members:",
            "10.0.0.1",
            "10.0.0.1 packets 5 bytes 300",
            "<ipsets>",
            '<ipset name="W">',
            "<type>hash:ip</type>",
            "<header><family>inet</family><comment/>",
            "<members>",
            "<member><elem>10.0.0.1</elem><timeout>5</timeout></member>",
            "</members>",
            "</ipset>",
            "</ipsets>",
            "",
        ),
    ),
    "ip addr": Format(
        ip_addr.parse,
        ip_addr.parse_with_grammar,
        ("1: lo: <UP>", "2: eth0@if7: <", "    inet", "    inet 10.0.0.1/32", "    inet6", "    link/ether", "       valid_lft", "", "  "),
        (
            *("10.0.0.1/32", "fd00::1/128", "10.0.0.1", "peer", "scope", "global", "state", "DOWN", "mtu", "1500", "qdisc", "noop"),
            *("brd", "eth0", "forever", "preferred_lft", "valid_lft", "UP>", "secondary", "dynamic", "RX:", "%s", "é", "inet", ":"),
        ),
        (
            "3: kube-ipvs0: <BROADCAST,NOARP> mtu 1500 qdisc noop state DOWN group default",
            "2: eth0@if7: <UP> mtu 1500 qdisc noqueue state UP group default qlen 1000",
            "    link/ether 02:00:00:00:00:03 brd ff:ff:ff:ff:ff:ff",
            "    inet 10.0.0.1/32 scope global kube-ipvs0",
            "    inet 10.9.9.1 peer 10.9.9.2/32 scope global eth0",
            "    inet6 fd00::1/128 scope global ",
            "       valid_lft forever preferred_lft forever",
            "    altname enp0s3",
            "",
        ),
    ),
}  # fmt: skip

BLANKS = st.sampled_from((" ", " ", " ", "  ", "\t", "", "\r"))
ENDS = st.sampled_from(("", "", "", " ", "\r"))


def read(parse: Callable[[str, str], Lines], text: str) -> Lines | str:
    """What a way of reading makes of a text, or why it refuses it."""
    try:
        return parse(text, "dump")
    except InputError as error:
        return str(error)


def assert_alike(which: Format, text: str) -> None:
    fast, reference = read(which.parse, text), read(which.reference, text)
    if isinstance(fast, str) or isinstance(reference, str):  # names are refused
        assert fast == reference
        return
    assert fast.render() == reference.render() == text
    for line, (mine, theirs) in enumerate(zip(fast.shapes, reference.shapes, strict=True)):
        assert (mine.kind, mine.pieces, mine.parts) == (theirs.kind, theirs.pieces, theirs.parts), fast.text(line)
    assert fast.values == reference.values
    assert (fast.problems, fast.notes) == (reference.problems, reference.notes)


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@settings(max_examples=300)
def test_the_fast_way_reads_as_the_grammar_does_whatever_the_lines(name: str, data: st.DataObject) -> None:
    which = FORMATS[name]
    line = st.builds(
        lambda start, tokens, end: start + "".join(blank + token for blank, token in tokens) + end,
        st.sampled_from(which.starts),
        st.lists(st.tuples(BLANKS, st.sampled_from(which.tokens)), max_size=7),
        ENDS,
    )
    drawn = data.draw(st.lists(st.one_of(line, st.sampled_from(which.lines)), max_size=10))
    assert_alike(which, "\n".join(drawn) + data.draw(st.sampled_from(("", "\n"))))


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data(), order=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_the_order_in_which_shapes_are_met_does_not_matter(name: str, data: st.DataObject, order: random.Random) -> None:
    which = FORMATS[name]
    drawn = data.draw(st.lists(st.sampled_from(which.lines), min_size=1, max_size=12)) * 3
    order.shuffle(drawn)
    assert_alike(which, "\n".join((*drawn, "")))


@pytest.mark.parametrize("name", FORMATS)
@given(text=st.text(alphabet=st.characters(exclude_categories=()), max_size=200))
@settings(max_examples=200)
def test_any_text_is_read_and_comes_back(name: str, text: str) -> None:
    if not text.lstrip().startswith("["):  # which is JSON for `ip -j addr`
        assert_alike(FORMATS[name], text)


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@settings(max_examples=100)
def test_a_changed_character_is_told_or_read_and_comes_back(name: str, data: st.DataObject) -> None:
    which = FORMATS[name]
    text = "\n".join((*data.draw(st.lists(st.sampled_from(which.lines), min_size=1, max_size=8)), ""))
    at = data.draw(st.integers(0, len(text) - 1))
    assert_alike(which, text[:at] + data.draw(st.sampled_from(("", "x", " ", "-", "9", ":", "\x1b", '"', "<"))) + text[at + 1 :])
