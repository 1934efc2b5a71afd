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


def test_a_long_report_fits_into_a_comment() -> None:
    text = markdown(large(500), large(500, "node-b"))
    assert 50_000 < len(text) < 65_536
    left = re.search(r"\*(\d+) findings more; ", text)
    assert left is not None
    assert text.count("### ") + int(left[1]) == 1000


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
