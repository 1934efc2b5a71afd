"""The configuration: where it is found, what it may say, and how what it may not say is refused."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from ruleaudit.configuration import Configuration, Ignore, find_configuration, read_configuration
from ruleaudit.errors import InputError
from ruleaudit.findings import Finding, Severity

WHOLE = """
select = ["RA1", "stale-endpoint"]
ignore = ["ra209"]
service = ["demo/web"]
namespace = ["demo"]
fail-on = "error"
format = "json"
output = ["report.sarif", "junit:out/results", "-"]
baseline = "known.json"
exit-zero = true
strict-coverage = false
group-by = "code"
statistics = true
limit-factor = 3
quiet = true
color = "never"

[[ignores]]
codes = ["RA301", "RA2"]
service = "demo/web"
reason = "by design"
until = 2027-01-31

[[ignores]]
codes = ["wrong-service"]
node = "node-*"
namespace = "ci"
reason = "being moved"
"""
OPTIONS = {
    "select": ("RA1", "RA206"),
    "ignore": ("RA209",),
    "services": ("demo/web",),
    "namespaces": ("demo",),
    "fail_on": "error",
    "format_": "json",
    "outputs": ("report.sarif", "junit:out/results", "-"),
    "baseline": "known.json",
    "exit_zero": True,
    "strict_coverage": False,
    "group_by": "code",
    "statistics": True,
    "limit_factor": 3,
    "quiet": True,
    "color": "never",
}
IGNORES = (
    Ignore(("RA301", "RA2"), "by design", service="demo/web", until=date(2027, 1, 31), place="ruleaudit.toml:18"),
    Ignore(("RA301",), "being moved", node="node-*", namespace="ci", place="ruleaudit.toml:24"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str, name: str = "ruleaudit.toml") -> Configuration:
    Path(name).write_text(text)
    return read_configuration(Path(name))


def test_every_key() -> None:
    found = read(WHOLE)
    assert dict(found.options) == OPTIONS
    assert found.ignores == IGNORES
    assert found.path == "ruleaudit.toml"


def test_the_same_in_a_pyproject() -> None:
    text = '[project]\nname = "x"\nselect = 1\n\n[tool.ruleaudit]' + WHOLE.replace("[[ignores]]", "[[tool.ruleaudit.ignores]]")
    found = read(text, "pyproject.toml")
    assert dict(found.options) == OPTIONS
    assert [one.place for one in found.ignores] == ["pyproject.toml:22", "pyproject.toml:28"]


def test_paths_are_relative_to_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "ruleaudit.toml").write_text(WHOLE)
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    path = find_configuration(Path.cwd())
    assert path == folder / "ruleaudit.toml"
    options = read_configuration(path).options
    assert options["outputs"] == ("../report.sarif", "junit:../out/results", "-")
    assert options["baseline"] == "../known.json"


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, None),
        ({"ruleaudit.toml": ""}, "ruleaudit.toml"),
        ({"pyproject.toml": "[tool.ruff]"}, None),
        ({"pyproject.toml": "[tool.ruleaudit]"}, "pyproject.toml"),
        ({"pyproject.toml": "[tool.ruleaudit"}, "pyproject.toml"),
        ({"pyproject.toml": "# ruleaudit\n[tool"}, None),
        ({"ruleaudit.toml": "", "pyproject.toml": "[tool.ruleaudit]"}, "ruleaudit.toml"),
        ({"ruleaudit.toml": "", "a/pyproject.toml": "[tool.ruleaudit]"}, "a/pyproject.toml"),
        ({"ruleaudit.toml": "", "a/pyproject.toml": "[project]"}, "ruleaudit.toml"),
        ({"a/b/ruleaudit.toml": "", "a/ruleaudit.toml": ""}, "a/b/ruleaudit.toml"),
        ({"a/b/c/ruleaudit.toml": ""}, None),
    ],
)
def test_the_nearest_counts(folder: Path, files: dict[str, str], wanted: str | None) -> None:
    (folder / "a" / "b" / "c").mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    assert find_configuration(folder / "a" / "b") == (None if wanted is None else folder / wanted)


IGNORE = '[[ignores]]\ncodes = ["RA2"]\nreason = "x"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nfail-on = x", r":2: is no TOML: "),
        ("\nfail-on = ", r":2: is no TOML: "),
        ('\nselct = ["RA1"]', r":2: there is no option 'selct'; did you mean select\?"),
        ('fail_on = "error"', r":1: there is no option 'fail_on'; did you mean fail-on\?"),
        ("[zzz]", r":1: there is no option 'zzz'; there are select, ignore, "),
        ("\nselect = 'RA1'", r":2: select is no list of texts"),
        ("select = [1]", r":1: select is no list of texts"),
        ('select = ["RA777"]', r":1: select: there is no code 'RA777'"),
        ('fail-on = "warn"', r":1: fail-on is 'warn', none of info, warning, error; did you mean warning\?"),
        ("fail-on = 1", r":1: fail-on is 1, none of"),
        ('format = "jsn"', r":1: format is 'jsn', none of .*; did you mean json\?"),
        ('group-by = "codes"', r":1: group-by is 'codes', none of service, code, node; did you mean code\?"),
        ('color = "no"', r":1: color is 'no', none of auto, always, never"),
        ('exit-zero = "yes"', r":1: exit-zero is neither true nor false: 'yes'"),
        ("limit-factor = 0", r":1: limit-factor is no number from 1 to 1000: 0"),
        ("limit-factor = true", r":1: limit-factor is no number"),
        ('service = ["web"]', r":1: service: 'web' is no NAMESPACE/NAME"),
        ("baseline = 3", r":1: baseline is no text: 3"),
        ('output = ["jsn:x"]', r":1: output: jsn:x: .*did you mean json:x\?"),
        ('\noutput = ["report.foo"]', r":2: output: report.foo: the ending .foo names no format"),
        ("\n[[ignore]]\ncodes = ['RA2']\nreason = 'x'", r":2: ignore is a list of codes .*; did you mean \[\[ignores\]\]\?"),
        ("[ignore]\ncodes = ['RA2']", r":1: ignore is a list of codes .*; did you mean \[\[ignores\]\]\?"),
        ("ignores = 1", r":1: ignores is no list of tables; write each as \[\[ignores\]\]"),
        ("[ignores]\nRA2 = 'x'", r":1: ignores is no list of tables"),
        (IGNORE + "\n[[ignores]]\nreason = 'x'", r":5: this ignore has no codes: say which"),
        ("[[ignores]]\ncodes = ['RA2']", r":1: this ignore has no reason: say why"),
        (IGNORE + "untl = 2027-01-01", r":4: there is no key of an ignore 'untl'; did you mean until\?"),
        (IGNORE + "until = '2027-01-01'", r":4: until is no date such as 2027-01-31 \(without quotes\)"),
        (IGNORE + "until = 2027-01-01T00:00:00", r":4: until is no date"),
        (IGNORE + "service = 'web'", r":4: service 'web' is no NAMESPACE/NAME"),
        (IGNORE + "node = 3", r":4: node is no text: 3"),
        (IGNORE + "[[ignores]]\ncodes = ['RA2']\nreason = ' '", r":6: reason is no text: ' '"),
        (IGNORE + "[[ignores]]\nreason = 'x'\ncodes = ['RA777']", r":6: codes: there is no code 'RA777'"),
        ("[[ignores]]\ncodes = []\nreason = 'x'", r":2: codes is empty"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^ruleaudit.toml{message}"):
        read(text)


def test_an_output_whose_name_says_nothing_is_of_the_format_that_the_file_names() -> None:
    assert read('format = "json"\noutput = ["report.foo"]').options["outputs"] == ("report.foo",)


def test_what_is_no_file_or_no_text(folder: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read: No such file"):
        read_configuration(folder / "absent.toml")
    (folder / "ruleaudit.toml").write_bytes(b"# one\nfail-on = '\xff'")
    with pytest.raises(InputError, match=r":2: is no UTF-8 \(byte 17\)"):
        read_configuration(folder / "ruleaudit.toml")
    (folder / "ruleaudit.toml").write_bytes(b"#" * (1 << 20) + b"##")
    with pytest.raises(InputError, match=r"is larger than"):
        read_configuration(folder / "ruleaudit.toml")
    with pytest.raises(InputError, match=r"holds no \[tool\.ruleaudit\]"):
        read("[project]", "pyproject.toml")
    with pytest.raises(InputError, match=r"ruleaudit is no table"):
        read("[tool]\nruleaudit = 1", "pyproject.toml")


def finding(code: str = "RA206", service: str | None = "demo/web", node: str | None = None) -> Finding:
    return Finding(code, "x", Severity.ERROR, "m", node=node, service=service)


@pytest.mark.parametrize(
    ("ignore", "covered", "one"),
    [
        (Ignore(("RA206",), "r"), True, finding()),
        (Ignore(("RA2",), "r"), True, finding()),
        (Ignore(("RA1", "RA3"), "r"), False, finding()),
        (Ignore(("RA2",), "r", service="demo/web"), True, finding()),
        (Ignore(("RA2",), "r", service="demo/web"), False, finding(service="demo/web2")),
        (Ignore(("RA2",), "r", service="demo/web"), False, finding(service=None)),
        (Ignore(("RA2",), "r", service="demo/w*"), True, finding()),
        (Ignore(("RA2",), "r", namespace="demo"), True, finding()),
        (Ignore(("RA2",), "r", namespace="dem"), False, finding()),
        (Ignore(("RA2",), "r", namespace="demo"), False, finding(service=None)),
        (Ignore(("RA2",), "r", node="node-a"), True, finding(node="node-a")),
        (Ignore(("RA2",), "r", node="node-r"), True, finding()),
        (Ignore(("RA2",), "r", node="node-r"), False, finding(node="node-a")),
        (Ignore(("RA2",), "r", node="node-r", namespace="other"), False, finding()),
    ],
)
def test_what_an_ignore_covers(ignore: Ignore, covered: bool, one: Finding) -> None:
    assert ignore.covers(one, "node-r") is covered
