"""The HTML report in a real browser: filters, keyboard, widths, light and dark, hostile names, paper, and without its script.

Skipped where Chromium and its driver are not installed (on Debian: `apt-get install chromium chromium-driver`).
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from tests.reports.samples import FOLDER, HOSTILE_TEXTS, USUAL, hostile, large

from ruleaudit.findings import Finding, Severity
from ruleaudit.reports.evidence import Context
from ruleaudit.reports.html import html_report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.findings import Report

GENERATOR = Path(__file__).resolve().parents[2] / "benchmarks" / "node.py"
SERVICES = 1000
SECONDS = 20
"""Within which the page of 1,000 Services is loaded, and a filter answers; a generous limit for a machine that does other things, too."""

SIZES = [pytest.param(width, scheme, id=f"{width} {scheme}") for width in (400, 1400) for scheme in ("light", "dark")]


class Browser:
    """Headless Chromium, and pages from reports."""

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self.driver = driver
        self.folder = folder

    def open(self, *reports: Report, width: int = 1400, scheme: str = "light", media: str = "", script: bool = True) -> None:
        """Show the page of `reports`; seconds that it took are in `took`."""
        path = self.folder / "page.html"
        path.write_text(html_report(reports, Context(folder=FOLDER)), encoding="utf-8")
        self.open_file(path, width, scheme, media, script=script)

    def open_file(self, path: Path, width: int = 1400, scheme: str = "light", media: str = "", *, script: bool = True) -> None:
        """Show a page that is there."""
        self.command("Emulation.setScriptExecutionDisabled", value=not script)
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", media=media, features=features)
        self.driver.get("about:blank")
        self.complaints()
        start = time.monotonic()
        self.driver.get(path.as_uri())
        self.took = time.monotonic() - start

    def command(self, name: str, **arguments: object) -> None:
        self.driver.execute_cdp_cmd(name, arguments)

    def ask(self, expression: str, *arguments: object) -> object:
        return self.driver.execute_script(f"return {expression}", *arguments)

    def shown(self, selector: str) -> int:
        """How many elements take up room on the page."""
        found = self.ask(
            "[...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility({contentVisibilityAuto: false})).length",
            selector,
        )
        assert isinstance(found, int)
        return found

    def wait(self, text: str) -> None:
        """Until the filters say how much is shown."""
        driver = self.driver
        WebDriverWait(driver, SECONDS, 0.02).until(lambda _: driver.find_element(By.ID, "shown").text == text)

    def press(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    def focus(self) -> str:
        """What has the focus: "tag#id" or "tag[name]"."""
        found = self.ask(
            "document.activeElement.tagName.toLowerCase() + (document.activeElement.name ? `[${document.activeElement.name}]` : "
            "document.activeElement.id ? `#${document.activeElement.id}` : '')"
        )
        return str(found)

    def tab_to(self, focus: str, at_most: int = 60) -> None:
        """Press Tab until `focus` has the focus."""
        for _ in range(at_most):
            self.press(Keys.TAB)
            if self.focus() == focus:
                return
        pytest.fail(f"{focus} is not reached with {at_most} presses of Tab; the last is {self.focus()}")

    def complaints(self) -> list[str]:
        """What stands on the console: errors of scripts, and what the Content-Security-Policy refused."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program, driver_program = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver_program is None:
        pytest.skip("no Chromium here: install the packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # No sandbox: tests run as root in containers, and the pages are our own.
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_program))
    try:
        yield Browser(driver, tmp_path_factory.mktemp("page"))
    finally:
        driver.quit()


# --- a large report ---


def test_a_thousand_services_load_and_filter(browser: Browser) -> None:
    browser.open(large(SERVICES))
    print(f"loaded in {browser.took:.2f} s, {(browser.folder / 'page.html').stat().st_size:,} bytes")
    assert browser.took < SECONDS
    browser.wait("1,000 of 1,000 findings shown")
    driver = browser.driver
    code, namespace = (Select(driver.find_element(By.NAME, name)) for name in ("code", "namespace"))
    text = driver.find_element(By.NAME, "text")

    code.select_by_value("RA310")
    browser.wait("100 of 1,000 findings shown")
    namespace.select_by_value("ns-09")
    browser.wait("50 of 1,000 findings shown")
    assert browser.shown(".group") == browser.shown(".finding") == browser.shown("tr[data-group]") == 50
    text.send_keys("svc-00029 10.246.0.30:8080")
    browser.wait("1 of 1,000 findings shown")
    assert driver.find_element(By.CSS_SELECTOR, ".finding:not([hidden]) summary").text.startswith("warning RA310 altered-rule")
    text.send_keys(" nothing like it")
    browser.wait("0 of 1,000 findings shown")

    driver.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    browser.wait("1,000 of 1,000 findings shown")
    driver.find_element(By.CSS_SELECTOR, "input[value=error]").click()
    browser.wait("100 of 1,000 findings shown")
    driver.find_element(By.ID, "open").click()
    assert browser.ask("document.querySelectorAll('.finding[open]').length") == 100
    driver.find_element(By.ID, "close").click()
    assert browser.ask("document.querySelectorAll('.finding[open]').length") == 0
    assert browser.complaints() == []


def test_a_broken_node_of_a_thousand_services(browser: Browser, tmp_path: Path) -> None:
    subprocess.run([sys.executable, GENERATOR, "--services", str(SERVICES), "--endpoints", "3", tmp_path], check=True, timeout=60)
    dump = tmp_path / "iptables-save.txt"
    number = itertools.count()
    text = re.sub(
        r"(--to-destination) \S+",
        lambda found: f"{found[1]} 10.9.0.{at % 250}:99" if (at := next(number)) % 5 == 0 else found[0],
        dump.read_text(),
    )
    dump.write_text(text)
    page, report = tmp_path / "report.html", tmp_path / "report.json"
    words = ["check", str(tmp_path), "--quiet", "--output", str(page), "--output", str(report)]
    assert subprocess.run([sys.executable, "-m", "ruleaudit", *words], timeout=60).returncode == 1
    summary = json.loads(report.read_text())["summary"]
    assert summary["services"] == SERVICES + 1
    assert summary["codes"]["RA206"] > 500
    browser.open_file(page)
    print(f"loaded in {browser.took:.2f} s, {page.stat().st_size:,} bytes, {sum(summary['codes'].values())} findings")
    assert browser.took < SECONDS
    count = sum(number for code, number in summary["codes"].items() if code != "RA004")
    browser.wait(f"{count:,} of {count:,} findings shown")
    Select(browser.driver.find_element(By.NAME, "code")).select_by_value("RA206")
    browser.wait(f"{summary['codes']['RA206']:,} of {count:,} findings shown")
    assert browser.complaints() == []


def test_nodes_can_be_filtered(browser: Browser) -> None:
    browser.open(large(5, "node-a"), large(7, "node-b"), replace(USUAL, node="node-c"))
    browser.wait("12 of 12 findings shown")
    node = Select(browser.driver.find_element(By.NAME, "node"))
    for name, count in (("node-a", 5), ("node-b", 7), ("node-c", 5)):
        node.select_by_visible_text(name)
        browser.wait(f"{count} of 12 findings shown")


# --- the keyboard alone ---


def test_the_keyboard_is_enough(browser: Browser) -> None:
    browser.open(large(30))
    browser.press(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the findings"
    assert browser.shown(".skip") == 1
    browser.press(Keys.ENTER)
    browser.tab_to("input[severity]")
    browser.press(Keys.SPACE)
    browser.wait("3 of 30 findings shown")
    browser.tab_to("input[severity]", 1)
    browser.tab_to("select[code]", 1)
    browser.press("R")  # a select takes the first letters of an option
    browser.tab_to("select[namespace]", 1)
    browser.tab_to("input[text]", 1)
    browser.driver.find_element(By.CSS_SELECTOR, "button[type=reset]").send_keys(Keys.ENTER)
    browser.wait("30 of 30 findings shown")
    browser.driver.find_element(By.NAME, "text").send_keys("svc-00007")
    browser.wait("1 of 30 findings shown")
    browser.tab_to("summary", 4)
    assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert browser.shown(".finding .body") == 0
    browser.press(Keys.ENTER)
    assert browser.shown(".finding .body") == 1
    browser.press(Keys.SPACE)
    assert browser.shown(".finding .body") == 0


def test_the_table_leads_to_the_findings(browser: Browser) -> None:
    browser.open(large(30))
    link = browser.driver.find_elements(By.CSS_SELECTOR, "td.cell a")[4]
    group = str(link.get_attribute("href")).partition("#")[2]
    link.send_keys(Keys.ENTER)
    WebDriverWait(browser.driver, SECONDS, 0.02).until(lambda _: browser.ask("document.activeElement.tagName") == "SUMMARY")
    assert browser.ask("document.activeElement.closest('.group').id") == group
    assert browser.ask("document.activeElement.parentElement.open") is True
    top = browser.ask("document.activeElement.getBoundingClientRect().top")
    assert isinstance(top, int | float)
    assert 0 <= top < 900


def linked() -> Report:
    """A node with a cause in one namespace and what follows from it in another."""
    cause = Finding("RA208", "stale-reject", Severity.ERROR, "refuses", service="demo/np")
    follower = Finding("RA106", "missing-endpoint", Severity.ERROR, "gets nothing", service="other/web", cause=cause.fingerprint)
    return replace(large(12), findings=(cause, follower, *large(12).findings))


@pytest.mark.parametrize(
    ("filters", "cleared"),
    [
        pytest.param({"code": "RA106"}, "code", id="code"),
        pytest.param({"namespace": "other"}, "namespace", id="namespace"),
        pytest.param({"text": "gets nothing"}, "text", id="text"),
        pytest.param({"code": "RA106", "text": "nothing"}, "code, text", id="code and text"),
    ],
)
def test_a_link_leads_to_a_finding_that_the_filters_hide(browser: Browser, filters: dict[str, str], cleared: str) -> None:
    browser.open(linked())
    browser.wait("14 of 14 findings shown")
    for name, value in filters.items():
        browser.driver.find_element(By.NAME, name).send_keys(value)
    browser.wait("1 of 14 findings shown")
    summary = browser.driver.find_element(By.CSS_SELECTOR, ".finding:not([hidden]) summary")
    summary.click()
    browser.driver.find_element(By.LINK_TEXT, "RA208 stale-reject (demo/np)").send_keys(Keys.ENTER)
    browser.wait(f"14 of 14 findings shown; cleared to show this one: {cleared}")
    assert str(browser.ask("document.activeElement.textContent")).startswith("error RA208 ")
    assert browser.ask("document.activeElement.parentElement.open") is True
    browser.driver.find_element(By.LINK_TEXT, "RA106 missing-endpoint (other/web)").send_keys(Keys.ENTER)
    WebDriverWait(browser.driver, SECONDS, 0.02).until(
        lambda _: str(browser.ask("document.activeElement.textContent")).startswith("error RA106 ")
    )
    assert browser.complaints() == []


def test_a_severity_that_is_switched_off_is_switched_on_for_a_link(browser: Browser) -> None:
    report = linked()
    cause, follower, *rest = report.findings
    browser.open(replace(report, findings=(replace(cause, severity=Severity.WARNING), follower, *rest)))
    browser.driver.find_element(By.CSS_SELECTOR, "input[value=warning]").click()
    browser.wait("12 of 14 findings shown")
    browser.driver.find_element(By.ID, "open").click()
    browser.driver.find_element(By.LINK_TEXT, "RA208 stale-reject (demo/np)").send_keys(Keys.ENTER)
    browser.wait("14 of 14 findings shown; cleared to show this one: severity")


def test_a_link_that_is_followed_while_the_filters_wait_is_told(browser: Browser) -> None:
    browser.open(linked())
    browser.driver.execute_script("""
        const form = document.getElementById("filters");
        form.elements.code.value = "RA106";
        form.dispatchEvent(new Event("input"));
        form.elements.text.value = "nothing";
        location.hash = document.querySelector("[data-code=RA208]").id;
        form.dispatchEvent(new Event("input"));
    """)
    browser.wait("14 of 14 findings shown; cleared to show this one: code, text")
    time.sleep(0.2)  # longer than the filters wait
    browser.wait("14 of 14 findings shown; cleared to show this one: code, text")


def test_a_link_is_followed_again(browser: Browser) -> None:
    browser.open(linked())
    browser.driver.find_element(By.ID, "open").click()
    for _ in range(2):  # the second time the address of the page does not change
        browser.driver.find_element(By.LINK_TEXT, "RA208 stale-reject (demo/np)").send_keys(Keys.ENTER)
        WebDriverWait(browser.driver, SECONDS, 0.02).until(
            lambda _: str(browser.ask("document.activeElement.textContent")).startswith("error RA208 ")
        )


def test_what_scrolls_can_be_reached(browser: Browser) -> None:
    browser.open(USUAL, width=400)
    unreachable = """[...document.querySelectorAll("*")].filter((one) => {
        const overflow = getComputedStyle(one);
        return ["auto", "scroll"].includes(overflow.overflowX) && one.tabIndex < 0;
    }).length"""
    assert browser.ask(unreachable) == 0


# --- sizes and colours ---

CONTRAST = """
const number = (text) => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = (color) => {
  const [red, green, blue] = color.map((part) => part / 255).map((part) => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
  return .2126 * red + .7152 * green + .0722 * blue;
};
const behind = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const color = number(getComputedStyle(one).backgroundColor);
    if (color[3] === 255) return color;
  }
  return [255, 255, 255, 255];
};
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.checkVisibility() || ["SCRIPT", "OPTION"].includes(element.tagName)) continue;
  const drawn = element.tagName === "text";
  const box = drawn ? element.parentElement.querySelector("rect") : null;
  const paper = box && getComputedStyle(box).fill !== "none" ? number(getComputedStyle(box).fill) : behind(element.closest("svg") || element);
  const ink = number(drawn ? getComputedStyle(element).fill : getComputedStyle(element).color);
  const [low, high] = [light(ink), light(paper)].sort((a, b) => a - b);
  const ratio = (high + .05) / (low + .05);
  if (ratio < 4.5) found.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
}
return found;
"""


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_it_fits_and_is_readable(browser: Browser, width: int, scheme: str) -> None:
    browser.open(USUAL, replace(large(3), node="node-b"), width=width, scheme=scheme)
    browser.driver.find_element(By.ID, "open").click()
    assert browser.ask("innerWidth") == width
    assert browser.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0  # nothing sticks out
    assert browser.driver.execute_script(CONTRAST) == []
    paper = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (scheme == "light")
    small = "[...document.querySelectorAll('body *')].filter((one) => one.innerText && parseFloat(getComputedStyle(one).fontSize) < 11).length"
    assert browser.ask(small) == 0


@pytest.mark.parametrize("width", [400, 1400])
def test_drawings_hold_their_text(browser: Browser, width: int) -> None:
    browser.open(USUAL, replace(large(3), node="node-b"), hostile(HOSTILE_TEXTS["long"]), width=width)
    browser.driver.find_element(By.ID, "open").click()
    outside = """[...document.querySelectorAll(".drawing text")].filter((text) => {
        const one = text.getBBox(), box = text.parentElement.querySelector("rect").getBBox();
        return one.x < box.x || one.x + one.width > box.x + box.width || one.y < box.y || one.y + one.height > box.y + box.height;
    }).map((text) => text.textContent)"""
    crossing = """[...document.querySelectorAll(".drawing g")].filter((group) => {
        const boxes = [...group.querySelectorAll("text")].map((text) => text.getBBox());
        return boxes.some((a, i) => boxes.some((b, j) => i < j && a.x < b.x + b.width && b.x < a.x + a.width
            && a.y + 3 < b.y + b.height && b.y + 3 < a.y + a.height));
    }).map((group) => group.textContent)"""
    assert browser.ask("document.querySelectorAll('.drawing').length") != 0
    assert browser.ask(outside) == []
    assert browser.ask(crossing) == []


# --- names that would be more than names ---


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_names_are_inert(browser: Browser, text: str) -> None:
    browser.open(hostile(text), USUAL)
    assert browser.complaints() == []
    assert browser.ask("[document.scripts.length, document.images.length, document.styleSheets.length, frames.length]") == [
        1,
        0,
        1,
        0,
    ]
    assert browser.ask("performance.getEntriesByType('resource').length") == 0
    assert browser.ask("document.querySelectorAll('body, a[href^=\"#\"]').length") == browser.ask(
        "document.querySelectorAll('body, a').length"
    )
    browser.wait("8 of 8 findings shown")


def test_the_policy_refuses_what_gets_in_all_the_same(browser: Browser) -> None:
    browser.open(USUAL)
    browser.driver.execute_script(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.1:9/x\" onerror=\"window.owned = 1\">');"
        "const script = document.createElement('script'); script.textContent = 'window.owned = 2'; document.body.append(script);"
    )
    refused: list[str] = []

    def both_refused(_driver: object) -> bool:
        refused.extend(browser.complaints())
        return len(refused) >= 2

    WebDriverWait(browser.driver, SECONDS, 0.05).until(both_refused)
    assert browser.ask("window.owned") is None
    assert all("Content Security Policy" in one for one in refused)


# --- without the script, and on paper ---


def test_without_its_script_everything_is_there(browser: Browser) -> None:
    browser.open(large(30), script=False)
    try:
        assert browser.shown("#filters") == 0
        assert browser.shown(".finding summary") == 30
        browser.driver.find_elements(By.CSS_SELECTOR, ".finding summary")[3].click()
        assert browser.shown(".finding .body") == 1
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_paper_shows_closed_findings_and_no_filters(browser: Browser) -> None:
    browser.open(large(30), media="print")
    try:
        assert browser.shown("#filters") == 0
        assert browser.ask("document.querySelectorAll('.finding[open]').length") == 0
        assert browser.shown(".finding .body") == 30
    finally:
        browser.command("Emulation.setEmulatedMedia", media="", features=[])


SHEET = 794
"""The width of an A4 sheet in pixels; its margins take off some."""


@pytest.mark.parametrize("nodes", [1, 4, 5, 12, 13, 40])
def test_many_nodes_fit_on_a_sheet(browser: Browser, nodes: int) -> None:
    long = "ip-10-12-34-56.eu-central-1.compute.internal"
    reports = [replace(USUAL, node=f"{long}-{number}") for number in range(nodes)]
    browser.open(*reports, media="print", width=SHEET - 80)
    try:
        assert browser.shown(".matrix tbody td") > 0
        outside = "[...document.querySelectorAll('th, td, p')].filter((one) => one.getBoundingClientRect().right > innerWidth + 1).length"
        assert browser.ask(outside) == 0
    finally:
        browser.command("Emulation.setEmulatedMedia", media="", features=[])


def test_heads_of_narrow_columns_stand_upright_and_whole(browser: Browser) -> None:
    browser.open(*(replace(USUAL, node=f"node-{number}") for number in range(8)))
    sizes = browser.ask("[...document.querySelectorAll('.wide .node span')].map((one) => [one.offsetWidth, one.offsetHeight])")
    assert isinstance(sizes, list)
    assert len(sizes) == 8
    assert all(height > 1.5 * width for width, height in sizes)
