"""The way of a connection, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from tests.reports.samples import HOSTILE_TEXTS, MISSING, STALE, hostile

from ruleaudit.reports.drawing import drawing

if TYPE_CHECKING:
    from ruleaudit.findings import Finding


@pytest.mark.parametrize(
    "finding", [STALE, MISSING, *(one for text in HOSTILE_TEXTS.values() for one in hostile(text).findings[:1])]
)
def test_it_is_well_formed_and_says_what_it_shows(finding: Finding) -> None:
    root = ElementTree.fromstring(drawing(finding))
    assert {element.tag for element in root.iter()} <= {"svg", "g", "rect", "path", "text"}
    assert {name for element in root.iter() for name in element.attrib} <= {
        "class", "role", "aria-label", "viewBox", "width", "height", "x", "y", "rx", "d", "text-anchor",
    }  # fmt: skip
    assert (root.get("aria-label") or "").startswith("client, then ")


def test_the_spoken_text_names_the_fault() -> None:
    assert 'aria-label="client, then demo/np:http, then PREROUTING, ' in drawing(STALE)
    assert "10.244.99.99:8080 (not expected)" in drawing(STALE)
