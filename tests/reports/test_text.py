"""The report for people: what stands where, what is left out and that this is said, and that inputs cannot forge it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruleaudit.findings import (
    Certainty,
    Finding,
    InputSummary,
    Location,
    ObjectReference,
    ProxySummary,
    Report,
    Severity,
)
from ruleaudit.reports.selection import Selection
from ruleaudit.reports.text import Grouping, Layout, colored, plain, report_lines

DUMP = InputSummary("ipt.txt", "iptables-save", 4, 1034, True)
EMPTY = Report("node-a", (DUMP,), ProxySummary("iptables"), 74, 143, 151)

STOPPED = Finding("RA505", "stopped-kube-proxy", Severity.ERROR, "kube-proxy stopped", hint="read its log")
HOOK = Finding(
    "RA108",
    "missing-hook",
    Severity.WARNING,
    "KUBE-FORWARD is not reached from FORWARD",
    locations=(Location("ipt.txt", 3, ":FORWARD ACCEPT [0:0]"),),
)
STALE = Finding(
    "RA206",
    "stale-endpoint",
    Severity.ERROR,
    "demo/web:http sends 50% to 10.0.0.9:80",
    certainty=Certainty.POSSIBLE,
    service="demo/web",
    endpoint="10.0.0.9:80",
    expected="10.0.0.1:80",
    observed="10.0.0.1:80, 10.0.0.9:80",
    hint="look who has the address",
    cause=STOPPED.fingerprint,
    locations=(
        Location("ipt.txt", 10, "-A PREROUTING -j KUBE-SERVICES"),
        Location("ipt.txt", 20, "-A KUBE-SEP-A -j DNAT --to-destination 10.0.0.9:80"),
        Location("objects.json", 0, ""),
    ),
    objects=(ObjectReference("Service", "demo", "web"), ObjectReference("Node", "", "node-a")),
)
REJECT = Finding("RA107", "missing-reject", Severity.ERROR, "passes", service="demo/api", cause=STALE.fingerprint)
OTHER = Finding("RA304", "wrong-session-affinity", Severity.ERROR, "demo/api: no affinity", service="demo/api")
NOTE = Finding("RA701", "no-matching-pod", Severity.INFO, "demo/none selects no pod", service="demo/none")
UNCHECKED = Finding("RA004", "not-checked", Severity.INFO, "no IPv6 dump", hint="add ip6tables-save")


def text_of(report: Report, layout: Layout | None = None) -> str:
    return plain(report_lines(report, layout or Layout()))


def test_the_whole_of_a_report() -> None:
    report = replace(
        EMPTY,
        inputs=(DUMP, InputSummary("notes.txt", "other", None, 1, False)),
        findings=(STOPPED, STALE, OTHER, REJECT, HOOK, NOTE, UNCHECKED),
    )
    assert text_of(report) == (
        "node node-a\n"
        "  error RA505 stopped-kube-proxy: kube-proxy stopped\n"
        "    to do:    read its log\n"
        "    2 findings follow from it in 2 services:\n"
        "      error RA206 stale-endpoint (possible): demo/web:http sends 50% to 10.0.0.9:80 (ipt.txt:20)\n"
        "        error RA107 missing-reject: demo/api: passes\n"
        "  warning RA108 missing-hook: KUBE-FORWARD is not reached from FORWARD\n"
        "    lines:    ipt.txt:3: :FORWARD ACCEPT [0:0]\n"
        "\n"
        "service demo/api\n"
        "  error RA304 wrong-session-affinity: demo/api: no affinity\n"
        "\n"
        "notes\n"
        "  info RA701 no-matching-pod: demo/none selects no pod\n"
        "\n"
        "not checked\n"
        "  no IPv6 dump (add ip6tables-save)\n"
        "inputs passed over: notes.txt\n"
        "\n"
        "`ruleaudit explain RA505` says more about a code.\n"
        "node-a: 4 errors, 1 warning, 1 note in 74 services, 143 frontends, 151 endpoints (iptables mode, 1,034 lines of rules); "
        "1 part not checked\n"
    )


def test_a_finding_with_everything() -> None:
    assert text_of(replace(EMPTY, findings=(STALE,)), Layout(quiet=True)) == (
        "service demo/web\n"
        "  error RA206 stale-endpoint (possible): demo/web:http sends 50% to 10.0.0.9:80\n"
        "    expected: 10.0.0.1:80\n"
        "    observed: 10.0.0.1:80, 10.0.0.9:80\n"
        "    lines:    ipt.txt:20: -A KUBE-SEP-A -j DNAT --to-destination 10.0.0.9:80\n"
        "              ipt.txt:10: -A PREROUTING -j KUBE-SERVICES\n"
        "              objects.json\n"
        "    objects:  Service demo/web, Node node-a\n"
        "    possible: it rests on a rule or an input that is not modelled or not given\n"
        "    to do:    look who has the address\n"
        "\n"
    )


def test_a_healthy_node_is_one_line() -> None:
    assert text_of(EMPTY) == (
        "node-a: no faults found: the rules do what the objects ask for in 74 services, 143 frontends, 151 endpoints "
        "(iptables mode, 1,034 lines of rules)\n"
    )


def test_without_objects_nothing_is_promised() -> None:
    report = Report(None, (DUMP,), ProxySummary(), 0, 0, 0, (UNCHECKED,))
    assert text_of(report).splitlines()[-1] == "unnamed node: no faults found (1,034 lines of rules); 1 part not checked"


def test_services_without_a_frontend_that_was_looked_at_are_not_called_healthy() -> None:
    report = replace(EMPTY, proxy=ProxySummary("nftables"), frontends=0, endpoints=0, findings=(UNCHECKED,))
    assert (
        text_of(report).splitlines()[-1]
        == "node-a: no Service was checked (nftables mode, 1,034 lines of rules); 1 part not checked"
    )


def test_what_a_selection_hides_is_said() -> None:
    shown, hidden = Selection(select=("RA701",)).apply(replace(EMPTY, findings=(STALE, REJECT, HOOK, NOTE)))
    lines = plain(report_lines(replace(shown, findings=()), Layout(), hidden)).splitlines()
    assert lines == [
        "3 findings not shown (--select): 2 errors, 1 warning (1 RA107, 1 RA108, 1 RA206)",
        "node-a: nothing to show in 74 services, 143 frontends, 151 endpoints (iptables mode, 1,034 lines of rules)",
    ]


def test_notes_are_short_unless_asked_for() -> None:
    notes = tuple(replace(NOTE, message=f"note {number}", service=f"demo/s{number}") for number in range(5))
    report = replace(EMPTY, findings=notes)
    assert text_of(report).splitlines()[1:5] == [
        "  info RA701 no-matching-pod: demo/s0: note 0",
        "  info RA701 no-matching-pod: demo/s1: note 1",
        "  info RA701 no-matching-pod: demo/s2: note 2",
        "  and 2 more RA701; --fail-on info shows each in full",
    ]
    assert "no faults found" in text_of(report).splitlines()[-1]
    full = text_of(report, Layout(notes=True))
    assert [line for line in full.splitlines() if line.startswith("service")] == [
        f"service demo/s{number}" for number in range(5)
    ]


def test_many_consequences_are_cut_and_counted() -> None:
    children = tuple(replace(REJECT, service=f"demo/s{number:02}", cause=HOOK.fingerprint) for number in range(25))
    lines = text_of(replace(EMPTY, findings=(HOOK, *children))).splitlines()
    assert "    25 findings follow from it in 25 services:" in lines
    assert sum("RA107" in line for line in lines) == 20
    assert "      and 5 more; --format json gives them all" in lines


def test_many_lines_and_objects_are_cut_and_counted() -> None:
    many = replace(
        HOOK,
        locations=tuple(Location("ipt.txt", number, "x" * 300) for number in range(1, 8)),
        objects=tuple(ObjectReference("Pod", "demo", f"p{number}") for number in range(6)),
    )
    text = text_of(replace(EMPTY, findings=(many,)))
    assert "              and 3 more; --format json gives them all\n" in text
    assert "Pod demo/p3 and 2 more\n" in text
    assert max(map(len, text.splitlines())) < 200


def test_findings_that_name_each_other_as_cause_are_all_shown() -> None:
    one = replace(STALE, service="demo/one", message="one", cause=None)
    two = replace(STALE, service="demo/two", message="two", cause=one.fingerprint)
    one = replace(one, cause=two.fingerprint)
    selfish = replace(STALE, service="demo/three", message="three")
    selfish = replace(selfish, cause=selfish.fingerprint)
    text = text_of(replace(EMPTY, findings=(one, two, selfish)))
    assert [text.count(f"(possible): demo/{name}: {name}") for name in ("one", "two", "three")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("grouping", "headings"),
    [
        ("service", ["node node-a", "service demo/api", "service demo/web"]),
        ("code", ["RA108 missing-hook", "RA206 stale-endpoint", "RA304 wrong-session-affinity"]),
        ("node", ["node node-a"]),
    ],
)
def test_grouping(grouping: Grouping, headings: list[str]) -> None:
    text = text_of(replace(EMPTY, findings=(STALE, OTHER, HOOK)), Layout(grouping, quiet=True))
    assert sorted(line for line in text.splitlines() if line and not line.startswith(" ")) == headings
    assert len(re.findall(r"^  (?:error|warning) RA", text, re.MULTILINE)) == 3


def test_statistics() -> None:
    text = text_of(replace(EMPTY, findings=(STALE, replace(STALE, service="a/b"), HOOK)), Layout(statistics=True))
    assert "1  RA108 missing-hook\n2  RA206 stale-endpoint\n" in text


ANY = st.text(st.characters(), max_size=30)
SGR = re.compile(r"\x1b\[[0-9;]*m")


@given(ANY, ANY)
def test_no_input_can_steer_the_terminal_or_forge_a_line(text: str, other: str) -> None:
    finding = replace(
        STALE,
        cause=None,
        message=text,
        expected=f"-{text}",
        observed=f"-{text}",
        hint=f"-{other}",
        endpoint=other,
        service=f"a/{other}",
        locations=(Location(f"-{other}", 1, f"-{text}"),),
        objects=(ObjectReference(f"-{other}", text, other),),
    )
    report = replace(EMPTY, node=f"-{other}", findings=(finding, replace(UNCHECKED, message=f"-{text}", hint=other)))
    printed = text_of(report)
    assert len(printed.splitlines()) == len(printed.split("\n")) - 1 == 14
    assert all(line.isprintable() for line in printed.split("\n"))
    painted = colored(report_lines(report, Layout()), None)
    assert [line.rstrip() for line in SGR.sub("", painted).split("\n")] == printed.split("\n")
    narrow = SGR.sub("", colored(report_lines(report, Layout()), 60))
    assert all(line.isprintable() for line in narrow.split("\n"))


def test_markup_of_rich_is_plain_text() -> None:
    finding = replace(HOOK, message="[bold red]x[/] [link=http://example.org]y[/link] :smile:")
    painted = SGR.sub("", colored(report_lines(replace(EMPTY, findings=(finding,)), Layout()), None))
    assert "[bold red]x[/] [link=http://example.org]y[/link] :smile:" in painted


def test_a_terminal_continues_long_lines_below_their_start() -> None:
    finding = replace(HOOK, message="m", locations=(), hint="word " * 30)
    painted = SGR.sub("", colored(report_lines(replace(EMPTY, findings=(finding,)), Layout(quiet=True)), 60)).splitlines()
    assert painted[2].startswith("    to do:    word word")
    assert painted[3].startswith(" " * 14 + "word")
    assert all(len(line) <= 60 for line in painted)
