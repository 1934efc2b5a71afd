"""The command `check`: the rules of a node against the objects."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ruleaudit.cli.configuration import baseline_options, configuration_options, put_aside, with_origins, written_baseline
from ruleaudit.cli.options import common_options, exit_zero_option, input_options, report_options, selection_options
from ruleaudit.cli.output import report_targets, write_all
from ruleaudit.cli.progress import Progress
from ruleaudit.cli.reporting import Presentation, report_texts, say_beside
from ruleaudit.cli.statuses import CLEAN, FAILED, FOUND
from ruleaudit.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ruleaudit.audit.nodes import NodeAudit
    from ruleaudit.cli.inputs import Inputs
    from ruleaudit.cli.terminal import Color
    from ruleaudit.findings import Report, Severity
    from ruleaudit.reports.selection import Hidden
    from ruleaudit.reports.text import Grouping, Layout

__all__ = ["check"]

_EPILOG = """\b
Objects: kubectl get services,endpointslices,endpoints,nodes,pods,ingresses,ingressclasses -A -o json > objects.json
Rules:   iptables-save > iptables-save.txt; ip6tables-save > ip6tables-save.txt   (as root, on the node)

\b
Exit status: 0 nothing at or above --fail-on, 1 findings, 2 usage, unreadable or unrecognised input.
"""


def _service_names(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        namespace, slash, name = value.partition("/")
        if not (namespace and slash and name) or "/" in name:
            raise click.BadParameter(f"{value!r} is no NAMESPACE/NAME")
    return values


@click.command(epilog=_EPILOG)
@input_options
@report_options
@click.option(
    "--jobs", type=click.IntRange(1), metavar="N", help="Audit so many nodes at once.  [default: as many as there are cores]"
)
@exit_zero_option
@click.option("--strict-coverage", is_flag=True, help="Exit with 2 when something could not be checked (RA004).")
@selection_options
@click.option(
    "--service",
    "services",
    metavar="NS/NAME",
    multiple=True,
    callback=_service_names,
    help="Only this Service, and what concerns the node.",
)
@click.option(
    "--namespace", "namespaces", metavar="NS", multiple=True, help="Only Services of this namespace, and what concerns the node."
)
@click.option(
    "--group-by",
    type=click.Choice(["service", "code", "node"]),
    default="service",
    show_default=True,
    help="How text is ordered.",
)
@click.option("--statistics", is_flag=True, help="Add a count for each code to the text, and of many nodes a row for each.")
@click.option("--quiet", is_flag=True, help="Print findings only: no notes, no summary, no progress.")
@baseline_options
@configuration_options
@common_options
def check(
    *,
    inputs: Inputs,
    format_: str | None,
    outputs: tuple[str, ...],
    fail_on: str,
    jobs: int | None,
    exit_zero: bool,
    strict_coverage: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    services: tuple[str, ...],
    namespaces: tuple[str, ...],
    group_by: Grouping,
    statistics: bool,
    quiet: bool,
    baseline: str | None,
    write_baseline: str | None,
    color: Color,
    debug: bool,
) -> int:
    """Compare the rules of one node with the objects of its cluster.

    INPUT is a dump (iptables-save), a file of objects, a folder or an archive of both, or - for standard input; what each is, is
    found by its content. Without INPUT a pipe on standard input is read. --live reads the node that this runs on, --cluster the
    objects from the API server. Where INPUTs are folders or archives of several nodes, or a folder or an archive that holds such folders,
    as `collect` writes it, each node is audited by itself, against the objects that lie beside these folders or in its own, or are given
    with --objects or --cluster.
    """
    from ruleaudit.findings import Severity
    from ruleaudit.reports.selection import Selection, code_prefix

    selection = Selection(tuple(map(code_prefix, select)), tuple(map(code_prefix, ignore)), services, namespaces)
    threshold = Severity(fail_on)
    targets = report_targets(outputs, format_)
    with Progress(shown=not quiet) as progress:
        audited = _audited(inputs, jobs, progress.step)
    reports = [one.report for one in audited if one.report is not None] if isinstance(audited, list) else [audited]
    aside = put_aside(reports, baseline, write_baseline)
    shown, hidden = selection.apply_to_all(aside.reports)
    hidden = aside.hidden(with_origins(hidden))
    known = written_baseline(aside, shown, write_baseline, threshold)
    from ruleaudit.reports.text import Layout

    layout = Layout(group_by, notes=threshold is Severity.INFO or bool(select), quiet=quiet, statistics=statistics)
    if isinstance(audited, list):
        from ruleaudit.cli.nodes import present_several

        if debug:
            say("".join(one.trace for one in audited).rstrip())
        presented = present_several(audited, shown, hidden, layout, threshold, aside.notices)
    else:
        presented = _presented(shown[0], hidden, layout, threshold, aside.notices)
    write_all([*known, *report_texts(targets, presented.lines, presented.render, color)])
    if not quiet or presented.failures:
        say_beside(targets, presented, hidden, aside.notices)
    statuses = [
        _status(whole, part, threshold=threshold, exit_zero=exit_zero or bool(known), strict_coverage=strict_coverage)
        for whole, part in zip(aside.reports, shown, strict=True)
    ]
    return max([*statuses, FAILED if presented.failures else CLEAN])


def _audited(inputs: Inputs, jobs: int | None, progress: Callable[[str, float], None]) -> Report | list[NodeAudit]:
    """The report of a node, or the outcomes of several."""
    outside = inputs.outside(progress)
    given = inputs.gathered()
    if not isinstance(given, list):
        from ruleaudit.cli.nodes import audit_several

        return audit_several(given, outside, inputs, jobs, progress)
    from ruleaudit.audit import audit_inputs
    from ruleaudit.sources import beside

    return audit_inputs(
        beside(given, outside),
        node=inputs.node,
        settings=inputs.settings(),
        progress=progress,
        limit_factor=inputs.limit_factor,
    )


def _presented(report: Report, hidden: Hidden, layout: Layout, threshold: Severity, notices: Sequence[str]) -> Presentation:
    """A node by itself."""
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.formats import render
    from ruleaudit.reports.text import hidden_text, report_lines, summary_line

    said = (*((hidden_text(hidden),) if hidden.count else ()), *notices)
    context = Context(threshold, os.getcwd(), said, hidden)  # noqa: PTH109  a str is wanted
    return Presentation(
        lines=lambda: report_lines(report, layout, hidden, notices),
        render=lambda name: render(name, (report,), context),
        summary=lambda: summary_line(report, hidden),
    )


def _status(report: Report, shown: Report, *, threshold: Severity, exit_zero: bool, strict_coverage: bool) -> int:
    if strict_coverage and any(finding.code == "RA004" for finding in report.findings):
        return FAILED
    if not exit_zero and any(finding.severity.rank <= threshold.rank for finding in shown.findings):
        return FOUND
    return CLEAN
