"""The command `lint`: captured nodes that a repository keeps as fixtures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ruleaudit.cli.completion import complete_files
from ruleaudit.cli.configuration import configuration, configuration_options, put_aside, with_origins
from ruleaudit.cli.options import common_options, exit_zero_option, limit_factor_option, report_options, selection_options
from ruleaudit.cli.output import report_targets, write_all
from ruleaudit.cli.progress import Progress
from ruleaudit.cli.reporting import report_texts, say_notices, tells_all
from ruleaudit.cli.statuses import CLEAN, FOUND
from ruleaudit.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.cli.terminal import Color
    from ruleaudit.findings import Report, Severity
    from ruleaudit.lint import Linted
    from ruleaudit.reports.text import Line

__all__ = ["SCHEMA", "lint"]

SCHEMA = "ruleaudit/lint/v1"
_EPILOG = """\b
A fixture is a folder with the dumps of one node, objects, meta.json and expected.json (what must be found on it).
Exit status: 0 nothing at or above --fail-on, 1 findings, 2 usage, no fixture.
"""


@click.command(epilog=_EPILOG)
@click.argument("paths", metavar="FOLDER...", nargs=-1, required=True, shell_complete=complete_files)
@click.option("--write-expected", is_flag=True, help="Write the expected.json of each fixture anew: what is found is expected.")
@report_options
@exit_zero_option
@selection_options
@limit_factor_option
@click.option("--quiet", is_flag=True, help="Print findings only.")
@configuration_options
@common_options
def lint(
    *,
    paths: tuple[str, ...],
    write_expected: bool,
    format_: str | None,
    outputs: tuple[str, ...],
    fail_on: str,
    exit_zero: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    limit_factor: int,
    quiet: bool,
    color: Color,
    debug: bool,
) -> int:
    """Check captured nodes that are kept as fixtures.

    FOLDER is a fixture, or holds fixtures; a file stands for the fixture that it lies in. Each must be readable, whole, as its meta.json says,
    free of secrets, and show what its expected.json says, no more and no less.
    """
    del debug
    from ruleaudit.findings import Severity
    from ruleaudit.lint import fixture_folders
    from ruleaudit.reports.printable import printable
    from ruleaudit.reports.selection import Selection, code_prefix

    selection = Selection(tuple(map(code_prefix, select)), tuple(map(code_prefix, ignore)))
    threshold = Severity(fail_on)
    targets = report_targets(outputs, format_)
    folders, strays = fixture_folders(paths)
    if not quiet:
        for stray in strays:
            say(f"{printable(stray)}: in no fixture, not looked at")
    with Progress(shown=not quiet) as progress:
        linted = list(_linted(folders, progress, limit_factor, write=write_expected))
    aside = put_aside([one.report for one in linted], None)
    reports = []
    notices = list(aside.notices)
    for report in aside.reports:
        shown, hidden = selection.apply(report)
        reports.append(shown)
        if hidden.count:
            from ruleaudit.reports.text import hidden_text

            notices.append(f"{report.node}: {hidden_text(with_origins(hidden))}")
    written = [(one.expected, one.expected_path) for one in linted if one.expected is not None and write_expected]
    texts = report_texts(
        targets,
        lambda: _lines(reports, threshold, notices, quiet=quiet),
        lambda name: _rendered(name, reports, threshold, notices),
        color,
    )
    write_all([*written, *texts])
    if not quiet and not tells_all(targets):
        say_notices(notices)
    failed = any(finding.severity.rank <= threshold.rank for report in reports for finding in report.findings)
    return FOUND if failed and not exit_zero else CLEAN


def _linted(folders: Sequence[str], progress: Progress, limit_factor: int, *, write: bool) -> Iterator[Linted]:
    from ruleaudit.lint import lint_folder

    file = configuration().path
    base = str(Path(file).parent) if file else None
    for number, folder in enumerate(folders):
        progress.step(folder, number / len(folders))
        yield lint_folder(folder, base=base, limit_factor=limit_factor, write=write)


def _rendered(name: str, reports: Sequence[Report], threshold: Severity, notices: Sequence[str]) -> str:
    """The report of all fixtures in a format other than text."""
    if name == "json":
        import json

        from ruleaudit.reports.structured import json_report

        fixtures = [{"folder": report.node, "report": json.loads(json_report(report))} for report in reports]
        return json.dumps({"schema": SCHEMA, "fixtures": fixtures, "notices": list(notices)}, indent=1) + "\n"
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.formats import render
    from ruleaudit.reports.nodes import compared

    return render(
        name, reports, Context(threshold, str(Path.cwd()), tuple(notices), comparison=compared(reports, noun="fixture"))
    )


def _lines(reports: Sequence[Report], threshold: Severity, notices: Sequence[str], *, quiet: bool) -> Iterator[Line]:
    """The text: of each fixture its findings and a line, and a line for all."""
    from collections import Counter

    from ruleaudit.findings import Severity
    from ruleaudit.reports.evidence import plural, severity_counts
    from ruleaudit.reports.text import Layout, Line, Piece, report_lines

    faulty = 0
    layout = Layout("code", notes=threshold is Severity.INFO, quiet=True)
    for report in reports:
        counts = Counter(one.severity for one in report.findings)
        bad = bool(counts[Severity.ERROR] or counts[Severity.WARNING])
        faulty += bad
        if not quiet or bad:
            said = severity_counts(counts)
            expected = sum(one.by == "expected" for one in report.suppressed)
            said += [f"{plural(expected, 'finding')} as expected"] if expected else []
            style = "bold red" if counts[Severity.ERROR] else "bold yellow" if bad else "green"
            yield Line(0, "", (Piece(f"{report.node}: ", "bold"), Piece(", ".join(said) or "nothing found", style)))
        for line in report_lines(report, layout):
            yield Line(line.indent + 2, line.label, line.pieces) if line.pieces else line
    if quiet:
        return
    for notice in notices:
        yield Line(0, "", (Piece(notice, "yellow"),))
    found = "faults found" if len(reports) == 1 else f"faults found in {faulty:,}"
    rest = found if faulty else "no faults found"
    yield Line(0, "", (Piece(f"{plural(len(reports), 'fixture')}: {rest}", "bold red" if faulty else "green"),))
