"""expected.json: what it may say, what is made of it, and how it is written."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from ruleaudit.errors import InputError
from ruleaudit.findings import Finding, Severity
from ruleaudit.lint.expectation import Entry, Expected, compared, expected_text, read_expected

if TYPE_CHECKING:
    from pathlib import Path

STALE = Finding("RA206", "stale-endpoint", Severity.ERROR, "to .9", service="demo/web", port="http", endpoint="10.0.0.9:80")
HOOK = Finding("RA108", "missing-hook", Severity.ERROR, "no hook", subject="nat PREROUTING")
NOTE = Finding("RA209", "orphan-chain", Severity.INFO, "orphan", subject="KUBE-SVC-X")
EVERY = [STALE, HOOK, NOTE]


def read(path: Path, document: object) -> Expected:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    found = read_expected(path, "f/expected.json")
    assert found is not None
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "expected.json"


def expected(**parts: object) -> dict[str, object]:
    return {"schema": "ruleaudit/expected/v1", **parts}


BOTH = [{"code": "RA206"}, {"code": "RA108"}]


@pytest.mark.parametrize(
    ("document", "left", "unmet"),
    [
        (expected(), ["RA206", "RA108", "RA209"], []),
        (expected(found=BOTH), ["RA209"], []),
        (expected(found=[*BOTH, {"code": "RA209"}]), [], []),
        (expected(found=[{"code": "stale-endpoint", "service": "demo/web"}]), ["RA108", "RA209"], []),
        (expected(found=[{"code": "RA206", "port": "http", "endpoint": "10.0.0.9:80"}]), ["RA108", "RA209"], []),
        (expected(found=[{"code": "RA108", "service": None}]), ["RA206", "RA209"], []),
        (
            expected(found=[*BOTH, {"code": "RA206", "service": "demo/other"}]),
            ["RA209"],
            ["RA206 of demo/other (stale-endpoint) must be found, and is not"],
        ),
        (
            expected(found=[*BOTH, {"code": "RA206", "service": None}]),
            ["RA209"],
            ["RA206 of no Service (stale-endpoint) must be"],
        ),
        (
            expected(found=[*BOTH, {"code": "RA206", "endpoint": "x"}]),
            ["RA209"],
            ["RA206 with endpoint x (stale-endpoint) must be"],
        ),
        (expected(others="allowed"), ["RA209"], []),
        (expected(others="allowed", found=[{"code": "RA101"}]), ["RA209"], ["RA101 (missing-service) must be found"]),
        (expected(found=BOTH, absent=[{"code": "RA3"}, {"service": "demo/other"}]), ["RA209"], []),
        (
            expected(found=BOTH, absent=[{"code": "RA2"}]),
            ["RA209"],
            ["RA2 must not be found, and is: RA206 stale-endpoint: to .9 and 1 other finding"],
        ),
        (
            expected(found=BOTH, absent=[{"service": "demo/web"}]),
            ["RA209"],
            ["any finding of demo/web must not be found, and is: RA206"],
        ),
    ],
)
def test_what_is_expected(path: Path, document: object, left: list[str], unmet: list[str]) -> None:
    kept, met = compared(EVERY, read(path, document))
    failed = [one for one in kept if one.code == "RA013"]
    assert [one.code for one in kept if one.code != "RA013"] == left
    assert len(failed) == len(unmet)
    for one, message in zip(failed, unmet, strict=True):
        assert one.message.startswith(message)
        assert one.severity is Severity.ERROR
    assert {one.finding.code for one in met} == {"RA206", "RA108", "RA209"} - set(left)
    assert all(one.by == "expected" for one in met)


@pytest.mark.parametrize(
    ("entry", "near"),
    [
        ({"code": "RA206", "service": "demo/wbe"}, "; did you mean demo/web?"),
        ({"code": "RA206", "service": "dmo/web"}, "; did you mean demo/web?"),
        ({"code": "RA701", "service": "demo/emtpy"}, "; did you mean demo/empty?"),
        ({"code": "RA206", "service": "demo/web", "endpoint": "10.0.0.8:80"}, "; did you mean 10.0.0.9:80?"),
        ({"code": "RA206", "service": "demo/web", "port": "htp"}, "; did you mean http?"),
        ({"code": "RA701", "service": "demo/web"}, ""),
        ({"code": "RA206", "service": "demo/zzzzzzz"}, ""),
        ({"code": "RA206", "service": None}, ""),
    ],
)
def test_near_matches_of_what_is_not_found(path: Path, entry: dict[str, str | None], near: str) -> None:
    kept, _ = compared(EVERY, read(path, expected(found=[entry], others="allowed")), ["demo/empty", "demo/web"])
    assert kept[0].message.endswith(f"and is not{near}")


def test_lines_and_reasons_are_named(path: Path) -> None:
    text = '{"schema": "ruleaudit/expected/v1",\n "found": [\n  {"code": "RA206", "service": "demo/web", "reason": "by hand"},\n'
    found = read(path, text + '  {"code": "RA101"}]}')
    assert [one.line for one in found.found] == [3, 4]
    kept, met = compared(EVERY, found)
    assert (met[0].reason, met[0].place) == ("by hand", "f/expected.json:3")
    assert kept[0].locations[0].line == 4


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", r":1: is no JSON"),
        ("[]", r": has no schema ruleaudit/expected/v1"),
        ({"schema": "ruleaudit/expected/v2"}, r": has no schema"),
        (expected(fund=[]), r": there is no key 'fund'; did you mean found\?"),
        (expected(zzz=[]), r": there is no key 'zzz'; there are schema, found, absent, others"),
        (expected(others="maybe"), r": others is 'maybe', neither refused nor allowed"),
        (expected(found={}), r": found is no list"),
        (expected(found=["RA206"]), r": found\[0\] is no object"),
        (expected(found=[{"code": "RA206"}, {"code": "RA777"}]), r": found\[1\]: there is no code 'RA777'"),
        (expected(found=[{"code": "RA206", "servce": "x"}]), r": there is no key of found\[0\] 'servce'; did you mean service\?"),
        (expected(found=[{"code": "RA206", "service": 3}]), r": found\[0\]: service is 3, no text"),
        (expected(found=[{"code": None}]), r": found\[0\]: code is None, no text"),
        (expected(found=[{"reason": "x"}]), r": found\[0\] names neither a code nor a place"),
        (expected(found=[{"code": "RA2"}]), r":1: found\[0\] has no whole code such as RA206"),
        (expected(found=[{"service": "a/b"}]), r":1: found\[0\] has no whole code"),
        (expected(absent=[{}]), r": absent\[0\] names neither"),
    ],
)
def test_what_is_refused(path: Path, document: object, message: str) -> None:
    with pytest.raises(InputError, match="^f/expected.json" + message):
        read(path, document)


def test_none_is_none(path: Path) -> None:
    assert read_expected(path, "x") is None
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(InputError, match="is no JSON"):
        read_expected(path, "x")
    with pytest.raises(InputError, match="cannot be read"):
        read_expected(path.parent, "x")


def test_what_is_written_is_met(path: Path) -> None:
    text = expected_text(EVERY, None)
    assert text == expected_text(EVERY[::-1], None)
    assert [one["code"] for one in json.loads(text)["found"]] == ["RA108", "RA206"]
    kept, _ = compared(EVERY, read(path, text))
    assert kept == [NOTE]


def test_what_was_written_by_hand_stays(path: Path) -> None:
    before = Expected(
        "x",
        (Entry("RA206", {"service": "demo/web"}, "by hand"), Entry("RA209", {}, "on purpose"), Entry("RA101", {})),
        (Entry("RA3", {}, "never"), Entry("", {"service": "demo/other"})),
        "allowed",
    )
    found = read(path, expected_text(EVERY, before))
    assert [(one.code, one.reason) for one in found.found] == [("RA108", ""), ("RA206", "by hand"), ("RA209", "on purpose")]
    assert [(str(one), one.reason) for one in found.absent] == [("RA3", "never"), ("any finding of demo/other", "")]
    assert found.others == "allowed"
    assert re.fullmatch(r'(\{\n)(  ".*\n|    \{.*\n|  \],?\n)+\}\n', path.read_text())
