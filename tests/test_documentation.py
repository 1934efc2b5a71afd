"""The documents: that they are up to date is for scripts/documents.py; here programs run, pages are built, and the man page is read."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from ruleaudit.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_documents_runs(number: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[number]], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "10.244.2.25" in done.stdout or "10.244.99.99" in done.stdout


def test_every_page_can_be_reached() -> None:
    text = re.sub(r"!relative ", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = re.findall(r"[\w-]+\.md", str(yaml.safe_load(text)["nav"]))
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, as `make docs` builds them. Strict: a page that nothing leads to, a link or an anchor that leads nowhere, or a part of the README
    that is gone, fails.
    """
    if importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs-material is not installed (pip install '.[docs]')")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


def test_the_pages_are_whole_without_a_network(site: Path) -> None:
    codes = (site / "codes.html").read_text(encoding="utf-8")
    assert all(f'id="{code.lower()}-{entry.name}"' in codes for code, entry in CATALOGUE.items())
    assert "ruleaudit/expected/v1" in (site / "fixtures.html").read_text(encoding="utf-8")  # from the README
    for page in site.glob("*.html"):
        loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="?(https?://[^">\s]+)', page.read_text(encoding="utf-8"))
        assert not loaded, f"{page.name} is not whole without a network"


def test_pages_that_are_opened_as_files_are_searched(site: Path) -> None:
    program, driver_program = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver_program is None:
        pytest.skip("no Chromium here: install the packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,900"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_program))
    try:
        driver.get((site / "node.html").as_uri())
        field = driver.find_element(By.CSS_SELECTOR, "input.md-search__input")
        driver.execute_script("arguments[0].focus()", field)
        field.send_keys("stale-endpoint")
        found = WebDriverWait(driver, 30).until(
            lambda page: page.find_elements(By.CSS_SELECTOR, ".md-search-result__link[href*='ra206-stale-endpoint']")
        )
        assert found
    finally:
        driver.quit()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["mandoc", "-T", "lint"], id="mandoc"),
        pytest.param(["groff", "-man", "-T", "utf8", "-ww", "-z"], id="groff"),
    ],
)
def test_the_man_page_is_valid(words: list[str]) -> None:
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run([*words, "man/ruleaudit.1"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout + done.stderr == ""


def test_the_man_page_is_read_as_it_was_meant() -> None:
    """Lines that must not be wrapped, and characters that roff takes for its own."""
    program = shutil.which("mandoc")
    if program is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(
        [program, "-T", "ascii", "-O", "width=200", "man/ruleaudit.1"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    text = re.sub(r".\x08", "", done.stdout)
    assert "iptables-save | ruleaudit check --objects objects.json --node node-a\n" in text
    assert "`ruleaudit check`" in text
    description = re.sub(r"\s+", " ", text.partition("DESCRIPTION")[2].partition("OPTIONS")[0])
    assert (
        "reads the rules of a node (iptables-save, or ipvsadm and ipset in IPVS mode) and the objects of its cluster"
        in description
    )
    statuses = text.partition("EXIT STATUS")[2].partition("ENVIRONMENT")[0]
    for command in ("check", "collect", "lint", "trace", "other commands"):
        assert re.search(rf"^ +{command}\s+0 ", statuses, re.MULTILINE), command
    assert "Exit status: 0 nothing at or above --fail-on, 1 findings, 2 usage, unreadable or unrecognised input." in text
