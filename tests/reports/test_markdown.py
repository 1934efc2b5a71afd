"""The report as Markdown, read back by a parser of it."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt
from tests.reports.samples import FOLDER, HOSTILE_TEXTS, STALE, USUAL, hostile, large

from ruleaudit.findings import Finding, Location, ProxySummary, Report, Severity
from ruleaudit.reports.evidence import Context
from ruleaudit.reports.markdown import markdown_report
from ruleaudit.reports.nodes import Failure, compared
from ruleaudit.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markdown_it.token import Token

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
KINDS = {
    "heading", "paragraph", "inline", "text", "code_inline", "fence", "strong", "em", "softbreak", "bullet_list", "list_item",
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


def markdown(*reports: Report, threshold: Severity = Severity.WARNING, notices: tuple[str, ...] = ()) -> str:
    return markdown_report(reports, Context(threshold, FOLDER, notices))


def tokens(text: str) -> Iterator[Token]:
    def walk(found: Sequence[Token]) -> Iterator[Token]:
        for token in found:
            yield token
            yield from walk(token.children or ())

    return walk(PARSER.parse(text))


def read(text: str) -> str:
    """What a reader sees."""
    return "".join(token.content for token in tokens(text) if token.type in ("text", "code_inline", "fence"))


def headings(text: str) -> list[str]:
    found = list(tokens(text))
    return [read(after.content) for token, after in pairwise(found) if token.type == "heading_open"]


def test_the_order_of_a_report() -> None:
    assert headings(markdown(USUAL)) == [
        "ruleaudit: node-a",
        "node node-a",
        "error RA505 stopped-kube-proxy",
        "warning RA503 leftover-chains",
        "service demo/six",
        "error RA102 missing-cluster-ip (possible)",
        "Notes",
        "Not checked",
    ]
    text = markdown(USUAL)
    assert "**node-a: 3 errors, 1 warning, 1 note in 4 services" in text
    assert "| error | RA206 stale-endpoint | 1 | 1 |" in text
    assert f"- RA206 stale-endpoint: {STALE.message}" in text  # below what it follows from


def test_notes_are_findings_when_they_count_as_such() -> None:
    assert "info RA701 no-matching-pod" in headings(markdown(USUAL, threshold=Severity.INFO))


def test_a_finding_has_its_facts_and_lines() -> None:
    text = markdown(replace(USUAL, findings=(STALE,)), notices=("1 finding not shown",))
    seen = read(text)
    for part in (STALE.message, STALE.expected, STALE.observed, "Service demo/np, Pod demo/np-0", "1 finding not shown"):
        assert part in seen
    (fence,) = [token for token in tokens(text) if token.type == "fence"]
    assert fence.content.splitlines()[0] == f"node-a/iptables-save.txt:689: {STALE.locations[3].text}"
    assert [token.content for token in tokens(text) if token.type == "code_inline"] == ["kubectl get pods -A -o wide"]


LIMIT = 65_536
"""Characters of a comment on GitHub."""


def left_out(text: str) -> int:
    left = re.search(r"\*([\d,]+) findings? more; ", text)
    return 0 if left is None else int(left[1].replace(",", ""))


def told(text: str) -> int:
    """How many findings have a heading or a line of their own."""
    return len(re.findall(r"^(?:###|-) (?:error|warning) RA", text, re.MULTILINE))


def test_a_long_report_fits_into_a_comment() -> None:
    text = markdown(large(1500))
    assert 50_000 < len(text) < LIMIT
    assert told(text) + left_out(text) == 1500


def test_what_nodes_share_is_told_once() -> None:
    text = markdown(large(500), large(500, "node-b"))
    assert len(text) < LIMIT
    assert headings(text)[:2] == ["ruleaudit: 2 nodes", "on both nodes"]
    assert told(text) + left_out(text) == 500
    assert left_out(text)
    assert f"and {left_out(text)} more here" in text


def node(number: int, *findings: Finding) -> Report:
    return replace(USUAL, node=f"node-{number:03}", findings=tuple(replace(one, node=f"node-{number:03}") for one in findings))


NOTE = Finding("RA701", "no-matching-pod", Severity.INFO, "its selector matches no pod", service="demo/none")


def test_many_nodes_are_a_table_and_every_broken_one_is_told_of() -> None:
    broken = [node(number, *large(30 + number).findings[-5:], NOTE) for number in range(9)]
    text = markdown(*(node(number, NOTE) for number in range(9, 60)), *broken)
    assert len(text) < LIMIT
    assert "**60 nodes: 40 errors, 5 warnings on 9 nodes; 60 notes on 60 nodes**" in text
    seen = [token.content for token in tokens(text) if token.type == "inline"]
    for number in range(9):
        assert f"node-{number:03}" in seen
    assert "node-020" not in text
    assert "| 51 other nodes | - | - | 51 | - | |" in text
    order = headings(text)
    assert order[-1] == "Notes"
    assert {f"on node-{number:03} alone" for number in range(9)} & set(order)
    assert told(text) == len({one.fingerprint for report in broken for one in report.findings}) - 1
    assert text.count("RA701 no-matching-pod: ") == 1
    assert "(on all 60 nodes)" in text


def test_a_node_with_much_does_not_keep_the_others_out() -> None:
    first = large(3000, "node-000")
    others = [node(number, replace(STALE, subject=f"{number}")) for number in range(1, 6)]
    text = markdown(first, *others)
    assert len(text) < LIMIT
    for report in others:
        assert f"on {report.node} alone" in headings(text)
    assert told(text) + left_out(text) == 3005


def test_nothing_exceeds_the_limit() -> None:
    """Four hundred nodes whose findings, names and oddities all differ."""
    nodes = [
        replace(node(number, *large(10 + number).findings[-3:]), node=f"node-{number}-{'x' * 200}", services=number % 7)
        for number in range(400)
    ]
    failures = [Failure(f"folder-{number}-{'y' * 300}/", "holds nothing " * 100) for number in range(200)]
    notices = tuple(f"notice {number} {'z' * 3000}" for number in range(100))
    for reports in (nodes, nodes[:1], [node(number, NOTE) for number in range(400)], []):
        context = Context(Severity.WARNING, FOLDER, notices, comparison=compared(reports, failures=failures))
        text = markdown_report(reports, context)
        assert len(text) < LIMIT
        assert "- and 170 more" in text
    assert len(markdown(*(node(number, NOTE) for number in range(400)))) < 2_000


def test_nodes_that_were_not_audited_or_not_checked_are_named() -> None:
    unchecked = replace(node(2), frontends=0)
    comparison = compared([node(1), unchecked], failures=[Failure("c/", "it is *empty*")])
    text = markdown_report(comparison.reports, Context(folder=FOLDER, comparison=comparison))
    assert "| node-002 | - | - | - | all | iptables |" in text
    assert "- c/: it is \\*empty\\*" in text
    assert "1 of 3 nodes not checked: node-002; 1 not audited" in text


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
@pytest.mark.parametrize("threshold", [Severity.WARNING, Severity.INFO])
def test_hostile_text_is_inert(text: str, threshold: Severity) -> None:
    written = markdown(hostile(text), threshold=threshold, notices=(text,))
    assert all(line.isprintable() for line in written.split("\n"))
    kinds = {token.type.removesuffix("_open").removesuffix("_close") for token in tokens(written)}
    assert kinds <= KINDS
    assert len([token for token in tokens(written) if token.type == "fence"]) == 1
    assert printable(text)[:200] in read(written)
    # GitHub makes mentions, references and links of plain text, too.
    plain = " ".join(token.content for token in tokens(written) if token.type == "text")
    assert not re.search(r"@\w|#\d|://", plain)


@pytest.mark.parametrize("text", [*HOSTILE_TEXTS.values(), "a|b @team", "a | `b|c` | d"])
def test_hostile_names_of_nodes_are_inert(text: str) -> None:
    reports = [hostile(text), replace(hostile(text), proxy=ProxySummary(text, text)), *(node(number) for number in range(6))]
    comparison = compared(reports, [text, f"{text}2"], [Failure(text, text)])
    written = markdown_report(reports, Context(folder=FOLDER, notices=(text,), comparison=comparison))
    assert all(line.isprintable() for line in written.split("\n"))
    found = list(tokens(written))
    assert {token.type.removesuffix("_open").removesuffix("_close") for token in found} <= KINDS
    assert not re.search(r"@\w|#\d|://", " ".join(token.content for token in found if token.type == "text"))
    first, end = (next(at for at, token in enumerate(found) if token.type == f"table_{which}") for which in ("open", "close"))
    cells = [token.content for token in found[first:end] if token.type == "inline"]
    assert [cells[row + 1 : row + 5] for row in (6, 12)] == [["1", "1", "1", "1"]] * 2  # no name ends its cell


def test_no_line_ends_its_fence() -> None:
    finding = replace(STALE, locations=(Location("````", 0, ""), Location("```", 1, "# x")))
    (fence,) = [token for token in tokens(markdown(replace(USUAL, findings=(finding,)))) if token.type == "fence"]
    assert fence.content == "````\n```:1: # x\n"


@pytest.mark.parametrize(
    "text",
    [
        "demo/np:http sends 33.3% to [fd00::1]:80, _not_ *that* | <b>",
        "- no list", "+ no list", "1. no list", "2) no list", "# no heading", "> no quote", "=== ---", "--- no rule", "~~~",
        "a\\", "`", "``", "a ` b", "`a` ``b``", "` `", " a ", "&amp; &#64;", "$x$", "https://x.y www.x.y", "*", "_", "![a](b)",
    ],
)  # fmt: skip
def test_a_message_reads_as_it_is_written(text: str) -> None:
    report = Report(
        "node-a", (), ProxySummary(), 0, 0, 0, (Finding("RA001", "unparsable-line", Severity.ERROR, text, hint=text),)
    )
    written = markdown(report)
    found = list(tokens(written))
    assert headings(written) == ["ruleaudit: node-a", "node node-a", "error RA001 unparsable-line"]
    place = next(number for number, token in enumerate(found) if token.content == "error RA001 unparsable-line")
    message = next(token for token in found[place + 1 :] if token.type == "inline")
    seen = "".join(child.content for child in message.children or ())
    assert seen.strip() in (text.strip(), text.replace("`", "").strip())
