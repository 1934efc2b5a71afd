"""What does not count: ignores and baselines, what they leave, and what is said of them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from ruleaudit import cli
from ruleaudit.baseline import Baseline, baseline_text, read_baseline
from ruleaudit.configuration import Ignore
from ruleaudit.errors import InputError
from ruleaudit.findings import Finding, Location, ProxySummary, Report, Severity
from ruleaudit.suppressions import Aside, put_aside

TODAY = date(2026, 6, 1)
STALE = Finding("RA206", "stale-endpoint", Severity.ERROR, "leads to .9", service="demo/web", endpoint="10.0.0.9:80")
OTHER = Finding("RA206", "stale-endpoint", Severity.ERROR, "leads to .8", service="demo/web", endpoint="10.0.0.8:80")
HOOK = Finding("RA108", "missing-hook", Severity.ERROR, "no hook", subject="nat PREROUTING")
NOTE = Finding("RA701", "no-matching-pod", Severity.INFO, "no pod", service="demo/none")


def report(*findings: Finding, node: str | None = "node-a") -> Report:
    return Report(node, (), ProxySummary(), 2, 2, 2, findings, ("demo/none", "demo/web"))


def aside(found: Report, *ignores: Ignore, baseline: Baseline | None = None) -> Aside:
    return put_aside([found], ignores, baseline, TODAY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "known.json"


def written(path: Path, *reports: Report, threshold: Severity = Severity.WARNING, before: Baseline | None = None) -> Baseline:
    path.write_text(baseline_text(reports, threshold, before))
    return read_baseline(str(path))


# --- ignores ---


def test_an_ignored_finding_does_not_count_and_is_not_lost() -> None:
    done = aside(report(STALE, HOOK), Ignore(("RA206",), "by design", service="demo/web", place="r.toml:3"))
    (left,) = done.reports
    assert left.findings == (HOOK,)
    assert [(one.finding, one.by, one.reason, one.place) for one in left.suppressed] == [
        (STALE, "ignore", "by design", "r.toml:3")
    ]
    assert done.notices == ("1 finding ignored by r.toml:3: by design",)


@pytest.mark.parametrize(
    ("ignore", "notice"),
    [
        (Ignore(("RA301",), "r", place="r.toml:3"), "r.toml:3: the ignore of RA301 covers no finding: delete it, or correct it"),
        (
            Ignore(("RA206",), "r", service="demo/wep", place="r.toml:3"),
            ".*there is no Service demo/wep .*did you mean demo/web?",
        ),
        (Ignore(("RA206",), "r", service="x/*", place="r.toml:3"), "r.toml:3: .* for service x/. covers no .*, or correct it"),
        (Ignore(("RA301",), "r", node="node-a", place="r"), "r: the ignore of RA301 for node node-a covers no finding.*"),
        (Ignore(("RA301",), "r", node="node-b"), None),
        (Ignore(("RA206",), "r", until=TODAY, place="r"), "1 finding ignored by r: r"),
        (
            Ignore(("RA206",), "old", until=date(2026, 5, 31), place="r"),
            "r: the ignore of RA206 ended on 2026-05-31 and no longer applies .old.",
        ),
    ],
)
def test_what_is_said_of_an_ignore(ignore: Ignore, notice: str | None) -> None:
    done = aside(report(STALE), ignore)
    assert len(done.notices) == (notice is not None)
    assert all(re.fullmatch(str(notice).replace("?", r"\?"), one) for one in done.notices), done.notices
    assert bool(done.reports[0].suppressed) is (notice or "").startswith("1 finding ignored")


# --- baselines ---


def test_known_findings_do_not_count_and_new_ones_do(path: Path) -> None:
    done = aside(report(STALE, OTHER), baseline=written(path, report(STALE)))
    assert done.reports[0].findings == (OTHER,)
    assert [(one.finding, one.by) for one in done.reports[0].suppressed] == [(STALE, "baseline")]
    assert done.notices == (f"1 known finding in the baseline {path}",)


def test_a_new_dump_is_known_again(path: Path) -> None:
    """Other lines, another file, another message."""
    later = replace(STALE, message="sends 50%", locations=(Location("other", 7, "-A x"),), observed="x", hint="h")
    assert aside(report(later), baseline=written(path, report(STALE))).reports[0].findings == ()


def test_another_node_is_not_known(path: Path) -> None:
    known = written(path, report(STALE))
    done = aside(report(STALE, node="node-b"), baseline=known)
    assert done.reports[0].findings == (STALE,)
    assert done.notices == ()  # that node-a's is not here says nothing
    assert aside(report(STALE, node=None), baseline=written(path, report(STALE, node=None))).reports[0].findings == ()


def test_gone_findings_are_said(path: Path) -> None:
    done = aside(report(STALE), baseline=written(path, report(STALE, HOOK)))
    assert done.notices == (
        f"1 known finding in the baseline {path}",
        f"1 finding of the baseline {path} is gone: RA108 on node-a; --write-baseline writes it anew",
    )


V6 = replace(STALE, endpoint="[fd00::9]:80")
MARK = Finding("RA401", "missing-mark", Severity.ERROR, "no mark", service="demo/web", endpoint="10.0.0.9:80")
VIP = Finding("RA111", "missing-address", Severity.ERROR, "no address", service="demo/web", endpoint="10.0.0.9:80")
ODD = Finding("RA703", "odd-object", Severity.WARNING, "odd", service="demo/web")


def unread(code: str, subject: str) -> Finding:
    return Finding(code, "not-checked", Severity.INFO, "not checked", subject=subject)


@pytest.mark.parametrize(
    ("said", "unchecked"),
    [
        pytest.param(unread("RA004", "dump"), [STALE, V6, HOOK, MARK, VIP], id="no dump"),
        pytest.param(unread("RA004", "family 4"), [STALE, HOOK, MARK, VIP], id="no IPv4 dump"),
        pytest.param(unread("RA004", "nat 6"), [V6, HOOK], id="no nat table of IPv6"),
        pytest.param(unread("RA004", "cut filter 6"), [V6, HOOK], id="a cut table of IPv6"),
        pytest.param(unread("RA004", "objects"), [STALE, V6, HOOK, MARK, VIP, ODD], id="no objects"),
        pytest.param(unread("RA004", "absent pods"), [ODD], id="no Pods"),
        pytest.param(unread("RA004", "virtual servers 4"), [STALE, HOOK, MARK, VIP], id="no virtual servers"),
        pytest.param(unread("RA004", "rules 4"), [HOOK, MARK], id="no rules beside virtual servers"),
        pytest.param(unread("RA004", "kube-ipvs0 4"), [VIP], id="no addresses"),
        pytest.param(unread("RA001", "a line"), [STALE, V6, HOOK, MARK, VIP, ODD], id="a line that is none"),
        pytest.param(unread("RA002", "partial nat"), [STALE, V6, HOOK, MARK, VIP, ODD], id="a part of a dump"),
        pytest.param(unread("RA005", "node IPv6"), [V6, HOOK], id="no rules of IPv6"),
        pytest.param(unread("RA005", "node"), [STALE, V6, HOOK, MARK, VIP], id="no rules"),
        pytest.param(unread("RA004", "node"), [], id="no name, which it had not before, either"),
        pytest.param(unread("RA004", "release 4"), [VIP], id="no release"),
        pytest.param(unread("RA004", "conntrack file"), [], id="something that is not looked at"),
    ],
)
def test_what_was_not_checked_is_not_gone(path: Path, said: Finding, unchecked: list[Finding]) -> None:
    every = (STALE, V6, HOOK, MARK, VIP, ODD)
    for one in every:
        (notice,) = aside(report(said), baseline=written(path, report(one))).notices
        assert ("was not checked now" in notice, "is gone" in notice) == (one in unchecked, one not in unchecked), one


def test_what_was_not_checked_stays_in_the_baseline(nodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(nodes / "changed-destination", tmp_path / "t")
    known = str(tmp_path / "known.json")
    assert cli.main(["check", str(tmp_path / "t"), "--write-baseline", known]) == 0
    before = Path(known).read_text()
    entries = json.loads(before)["findings"]
    assert entries
    objects = next(str(one) for one in (tmp_path / "t").iterdir() if one.name.startswith("objects.json"))
    capsys.readouterr()
    for inputs in ([objects], [objects, str(tmp_path / "t" / "ip6tables-save.txt")]):
        cli.main(["check", *inputs, "--node", "node-a", "--baseline", known, "--write-baseline", known])
        said = capsys.readouterr().out
        assert f"{len(entries)} finding of the baseline {known} was not checked now: RA206" in said
        assert "is gone" not in said
        assert Path(known).read_text() == before


def test_nodes_of_one_name_are_one_of_the_baseline(path: Path) -> None:
    known = written(path, report(STALE, HOOK))
    done = put_aside([report(), report(STALE), report()], (), known, TODAY)
    assert done.notices[1:] == (f"1 finding of the baseline {path} is gone: RA108 on node-a; --write-baseline writes it anew",)
    done = put_aside([report(STALE), report(unread("RA004", "dump"))], (), known, TODAY)
    assert done.notices[1:] == (f"1 finding of the baseline {path} was not checked now: RA108 on node-a",)


@pytest.mark.parametrize("endpoint", ["", "nowhere", "10.0.0.9", "fd00::9", ":"])
def test_an_endpoint_of_the_file_may_be_any_text(path: Path, endpoint: str) -> None:
    known = written(path, report(replace(STALE, endpoint=endpoint)))
    assert "was not checked now" in aside(report(unread("RA004", "family 6")), baseline=known).notices[0]


def test_as_many_are_known_as_there_were(path: Path) -> None:
    again = replace(HOOK, message="other")
    done = aside(report(HOOK, again), baseline=written(path, report(HOOK)))
    assert done.reports[0].findings == (again,)
    assert aside(report(HOOK, again), baseline=written(path, report(HOOK, again))).reports[0].findings == ()


def test_an_ignored_finding_is_not_new_in_the_baseline(path: Path) -> None:
    done = aside(report(STALE), Ignore(("RA206",), "r", place="r"), baseline=written(path, report(STALE)))
    assert [one.by for one in done.reports[0].suppressed] == ["ignore"]
    assert done.notices == ("1 finding ignored by r: r",)


def test_the_file_is_stable_and_holds_what_counts(path: Path) -> None:
    text = baseline_text([report(HOOK, NOTE, STALE)], Severity.WARNING, None)
    assert text == baseline_text([report(STALE, HOOK, NOTE)], Severity.WARNING, None)
    assert [one["code"] for one in json.loads(text)["findings"]] == ["RA108", "RA206"]
    assert "RA701" in baseline_text([report(NOTE)], Severity.INFO, None)
    assert baseline_text([report(NOTE)], Severity.ERROR, None) == '{"schema": "ruleaudit/baseline/v1", "findings": []}\n'


def test_reasons_and_other_nodes_stay(path: Path) -> None:
    before = written(path, report(STALE, HOOK), report(STALE, node="node-b"))
    path.write_text(path.read_text().replace('"message": "leads to .9"}', '"message": "leads to .9", "reason": "known"}', 1))
    after = written(path, report(STALE), before=read_baseline(str(path)))
    assert sorted((one.node, one.code, one.reason) for one in after.entries.values()) == [
        ("node-a", "RA206", "known"),
        ("node-b", "RA206", ""),
    ]
    assert len(before.entries) == 3
    assert aside(report(STALE), baseline=after).reports[0].suppressed[0].reason == "known"


ENTRY = '{"node": "n", "code": "RA1", "fingerprint": "f"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: is no JSON"),
        ("{\n]", ":2: is no JSON"),
        ("[]", ": is no baseline of ruleaudit"),
        ('{"schema": "ruleaudit/report/v1", "findings": []}', ": is no baseline"),
        ('{"schema": "ruleaudit/baseline/v1", "findings": {}}', ": is no baseline"),
        ("[1]", ": finding 1 is no object"),
        (f"[{ENTRY}}}, {{}}]", ": finding 2: node is None, no text"),
        (f'[{ENTRY}, "reasn": "x"}}]', r": finding 1 has an unknown key 'reasn'; did you mean reason\?"),
        (f'[{ENTRY}, "count": 0}}]', ": finding 1: count is 0, no number of findings"),
        (f'[{ENTRY}, "service": 3}}]', ": finding 1: service is 3, no text"),
    ],
)
def test_what_is_no_baseline(path: Path, text: str, message: str) -> None:
    path.write_text(
        '{"schema": "ruleaudit/baseline/v1", "findings": ' + text + "}" if text.startswith("[") and text != "[]" else text
    )
    with pytest.raises(InputError, match=re.escape(str(path)) + message):
        read_baseline(str(path))


def test_a_missing_baseline_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(InputError, match="there is no such baseline; --write-baseline writes one"):
        read_baseline(str(path))


# --- the command ---


@pytest.fixture
def broken(nodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(nodes / "changed-destination")


def test_a_baseline_is_written_and_read(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", broken, "--write-baseline", "known.json"]) == 0
    assert cli.main(["check", broken, "--baseline", "known.json", "--quiet"]) == 0
    capsys.readouterr()
    assert cli.main(["check", broken, "--baseline", "known.json", "--output", "r.sarif"]) == 0
    assert "1 known finding in the baseline known.json" in capsys.readouterr().err
    run = json.loads(Path("r.sarif").read_text())["runs"][0]
    assert "RA206" not in {one["ruleId"] for one in run["results"]}
    assert run["properties"]["suppressed"] == [{"by": "baseline", "reason": "", "place": "known.json", "findings": 1}]
    assert cli.main(["check", broken, "--baseline", "known.json", "--write-baseline", "again.json"]) == 0
    assert Path("again.json").read_text() == Path("known.json").read_text()


@pytest.mark.parametrize("options", [[], ["--baseline", "./known.json"]])
def test_the_first_baseline_is_written_where_it_will_be_read(broken: str, options: list[str]) -> None:
    Path("ruleaudit.toml").write_text('baseline = "known.json"')
    assert cli.main(["check", broken, *options]) == 2
    assert (
        cli.main(["check", broken, *options, "--write-baseline", "other.json"]) == 2
    )  # nothing is known of the one that is missing
    assert cli.main(["check", broken, *options, "--write-baseline", "known.json"]) == 0
    assert cli.main(["check", broken, *options]) == 0


def test_a_selection_writes_its_part_and_leaves_the_rest(broken: str) -> None:
    assert cli.main(["check", broken, "--fail-on", "info", "--write-baseline", "known.json"]) == 0
    whole = Path("known.json").read_text()
    assert "RA206" in whole
    assert cli.main(["check", broken, "--select", "RA7", "--fail-on", "info", "--write-baseline", "known.json"]) == 0
    assert Path("known.json").read_text() == whole
    assert cli.main(["check", broken, "--select", "RA7", "--fail-on", "info", "--write-baseline", "part.json"]) == 0
    assert "RA206" not in Path("part.json").read_text()


def test_an_unreadable_baseline_is_not_overwritten(broken: str) -> None:
    Path("known.json").write_text("precious")
    assert cli.main(["check", broken, "--write-baseline", "known.json"]) == 2
    assert Path("known.json").read_text() == "precious"


IGNORED = '[[ignores]]\ncodes = ["RA206"]\nservice = "demo/np"\nreason = "a test"'


@pytest.mark.parametrize(
    ("text", "options", "status", "said"),
    [
        ('ignore = ["RA206"]', [], 0, r"\d+ findings? not shown \(ignore in ruleaudit.toml\)"),
        ('ignore = ["RA206"]', ["--ignore", "RA301"], 1, "RA206 stale-endpoint"),
        ('ignore = ["RA206"]', ["--no-config"], 1, "RA206 stale-endpoint"),
        ('ignore = ["RA206"]', ["--config", "other.toml"], 1, "RA206 stale-endpoint"),
        ("exit-zero = true", [], 0, "RA206 stale-endpoint"),
        ('format = "json"', [], 1, '"schema": "ruleaudit/report/v1"'),
        ('format = "json"', ["--format", "text"], 1, "service demo/np"),
        (IGNORED, [], 0, "1 finding ignored by .*a test"),
        (IGNORED, ["--format", "json"], 0, '"suppressed_by": "ignore", "reason": "a test", "place": "ruleaudit.toml:1"'),
        (IGNORED + "\nuntil = 2020-01-01", [], 1, "ended on 2020-01-01"),
        (IGNORED.replace("RA206", "RA207"), [], 1, "ruleaudit.toml:1: the ignore of RA207 for service demo/np covers no finding"),
        ('\nignore = ["RA206", "RA305"]', [], 0, "ruleaudit.toml:2: the ignore of RA305 covers no finding"),
        ('ignore = ["missing-hook"]', [], 1, "ruleaudit.toml:1: the ignore of RA\\d+ covers no finding"),
        ('ignore = ["RA305"]', ["--format", "json"], 1, r'"notices": \["ruleaudit.toml:1: the ignore of RA305 covers no finding'),
        (IGNORED + "\nuntil = 2020-01-01", ["--format", "json"], 1, r'"notices": \["ruleaudit.toml:1: the ignore of .* ended on'),
        ("fail-on = 'never'", [], 2, "ruleaudit.toml:1: fail-on is 'never'"),
        ("", ["--config", "absent.toml"], 2, "absent.toml: cannot be read"),
        ("", ["--config", "other.toml", "--no-config"], 2, "contradict"),
        ("", ["--no-config", "--config", "other.toml"], 2, "contradict"),
    ],
)
def test_the_configuration_counts(
    broken: str, text: str, options: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("ruleaudit.toml").write_text(text)
    Path("other.toml").write_text("")
    assert cli.main(["check", broken, *options]) == status
    out, err = capsys.readouterr()
    assert re.search(said, out + err), out + err


def test_an_ignore_that_the_command_line_replaces_is_not_unused(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("ruleaudit.toml").write_text('ignore = ["RA305"]')
    assert cli.main(["check", broken, "--ignore", "RA306"]) == 1
    assert "covers no finding" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        (["lint", "one"], 'ignore = ["RA305"]', "ruleaudit.toml:1: the ignore of RA305 covers no finding"),
        (["check", "one", "two"], 'ignore = ["RA305"]', "ruleaudit.toml:1: the ignore of RA305 covers no finding"),
        (["check", "one", "two"], 'ignore = ["RA206"]', "not shown (ignore in ruleaudit.toml)"),
    ],
)
def test_what_is_said_of_several_nodes_is_in_json(
    broken: str, command: list[str], text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        shutil.copytree(broken, name)
    Path("ruleaudit.toml").write_text(text)
    cli.main([*command, "--format", "json"])
    assert said in "\n".join(json.loads(capsys.readouterr().out)["notices"])


def test_nothing_but_ignored_findings_is_not_called_healthy(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("ruleaudit.toml").write_text(IGNORED)
    assert cli.main(["check", broken]) == 0
    assert "no faults found" not in capsys.readouterr().out
