"""The clauses of docs/semantics.md, the code that follows them and the tests that show them belong together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CLAUSE = re.compile(r"\*\*S(\d+) ")
# "S4 to S12" cites every clause between; "I-S8" is an invariant of KPR 17, no clause.
CITATION = re.compile(r"(?<![-\w])S(\d{1,2})(?: to S(\d{1,2}))?(?!\w)")


def clauses() -> list[int]:
    return [int(number) for number in CLAUSE.findall((ROOT / "docs" / "semantics.md").read_text())]


def cited(text: str) -> set[int]:
    return {number for first, last in CITATION.findall(text) for number in range(int(first), int(last or first) + 1)}


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_clauses_are_numbered_in_order() -> None:
    assert clauses() == list(range(1, len(clauses()) + 1))


@pytest.mark.parametrize("folder", ["src", "tests"])
def test_every_citation_is_of_a_clause(folder: str) -> None:
    known = set(clauses())
    strange = {
        str(path.relative_to(ROOT)): cited(path.read_text()) - known for path in python_files(folder) if path != Path(__file__)
    }
    assert {path: numbers for path, numbers in strange.items() if numbers} == {}


def test_every_clause_is_cited_where_it_is_followed() -> None:
    """A range ("S4 to S12") says what a module is about; the place that follows a clause names it alone."""
    alone = {int(first) for path in python_files("src") for first, last in CITATION.findall(path.read_text()) if not last}
    assert set(clauses()) - alone == set()


def test_every_clause_has_tests() -> None:
    """Cases by their ids, other tests of the evaluator by their docstrings."""
    folder = ROOT / "tests" / "dataplane"
    ids = {int(number) for number in re.findall(r"^== S(\d+)-", (folder / "evaluation.txt").read_text(), re.MULTILINE)}
    docstrings = cited("\n".join(re.findall(r'"""([^"]*)"""', (folder / "test_evaluation.py").read_text())))
    assert set(clauses()) - ids - docstrings == set()


def test_the_document_names_what_the_code_does() -> None:
    """The names and files in the document are there."""
    text = (ROOT / "docs" / "semantics.md").read_text()
    code = "\n".join(path.read_text() for path in python_files("src"))
    for name in re.findall(r"`(_[A-Z]+)`", text):
        assert name in code
