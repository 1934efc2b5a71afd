"""The way of a connection, as it is drawn."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from tests.reports.samples import HOSTILE_TEXTS, MISSING, STALE, hostile

from ruleaudit.findings import Finding, Location, Severity
from ruleaudit.forwarding import Frontend, FrontendKind
from ruleaudit.reports.drawing import boxes, drawing

FRONTEND = Frontend(FrontendKind.NODE_PORT, None, 30080, "TCP", 4)
PLAIN = Finding("RA300", "test", Severity.ERROR, "test", service="demo/np", port="http", frontend=FRONTEND)
PREROUTING, SERVICES, SPREAD, LEAF = STALE.locations


def told(finding: Finding) -> tuple[list[str], list[str]]:
    """Stations and ends as "title" or "title!mark"; a station that nothing leads to as "?title"."""
    stations, ends = boxes(finding)
    return tuple(  # type: ignore[return-value]
        [f"{'' if box.reached else '?'}{box.title}{box.mark and f'!{box.mark}'}" for box in each] for each in (stations, ends)
    )


@pytest.mark.parametrize(
    ("finding", "stations", "ends"),
    [
        pytest.param(
            STALE,
            ["client", "demo/np:http", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-4IIC"],
            ["10.244.99.99:8080!✕ not expected", "10.244.1.23:8080!✕ gets nothing", "10.244.2.25:8080!as expected"],
            id="an endpoint that is not expected",
        ),
        pytest.param(
            MISSING,
            ["client", "[fd00:10:96::5]:80/TCP"],
            ["untranslated!✕", "[fd00:10:244:1::38]:8080!✕ gets nothing"],
            id="no rule at all",
        ),
        pytest.param(
            replace(PLAIN, observed="untranslated", expected="to 10.0.0.1:80", locations=(PREROUTING,)),
            ["client", "node port 30080/TCP", "PREROUTING", "KUBE-SERVICES"],
            ["untranslated!✕", "10.0.0.1:80!✕ gets nothing"],
            id="nothing leads on from the chain that a rule leads to",
        ),
        pytest.param(
            replace(PLAIN, expected="rejected", observed="to 10.0.0.1:80, 10.0.0.2:80", locations=(PREROUTING, SERVICES)),
            ["client", "node port 30080/TCP", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-4IIC"],
            ["10.0.0.1:80!✕ not expected", "10.0.0.2:80!✕ not expected"],
            id="forwarded instead of refused",
        ),
        pytest.param(
            replace(PLAIN, expected="no rules", observed="10.96.1.8:80/TCP", locations=(SERVICES,)),
            ["client", "node port 30080/TCP", "KUBE-SERVICES", "KUBE-SVC-4IIC"],
            ["10.96.1.8:80/TCP!✕"],
            id="a frontend that should not be: it is no endpoint",
        ),
        pytest.param(
            replace(PLAIN, expected="affinity for 60 s; to 10.0.0.1:80", observed="none; to 10.0.0.1:80", locations=STALE.locations[:3]),
            ["client", "node port 30080/TCP", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-4IIC!✕ here"],
            ["10.0.0.1:80!as expected"],
            id="the same endpoints: the fault is in the last chain",
        ),
        pytest.param(
            replace(
                PLAIN,
                endpoint="10.1.2.3:80",
                expected="to 10.0.0.1:80",
                observed="to 10.1.2.3:80",
                locations=(Location("d", 9, "-A PREROUTING -p tcp -m tcp --dport 30080 -j DNAT --to-destination 10.1.2.3:80"), SERVICES),
            ),
            ["client", "node port 30080/TCP", "PREROUTING!✕ here"],
            ["10.1.2.3:80!✕ not expected", "10.0.0.1:80!✕ gets nothing"],
            id="a foreign rule takes the traffic",
        ),
        pytest.param(
            replace(PLAIN, expected="to 10.244.99.99:8080", observed="refused after translation",
                    locations=(Location("d", 27, "-A FORWARD -j SITE"), Location("d", 28, "-A SITE -d 10.0.0.0/8 -j DROP"), *STALE.locations)),
            ["client", "node port 30080/TCP", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-4IIC", "FORWARD", "SITE!✕ here"],
            ["refused after translation!✕", "10.244.99.99:8080!✕ gets nothing"],
            id="refused after translation",
        ),
        pytest.param(
            replace(PLAIN, expected="to 10.244.99.99:8080", observed="refused",
                    locations=(Location("d", 2, "-A PREROUTING -p tcp -j DROP"), *STALE.locations)),
            ["client", "node port 30080/TCP", "PREROUTING!✕ here", "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-4IIC"],
            ["refused!✕", "10.244.99.99:8080!✕ gets nothing"],
            id="refused before translation",
        ),
        pytest.param(
            replace(PLAIN, endpoint="10.0.0.9:80", expected="to 10.0.0.9:80", observed="none",
                    locations=(Location("d", 5, '-A KUBE-SVC-X -m comment --comment "demo/np:http -> 10.0.0.9:80" -j KUBE-SEP-Y'),)),
            ["client", "node port 30080/TCP", "?KUBE-SVC-X!✕ here"],
            ["none!✕", "10.0.0.9:80!✕ gets nothing"],
            id="a chain that nothing leads to",
        ),
        pytest.param(
            replace(PLAIN, observed="to " + ", ".join(f"10.0.0.{n}:80" for n in range(12)), expected=""),
            ["client", "node port 30080/TCP!✕ here"],
            [*(f"10.0.0.{n}:80" for n in range(8)), "and 4 more endpoints"],
            id="many endpoints",
        ),
        pytest.param(Finding("RA505", "stopped", Severity.ERROR, "stopped", observed="28 differences"), [], [], id="about the node"),
        pytest.param(Finding("RA701", "none", Severity.INFO, "none", service="demo/np"), [], [], id="about objects alone"),
        pytest.param(
            Finding("RA503", "left", Severity.WARNING, "left", locations=(Location("d", 1, ":KUBE-EXT-A - [0:0]"),)), [], [],
            id="lines that are no rules",
        ),
    ],
)  # fmt: skip
def test_boxes(finding: Finding, stations: list[str], ends: list[str]) -> None:
    assert told(finding) == (stations, ends)


def test_rules_that_lead_in_a_circle_end() -> None:
    loop = (Location("d", 1, "-A A -j B"), Location("d", 2, "-A B -j A"))
    assert told(replace(PLAIN, locations=loop))[0] == ["client", "node port 30080/TCP", "?B", "A!✕ here"]


def test_the_notes_name_the_lines() -> None:
    stations, ends = boxes(STALE)
    assert [box.note for box in stations[2:]] == [
        "line 354: -j KUBE-SERVICES",
        "line 894: -d 10.96.1.8/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-4IIC",
        "line 937: -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-J3QW",
    ]
    assert ends[0].note == "line 689: KUBE-SEP-J3QW"


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
