"""The command line: exit statuses, what goes to which stream, and what must not get through."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ruleaudit.audit
import ruleaudit.reports.sarif
from ruleaudit import __version__, cli
from ruleaudit.catalogue import CATALOGUE
from ruleaudit.cli.progress import Progress
from ruleaudit.findings import Finding, InputSummary, Location, ProxySummary, Report, Severity

if TYPE_CHECKING:
    from collections.abc import Callable

HOOK = Finding("RA108", "missing-hook", Severity.ERROR, "PREROUTING does not lead to KUBE-SERVICES", subject="nat PREROUTING")
LEFT = Finding("RA503", "leftover-chains", Severity.WARNING, "chains of 1.23", subject="KUBE-XLB")
NOTE = Finding("RA701", "no-matching-pod", Severity.INFO, "selects no pod", service="demo/none")
GAP = Finding("RA004", "not-checked", Severity.INFO, "no IPv6 dump", subject="6")


def report_of(*findings: Finding) -> Report:
    inputs = (InputSummary("dump", "iptables-save", 4, 10, True),)
    return Report("node-a", inputs, ProxySummary("iptables"), 1, 1, 1, findings, ("demo/none", "demo/web"))


@pytest.fixture
def dump(tmp_path: Path) -> str:
    path = tmp_path / "dump"
    path.write_text("*nat\nCOMMIT\n")
    return str(path)


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes every audit find what is given."""

    def prepare(*findings: Finding) -> None:
        monkeypatch.setattr(ruleaudit.audit, "audit_inputs", lambda *_sources, **_options: report_of(*findings))

    return prepare


def run(*arguments: str, stdin: bytes | int = subprocess.DEVNULL) -> subprocess.CompletedProcess[bytes]:
    """The command as a process of its own; `stdin`: what is piped into it, or a file descriptor."""
    words = [sys.executable, "-m", "ruleaudit", *arguments]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    if isinstance(stdin, bytes):
        return subprocess.run(words, input=stdin, capture_output=True, env=environment, timeout=60)
    return subprocess.run(words, stdin=stdin, capture_output=True, env=environment, timeout=60)


# --- exit statuses ---


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(["--version"], 0, id="version"),
        pytest.param(["--help"], 0, id="help"),
        pytest.param(["check", "--help"], 0, id="help of a command"),
        pytest.param(["check", "NODES/healthy"], 0, id="healthy"),
        pytest.param(["check", "NODES/changed-destination"], 1, id="findings"),
        pytest.param(["check", "NODES/changed-destination", "--exit-zero"], 0, id="findings with --exit-zero"),
        pytest.param(["check", "NODES/changed-destination", "--ignore", "RA206"], 0, id="the finding ignored"),
        pytest.param(["check", "NODES/changed-destination", "--select", "RA1,RA3"], 0, id="other codes selected"),
        pytest.param(["check", "NODES/changed-destination", "--select", "RA1", "--select", "RA206"], 1, id="selected twice"),
        pytest.param(["trace", "NODES/healthy", "--from", "pod/demo/web-0", "--to", "web:80"], 0, id="trace: reached"),
        pytest.param(["trace", "NODES/healthy", "--from", "node", "--to", "10.96.1.43:80"], 1, id="trace: refused"),
        pytest.param(
            ["trace", "NODES/changed-destination", "--from", "node", "--to", "10.96.1.8:80"], 1, id="trace: partly reached"
        ),
        pytest.param(["trace", "NODES/healthy", "--from", "pod/demo/web-9", "--to", "web:80"], 2, id="trace: no such pod"),
        pytest.param(["trace", "NODES/healthy", "--from", "node", "--to", "10.96.1.199:80"], 2, id="trace: no such address"),
        pytest.param(["trace", "NODES/healthy", "--to", "web:80"], 2, id="trace: no --from"),
        pytest.param(
            ["trace", "NODES/healthy", "--node", "node-z", "--from", "node", "--to", "10.96.1.8:80"], 2, id="trace: no such node"
        ),
        pytest.param(["trace", "NODES/absent", "--from", "node", "--to", "10.96.1.8:80"], 2, id="trace: no such input"),
        pytest.param(["show", "summary", "NODES/healthy"], 0, id="show"),
        pytest.param(["show", "service", "demo/nobody", "NODES/healthy"], 2, id="show: no such Service"),
        pytest.param(["show", "--help"], 0, id="help of show"),
        pytest.param(["check", "NODES/absent"], 2, id="an input that is not there"),
        pytest.param(["check", "NODES/README.md"], 2, id="an input that is none of ours"),
        pytest.param(["check", "NODES/healthy", "--exit-zero", "--node", "node-zz"], 2, id="--exit-zero hides no failure"),
        pytest.param(["check", "NODES/healthy", "--fail-on", "never"], 2, id="a value that an option does not take"),
        pytest.param(["check", "NODES/healthy", "--select", "RA99"], 2, id="an unknown code selected"),
        pytest.param(["check", "NODES/healthy", "--ignore", "E501"], 2, id="an unknown code ignored"),
        pytest.param(["check", "NODES/healthy", "--service", "web"], 2, id="a Service without its namespace"),
        pytest.param(["check", "NODES/healthy", "--service", "demo/np"], 0, id="a Service of the objects"),
        pytest.param(["check", "NODES/healthy", "--service", "demo/npp"], 2, id="a Service that is not there"),
        pytest.param(["check", "NODES/healthy", "--namespace", "dem"], 2, id="a namespace that is not there"),
        pytest.param(["check", "NODES/healthy", "--kube-proxy-config", "NODES/absent"], 2, id="settings that are not there"),
        pytest.param(["explain", "RA206"], 0, id="explain"),
        pytest.param(["explain", "RA999"], 2, id="explain what is not there"),
        pytest.param(["codes"], 0, id="codes"),
        pytest.param(["frobnicate"], 2, id="an unknown command"),
        pytest.param([], 2, id="no command"),
    ],
)
def test_exit_status(nodes: Path, arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([argument.replace("NODES", str(nodes)) for argument in arguments]) == status
    out, err = capsys.readouterr()
    if status == 2:
        assert not out
        assert err
        assert "Traceback" not in err
    else:
        assert out


@pytest.mark.parametrize(
    ("findings", "fail_on", "status"),
    [
        ((HOOK,), "error", 1),
        ((LEFT,), "error", 0),
        ((LEFT,), "warning", 1),
        ((NOTE,), "warning", 0),
        ((NOTE,), "info", 1),
        ((), "info", 0),
        ((NOTE, LEFT, HOOK), "error", 1),
    ],
)
def test_fail_on_is_inclusive(
    findings: tuple[Finding, ...], fail_on: str, status: int, finds: Callable[..., None], dump: str
) -> None:
    finds(*findings)
    assert cli.main(["check", dump, "--fail-on", fail_on]) == status


@pytest.mark.parametrize(
    ("findings", "options", "status"),
    [
        ((GAP,), [], 0),
        ((GAP,), ["--strict-coverage"], 2),
        ((GAP, HOOK), ["--strict-coverage", "--exit-zero"], 2),
        ((GAP,), ["--strict-coverage", "--select", "RA1"], 2),
        ((HOOK,), ["--strict-coverage"], 1),
        ((), ["--strict-coverage"], 0),
    ],
)
def test_strict_coverage(
    findings: tuple[Finding, ...], options: list[str], status: int, finds: Callable[..., None], dump: str
) -> None:
    finds(*findings)
    assert cli.main(["check", dump, *options]) == status


def test_usage_errors_say_where_help_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--colour"]) == 2
    err = capsys.readouterr().err
    assert "Usage: ruleaudit check [OPTIONS] [INPUT]..." in err
    assert "ruleaudit check --help" in err
    assert "--color" in err


# --- standard input ---


def test_a_pipe_is_read_when_no_input_is_named(nodes: Path) -> None:
    rules = (nodes / "changed-destination" / "iptables-save.txt").read_bytes()
    objects = str(nodes / "changed-destination" / "objects.json.xz")
    done = run("check", "--objects", objects, "--node", "node-a", "--format", "json", stdin=rules)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert [one["path"] for one in report["inputs"]] == ["<stdin>", objects]
    assert [one["code"] for one in report["findings"] if one["severity"] != "info"] == ["RA206"]


def test_a_dash_is_standard_input(nodes: Path) -> None:
    rules = (nodes / "healthy" / "iptables-save.txt").read_bytes()
    done = run("check", "-", str(nodes / "healthy" / "objects.json.xz"), "--node", "node-a", stdin=rules)
    assert (done.returncode, done.stderr) == (0, b"")


def test_nothing_on_standard_input_is_a_usage_error() -> None:
    done = run("check")
    assert done.returncode == 2
    assert b"no INPUT is given" in done.stderr
    assert done.stderr.startswith(b"Usage: ruleaudit check")


def test_a_terminal_on_standard_input_is_a_usage_error() -> None:
    ours, theirs = pty.openpty()
    try:
        done = run("check", stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 2
    assert b"no INPUT is given" in done.stderr


def test_an_empty_pipe_is_refused() -> None:
    done = run("check", stdin=b"")
    assert done.returncode == 2
    assert done.stderr.startswith(b"ruleaudit: <stdin>: ")


# --- streams ---


def test_findings_go_to_standard_output_and_nothing_else(nodes: Path) -> None:
    done = run("check", str(nodes / "changed-destination"), "--format", "json")
    assert json.loads(done.stdout)["summary"]["findings"]["error"] == 1
    assert done.stderr == b""


def test_what_is_hidden_is_said_beside_json(nodes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check", str(nodes / "changed-destination"), "--format", "json", "--ignore", "RA206", "--ignore", "RA7"]
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["findings"] == []
    assert re.fullmatch(r"\d+ findings not shown \(--ignore\): 1 error, \d+ notes \(1 RA206, [^)]*\)\n", err), err
    assert cli.main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [["codes"], ["check", "NODES/changed-destination", "--format", "json"]])
def test_a_reader_that_goes_away_is_no_error(nodes: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [argument.replace("NODES", str(nodes)) for argument in arguments]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ruleaudit", *words],
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    finally:
        os.close(writing)
    assert done.stderr == b""
    assert done.returncode == (1 if "check" in arguments else 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-m", "ruleaudit", "codes"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 2
    assert done.stderr == b"ruleaudit: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(("closed", "status"), [(">&-", 2), ("<&-", 0), ("2>&-", 0)])
def test_a_closed_stream_is_no_internal_error(closed: str, status: int) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m ruleaudit codes {closed}', sys.executable], capture_output=True, timeout=60
    )
    assert done.returncode == status
    assert done.stderr == (b"ruleaudit: standard output is closed\n" if status else b"")


def test_a_locale_without_the_characters_gets_escapes(
    finds: Callable[..., None], dump: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    finds(Finding("RA108", "missing-hook", Severity.ERROR, "größer 💀"))
    assert cli.main(["check", dump]) == 1
    assert b"gr\\xf6\\xdfer \\U0001f480" in raw.getvalue()


def test_quiet_prints_findings_only(finds: Callable[..., None], dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    finds(HOOK, NOTE, GAP)
    assert cli.main(["check", dump, "--quiet"]) == 1
    out = capsys.readouterr().out
    assert out == "node node-a\n  error RA108 missing-hook: PREROUTING does not lead to KUBE-SERVICES\n\n"
    finds(GAP)
    assert cli.main(["check", dump, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


# --- a part of the report ---


def test_a_service_without_findings_is_shown_with_what_concerns_the_node(
    finds: Callable[..., None], dump: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(HOOK, NOTE)
    assert cli.main(["check", dump, "--service", "demo/web"]) == 1
    out = capsys.readouterr().out
    assert "RA108" in out
    assert "1 finding not shown (--service): 1 note (1 RA701)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--select", "stale-endpiont"], "ruleaudit: there is no code 'stale-endpiont'; did you mean RA206 stale-endpoint"),
        (["--service", "demo/wbe"], "ruleaudit: there is no Service 'demo/wbe' in the inputs; did you mean demo/web"),
        (["--namespace", "dmeo"], "ruleaudit: no Service of the inputs is in a namespace 'dmeo'; did you mean demo?"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(
    arguments: list[str], message: str, finds: Callable[..., None], dump: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(HOOK)
    assert cli.main(["check", dump, *arguments]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_selected_notes_are_shown_in_full(finds: Callable[..., None], dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    finds(NOTE)
    for options in (["--select", "RA7"], ["--fail-on", "info"]):
        cli.main(["check", dump, *options])
        assert capsys.readouterr().out.startswith("service demo/none\n  info RA701")


# --- --output ---


def test_output_is_written_as_a_whole(
    finds: Callable[..., None], dump: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(HOOK)
    target = tmp_path / "report.json"
    target.write_text("old")
    target.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(target)
    assert cli.main(["check", dump, "--format", "json", "--output", str(link)]) == 1
    assert json.loads(target.read_text())["findings"][0]["code"] == "RA108"
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump", "link.json", "report.json"]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("node-a: 1 error in 1 service")


def test_a_new_output_has_the_usual_permissions(finds: Callable[..., None], dump: str, tmp_path: Path) -> None:
    finds()
    beside = tmp_path / "beside"
    beside.touch()
    assert cli.main(["check", dump, "--output", str(tmp_path / "new"), "--quiet"]) == 0
    assert (tmp_path / "new").stat().st_mode == beside.stat().st_mode


def test_an_output_that_fails_leaves_the_old_one(
    finds: Callable[..., None], dump: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(HOOK)
    target = tmp_path / "report"
    target.write_text("old")

    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    assert cli.main(["check", dump, "--output", str(target)]) == 2
    assert capsys.readouterr().err == f"ruleaudit: {target}: cannot be written: Permission denied\n"
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump", "report"]


def test_an_output_without_a_folder_is_refused_before_the_work(
    dump: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ruleaudit.audit, "audit_inputs", lambda *_sources, **_options: pytest.fail("worked in vain"))
    assert cli.main(["check", dump, "--output", str(tmp_path / "absent" / "report")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "written", "printed"),
    [
        pytest.param(["--output", "a.sarif"], {"a.sarif": '{\n "$schema"'}, "", id="a file"),
        pytest.param(
            ["--output", "a.sarif", "--output", "a.html"], {"a.sarif": '{\n "$schema"', "a.html": "<!doctype"}, "", id="two"
        ),
        pytest.param(
            ["--output", "a.html", "--format", "github"], {"a.html": "<!doctype"}, "::error", id="a file, another printed"
        ),
        pytest.param(
            ["--output", "a.html", "--format", "text"], {"a.html": "<!doctype"}, "node node-a", id="a file, text printed"
        ),
        pytest.param(["--output", "a.json", "--format", "json"], {"a.json": '{\n  "schema"'}, "", id="the file has the format"),
        pytest.param(["--output", "a", "--format", "junit"], {"a": "<?xml"}, "", id="the name says nothing"),
        pytest.param(
            ["--output", "a", "--output", "b.md", "--format", "json"], {"a": '{\n  "sch', "b.md": "# rule"}, "", id="one does"
        ),
        pytest.param(["--output", "html:a.txt", "--output", "-"], {"a.txt": "<!doctype"}, "node node-a", id="- is printed"),
        pytest.param(["--output", "gitlab:-"], {}, "[\n{", id="a format printed"),
        pytest.param(["--format", "markdown"], {}, "# ruleaudit: node-a", id="no file"),
    ],
)
def test_where_reports_go(
    options: list[str],
    written: dict[str, str],
    printed: str,
    finds: Callable[..., None],
    dump: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finds(HOOK)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", dump, *options]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(printed)
    assert bool(out) is bool(printed)
    files = {path.name: path.read_text() for path in tmp_path.iterdir() if path.name != "dump"}
    assert files.keys() == written.keys()
    assert all(files[name].startswith(start) for name, start in written.items())
    # The summary of files is said once: where text or commands for GitHub are printed, it stands there.
    assert err.startswith("node-a: 1 error in 1 service") is (bool(written) and not printed.startswith(("node", "::")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--output", "a.pdf"],
            "ruleaudit: --output a.pdf: the ending .pdf names no format. write FORMAT:FILE with one of text, json",
        ),
        (["--output", "sarfi:a"], "did you mean sarif:a?"),
        (["--output", "a.html", "--output", "./a.html"], "./a.html: more than one report would be written there"),
        (["--output", "json:-", "--output", "-"], "standard output: more than one report would be written there"),
        (["--output", "a.html", "--output", "absent/a.json"], "absent/a.json: there is no such folder to write to"),
    ],
)
def test_outputs_are_refused_before_the_work(
    options: list[str],
    message: str,
    dump: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ruleaudit.audit, "audit_inputs", lambda *_sources, **_options: pytest.fail("worked in vain"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", dump, *options]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]


@pytest.mark.parametrize("fails", ["rendering", "the second file"])
def test_several_outputs_are_written_together_or_not_at_all(
    fails: str,
    finds: Callable[..., None],
    dump: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finds(HOOK)
    first, second = tmp_path / "a.json", tmp_path / "b.sarif"
    first.write_text("old")
    if fails == "rendering":
        monkeypatch.setattr(ruleaudit.reports.sarif, "sarif_report", lambda *_: 1 / 0)
    else:
        second.mkdir()
    assert cli.main(["check", dump, "--output", str(first), "--output", str(second), "--format", "text"]) == 2
    assert capsys.readouterr().out == ""
    assert first.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} <= {"dump", "a.json", "b.sarif"}


def test_junit_fails_where_fail_on_says_so(finds: Callable[..., None], dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    finds(LEFT)
    for threshold, failures in (("warning", 1), ("error", 0)):
        cli.main(["check", dump, "--format", "junit", "--fail-on", threshold])
        assert f'failures="{failures}"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (["--format", "gitlab"], "err"),
        (["--format", "html"], "out"),
        (["--format", "sarif"], "out"),
        (["--format", "junit"], "out"),
        (["--format", "github"], "out"),
        (["--format", "markdown"], "out"),
    ],
)
def test_what_is_hidden_is_said_in_every_format(
    options: list[str], where: str, finds: Callable[..., None], dump: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(LEFT)
    cli.main(["check", dump, "--ignore", "RA503", *options])
    out, err = capsys.readouterr()
    assert "no faults found" not in out
    assert "1 finding not shown (--ignore)" in (err if where == "err" else out.replace("\\", ""))
    assert (err == "") is (where == "out")


def test_output_may_be_a_device(finds: Callable[..., None], dump: str) -> None:
    finds(HOOK)
    assert cli.main(["check", dump, "--output", os.devnull, "--quiet"]) == 1
    assert Path(os.devnull).is_char_device()


# --- colours and terminals ---


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What the command prints when its standard output is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ruleaudit", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**{name: value for name, value in os.environ.items() if name != "NO_COLOR"}, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    read = bytearray()
    try:
        while block := os.read(ours, 65536):
            read += block
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(ours)
    process.wait(timeout=60)
    return read.decode()


@pytest.mark.parametrize(
    ("options", "environment", "colored"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        ([], {"NO_COLOR": ""}, True),
        ([], {"TERM": "dumb"}, False),
        (["--color", "never"], {}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
    ],
)
def test_colours_on_a_terminal(options: list[str], environment: dict[str, str], colored: bool) -> None:
    assert ("\x1b[" in on_a_terminal("explain", "RA206", *options, **environment)) is colored


@pytest.mark.parametrize(("color", "colored"), [("auto", False), ("never", False), ("always", True)])
def test_colours_in_a_pipe(color: str, colored: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "RA206", "--color", color]) == 0
    assert ("\x1b[" in capsys.readouterr().out) is colored


@pytest.mark.parametrize("color", ["always", "never"])
@pytest.mark.parametrize("where", ["report", "error"])
def test_no_control_character_of_an_input_gets_through(
    color: str,
    where: str,
    finds: Callable[..., None],
    dump: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\x9b5n\u202e"
    if where == "report":
        finds(
            Finding(
                "RA001", "unparsable-line", Severity.ERROR, evil, service=f"demo/{evil}", locations=(Location(evil, 1, evil),)
            )
        )
    else:

        def fail(*_sources: object, **_options: object) -> Report:
            raise ValueError(evil)

        monkeypatch.setattr(ruleaudit.audit, "audit_inputs", fail)
    cli.main(["check", dump, "--color", color])
    out, err = capsys.readouterr()
    text = re.sub(r"\x1b\[[0-9;]*m", "", out + err)
    assert "\\x1b]0;owned\\x07" in text
    assert all(character.isprintable() or character == "\n" for character in text)


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("shown", "seconds", "terminal", "drawn"),
    [(True, 2, True, True), (True, 0, True, False), (True, 2, False, False), (False, 2, True, False)],
    ids=["long work on a terminal", "short work", "no terminal", "quiet"],
)
def test_progress(shown: bool, seconds: int, terminal: bool, drawn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(shown=shown) as progress:
        progress._since -= seconds
        progress.step("\x1b]0;IPv4\x07", 0.5)
    text = stream.getvalue()
    assert bool(text) is drawn
    assert "\x1b]0;" not in text
    assert ("IPv4" in text) is drawn


# --- faults of ruleaudit itself ---


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes every audit raise what is given."""

    def prepare(error: BaseException) -> None:
        def fail(*_sources: object, **_options: object) -> Report:
            raise error

        monkeypatch.setattr(ruleaudit.audit, "audit_inputs", fail)

    return prepare


def test_an_internal_error_is_one_line(
    broken: Callable[[BaseException], None], dump: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(KeyError("KUBE-SVC"))
    assert cli.main(["check", dump]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"ruleaudit {__version__}: internal error: KeyError: 'KUBE-SVC'. ")
    assert "report it" in err
    assert "--debug" in err


def test_debug_shows_where_it_happened(
    broken: Callable[[BaseException], None], dump: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(KeyError("KUBE-SVC"))
    assert cli.main(["check", dump, "--debug"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interrupt_is_no_traceback(
    broken: Callable[[BaseException], None], dump: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(KeyboardInterrupt())
    assert cli.main(["check", dump]) == 130
    assert capsys.readouterr().err.strip() == ""


# --- the catalogue ---


def test_explain_says_all_that_the_catalogue_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "ra108"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("RA108 missing-hook\nerror (warning when no traffic changes")
    assert [line for line in out.splitlines() if line in ("Example", "Why it matters", "What to do", "Exceptions")] == [
        "Example",
        "Why it matters",
        "What to do",
        "Exceptions",
    ]


@pytest.mark.parametrize(
    ("arguments", "first", "count"),
    [
        (["explain", "RA4"], "RA4  masquerade", 5),
        (["explain", "RA20"], "RA2  stale: the rules have it, the objects do not", 9),
        (["explain", "missing-hook"], "RA108 missing-hook", 0),
        (["codes"], "RA0  input and coverage", len(CATALOGUE)),
    ],
)
def test_codes_are_listed(arguments: list[str], first: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == first
    assert sum(bool(re.match(r"  RA\d{3}  (error|warning|info) +[a-z-]+$", line)) for line in lines) == count


def test_codes_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["codes", "--format", "json"]) == 0
    entries = json.loads(capsys.readouterr().out)["codes"]
    assert [entry["code"] for entry in entries] == list(CATALOGUE)
    assert list(entries[0]) == [
        "code",
        "name",
        "severity",
        "meaning",
        "example",
        "why",
        "action",
        "exceptions",
        "varies",
        "group",
        "about",
    ]
    assert (entries[0]["code"], entries[0]["severity"], entries[0]["group"]) == ("RA001", "error", "RA0")


# --- speed ---


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["check", "--help"], ["codes"]])
def test_nothing_heavy_is_imported_for_little(arguments: list[str]) -> None:
    program = (
        "import sys; from ruleaudit.__main__ import main; status = main(sys.argv[1:]); "
        "print(sorted({'rich', 'lark', 'msgspec', 'yaml', 'kubernetes', 'iptc', 'importlib.metadata'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program, *arguments], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "commands"),
    [(["--version"], []), (["codes"], ["explain"]), (["show", "--help"], ["show"])],
    ids=["--version", "codes", "show"],
)
def test_a_command_does_not_load_the_others(arguments: list[str], commands: list[str]) -> None:
    program = (
        "import sys; from ruleaudit.cli import main; main(sys.argv[1:]); "
        "names = 'anonymize check collect explain lint show trace'.split(); "
        "print(*(name for name in names if 'ruleaudit.cli.' + name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stderr.split() == commands


def test_json_does_not_load_rich(nodes: Path) -> None:
    program = "import sys; from ruleaudit.cli import main; main(sys.argv[1:]); print('rich' in sys.modules, file=sys.stderr)"
    arguments = ["check", str(nodes / "healthy"), "--format", "json"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stderr == "False\n"


# --- trace and show ---

ASKED = ["--from", "198.51.100.7", "--to", "192.168.100.11:30080"]


def test_a_trace_may_be_its_answer_alone(nodes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trace", str(nodes / "healthy"), *ASKED, "--quiet"]) == 0
    assert capsys.readouterr().out == "reached: to pod demo/np-0, pod demo/np-1 and pod demo/np-2\n"


@pytest.mark.parametrize(
    ("format_", "start"), [("json", "{"), ("dot", "digraph trace {"), ("mermaid", "flowchart LR"), ("text", "from ")]
)
def test_traces_are_written_in_every_format(nodes: Path, format_: str, start: str, tmp_path: Path) -> None:
    target = tmp_path / "trace"
    assert cli.main(["trace", str(nodes / "healthy"), *ASKED, "--format", format_, "--output", str(target)]) == 0
    assert target.read_text().startswith(start)


def test_a_trace_reads_a_pipe(nodes: Path) -> None:
    healthy = nodes / "healthy"
    words = ["trace", "--objects", str(healthy / "objects.json.xz"), "--node", "node-a", *ASKED]
    done = run(*words, stdin=(healthy / "iptables-save.txt").read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"lines of <stdin>" in done.stdout


def test_a_trace_without_objects_says_what_the_rules_do(nodes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(["trace", str(nodes / "healthy" / "iptables-save.txt"), "--from", "198.51.100.7", "--to", "10.96.1.8:80"]) == 1
    )
    said = capsys.readouterr().out
    assert "note: no objects were given: names, pods, who is ready and what is asked for are not known" in said
    assert "to 10.244.1.23:8080, of which nothing is known: no endpoints and pods were given" in said


def test_a_trace_needs_rules(nodes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    objects = str(nodes / "healthy" / "objects.json.xz")
    assert cli.main(["trace", objects, "--node", "node-a", "--from", "node", "--to", "10.96.1.8:80"]) == 2
    assert "no dump of the node's rules was given" in capsys.readouterr().err


def test_colours_of_a_trace(nodes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trace", str(nodes / "healthy"), *ASKED]
    assert cli.main(words) == 0
    plain = capsys.readouterr().out
    assert cli.main([*words, "--color", "always"]) == 0
    assert re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out) == plain


def test_show_as_json(nodes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "service", "demo/np", str(nodes / "healthy"), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Service demo/np"
