"""The part of the command line that reads outside of files: the options of `check` for it, and `collect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from ruleaudit.sources import Source

__all__ = ["cluster_options", "outside_sources"]

Function = TypeVar("Function", bound="Callable[..., object]")


def cluster_options(function: Function) -> Function:
    """The options that say which API server is asked, and how patiently."""
    for option in (
        click.option(
            "--request-timeout",
            metavar="SECONDS",
            type=click.FloatRange(min=0, min_open=True),
            default=30.0,
            show_default=True,
            help="How long the API server, or a program on the node, may stay silent.",
        ),
        click.option("--context", metavar="NAME", help="The context of the kubeconfig.  [default: its current one]"),
        click.option(
            "--kubeconfig",
            metavar="FILE",
            help="How the cluster is reached.  [default: $KUBECONFIG, ~/.kube/config, service account]",
        ),
    ):
        function = option(function)
    return function


def outside_sources(
    *,
    live: bool,
    cluster: bool,
    kubeconfig: str | None,
    context: str | None,
    timeout: float,
    progress: Callable[[str, float], None],
    limit_factor: int,
) -> list[Source]:
    """What `--live` and `--cluster` add to the inputs of an audit. Raises LiveError; UsageError for an option without its switch."""
    if not cluster and (kubeconfig is not None or context is not None):
        raise click.UsageError(
            "--kubeconfig and --context say how --cluster reaches the cluster: add --cluster.", click.get_current_context()
        )
    sources: list[Source] = []
    if live:
        from ruleaudit.live.node import read_node

        sources += read_node(timeout).sources()
    if cluster:
        from ruleaudit.live.cluster import ClusterOptions, connect, read_objects
        from ruleaudit.sources import MAX_BYTES

        sources += read_objects(connect(ClusterOptions(kubeconfig, context, timeout)), progress, MAX_BYTES * limit_factor)
    return sources
