"""What the names given to --output mean."""

from __future__ import annotations

import pytest
from tests.reports.samples import FOLDER, HOSTILE_TEXTS, USUAL, hostile

from ruleaudit.findings import ProxySummary, Report
from ruleaudit.reports.evidence import Context
from ruleaudit.reports.formats import FORMATS, OutputNameError, target
from ruleaudit.reports.formats import render as rendered


@pytest.mark.parametrize(
    ("text", "chosen", "expected"),
    [
        ("report.sarif", None, ("sarif", "report.sarif")),
        ("out/report.SARIF.json", None, ("sarif", "out/report.SARIF.json")),
        ("report.json", None, ("json", "report.json")),
        ("report.json", "html", ("json", "report.json")),
        ("gl-code-quality-report.json", None, ("gitlab", "gl-code-quality-report.json")),
        ("a.gitlab.json", None, ("gitlab", "a.gitlab.json")),
        ("report.html", "github", ("html", "report.html")),
        ("report.htm", None, ("html", "report.htm")),
        ("junit.xml", None, ("junit", "junit.xml")),
        ("README.md", None, ("markdown", "README.md")),
        ("html:report", None, ("html", "report")),
        ("json:report.html", None, ("json", "report.html")),
        ("sarif:-", "json", ("sarif", "-")),
        ("text:a:b.html", None, ("text", "a:b.html")),
        ("report", None, ("text", "report")),
        ("report", "json", ("json", "report")),
        ("-", None, ("text", "-")),
        ("-", "sarif", ("sarif", "-")),
        ("report.txt", None, ("text", "report.txt")),
        ("report.log", "junit", ("junit", "report.log")),
        ("report.dat", "json", ("json", "report.dat")),
        ("v1.2/report", None, ("text", "v1.2/report")),
        (".hidden", None, ("text", ".hidden")),
        ("./odd:report.html", None, ("html", "./odd:report.html")),
        ("/dev/stdout", "github", ("github", "/dev/stdout")),
    ],
)
def test_target(text: str, chosen: str | None, expected: tuple[str, str]) -> None:
    assert target(text, chosen) == expected


@pytest.mark.parametrize(
    ("text", "chosen", "said"),
    [
        ("report.pdf", None, "the ending .pdf names no format"),
        ("report.", None, "the ending . names no format"),
        ("sarfi:report", None, "did you mean sarif:report?"),
        ("HTML:report", "json", "did you mean html:report?"),
        ("html:", None, "./html: is a file of that name"),
    ],
)
def test_a_name_that_says_something_unknown(text: str, chosen: str | None, said: str) -> None:
    with pytest.raises(OutputNameError) as caught:
        target(text, chosen)
    message = str(caught.value)
    assert said in message
    assert all(name in message for name in FORMATS)
    assert ".sarif (sarif)" in message


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "text"])
@pytest.mark.parametrize("report", [USUAL, Report(None, (), ProxySummary(), 0, 0, 0)], ids=["usual", "empty"])
def test_every_format_is_text_that_ends_a_line(name: str, report: Report) -> None:
    text = rendered(name, [report], Context(folder=FOLDER))
    assert text.endswith("\n")
    assert rendered(name, [report], Context(folder=FOLDER)) == text


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "text"])
@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_no_format_prints_what_steers_a_terminal(name: str, text: str) -> None:
    written = rendered(name, [hostile(text)], Context(folder=FOLDER, notices=(text,)))
    assert all(character.isprintable() or character == "\n" for character in written)
    written.encode()
