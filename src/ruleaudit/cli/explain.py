"""The commands `explain` and `codes`: what the catalogue says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from ruleaudit.cli.completion import complete_codes
from ruleaudit.cli.options import common_options, output_option, text_or_json_option
from ruleaudit.cli.output import write, write_lines
from ruleaudit.cli.statuses import CLEAN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruleaudit.cli.terminal import Color
    from ruleaudit.reports.text import Line

__all__ = ["codes", "explain"]


@click.command()
@click.argument("code", shell_complete=complete_codes)
@output_option
@common_options
def explain(*, code: str, output: str | None, color: Color, debug: bool) -> int:
    """Say what CODE means, why it matters, what to do, and what looks like it but is right.

    CODE is a code (RA206), its name (stale-endpoint), or the beginning of codes (RA2), which lists them.
    """
    del debug
    from ruleaudit.catalogue import CATALOGUE
    from ruleaudit.reports.selection import code_prefix
    from ruleaudit.reports.text import entry_lines

    prefix = code_prefix(code)
    write_lines(entry_lines(CATALOGUE[prefix]) if prefix in CATALOGUE else _code_lines(prefix), output, color)
    return CLEAN


@click.command()
@text_or_json_option
@output_option
@common_options
def codes(*, format_: Literal["text", "json"], output: str | None, color: Color, debug: bool) -> int:
    """List every code with its name and severity; as JSON with all that `explain` says."""
    del debug
    if format_ == "text":
        write_lines(_code_lines(""), output, color)
        return CLEAN
    import json
    from dataclasses import asdict

    from ruleaudit.catalogue import CATALOGUE, GROUPS

    entries = [
        {**asdict(entry), "severity": entry.severity.value, "group": entry.group, "about": GROUPS[entry.group]}
        for entry in CATALOGUE.values()
    ]
    write(json.dumps({"schema": "ruleaudit/codes/v1", "codes": entries}, indent=2) + "\n", output)
    return CLEAN


def _code_lines(prefix: str) -> Iterator[Line]:
    """The codes that begin so, by group; for no beginning also the groups that no code has yet."""
    from ruleaudit.catalogue import CATALOGUE, GROUPS, RESERVED
    from ruleaudit.reports.text import Line, Piece

    for group, about in GROUPS.items():
        members = [entry for code, entry in CATALOGUE.items() if entry.group == group and code.startswith(prefix)]
        if members:
            yield Line(0, "", (Piece(f"{group}  {about}", "bold"),))
        for entry in members:
            yield Line(2, "", (Piece(f"{entry.code}  {entry.severity.value:8} {entry.name}"),))
    if not prefix:
        for group, about in RESERVED.items():
            yield Line(0, "", (Piece(f"{group}  reserved for {about}", "dim"),))
