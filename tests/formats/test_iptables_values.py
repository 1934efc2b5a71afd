"""Values that are read as numbers: what may stand there, and what makes a line unreadable."""

from __future__ import annotations

import pytest

from ruleaudit.formats.iptables_save import parse, parse_with_grammar

ALLOWED = [
    "-d 10.0.0.1", "-d 10.0.0.1/32", "-d 0.0.0.0/0", "-s 10.0.0.0/255.0.255.0", "-d fd00::1/128", "! -s ::/0", "-d ::ffff:1.2.3.4",
    "-d fd00::/ffff::", "-p tcp -m tcp --dport 0", "-p tcp -m tcp --dport 65535", "-p tcp -m tcp --dport 1024:", "-p udp --sport :80",
    "-p tcp -m multiport --dports 80,443,8000:8100", "-m mark --mark 0x4000/0x4000", "-m mark ! --mark 1", "-m connmark --mark 0xffffffff",
    "-m statistic --mode random --probability 0.33333333349", "-m statistic --mode random --probability 1.00000000000",
    "-m statistic --mode random --probability 0", "-m statistic --mode nth --every 3 --packet 0", "-m recent --rcheck --seconds 10800 --name X",
    "-m iprange --dst-range 10.0.0.1-10.0.0.9", "-m conntrack --ctorigdst 10.0.0.0/8 --ctorigdstport 80", "-p 17",
    "-j DNAT --to-destination 10.0.0.1:80", "-j DNAT --to-destination :80", "-j DNAT --to-destination 10.0.0.1",
    "-j DNAT --to-destination 10.0.0.1-10.0.0.9:80-90/8000", "-j DNAT --to-destination [fd00::1]:80", "-j DNAT --to-destination fd00::1",
    "-j REDIRECT --to-ports 80-90", "-j MASQUERADE --to-ports 1024-65535 --random-fully", "-j MARK --set-xmark 0x4000/0xffffffff",
    "-j SNAT --to-source 10.0.0.1 --random", "-j CONNMARK --save-mark --nfmask 0xf --ctmask 0xf", "-c 18446744073709551615 0",
    "-m tcpmss --mss 99999", "-m connlimit --connlimit-above 99999999999",
]  # fmt: skip
"""The last two: options that are not read as numbers may hold anything."""

REFUSED = [
    ("-d 10.0.0.256", "-d"), ("-d 10.0.0.1/33", "-d"), ("-d 10.0.0.1/-1", "-d"), ("-s 10.0.0.1/", "-s"), ("-s 10.0.0.1/ffff::", "-s"),
    ("-d fd00::1/129", "-d"), ("-d fe80::1%eth0", "-d"), ("-d 1:2:3", "-d"), ("-d node-a", "-d"), ("-d 10.0.0.1/٣", "-d"),
    ("-p tcp -m tcp --dport 65536", "--dport"), ("-p tcp -m tcp --dport -1", "--dport"), ("-p tcp -m tcp --dport http", "--dport"),
    ("-p tcp -m multiport --dports 80,,443", "--dports"), ("-p tcp -m multiport --dports 80,70000", "--dports"), ("-p tcp --sport ²", "--sport"),
    ("-m mark --mark 0x100000000", "--mark"), ("-m mark --mark 4294967296/0x1", "--mark"), ("-m mark --mark 0x1/", "--mark"),
    ("-m connmark --mark x", "--mark"), ("-m statistic --mode random --probability 1.5", "--probability"),
    ("-m statistic --mode random --probability nan", "--probability"), ("-m statistic --mode random --probability -0.5", "--probability"),
    ("-m statistic --mode nth --every 0", "--every"), ("-m recent --rcheck --seconds 10s --name X", "--seconds"),
    ("-m iprange --src-range 10.0.0.1-x", "--src-range"), ("-m conntrack --ctorigdstport 70000", "--ctorigdstport"),
    ("-m conntrack --ctorigdst 10.0.0", "--ctorigdst"), ("-j DNAT --to-destination 10.0.0.1:70000", "--to-destination"),
    ("-j DNAT --to-destination 10.0.0.1:", "--to-destination"), ("-j DNAT --to-destination [fd00::1:80", "--to-destination"),
    ("-j DNAT --to-destination :", "--to-destination"), ("-j DNAT --to-destination [10.0.0.1]:80", "--to-destination"),
    ("-j DNAT --to-destination [fd00::1]80", "--to-destination"), ("-j SNAT --to-source 10.0.0.999", "--to-source"),
    ("-j REDIRECT --to-ports 80-", "--to-ports"), ("-j MASQUERADE --to-ports 99999", "--to-ports"),
    ("-j MARK --set-xmark 0x4000/0x", "--set-xmark"), ("-j CONNMARK --save-mark --nfmask 0xfffffffff", "--nfmask"),
    ("-m recent --rcheck --seconds --name X", "--seconds"), ("-j DNAT --to-destination", "--to-destination"), ("-j MARK --set-xmark", "--set-xmark"),
    ("-c 999999999999999999999 0", "counter"),
]  # fmt: skip


@pytest.mark.parametrize("rule", ALLOWED)
def test_values_that_iptables_save_prints_are_read(rule: str) -> None:
    dump = parse(f"*nat\n-A X {rule}\nCOMMIT\n", "dump")
    assert dump.problems == []
    assert dump.tables[0].chains["X"].lines == [2]


@pytest.mark.parametrize(("rule", "option"), REFUSED)
def test_a_damaged_value_makes_its_line_unreadable_and_no_other(rule: str, option: str) -> None:
    text = f"*nat\n-A X -d 10.0.0.1/32 -j ACCEPT\n-A X {rule}\n-A X -d 10.0.0.2/32 -j ACCEPT\nCOMMIT\n"
    dump = parse(text, "dump")
    assert [(problem.line, problem.kind) for problem in dump.problems] == [(3, "unparsable")]
    assert dump.problems[0].message.startswith(f"{option} has ")
    assert dump.tables[0].chains["X"].lines == [2, 4]
    assert dump.render() == text
    reference = parse_with_grammar(text, "dump")
    assert (reference.problems, reference.values) == (dump.problems, dump.values)


def test_a_damaged_value_is_found_among_many_of_its_shape() -> None:
    rules = [f"-A X -d 10.0.{number // 250}.{number % 250}/32 -p tcp -m tcp --dport {number} -j ACCEPT" for number in range(1000)]
    rules[700] = rules[700].replace("--dport 700", "--dport 70000")
    rules[800] = rules[800].replace("/32", "/320")
    dump = parse("\n".join(("*nat", *rules, "COMMIT", "")), "dump")
    assert [problem.line for problem in dump.problems] == [702, 802]
    assert len(dump.tables[0].chains["X"].lines) == 998
