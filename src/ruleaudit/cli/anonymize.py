"""The command `anonymize`: a capture that can be shown to others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ruleaudit.cli.completion import complete_files
from ruleaudit.cli.options import common_options, limit_factor_option
from ruleaudit.cli.statuses import CLEAN
from ruleaudit.cli.terminal import say

if TYPE_CHECKING:
    from typing import TextIO

    from ruleaudit.cli.terminal import Color

__all__ = ["anonymize"]


def _no_empty_key(_context: click.Context, _parameter: click.Parameter, key: str | None) -> str | None:
    if key == "":
        raise click.BadParameter("an empty key is known to everybody; leave --key out for a new one, or give a text.")
    return key


@click.command()
@click.argument("paths", metavar="CAPTURE...", nargs=-1, required=True, shell_complete=complete_files)
@click.option(
    "--output",
    metavar="DIR|FILE.tar.gz",
    required=True,
    shell_complete=complete_files,
    help="A new or empty folder, or an archive, to write to.",
)
@click.option(
    "--key",
    metavar="TEXT",
    callback=_no_empty_key,
    help="Names and addresses depend on this key alone; keep it secret.  [default: a new one]",
)
@limit_factor_option
@common_options
def anonymize(*, paths: tuple[str, ...], output: str, key: str | None, limit_factor: int, color: Color, debug: bool) -> int:
    """Rewrite the names and addresses of a node's capture, so that it can be shown to others and an audit of it finds the same.

    CAPTURE is what `check` takes, of one node or of several. Names of objects, hosts, nodes, zones and labels, addresses (networks stay
    networks), hashes in names of chains, comments and settings are rewritten alike everywhere; ports and times stay. What is unknown is
    replaced.
    """
    del color, debug
    import secrets

    from ruleaudit.anonymize import Mapping, anonymized
    from ruleaudit.live.capture import require_writable, write_capture
    from ruleaudit.reports.printable import printable
    from ruleaudit.sources import gather

    require_writable(output, into_empty=True)
    standard_input: TextIO | None = sys.stdin  # None where the caller closed it
    stream = standard_input.buffer if "-" in paths and standard_input is not None else None
    found = anonymized(
        gather(paths, stream, limit_factor=limit_factor),
        Mapping(secrets.token_bytes(32) if key is None else key.encode("utf-8", "surrogateescape")),
        limit_factor=limit_factor,
    )
    files = {name: text.encode("utf-8", "surrogateescape") for name, text in found.files.items()}
    write_capture(files, output, into_empty=True, moment=0)  # when it was written is nobody's business
    for what in found.left_out:
        say(f"left out: {printable(what)}")
    kept = "names that every cluster has (default/kubernetes, kube-system, kube-dns), ports and times are as they were"
    say(f"{output}: {len(found.files)} files; {kept}")
    return CLEAN
