"""The page for people, as text; test_page.py opens it in a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.reports.samples import FOLDER, HOSTILE_TEXTS, STALE, USUAL, hostile, large

from ruleaudit.findings import ProxySummary, Report
from ruleaudit.reports.evidence import Context
from ruleaudit.reports.html import html_report
from ruleaudit.reports.printable import printable

EMPTY = Report(None, (), ProxySummary(), 0, 0, 0)
VOID = {"meta", "input"}
KNOWN = {
    "html", "head", "meta", "title", "style", "body", "a", "header", "h1", "h2", "h3", "h4", "p", "ul", "li", "b", "div", "table",
    "thead", "tbody", "tr", "th", "td", "section", "details", "summary", "main", "form", "fieldset", "legend", "label", "input",
    "select", "option", "button", "output", "span", "dl", "dt", "dd", "code", "i", "figure", "svg", "g", "rect", "path", "text",
    "footer", "script", "strong",
}  # fmt: skip


class Page(HTMLParser):
    """A strict reader: every element closed where it must be, every id once, every link within the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.raw: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value or "")
            if name == "href":
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.raw[self.open[-1]] = data
        else:
            self.texts.append(data)


def page(*reports: Report, notices: tuple[str, ...] = ()) -> Page:
    return Page(html_report(reports, Context(folder=FOLDER, notices=notices)))


@pytest.mark.parametrize(
    "reports",
    [
        pytest.param([USUAL], id="usual"),
        pytest.param([EMPTY], id="empty"),
        pytest.param([], id="nothing"),
        pytest.param([USUAL, replace(USUAL, node="node-b"), large(20, "node-c")], id="several"),
        *(pytest.param([hostile(text)], id=name) for name, text in HOSTILE_TEXTS.items()),
    ],
)
def test_it_is_well_formed_and_closed_in_itself(reports: list[Report]) -> None:
    found = page(*reports)
    assert found.tags <= KNOWN
    assert len(set(found.ids)) == len(found.ids)
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert not any(
        name.startswith("on") or name in ("style", "src", "srcset", "srcdoc", "action") for _, name, _ in found.attributes
    )


def test_the_policy_allows_the_two_texts_alone() -> None:
    found = page(USUAL)
    (policy,) = [value for tag, name, value in found.attributes if tag == "meta" and "default-src" in value and name == "content"]
    hashes = {name: base64.b64encode(hashlib.sha256(found.raw[name].encode()).digest()).decode() for name in ("style", "script")}
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"url\(|@import|https?:|innerHTML|eval|fetch", found.raw["style"] + found.raw["script"])


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_is_shown_as_it_is(text: str) -> None:
    found = page(hostile(text), notices=(text,))
    seen = "".join(found.texts)
    assert printable(text) in seen
    assert all(character.isprintable() or character == "\n" for character in seen)
    assert all(value.isprintable() for _, _, value in found.attributes)


def test_everything_of_a_finding_is_there() -> None:
    seen = "".join(page(USUAL, notices=("1 finding not shown",)).texts)
    for part in (
        STALE.message, STALE.expected, STALE.observed, "Service demo/np, Pod demo/np-0", *(one.text for one in STALE.locations),
        "kubectl get pods -A -o wide", "1 finding not shown", "no nft dump", "1 service without findings", "demo/well",
        "/elsewhere/objects.json", "cluster CIDR 10.244.0.0/16", "Why it matters.",
    ):  # fmt: skip
        assert part in seen


def test_the_same_on_several_nodes_is_said_once() -> None:
    text = html_report([USUAL, replace(USUAL, node="node-b"), replace(USUAL, node="node-c", findings=())], Context(folder=FOLDER))
    assert text.count('data-code="RA206"') == 1
    assert "<dt>on</dt><dd>node-a, node-b</dd>" in text
    rows = re.findall(r'<tr data-group="g\d+"><th scope="row">demo/np</th>(.*?)</tr>', text)
    assert [re.findall(r'<td class="cell">(.*?)</td>', row) for row in rows] == [
        ['<a class="worst-error" href="#g1">1 error</a>', '<a class="worst-error" href="#g1">1 error</a>', ""]
    ]


def test_without_its_script_the_page_shows_everything_and_no_filters() -> None:
    text = html_report([USUAL], Context(folder=FOLDER))
    assert '<form id="filters" hidden ' in text
    assert "hidden" not in re.sub(r"<(style|script)>.*?</\1>|<form .*?</form>", "", text, flags=re.DOTALL)
