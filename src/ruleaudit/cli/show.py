"""The commands of `show`: the model of a node, a thing at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from ruleaudit.cli.options import common_options, input_options, output_option, text_or_json_option
from ruleaudit.cli.output import write, write_lines
from ruleaudit.cli.progress import Progress
from ruleaudit.cli.statuses import CLEAN

if TYPE_CHECKING:
    from collections.abc import Callable

    from ruleaudit.cli.inputs import Inputs
    from ruleaudit.cli.terminal import Color

__all__ = ["show"]


@click.group()
def show() -> None:
    """Read the model of a node: what is there, what it means, who leads to it."""


def _add(kind: str, metavar: str, help_: str) -> None:
    """Add the command for one kind of thing; `metavar` is what names one of them, "" where there is one only."""

    @input_options
    @text_or_json_option
    @output_option
    @common_options
    def shown(
        *, inputs: Inputs, format_: Literal["text", "json"], output: str | None, color: Color, debug: bool, name: str = ""
    ) -> int:
        del debug
        from ruleaudit.collector import without_collection
        from ruleaudit.show import json_sections, section_lines
        from ruleaudit.show import show as show_of

        with Progress(shown=True) as progress, without_collection():
            model = inputs.nodes(progress.step).first
            section = show_of(model, kind, name)
        if format_ == "json":
            write(json_sections(model.name, section), output)
        else:
            write_lines(section_lines(section), output, color)
        return CLEAN

    function: Callable[..., int] = click.argument("name", metavar=metavar)(shown) if metavar else shown
    show.command(kind, help=help_)(function)


_add(
    "service",
    "NAMESPACE/NAME",
    "A Service: its endpoints, its addresses, who gets their connections, and the rules that name them.",
)
_add("chain", "CHAIN", "A chain: what it means, whose it is, who jumps to it, and its rules.")
_add("endpoint", "ADDRESS[:PORT]", "An endpoint: whose it is, and who sends traffic to it.")
_add("virtual-server", "ADDRESS:PORT[/PROTOCOL]", "A virtual server of IPVS and its real servers.")
_add("set", "SET", "A set of ipset, and the rules that ask it.")
_add("summary", "", "The node in short: modes, tables, chains, virtual servers, sets, objects.")
