"""Living with findings: --config and --no-config, --baseline and --write-baseline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from click.core import ParameterSource

from ruleaudit.cli.completion import complete_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ruleaudit.configuration import Configuration
    from ruleaudit.findings import Report, Severity
    from ruleaudit.reports.selection import Hidden
    from ruleaudit.suppressions import Aside

__all__ = ["baseline_options", "configuration", "configuration_options", "put_aside", "with_origins", "written_baseline"]

Function = TypeVar("Function", bound="Callable[..., object]")

_FOUND = "ruleaudit.configuration"
_NONE = "ruleaudit.no-configuration"
_TOGETHER = "--config and --no-config contradict each other."


def configuration_options(function: Function) -> Function:
    """Add --config and --no-config. What the file says becomes the defaults of the command's other options, so the command line wins."""
    function = click.option(
        "--no-config",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_without,
        help="Read no configuration.",
    )(function)
    return click.option(
        "--config",
        metavar="FILE",
        shell_complete=complete_files,
        is_eager=True,
        expose_value=False,
        callback=_with,
        help="The configuration.  [default: the nearest ruleaudit.toml, or pyproject.toml with [tool.ruleaudit], from here upwards]",
    )(function)


def baseline_options(function: Function) -> Function:
    """Add --baseline and --write-baseline."""
    function = click.option(
        "--write-baseline",
        metavar="FILE",
        shell_complete=complete_files,
        help="Write what is found at or above --fail-on to FILE, so that only new findings count from now on; exits with 0.",
    )(function)
    return click.option(
        "--baseline",
        metavar="FILE",
        shell_complete=complete_files,
        help="Findings in FILE are known: they are counted, and count for nothing.",
    )(function)


def _without(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value:
        return
    if _FOUND in context.meta:  # options that are given are looked at before those that are not: --config was given
        raise click.UsageError(_TOGETHER, context)
    context.meta[_NONE] = True


def _with(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if context.resilient_parsing:
        return
    if context.meta.get(_NONE):
        if value is not None:
            raise click.UsageError(_TOGETHER, context)
        return
    from ruleaudit.configuration import find_configuration, read_configuration

    path = Path(value) if value is not None else find_configuration(Path.cwd())
    if path is None:
        return
    found = read_configuration(path)
    context.meta[_FOUND] = found
    context.default_map = dict(found.options)


def configuration() -> Configuration:
    """The configuration of the command that runs; an empty one where there is none."""
    from ruleaudit.configuration import Configuration

    found = click.get_current_context().meta.get(_FOUND)
    return found if isinstance(found, Configuration) else Configuration()


def put_aside(reports: Sequence[Report], baseline: str | None, written: str | None = None) -> Aside:
    """The reports without what the configuration ignores and what the baseline knows. `written`: the baseline that is to be written, which may
    be `baseline` itself and not be there yet. Raises InputError for a baseline that is none.
    """
    from datetime import UTC, datetime

    from ruleaudit.baseline import read_baseline
    from ruleaudit.suppressions import put_aside

    is_first = baseline is not None and written is not None and not Path(baseline).exists() and _is_same(baseline, written)
    known = None if baseline is None or is_first else read_baseline(baseline)
    return put_aside(reports, configuration().ignores, known, datetime.now(UTC).date(), _ignored_everywhere())


def _ignored_everywhere() -> Mapping[str, str]:
    """The beginnings of codes that the configuration ignores everywhere, where --ignore does not stand in its place; and where it says so."""
    found = configuration()
    context = click.get_current_context()
    if context.get_parameter_source("ignore") is not ParameterSource.DEFAULT_MAP:
        return {}
    return dict.fromkeys(context.params["ignore"], found.places["ignore"])


def _is_same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()


def written_baseline(aside: Aside, shown: Sequence[Report], path: str | None, threshold: Severity) -> list[tuple[str, str]]:
    """(text, path) of the baseline to write; nothing for None. `shown`: what a selection left of the reports of `aside`, in their order.

    What is known already is written again, what is ignored is not. What is there and not shown, or was not checked now, stays where the
    file has it already.
    """
    if path is None:
        return []
    from ruleaudit.baseline import baseline_text, read_baseline
    from ruleaudit.rechecked import is_rechecked

    before = read_baseline(path) if Path(path).is_file() and Path(path).stat().st_size else None
    whole = [
        replace(report, findings=(*report.findings, *(one.finding for one in report.suppressed if one.by == "baseline")))
        for report in shown
    ]
    unseen = {(report.node or "", one.fingerprint) for report in aside.reports for one in report.findings}
    for report in aside.reports:
        known = {} if before is None else before.of(report.node)
        unseen |= {entry.key for entry in known.values() if not is_rechecked(entry, report)}
    return [(baseline_text(whole, threshold, before, unseen), path)]


def with_origins(hidden: Hidden) -> Hidden:
    """The same with options that the configuration sets named as such: nobody looks for them on the command line."""
    context = click.get_current_context()
    file = configuration().path
    names = {"--select": "select", "--ignore": "ignore", "--service": "services", "--namespace": "namespaces"}

    def origin(option: str) -> str:
        from_file = context.get_parameter_source(names.get(option, "")) is ParameterSource.DEFAULT_MAP
        return f"{option.removeprefix('--')} in {file}" if from_file else option

    return replace(hidden, options=tuple(map(origin, hidden.options)))
