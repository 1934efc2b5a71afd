"""The command `collect`: a capture of a node, or of all nodes of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ruleaudit.cli.completion import complete_files
from ruleaudit.cli.options import cluster_options, common_options
from ruleaudit.cli.progress import Progress
from ruleaudit.cli.statuses import CLEAN, FOUND
from ruleaudit.cli.terminal import say

if TYPE_CHECKING:
    from ruleaudit.cli.terminal import Color
    from ruleaudit.live.collect import Collected

__all__ = ["collect"]

_EPILOG = """\b
Three ways:
  sudo ruleaudit collect --output node.tar.gz                   this node
  ruleaudit collect --cluster --output nodes/                   every node, through its kube-proxy pod; and the objects
  ruleaudit collect --script > collect.sh                       a script for a node that has no ruleaudit: sh collect.sh

\b
Exit status: 0 written, 1 written without the nodes, or without rules of the nodes, that are named, 2 nothing written.
"""


@click.command(epilog=_EPILOG)
@click.option(
    "--output",
    metavar="PATH",
    shell_complete=complete_files,
    help="What is written: a folder that is not there yet, or a .tar.gz; whole or not at all.",
)
@click.option("--live", is_flag=True, help="This node; needed only to have it beside --cluster, which then gives the objects.")
@click.option("--cluster", is_flag=True, help="Every node of the cluster through the API server, and the objects.")
@cluster_options
@click.option(
    "--node", "names", metavar="NAME", multiple=True, help="With --cluster only these nodes; else the name of this one."
)
@click.option("--selector", metavar="LABEL=VALUE", help="The label of kube-proxy's pods.  [default: k8s-app=kube-proxy]")
@click.option("--objects-only", is_flag=True, help="With --cluster: the objects, and no node.")
@click.option("--script", is_flag=True, help="Print a shell script that does the same on a node, and do nothing else.")
@click.option("--quiet", is_flag=True, help="No summary, no progress.")
@common_options
def collect(
    *,
    output: str | None,
    live: bool,
    cluster: bool,
    kubeconfig: str | None,
    context: str | None,
    request_timeout: float,
    names: tuple[str, ...],
    selector: str | None,
    objects_only: bool,
    script: bool,
    quiet: bool,
    color: Color,
    debug: bool,
) -> int:
    """Write a capture of this node, or of all nodes of a cluster, for `ruleaudit check`.

    Nothing is changed anywhere. Secrets are never read, and of the objects only the kinds and fields that an audit reads are kept.
    """
    del color, debug
    _require_sense(output, live, cluster, kubeconfig, context, names, selector, objects_only=objects_only, script=script)
    if script:
        click.echo(_script(), nl=False)
        return CLEAN
    assert output is not None
    from ruleaudit.live.capture import require_writable, write_capture
    from ruleaudit.live.cluster import ClusterOptions, connect
    from ruleaudit.live.collect import SELECTOR, collect_cluster, collect_node, collect_objects

    require_writable(output)
    with Progress(shown=not quiet) as progress:
        connection = connect(ClusterOptions(kubeconfig, context, request_timeout)) if cluster else None
        if connection is None or live:
            collected = collect_node(request_timeout, names[0] if names else None, connection, progress.step)
        elif objects_only:
            collected = collect_objects(connection, progress.step)
        else:
            collected = collect_cluster(connection, selector or SELECTOR, names, progress.step)
    write_capture(collected.files, output)
    _say_collected(collected, output, quiet=quiet)
    return FOUND if collected.failures or collected.partial else CLEAN


def _require_sense(
    output: str | None,
    live: bool,
    cluster: bool,
    kubeconfig: str | None,
    context: str | None,
    names: tuple[str, ...],
    selector: str | None,
    *,
    objects_only: bool,
    script: bool,
) -> None:
    """Raises UsageError for options that say nothing together."""
    problem = None
    if not script and output is None:
        problem = "Missing option '--output'."
    elif not cluster and (kubeconfig is not None or context is not None or selector is not None or objects_only):
        problem = "--kubeconfig, --context, --selector and --objects-only go with --cluster."
    elif live and (selector is not None or objects_only):
        problem = "--selector and --objects-only do not go with --live, which reads this node."
    elif (live or not cluster) and len(names) > 1:
        problem = "this node has one name: give --node once."
    if problem is not None:
        raise click.UsageError(problem, click.get_current_context())


def _script() -> str:
    from importlib.resources import files

    return (files("ruleaudit.live") / "collect.sh").read_text(encoding="utf-8")


def _say_collected(collected: Collected, output: str, *, quiet: bool) -> None:
    from ruleaudit.reports.printable import printable

    for name, why in collected.failures.items():
        say(f"ruleaudit: {printable(name)} is not in it: {printable(why)}")
    for name, why in collected.partial.items():
        say(f"ruleaudit: {printable(name)} is in it without some of its rules: {printable(why)}")
    if not quiet:
        count = len(collected.nodes)
        what = "objects only" if not count else printable(collected.nodes[0]) if count == 1 else f"{count} nodes"
        beside = ", objects" if count and "objects.json" in collected.files else ""
        say(f"wrote {printable(output)}: {what}{beside}")
