"""The command line for several nodes at once: what `check` does when its inputs are several nodes' captures."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ruleaudit.audit.nodes import NodeAudit
    from ruleaudit.findings import Report, Severity
    from ruleaudit.reports.formats import Target
    from ruleaudit.reports.nodes import Comparison
    from ruleaudit.reports.selection import Hidden
    from ruleaudit.reports.text import Layout, Line
    from ruleaudit.settings import GivenSettings
    from ruleaudit.sources import Captures, Source

__all__ = ["audit", "beside_each_other", "made", "say_beside"]


def audit(
    captures: Captures,
    outside: Sequence[Source],
    node: str | None,
    settings: GivenSettings | None,
    jobs: int | None,
    progress: Callable[[str, float], None],
    limit_factor: int,
) -> list[NodeAudit]:
    """Audit every node; `outside` are sources that no file holds. Raises UsageError for what is of a single one: `node`, --live."""
    from ruleaudit.audit.nodes import audit_nodes
    from ruleaudit.sources import holds_dumps

    if any(map(holds_dumps, outside)):
        raise click.UsageError(
            f"--live reads the rules of this node, and the inputs are about {len(captures.nodes):,} others.",
            click.get_current_context(),
        )
    captures = replace(captures, shared=(*captures.shared, *outside))

    if node is not None:
        raise click.UsageError(
            f"--node names one node, and the inputs are about {len(captures.nodes):,}: each is named by its capture's meta.json, by "
            "kube-proxy's settings in it, or by its folder.",
            click.get_current_context(),
        )
    if settings is not None:
        settings = replace(settings, node=None, node_addresses=None)  # one node's, which no other one has
    return audit_nodes(captures, settings=settings, jobs=jobs, progress=progress, limit_factor=limit_factor)


def beside_each_other(outcomes: Sequence[NodeAudit], shown: Sequence[Report]) -> Comparison:
    """The nodes beside each other. `shown`: of the reports of `outcomes`, in their order, what is to be shown."""
    from ruleaudit.reports.nodes import Failure, compared

    paths = [one.path for one in outcomes if one.report is not None]
    failures = [Failure(one.path, one.error.removeprefix(f"{one.path}: ")) for one in outcomes if one.report is None]
    return compared(shown, paths, failures)


def made(
    comparison: Comparison,
    hidden: Hidden,
    targets: Sequence[Target],
    layout: Layout,
    threshold: Severity,
    draw: Callable[[Sequence[Line], bool], str],
    notices: Sequence[str],
) -> dict[tuple[str, bool], str]:
    """Every report that is asked for, by its format and whether it is printed. `draw` makes text of lines, printed or not."""
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.formats import render
    from ruleaudit.reports.nodes import nodes_lines
    from ruleaudit.reports.structured import json_reports
    from ruleaudit.reports.text import hidden_text

    said = [f"not audited: {one.path}: {one.error}" for one in comparison.failures]
    if hidden.count:
        said.append(hidden_text(hidden))
    context = Context(threshold, os.getcwd(), (*said, *notices), hidden)  # noqa: PTH109  a str is wanted
    texts: dict[tuple[str, bool], str] = {}
    for name, path in targets:
        printed = path == "-"
        if name == "text":
            texts[name, printed] = draw(list(nodes_lines(comparison, layout, hidden, notices)), printed)
        elif name == "json":
            texts[name, printed] = json_reports(comparison)
        else:
            texts[name, printed] = texts.get((name, not printed)) or render(name, comparison.reports, context)
    return texts


def say_beside(
    comparison: Comparison, hidden: Hidden, targets: Sequence[Target], say: Callable[[str], None], notices: Sequence[str]
) -> None:
    """Diagnostics beside reports that do not show them: the nodes that could not be audited, the summary, what is hidden."""
    from ruleaudit.reports.nodes import nodes_summary
    from ruleaudit.reports.printable import printable
    from ruleaudit.reports.text import hidden_text, plain

    printed = {one.format for one in targets if one.path == "-"}
    if printed & {"text", "github"}:
        return
    for one in comparison.failures:
        say(f"ruleaudit: {printable(one.path)}: not audited: {printable(one.error)}")
    if any(one.path != "-" for one in targets):
        say(plain([nodes_summary(comparison)]).rstrip())
    if hidden.count and any(one.format in ("json", "gitlab") for one in targets):
        say(hidden_text(hidden))
    for notice in notices:
        say(printable(notice))
