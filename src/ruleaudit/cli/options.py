"""The options that commands share."""

from __future__ import annotations

from dataclasses import fields
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from ruleaudit.cli.completion import complete_codes, complete_files
from ruleaudit.cli.inputs import Inputs
from ruleaudit.reports.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "cluster_options",
    "common_options",
    "exit_zero_option",
    "input_options",
    "limit_factor_option",
    "output_option",
    "report_options",
    "selection_options",
    "text_or_json_option",
]

Function = TypeVar("Function", bound="Callable[..., object]")


class _Option(Protocol):
    """What adds one option, or several, to the function of a command."""

    def __call__(self, function: Function, /) -> Function:
        """The same function, with the option."""


def _together(*options: _Option) -> _Option:
    """Several options as one, in the order in which the help lists them."""

    def add(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def _comma_separated(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


# --- what is read ---

limit_factor_option = click.option(
    "--limit-factor",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Read inputs so many times larger than the limits that refusals name.",
)

cluster_options = _together(
    click.option(
        "--kubeconfig",
        metavar="FILE",
        shell_complete=complete_files,
        help="How the cluster is reached.  [default: $KUBECONFIG, ~/.kube/config, service account]",
    ),
    click.option("--context", metavar="NAME", help="The context of the kubeconfig.  [default: its current one]"),
    click.option(
        "--request-timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default=True,
        help="How long the API server, or a program on the node, may stay silent.",
    ),
)
"""Which API server is asked, and how patiently."""

_input_options = _together(
    click.argument("paths", metavar="[INPUT]...", nargs=-1, shell_complete=complete_files),
    click.option(
        "--objects",
        metavar="FILE",
        multiple=True,
        shell_complete=complete_files,
        help="Kubernetes objects, JSON or YAML; same as an INPUT.",
    ),
    click.option("--node", metavar="NAME", help="The node whose rules these are.  [default: the only Node of the objects]"),
    click.option(
        "--kube-proxy-config",
        metavar="FILE",
        shell_complete=complete_files,
        help="kube-proxy's settings: its configuration, the ConfigMap or DaemonSet that holds it, or its command line.",
    ),
    limit_factor_option,
    click.option("--live", is_flag=True, help="Read the rules of the node that this runs on, as root; nothing is changed."),
    click.option("--cluster", is_flag=True, help="Read the objects from the API server; nothing is changed."),
    cluster_options,
)


def input_options(function: Callable[..., int]) -> Callable[..., int]:
    """INPUT, what is said of it, and what is read outside of files. The function gets all of it as `inputs`."""

    @wraps(function)
    def read(**values: Any) -> int:  # noqa: ANN401  click's
        inputs = {field.name: values.pop(field.name) for field in fields(Inputs)}
        return function(inputs=Inputs.given(**inputs), **values)

    return _input_options(read)


# --- what is shown ---

report_options = _together(
    click.option(
        "--format",
        "format_",
        type=click.Choice(list(FORMATS)),
        help="What is printed, and written to files whose name says no format.  [default: text]",
    ),
    click.option(
        "--output",
        "outputs",
        metavar="[FORMAT:]FILE",
        multiple=True,
        shell_complete=complete_files,
        help="Write to FILE, as a whole or not at all, in the format of its ending (.json, .html, .md, .sarif, .xml for JUnit, "
        ".gitlab.json); may be given several times. Then only a --format that no file has is printed.",
    ),
    click.option(
        "--fail-on",
        type=click.Choice(["info", "warning", "error"]),
        default="warning",
        show_default=True,
        help="Exit with 1 on findings of this severity or worse. info also shows notes in full.",
    ),
)
"""Where a report goes, and what counts in it."""

exit_zero_option = click.option("--exit-zero", is_flag=True, help="Exit with 0 whatever is found.")

selection_options = _together(
    click.option(
        "--select",
        metavar="PREFIX,...",
        multiple=True,
        callback=_comma_separated,
        shell_complete=complete_codes,
        help="Only codes that begin so.",
    ),
    click.option(
        "--ignore",
        metavar="PREFIX,...",
        multiple=True,
        callback=_comma_separated,
        shell_complete=complete_codes,
        help="No codes that begin so.",
    ),
)
"""Which codes are shown."""

text_or_json_option = click.option(
    "--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people or programs."
)

output_option = click.option(
    "--output", metavar="FILE", shell_complete=complete_files, help="Write to FILE, as a whole or not at all."
)
"""Where what is no report goes."""

# --- what every command has ---

common_options = _together(
    click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Colours; auto: on a terminal, unless NO_COLOR is set.",
    ),
    click.option("--debug", is_flag=True, help="Show a traceback with every error."),
)
