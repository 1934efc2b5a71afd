"""The page for people, as text; test_page.py opens it in a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.reports.samples import FOLDER, HOSTILE_TEXTS, STALE, USUAL, hostile, large

from ruleaudit.findings import Finding, Location, ProxySummary, Report, Severity, Suppressed
from ruleaudit.reports.evidence import Context
from ruleaudit.reports.html import html_report
from ruleaudit.reports.nodes import Failure, compared
from ruleaudit.reports.printable import printable
from ruleaudit.reports.selection import Hidden

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
        "kubectl get pods -A -o wide", "1 finding not shown", "no nft dump", "1 of 4 services without findings", "demo/well",
        "/elsewhere/objects.json", "cluster CIDR 10.244.0.0/16", "Why it matters.",
    ):  # fmt: skip
        assert part in seen


def test_the_same_on_several_nodes_is_said_once() -> None:
    reports = [USUAL, replace(USUAL, node="node-b"), replace(USUAL, node="node-c", findings=())]
    text = html_report(reports, Context(folder=FOLDER))
    assert text.count('data-code="RA206"') == 1
    assert "<dt>where</dt><dd>on 2 of 3 nodes: all but node-c</dd>" in text
    assert cells(text, "demo/np") == [
        '<a class="worst-error" href="#g1">1 error</a>',
        '<a class="worst-error" href="#g1">1 error</a>',
        "",
    ]


def cells(text: str, service: str) -> list[str]:
    """What the cells of a row of Services by nodes hold."""
    (row,) = re.findall(rf'<tr data-group="g\d+"><th scope="row">{service}</th>(.*?)</tr>', text)
    return re.findall(r'<td class="cell[^"]*">(.*?)</td>', row)


# --- many nodes ---

UNCHECKED = Finding("RA004", "not-checked", Severity.INFO, "no IPv6 table was given", subject="IPv6")
HEALTHY = replace(USUAL, node="node-b", findings=())


def several(*reports: Report, failures: tuple[Failure, ...] = (), noun: str = "node") -> str:
    """The page of nodes whose inputs lie in folders of their own: f0, f1, and so on."""
    comparison = compared(reports, [f"f{number}" for number in range(len(reports))], failures, noun)
    return html_report(reports, Context(folder=FOLDER, comparison=comparison))


def test_nodes_stand_in_a_table_with_those_that_could_not_be_audited() -> None:
    odd = replace(HEALTHY, node="node-c", proxy=ProxySummary("ipvs", "1.25+"), findings=(UNCHECKED,))
    text = several(USUAL, HEALTHY, odd, failures=(Failure("f9", "the folder <is> empty"),))
    seen = "".join(Page(text).texts)
    assert "ruleaudit: 4 nodes" in seen
    assert "f9not audited: the folder <is> empty" in seen
    assert "node-c: mode ipvs; the others have iptables" in seen
    rows = re.findall(r'<tr><th scope="row">(node-\w)</th>(.*?)</tr>', text)
    assert [(name, re.findall(r">([^<]*)</td>", row)) for name, row in rows] == [
        ("node-a", ["3", "1", "1", "1", "iptables", "1.25+", "4"]),
        ("node-b", ["-", "-", "-", "-", "iptables", "1.25+", "4"]),
        ("node-c", ["-", "-", "-", "1", "ipvs", "1.25+", "4"]),
    ]


def test_silence_that_proves_nothing_does_not_look_healthy() -> None:
    partly = replace(HEALTHY, node="node-c", findings=(UNCHECKED,))
    blind = replace(HEALTHY, node="node-d", frontends=0)
    text = several(USUAL, HEALTHY, partly, blind, failures=(Failure("f9", "empty"),))
    assert [re.sub("<.*?>", "", cell) for cell in cells(text, "demo/np")] == ["1E", "", "partly", "not checked", "not checked"]
    seen = "".join(Page(text).texts)
    assert "an empty cell has none and was checked; E, W and N are errors, warnings and notes; partly: none found" in seen
    assert "Not everything was checked on node-a, node-c, node-d, f9: no findings there is no proof of health." in seen
    assert "and was checked" not in several(large(2, "node-a"), HEALTHY)


def test_nodes_of_one_name_are_told_apart_by_their_folders() -> None:
    text = several(USUAL, USUAL, HEALTHY)
    for place in (
        '<th scope="row">{}</th>', '<th scope="col" class="node"><span>{}</span></th>', '<option value="1">{}</option>'
    ):  # fmt: skip
        assert place.format("node-a (f1)") in text


def test_many_nodes_are_named_in_words() -> None:
    reports = [replace(USUAL, node=f"node-{number}") for number in range(60)]
    text = several(*reports, replace(HEALTHY, node="fine"))
    assert 'class="node"' not in text
    assert (
        '<td class="cell"><a class="worst-error" href="#g1">1 error</a></td><td>error on 60 of 61 nodes: all but fine</td>'
        in text
    )
    assert "<dt>where</dt><dd>on 60 of 61 nodes: all but fine</dd>" in text
    assert "<dt>where</dt><dd>on all 60 nodes</dd>" in several(*reports)
    assert "(on 60 of 61 nodes: all but fine)" in text  # what was not checked
    assert text.count("node-17") == 2  # the table of nodes and the filter


def test_fixtures_are_called_fixtures() -> None:
    reports = [
        replace(one, node=f"captured/{number}")
        for number, one in enumerate((USUAL, USUAL, HEALTHY, replace(HEALTHY, services=9)))
    ]
    text = several(*reports, noun="fixture")
    seen = "".join(Page(text).texts)
    for part in (
        "ruleaudit: 4 fixtures",
        "the fixture itself",
        "Services by fixture",
        "on 2 of 4 fixtures: captured/0, captured/1",
    ):
        assert part in seen
    assert '<label>fixture<select name="node"' in text
    assert "Unlike the others" not in seen  # they are of different clusters


# --- order, counts, evidence ---


def chain_of(*findings: Finding) -> str:
    return html_report([replace(USUAL, findings=findings)], Context(folder=FOLDER))


def test_causes_stand_before_what_follows_from_them_and_the_worst_first() -> None:
    cause = Finding("RA208", "stale-reject", Severity.ERROR, "refuses", service="demo/np")
    follower = Finding(
        "RA106",
        "missing-endpoint",
        Severity.ERROR,
        "gets nothing",
        service="demo/np",
        endpoint="10.0.0.1:80",
        cause=cause.fingerprint,
    )
    second = replace(follower, endpoint="10.0.0.2:80")
    note = Finding("RA209", "orphan-chain", Severity.INFO, "nothing jumps there", subject="KUBE-SEP-1")
    late = Finding("RA107", "missing-reject", Severity.ERROR, "forwards", service="demo/np")
    hidden = Finding("RA503", "leftover-chains", Severity.INFO, "leads to an error", service="demo/six")
    text = chain_of(note, late, follower, cause, second, hidden, replace(late, service="demo/six", cause=hidden.fingerprint))
    assert re.findall(r'data-code="(\w+)"', text) == ["RA208", "RA106", "RA106", "RA107", "RA503", "RA107", "RA209"]
    assert re.findall(r"<h3>(service [^<]*|the node itself)</h3>", text) == [
        "service demo/np",
        "service demo/six",
        "the node itself",
    ]
    assert (
        '<dt>leads to</dt><dd><a href="#f1">RA106 missing-endpoint (10.0.0.1:80)</a>, <a href="#f2">RA106 missing-endpoint (10.0.0.2:80)</a></dd>'
        in text
    )
    assert text.count('<dt>follows from</dt><dd><a href="#f0">RA208 stale-reject (demo/np)</a></dd>') == 2


def test_findings_that_follow_from_each_other_are_all_there() -> None:
    one = Finding("RA208", "stale-reject", Severity.ERROR, "one", service="demo/np", cause="two")
    two = Finding("RA106", "missing-endpoint", Severity.ERROR, "two", service="demo/np", cause=one.fingerprint)
    text = chain_of(replace(one, cause=two.fingerprint), two)
    assert len(re.findall(r"data-code=", text)) == 2


def test_more_followers_than_fit_are_counted() -> None:
    cause = Finding("RA505", "stopped-kube-proxy", Severity.ERROR, "stopped")
    followers = (
        Finding("RA106", "missing-endpoint", Severity.ERROR, "x", service=f"demo/{n:02}", cause=cause.fingerprint)
        for n in range(12)
    )
    text = chain_of(cause, *followers)
    assert "RA106 missing-endpoint (demo/09)</a> and 2 more</dd>" in text


def test_counts_of_services_add_up() -> None:
    stale = Finding("RA201", "stale-service", Severity.ERROR, "rules are left", service="demo/gone")
    report = replace(USUAL, services=3, findings=(*USUAL.findings, stale))
    seen = "".join(page(report).texts)
    assert "4 services, 3 need rules" in seen
    assert "1 of 4 services without findings" in seen  # and 3 with some
    assert "demo/gone (not among the objects)" in seen


def test_findings_that_are_put_aside_are_not_said_to_be_none() -> None:
    aside = replace(USUAL, suppressed=(Suppressed(STALE, "ignore", "known", "ruleaudit.toml:1"),))
    assert "1 of 4 services without findings that are shown" in "".join(page(aside).texts)
    hidden = Hidden({Severity.ERROR: 1}, {"RA206": 1}, ("--ignore",))
    text = html_report([USUAL], Context(folder=FOLDER, hidden=hidden))
    assert "1 of 4 services without findings that are shown" in text


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_names_of_nodes_are_shown_as_they_are(text: str) -> None:
    reports = [hostile(text), hostile(text), USUAL]
    found = Page(html_report(reports, Context(folder=FOLDER, comparison=compared(reports, [text] * 3, [Failure(text, text)]))))
    assert found.tags <= KNOWN
    assert all(value.isprintable() for _, _, value in found.attributes)
    assert printable(text) in "".join(found.texts)
    alone = Page(html_report([], Context(folder=FOLDER, comparison=compared([], (), [Failure(text, text)]))))
    assert f"{printable(text)}not audited: {printable(text)}" in "".join(alone.texts)


def test_a_place_without_a_text_is_no_line() -> None:
    text = chain_of(
        Finding("RA013", "unmet", Severity.ERROR, "one", subject="a", locations=(Location("x/expected.json", 1, ""),)),
        Finding("RA013", "unmet", Severity.ERROR, "two", subject="b", locations=(Location("x/expected.json", 15, ""),)),
    )
    assert "<h4>x/expected.json</h4>" in text
    assert "<h4>x/expected.json, line 15</h4>" in text
    assert '<ul class="lines">' not in text


def test_without_its_script_the_page_shows_everything_and_no_filters() -> None:
    text = html_report([USUAL], Context(folder=FOLDER))
    assert '<form id="filters" hidden ' in text
    assert "hidden" not in re.sub(r"<(style|script)>.*?</\1>|<form .*?</form>", "", text, flags=re.DOTALL)
