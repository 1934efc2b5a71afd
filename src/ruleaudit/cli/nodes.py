"""What `check` does when its inputs are several nodes' captures."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ruleaudit.cli.inputs import live_beside
from ruleaudit.cli.reporting import Presentation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ruleaudit.audit.nodes import NodeAudit
    from ruleaudit.cli.inputs import Inputs
    from ruleaudit.findings import Report, Severity
    from ruleaudit.reports.selection import Hidden
    from ruleaudit.reports.text import Layout
    from ruleaudit.sources import Captures, Source

__all__ = ["audit_several", "present_several"]


def audit_several(
    captures: Captures, outside: Sequence[Source], inputs: Inputs, jobs: int | None, progress: Callable[[str, float], None]
) -> list[NodeAudit]:
    """Audit every node of `captures`, which are what `inputs` name; `outside` are sources that no file holds.

    Raises InputError; UsageError for what is of a single node: --node, --live.
    """
    from ruleaudit.audit.nodes import audit_nodes
    from ruleaudit.sources import holds_dumps

    if any(map(holds_dumps, outside)):
        raise live_beside(len(captures.nodes))
    captures = replace(captures, shared=(*captures.shared, *outside))
    if inputs.node is not None:
        raise click.UsageError(
            f"--node names one node, and the inputs are about {len(captures.nodes):,}: each is named by its capture's meta.json, by "
            "kube-proxy's settings in it, or by its folder.",
            click.get_current_context(),
        )
    settings = inputs.settings()
    if settings is not None:
        settings = replace(settings, node=None, node_addresses=None)  # one node's, which no other one has
    return audit_nodes(captures, settings=settings, jobs=jobs, progress=progress, limit_factor=inputs.limit_factor)


def present_several(
    outcomes: Sequence[NodeAudit],
    shown: Sequence[Report],
    hidden: Hidden,
    layout: Layout,
    threshold: Severity,
    notices: Sequence[str],
) -> Presentation:
    """The nodes beside each other, in the order of their names. `shown`: of the reports of `outcomes`, in their order, what is to be shown."""
    from ruleaudit.reports.evidence import Context
    from ruleaudit.reports.formats import render
    from ruleaudit.reports.nodes import Failure, compared, in_order, natural, nodes_lines, nodes_summary
    from ruleaudit.reports.printable import printable
    from ruleaudit.reports.text import hidden_text

    paths = [one.path for one in outcomes if one.report is not None]
    failures = [Failure(one.path, one.error.removeprefix(f"{one.path}: ")) for one in outcomes if one.report is None]
    failures.sort(key=lambda one: natural(one.path))
    order = in_order(shown, paths)
    comparison = compared([shown[number] for number in order], [paths[number] for number in order], failures)
    said = (hidden_text(hidden),) if hidden.count else ()
    context = Context(threshold, os.getcwd(), (*said, *notices), hidden, comparison)  # noqa: PTH109  a str is wanted
    return Presentation(
        lines=lambda: nodes_lines(comparison, layout, hidden, notices),
        render=lambda name: render(name, comparison.reports, context),
        summary=lambda: nodes_summary(comparison, hidden),
        failures=tuple(f"{printable(one.path)}: not audited: {printable(one.error)}" for one in failures),
    )
