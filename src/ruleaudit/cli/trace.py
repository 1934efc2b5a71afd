"""The command `trace`: the way of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from ruleaudit.cli.options import common_options, input_options, output_option
from ruleaudit.cli.output import write, write_lines
from ruleaudit.cli.progress import Progress
from ruleaudit.cli.statuses import CLEAN, FOUND

if TYPE_CHECKING:
    from ruleaudit.cli.inputs import Inputs
    from ruleaudit.cli.terminal import Color

__all__ = ["trace"]

_EPILOG = """\b
Examples:
  ruleaudit trace collected/ --from pod/shop/cart-0 --to web.shop.svc.cluster.local:80
  ruleaudit trace collected/ --from node --to 10.96.1.1:80/tcp
  ruleaudit trace collected/ --from 198.51.100.7 --to 192.168.100.11:30080
  ruleaudit trace node-a/ node-b/ --from 198.51.100.7 --to https://shop.example.com/cart

\b
Exit status: 0 every connection reaches a ready endpoint, 1 one does not or may not, 2 usage or unreadable input.
"""


@click.command(epilog=_EPILOG)
@input_options
@click.option("--from", "client", metavar="CLIENT", required=True, help="pod/NAMESPACE/NAME, node, or an ADDRESS.")
@click.option("--to", "target", metavar="TARGET", required=True, help="(NAME | ADDRESS | URL)[:PORT][/PROTOCOL]")
@click.option(
    "--controller", metavar="NAMESPACE/NAME", help="The Ingress controller: a Service, a Deployment, a DaemonSet or a pod."
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "dot", "mermaid"]),
    default="text",
    show_default=True,
    help="A tree, JSON, or a picture for Graphviz or Mermaid.",
)
@output_option
@click.option("--quiet", is_flag=True, help="Print the answer only, and no progress.")
@common_options
def trace(
    *,
    inputs: Inputs,
    client: str,
    target: str,
    controller: str | None,
    format_: Literal["text", "json", "dot", "mermaid"],
    output: str | None,
    quiet: bool,
    color: Color,
    debug: bool,
) -> int:
    """Follow a connection from its client to the pod, with the rules that decide.

    INPUT, --live and --cluster are as for check; where INPUT is about several nodes, the connection is followed through all of them.
    """
    del debug
    from ruleaudit.collector import without_collection
    from ruleaudit.trace import trace as follow

    with Progress(shown=not quiet) as progress, without_collection():
        found = follow(inputs.nodes(progress.step), client, target, controller=controller)
    if format_ == "text":
        from ruleaudit.trace.text import trace_lines

        lines = list(trace_lines(found))
        write_lines(lines[-1:] if quiet else lines, output, color)
    elif format_ == "json":
        from ruleaudit.trace.structured import json_trace

        write(json_trace(found), output)
    else:
        from ruleaudit.trace.picture import dot_trace, mermaid_trace

        write(dot_trace(found) if format_ == "dot" else mermaid_trace(found), output)
    return CLEAN if found.reached else FOUND
