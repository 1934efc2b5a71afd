"""What a command reads: its INPUTs and --objects, kube-proxy's settings, and what --live and --cluster add (`options.input_options`)."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO, TextIO

    from ruleaudit.kubeproxy.settings import GivenSettings
    from ruleaudit.sources import Captures, Source
    from ruleaudit.trace import Nodes

__all__ = ["Inputs", "live_beside"]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is said of the inputs; `paths` are the INPUTs, and every other field is what the option of its name says."""

    paths: tuple[str, ...]
    objects: tuple[str, ...]
    node: str | None
    kube_proxy_config: str | None
    limit_factor: int
    live: bool
    cluster: bool
    kubeconfig: str | None
    context: str | None
    request_timeout: float

    @classmethod
    def given(cls, **values: Any) -> Inputs:  # noqa: ANN401  each is of its field's type
        """The inputs of the command line: without INPUT what is piped into standard input. Raises UsageError where nothing is."""
        found = cls(**values)
        return found if found.paths or found.live else replace(found, paths=_piped())

    def settings(self) -> GivenSettings | None:
        """What --kube-proxy-config says, None without it. Raises InputError."""
        if self.kube_proxy_config is None:
            return None
        from ruleaudit.kubeproxy.settings import read_settings
        from ruleaudit.sources import read_plain

        return read_settings(read_plain(self.kube_proxy_config), self.kube_proxy_config)

    def outside(self, progress: Callable[[str, float], None]) -> list[Source]:
        """What --live and --cluster read. Raises LiveError; UsageError for an option without its switch."""
        if not self.cluster and (self.kubeconfig is not None or self.context is not None):
            raise click.UsageError(
                "--kubeconfig and --context say how --cluster reaches the cluster: add --cluster.", click.get_current_context()
            )
        sources: list[Source] = []
        if self.live:
            from ruleaudit.live.node import read_node

            sources += read_node(self.request_timeout).sources()
        if self.cluster:
            from ruleaudit.live.cluster import ClusterOptions, connect, read_objects
            from ruleaudit.sources import MAX_BYTES

            connection = connect(ClusterOptions(self.kubeconfig, self.context, self.request_timeout))
            sources += read_objects(connection, progress, MAX_BYTES * self.limit_factor)
        return sources

    def gathered(self) -> list[Source] | Captures:
        """Every input of one node, or several nodes' captures. Raises InputError."""
        from ruleaudit.sources import gather

        return gather(self.paths, self._standard_input(), shared=self.objects, limit_factor=self.limit_factor)

    def nodes(self, progress: Callable[[str, float], None]) -> Nodes:
        """The nodes that are asked about. Raises InputError, LiveError, UnknownNodeError; UsageError for --live beside several nodes."""
        from ruleaudit.trace import SeveralNodesError, read_nodes

        try:
            return read_nodes(
                self.paths,
                self._standard_input(),
                shared=self.objects,
                outside=self.outside(progress),
                node=self.node,
                settings=self.settings(),
                progress=progress,
                limit_factor=self.limit_factor,
            )
        except SeveralNodesError as error:
            raise live_beside(error.count) from error

    def _standard_input(self) -> BinaryIO | None:
        standard_input: TextIO | None = sys.stdin  # None where the caller closed it
        return standard_input.buffer if "-" in (*self.paths, *self.objects) and standard_input is not None else None


def live_beside(count: int) -> click.UsageError:
    """The refusal of --live where the inputs are `count` nodes' captures."""
    return click.UsageError(
        f"--live reads the rules of this node, and the inputs are about {count:,} others.", click.get_current_context()
    )


def _piped() -> tuple[str, ...]:
    """Standard input where something is led into it. Raises UsageError where nothing is: a terminal, /dev/null, closed."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        mode = None
    if mode is None or stat.S_ISCHR(mode):
        raise click.UsageError(
            "no INPUT is given, and nothing is piped into standard input; --live reads this node.", click.get_current_context()
        )
    return ("-",)
