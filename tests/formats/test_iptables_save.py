from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest

from ruleaudit.dumps.rules import Dump, LineKind, Rule, unescape
from ruleaudit.errors import InputError
from ruleaudit.formats import iptables_save
from ruleaudit.formats.iptables_save import parse, parse_with_grammar

FIXTURES = Path(__file__).parents[2] / "fixtures" / "dumps" / "iptables-save"
FIXTURE_FILES = sorted(FIXTURES.glob("*.txt"))


def read(name: str) -> str:
    return (FIXTURES / name).read_bytes().decode("utf-8", "surrogateescape")


def nat(*lines: str) -> Dump:
    return parse("\n".join(("*nat", *lines, "COMMIT", "")), "dump")


def only_rule(line: str) -> Rule:
    dump = nat(line)
    assert dump.problems == []
    return dump.rule(2)


def described(rule: Rule) -> str:
    """A rule's meaning in one line: `[own] module[options] -> target[options]`."""

    def options(of: object) -> str:
        assert isinstance(of, tuple)
        return " ".join(
            ("!" if option.negated else "") + "=".join((option.flag, *(unescape(rule.values[slot]) for slot in option.slots)))
            for option in of
        )

    parts = [f"{rule.chain}[{options(rule.shape.options)}]"]
    parts.extend(f"{match.module}[{options(match.options)}]" for match in rule.matches)
    target = rule.shape.target
    if target is not None:
        parts.append(f"{'=>' if target.goto else '->'} {rule.target_name}[{options(target.options)}]")
    return " ".join(parts)


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        pytest.param("-A X", "X[]", id="neither match nor target"),
        pytest.param("-A X -j ACCEPT", "X[] -> ACCEPT[]", id="verdict"),
        pytest.param("-A X -g Y", "X[] => Y[]", id="goto"),
        pytest.param("-A X ! -s 10.0.0.0/8 -i eth+ ! -p tcp -f", "X[!-s=10.0.0.0/8 -i=eth+ !-p=tcp -f]", id="own options"),
        pytest.param("-A X ! -f", "X[!-f]", id="negated without a value"),
        pytest.param(
            "-A X -s ! 10.0.0.0/8 -p tcp -m tcp --dport ! 80",
            "X[!-s=10.0.0.0/8 -p=tcp] tcp[!--dport=80]",
            id="negation up to 1.4.3",
        ),
        pytest.param("-A X -p tcp --dport 80 -j Y", "X[-p=tcp] tcp[--dport=80] -> Y[]", id="match implied by the protocol"),
        pytest.param("-A X -p 17 --dport 53", "X[-p=17] udp[--dport=53]", id="match implied by the protocol's number"),
        pytest.param("-A X -p ipv6-icmp --icmpv6-type 8", "X[-p=ipv6-icmp] icmp6[--icmpv6-type=8]", id="match of another name"),
        pytest.param(
            '-A X -m comment --comment "c" -m tcp -p tcp -d 10.0.0.1/32 --dport 80',
            "X[-p=tcp -d=10.0.0.1/32] comment[--comment=c] tcp[--dport=80]",
            id="as kube-proxy hands it to iptables-restore",
        ),
        pytest.param("-A X -m state -s 10.0.0.1/32 --state NEW", "X[-s=10.0.0.1/32] state[--state=NEW]", id="match begun before"),
        pytest.param(
            "-A X -j DNAT --to-destination 10.0.0.1:80 -p tcp",
            "X[-p=tcp] -> DNAT[--to-destination=10.0.0.1:80]",
            id="target first",
        ),
        pytest.param("-A X -m tcp --tcp-flags FIN,SYN SYN", "X[] tcp[--tcp-flags=FIN,SYN=SYN]", id="two values"),
        pytest.param(
            "-A X -m set ! --match-set a src,dst --return-nomatch",
            "X[] set[!--match-set=a=src,dst --return-nomatch]",
            id="negated match",
        ),
        pytest.param(
            "-A X -m set --match-set weave-;rG^c~Z$3]6!N|=# dst",
            "X[] set[--match-set=weave-;rG^c~Z$3]6!N|=#=dst]",
            id="odd set name",
        ),
        pytest.param("-A X -m comment --comment - -j Y", "X[] comment[--comment=-] -> Y[]", id="comment that is a dash"),
        pytest.param(
            "-A X -m comment --comment -j -j Y", "X[] comment[--comment=-j] -> Y[]", id="comment that looks like an option"
        ),
        pytest.param(
            r'-A X -m comment --comment "-j \"DROP\" \\ \'q\' COMMIT" -j Y',
            "X[] comment[--comment=-j \"DROP\" \\ 'q' COMMIT] -> Y[]",
            id="escapes",
        ),
        pytest.param('-A X -m comment --comment ""', "X[] comment[--comment=]", id="empty comment"),
        pytest.param(
            "-A X -m comment --comment a -m comment --comment b",
            "X[] comment[--comment=a] comment[--comment=b]",
            id="match twice",
        ),
        pytest.param("-A X -m nfacct --nfacct-name  a -j Y", "X[] nfacct[--nfacct-name=a] -> Y[]", id="two blanks"),
        pytest.param("-A X -m brandnew --size 5 --flag -j Y", "X[] brandnew[--size=5 --flag] -> Y[]", id="unknown match"),
        pytest.param("-A X -m physdev ! --physdev-is-in -j Y", "X[] physdev[!--physdev-is-in] -> Y[]", id="negated flag"),
        pytest.param("-A X -c 3 4 -j Y", "X[-c=3=4] -> Y[]", id="counters inside"),
        pytest.param('-A q"uote -j #hash', 'q"uote[] -> #hash[]', id="odd chain names"),
        pytest.param("  -A X\t-j  Y ", "X[] -> Y[]", id="blanks"),
    ],
)
def test_a_rule_means_what_iptables_reads(line: str, meaning: str) -> None:
    rule = only_rule(line)
    assert described(rule) == meaning
    assert rule.text == line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("-A", "too early", id="no chain"),
        pytest.param("-A X -s", "too early", id="no value"),
        pytest.param("-A X -j", "too early", id="no target"),
        pytest.param("-A X -s  -j Y", "'-j Y' at column 10", id="empty value"),
        pytest.param("-A X --dport 80", "'--dport 80' at column 6", id="option of no match"),
        pytest.param("-A X -s 10.0.0.1 --dport 80", "belongs to no match", id="option without a protocol"),
        pytest.param("-A X -j Y -j Z", "two targets", id="two targets"),
        pytest.param('-A X -m comment --comment "never closed', "at column 27", id="open quote"),
        pytest.param('-A X -m comment --comment "a"b', "at column 27", id="text after a quote"),
        pytest.param("-A X -m u32 --u32 1 2 3 4 5", "'5' at column 27", id="more values than an option has"),
        pytest.param("-A X stray", "'stray' at column 6", id="bare word"),
        pytest.param("-I X -j Y", "at column 1", id="another command"),
        pytest.param("X -j Y", "at column 1", id="no command"),
        pytest.param(":X", "too early", id="chain without a policy"),
        pytest.param(":X - [1:x]", "at column 9", id="counters that are none"),
        pytest.param("COMMIT now", "'now' at column 8", id="more than COMMIT"),
        pytest.param("*nat filter", "at column", id="two names of a table"),
        pytest.param("**bold** text", "at column", id="prose"),
    ],
)
def test_a_line_that_the_format_does_not_allow_is_a_problem_and_the_rest_is_read(line: str, message: str) -> None:
    dump = nat("-A BEFORE -j ACCEPT", line, "-A AFTER -j ACCEPT")
    assert [(problem.line, problem.kind) for problem in dump.problems] == [(3, "unparsable")]
    assert message in dump.problems[0].message
    assert dump.shapes[3].kind is LineKind.UNPARSED
    assert dump.text(3) == line
    assert list(dump.tables[0].chains) == ["BEFORE", "AFTER"]


@pytest.mark.parametrize("file", FIXTURE_FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n  "], ids=["no newline at the end", "newline", "trailing blanks"])
def test_rendering_gives_the_input_back_and_both_ways_read_alike(file: Path, newline: str, end: str) -> None:
    text = read(file.name).rstrip("\n").replace("\n", newline) + end
    dump, reference = parse(text, "dump"), parse_with_grammar(text, "dump")
    assert dump.render() == text
    assert all(mine is theirs for mine, theirs in zip(dump.shapes, reference.shapes, strict=True))
    assert dump.values == reference.values
    assert (dump.problems, dump.notes) == (reference.problems, reference.notes)


@pytest.mark.parametrize(
    ("name", "tables", "problems"),
    [
        pytest.param(
            "legacy-1.8.9-counters.txt",
            ["security 4 legacy 3 1", "raw 4 legacy 2 5", "mangle 4 legacy 5 8", "nat 4 legacy 8 18", "filter 4 legacy 19 91"],
            [],
            id="legacy with counters",
        ),
        pytest.param(
            "nft-ipv6-1.8.9.txt",
            [
                "mangle 6 nf_tables 5 8",
                "security 6 nf_tables 3 1",
                "raw 6 nf_tables 2 5",
                "filter 6 nf_tables 19 89",
                "nat 6 nf_tables 8 18",
            ],
            [],
            id="nf_tables, IPv6",
        ),
        pytest.param("nft-list-rules-verbose.txt", ["filter 4 None 19 90"], [], id="iptables -v -S"),
        pytest.param("newlines-in-comments.txt", ["filter 4 legacy 3 5"], [], id="newlines in comments"),
        pytest.param("legacy-tables-warning.txt", ["filter 4 nf_tables 4 2"], [], id="warning before the dump"),
        pytest.param(
            "nft-1.8.7-incompatible-table.txt",
            ["mangle 4 nf_tables 5 8", "security 4 nf_tables 3 1", "raw 4 nf_tables 2 5", "nat 4 nf_tables 8 18"],
            [],
            id="a table that iptables cannot print",
        ),
        pytest.param(
            "spliced-warning.txt",
            ["nat 4 nf_tables 3 2"],
            ["7 unparsable", "8 unparsable", "9 unparsable", "10 unparsable"],
            id="warning in the middle of lines",
        ),
        pytest.param(
            "two-families-cut.txt",
            ["filter 4 legacy 3 2", "filter 6 legacy 1 1"],
            ["14 unparsable", "15 truncated", "15 truncated"],
            id="both families, cut",
        ),
    ],
)
def test_a_dump_falls_into_tables(name: str, tables: list[str], problems: list[str]) -> None:
    dump = parse(read(name), name)
    assert [
        f"{table.name} {table.family} {table.backend} {len(table.chains)} {sum(len(chain.lines) for chain in chains)}"
        for table in dump.tables
        for chains in (table.chains.values(),)
    ] == tables
    assert [f"{problem.line} {problem.kind}" for problem in dump.problems] == problems


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param("*nat\n:A - [0:0]\nCOMMIT\n", [], id="whole"),
        pytest.param("*nat\n:A - [0:0]\n", [(2, "truncated", "table nat (line 1) has no COMMIT")], id="no COMMIT at the end"),
        pytest.param(
            "*nat\n*filter\nCOMMIT\n",
            [(1, "truncated", "table nat (line 1) has no COMMIT")],
            id="no COMMIT before the next table",
        ),
        pytest.param(
            "# Generated by iptables-save v1.8.9 on Mon\n",
            [(1, "truncated", "iptables-save v1.8.9 has no table")],
            id="header alone",
        ),
        pytest.param(
            "*nat\nCOMMIT\n-A X\n:Y - [0:0]\nCOMMIT\n\n-A Z\n*raw\nCOMMIT\n",
            [(3, "stray", "lines 3 to 5 stand outside"), (7, "stray", "this line stands outside")],
            id="lines outside of any table",
        ),
        pytest.param(
            "*nat\n:A - [0:0]\n:A - [0:0]\nCOMMIT\n", [(3, "redeclared", "already declared in line 2")], id="chain declared twice"
        ),
    ],
)
def test_what_is_missing_between_the_lines_is_said(text: str, problems: list[tuple[int, str, str]]) -> None:
    found = parse(text, "dump").problems
    assert [(problem.line, problem.kind) for problem in found] == [problem[:2] for problem in problems]
    for problem, (_, _, message) in zip(found, problems, strict=True):
        assert message in problem.message


def test_chains_know_their_declaration_their_policy_and_their_rules() -> None:
    dump = nat(":PREROUTING ACCEPT [1:2]", ":A - [0:0]", "-A A", "-A B", "-A A", ":A - [0:0]", ":B - [0:0]")
    chains = dump.tables[0].chains
    assert [(chain.name, chain.policy, chain.line, chain.lines, list(chain.redeclared)) for chain in chains.values()] == [
        ("PREROUTING", "ACCEPT", 2, [], []),
        ("A", None, 3, [4, 6], [7]),
        ("B", None, 8, [5], []),
    ]
    assert "rules=2" in repr(chains["A"])


def test_a_chain_that_is_never_declared_has_line_0() -> None:
    assert nat("-A KUBE-SVC-X -j ACCEPT").tables[0].chains["KUBE-SVC-X"].line == 0


@pytest.mark.parametrize(
    ("header", "family", "backend", "tool", "generated"),
    [
        (
            "# Generated by iptables-save v1.8.9 on Mon Nov 23 05:28:05 2026",
            4,
            "legacy",
            "iptables-save v1.8.9",
            "Mon Nov 23 05:28:05 2026",
        ),
        ("# Generated by ip6tables-nft-save v1.8.7 on Mon", 6, "nf_tables", "ip6tables-nft-save v1.8.7", "Mon"),
        ("# Generated by ip6tables-save v1.8.10 (nf_tables) on Mon", 6, "nf_tables", "ip6tables-save v1.8.10 (nf_tables)", "Mon"),
        ("# Generated by iptables-save v1.8.4 on Mon", 4, None, "iptables-save v1.8.4", "Mon"),
        ("# Generated by iptables-legacy-save v1.8.4 on Mon", 4, "legacy", "iptables-legacy-save v1.8.4", "Mon"),
        ("# Generated by iptables-save v1.4.21 on Mon\r", 4, "legacy", "iptables-save v1.4.21", "Mon"),
        ("# Generated by xtables-save v1.8.2 on Mon", 4, None, "xtables-save v1.8.2", "Mon"),
        ("# a remark", 4, None, None, None),
    ],
)
def test_a_header_tells_family_backend_tool_and_time(
    header: str, family: int, backend: str | None, tool: str | None, generated: str | None
) -> None:
    table = parse(f"{header}\n*filter\nCOMMIT\n", "dump").tables[0]
    assert (table.family, table.backend, table.tool, table.generated) == (family, backend, tool, generated)
    assert (table.line, table.commit_line) == (2, 3)


@pytest.mark.parametrize(
    ("bodies", "families"),
    [
        pytest.param(["-A X -d 10.0.0.1/32"], [4], id="IPv4 address"),
        pytest.param(["-A X -d fd00::1/128"], [6], id="IPv6 address"),
        pytest.param(["-A X -j DNAT --to-destination [fd00::1]:80"], [6], id="destination"),
        pytest.param(["-A X -m icmp6 --icmpv6-type 1"], [6], id="match of one family"),
        pytest.param(["-A X -j REJECT --reject-with icmp6-port-unreachable"], [6], id="way to reject"),
        pytest.param(["-A X -j REJECT --reject-with icmp-port-unreachable"], [4], id="way to reject, IPv4"),
        pytest.param(["-A X -p ipv6-icmp -j ACCEPT"], [6], id="protocol, where nothing else tells"),
        pytest.param(["-A X -p icmpv6 -j ACCEPT\n-A X -s 10.0.0.0/8"], [4], id="address before protocol"),
        pytest.param(["-A X"], [4], id="nothing"),
        pytest.param(["-A X", "-A X -d fd00::1/128", "-A X"], [6, 6, 6], id="like the neighbours"),
        pytest.param(["-A X -d 10.0.0.1/32", "-A X", "-A X -d fd00::1/128"], [4, 4, 6], id="like the one before"),
    ],
)
def test_without_a_header_the_content_tells_the_family(bodies: list[str], families: list[int]) -> None:
    dump = parse("".join(f"*filter\n{body}\nCOMMIT\n" for body in bodies), "dump")
    assert [table.family for table in dump.tables] == families


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N X\n-A X -j DROP\n", ["filter"], id="filter"),
        pytest.param("-P PREROUTING ACCEPT\n-P INPUT ACCEPT\n-P OUTPUT ACCEPT\n-P POSTROUTING ACCEPT\n", ["nat"], id="nat"),
        pytest.param("-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n", ["raw"], id="raw"),
        pytest.param("-P PREROUTING ACCEPT\n-P FORWARD ACCEPT\n-P POSTROUTING ACCEPT\n", ["mangle"], id="mangle"),
        pytest.param(
            "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-A INPUT\n-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n",
            ["filter", "raw"],
            id="two of them",
        ),
        pytest.param("-N X\n-A X -j DNAT --to-destination 10.0.0.1\n", ["nat"], id="by a target of nat"),
        pytest.param("-A X -p udp -j NOTRACK\n", ["raw"], id="by a target of raw"),
        pytest.param("-A POSTROUTING -j X\n", ["nat"], id="by a chain"),
        pytest.param("-N X\n-A X -j DROP\n", ["filter"], id="default"),
        pytest.param(
            ":X - [0:0]\n-A X -j DROP\n:Y - [0:0]\n-A POSTROUTING -j Y\nCOMMIT\n",
            ["filter", "nat"],
            id="grep took the table lines",
        ),
        pytest.param("*raw\nCOMMIT\n-P FORWARD ACCEPT\n", ["raw", "filter"], id="after a dump"),
    ],
)
def test_the_output_of_list_rules_names_no_table_so_it_is_inferred_and_said(text: str, names: list[str]) -> None:
    dump = parse(text, "dump")
    assert [table.name for table in dump.tables] == names
    assert dump.problems == []
    inferred = [table.line for table in dump.tables if table.inferred]
    assert [note.line for note in dump.notes if note.kind == "inferred-table"] == inferred
    assert inferred


def test_messages_of_tools_are_notes() -> None:
    dump = nat(
        "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them",
        "# Table `x' is incompatible, use 'nft' tool.",
        "iptables-save v1.8.4 (nf_tables): table `filter' is incompatible, use 'nft' tool.",
        "modprobe: FATAL: Module ip_tables not found",
        "# an ordinary comment",
    )
    assert [note.line for note in dump.notes] == [2, 3, 4, 5]
    assert dump.problems == []
    assert [dump.shapes[line].kind for line in (2, 6)] == [LineKind.FOREIGN, LineKind.COMMENT]


def test_a_value_may_span_lines() -> None:
    dump = parse(read("newlines-in-comments.txt"), "dump")
    rules = list(dump.rules())
    assert [rule.comment for rule in rules] == [
        "new\nline",
        "new\n-A INPUT -j DROP\nline",
        "a\nCOMMIT\n",
        'back\\\nslash "q',
        "plain",
    ]
    assert [rule.line for rule in rules] == [6, 8, 11, 14, 16]
    assert dump.text(9) == ""
    assert dump.shapes[9].kind is LineKind.CONTINUATION
    assert dump.tables[0].commit_line == 17


def test_an_open_quote_does_not_swallow_the_dump() -> None:
    lines = ['-A X -m comment --comment "open', *(["-A Y -j ACCEPT"] * 200), '-A Z -m comment --comment "b" -j ACCEPT']
    dump = nat(*lines)
    assert [problem.line for problem in dump.problems] == [2]
    assert len(dump.tables[0].chains["Y"].lines) == 200


def test_a_value_ends_where_no_comment_is_that_long() -> None:
    dump = nat('-A X -m comment --comment "open', *(["-A Y -j ACCEPT"] * 200), 'the end" -j ACCEPT')
    assert [problem.line for problem in dump.problems] == [2, 203]
    assert len(dump.tables[0].chains["Y"].lines) == 200


def test_lines_of_one_shape_share_one_object() -> None:
    dump = nat(
        "-A A -p tcp -m tcp --dport 80 -j B",
        "-A C -p udp -m tcp --dport 81 -j D",
        "-A C -p udp -m udp --dport 81 -j D",
        "-A A  -p tcp -m tcp --dport 80 -j B",
        "-A A -j B",
        "-A A -j B --random",
        "-A A -p tcp --dport 80 -j B",
        "-A A -p udp --dport 80 -j B",
    )
    shapes = dump.shapes[2:-1]
    assert shapes[0] is shapes[1]
    assert len(set(shapes)) == 7
    assert nat("-A X -p tcp -m tcp --dport 1 -j Y").shapes[2] is shapes[0]


def test_a_rule_answers_for_its_options() -> None:
    rule = only_rule(
        '[7:420] -A KUBE-SVC-X ! -s 10.0.0.0/8 -m comment --comment "say \\"hi\\"" '
        "-m mark --mark 0x1/0x2 -j DNAT --to-destination [fd00::1]:80"
    )
    assert (rule.chain, rule.target_name, rule.goto, rule.comment, rule.counters) == (
        "KUBE-SVC-X",
        "DNAT",
        False,
        'say "hi"',
        (7, 420),
    )
    assert [match.module for match in rule.matches] == ["comment", "mark"]
    own, mark, target = rule.option("-s"), rule.option("--mark", "mark"), rule.option("--to-destination")
    assert (own, mark, target) == ((True, ("10.0.0.0/8",)), (False, ("0x1/0x2",)), (False, ("[fd00::1]:80",)))
    assert rule.option("--mark", "connmark") is None
    assert rule.option("-s", "mark") is None
    assert rule.option("--dport") is None
    plain = only_rule("-A X")
    assert (plain.target_name, plain.goto, plain.comment, plain.counters) == (None, False, None, None)


def test_a_value_can_be_replaced_and_the_text_follows() -> None:
    rule = only_rule('-A X -m comment --comment "a" -j Y')
    assert [rule.replace(slot, text).text for slot, text in ((0, "Z"), (1, "b c"), (2, "%s"))] == [
        '-A Z -m comment --comment "a" -j Y',
        '-A X -m comment --comment "b c" -j Y',
        '-A X -m comment --comment "a" -j %s',
    ]
    for slot, text in ((0, "a b"), (0, "-x"), (1, 'a"b'), (2, "")):
        with pytest.raises(ValueError, match="cannot stand in slot"):
            rule.replace(slot, text)


def test_only_rule_lines_are_rules() -> None:
    dump = nat("-A X")
    with pytest.raises(ValueError, match="dump:1 is no rule but a table line"):
        dump.rule(1)
    assert [rule.line for rule in dump.rules()] == [2]
    assert dump.line_count == 3


@pytest.mark.parametrize("text", ["", "\n", "\n\n", " ", "\r\n", "*nat", "*nat\n", "\x00\x1b[31m\n", "-A X -j \udcff\n"])
def test_odd_inputs_come_back_unchanged(text: str) -> None:
    assert parse(text, "dump").render() == text


def test_limits_are_stated_when_they_are_reached() -> None:
    with pytest.raises(InputError, match=r"dump: 4 lines are more than a dump can have \(3\)"):
        parse("\n\n\n", "dump", max_lines=3)
    dump = parse("*nat\n-A X -j " + "Y" * 100 + "\n-A X -j Y\nCOMMIT\n", "dump", max_line_length=100)
    assert [(problem.line, problem.message) for problem in dump.problems] == [
        (2, "the line has 108 characters: longer ones than 100 are not read; --limit-factor raises this limit")
    ]


def test_text_that_is_no_dump_is_refused_before_it_costs_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables_save, "MAX_GRAMMAR_CHARACTERS", 10_000)
    with pytest.raises(InputError, match=r"dump:9\d: too many lines are alike to no other"):
        parse("never a rule\n" * 1000, "dump")
    many = "*nat\n" + "-A X -j Y\n" * 10_000 + "COMMIT\n"
    assert parse(many, "dump").problems == []


def test_the_shapes_that_are_kept_stay_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables_save, "_MAX_SHAPES_KEPT", 3)
    text = "*nat\n" + "".join(f"-A X -m m{number} --o v\n" for number in range(30)) + "COMMIT\n"
    for _ in range(2):
        dump = parse(text, "dump")
        assert len({id(shape) for shape in dump.shapes[2:-1]}) == 30
        assert dump.render() == text
    assert len(iptables_save._shapes[True]) == 32
    parse("", "dump")
    assert len(iptables_save._shapes[True]) == 0


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        nat("-A X -j Y")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.benchmark
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("*nat\n" + '-A X -m comment --comment "\n' * 200_000, id="every line opens or closes a quote"),
        pytest.param("*nat\n" + ":C - [0:0]\n" * 200_000, id="one chain declared again and again"),
        pytest.param("*nat\nCOMMIT\n" * 100_000, id="nothing but tables"),
        pytest.param("-A X\n*nat\nCOMMIT\n" * 60_000, id="lines outside of tables"),
        pytest.param("# Generated by iptables-save v1.8.9 on Mon\n" * 200_000, id="nothing but headers"),
        pytest.param("*nat\n-A X " + '"' * 30_000_000, id="one endless line"),
    ],
)
def test_hostile_dumps_cost_no_more_per_line_than_others(text: str) -> None:
    begin = time.process_time()
    assert parse(text, "dump").render() == text
    assert time.process_time() - begin < 8
