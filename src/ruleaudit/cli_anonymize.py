"""The command `anonymize`: a capture that can be shown to others."""

from __future__ import annotations

import io
import secrets
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ruleaudit import cli
from ruleaudit.cli_completion import complete_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

__all__ = ["anonymize"]

_ENDINGS = (".tar.gz", ".tgz")


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
@click.option(
    "--limit-factor", type=click.IntRange(1, 1000), default=1, show_default=True, help="Read inputs so many times larger."
)
@cli._common_options
def anonymize(*, paths: tuple[str, ...], output: str, key: str | None, limit_factor: int, color: cli.Color, debug: bool) -> int:
    """Rewrite the names and addresses of a node's capture, so that it can be shown to others and an audit of it finds the same.

    CAPTURE is what `check` takes. Names of objects, hosts, nodes, zones and labels, addresses (networks stay networks), hashes in names
    of chains, comments and settings are rewritten alike everywhere; ports and times stay. What is unknown is replaced.
    """
    del color, debug
    from ruleaudit.anonymize import Mapping, anonymized
    from ruleaudit.reports.printable import printable
    from ruleaudit.sources import read

    archive = output.endswith(_ENDINGS)
    folder = Path(output)
    if not archive and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.UsageError(
            f"--output {output}: is there already, and not an empty folder; name a new folder or a file that ends in .tar.gz.",
            click.get_current_context(),
        )
    standard_input: TextIO | None = sys.stdin  # None where the caller closed it
    stream = standard_input.buffer if "-" in paths and standard_input is not None else None
    found = anonymized(
        read(paths, stream, limit_factor=limit_factor),
        Mapping(secrets.token_bytes(32) if key is None else key.encode("utf-8", "surrogateescape")),
        limit_factor=limit_factor,
    )
    if archive:
        cli._write_bytes(_packed(found.files), output)
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"--output {output}: cannot be written: {error.strerror or error}."
            raise click.UsageError(what, click.get_current_context()) from error
        for name, text in found.files.items():
            cli._write_bytes(text.encode("utf-8", "surrogateescape"), str(folder / name))
    for what in found.left_out:
        cli._say(f"left out: {printable(what)}")
    kept = "names that every cluster has (default/kubernetes, kube-system, kube-dns), ports and times are as they were"
    cli._say(f"{output}: {len(found.files)} files; {kept}")
    return cli.CLEAN


def _packed(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            data = text.encode("utf-8", "surrogateescape")
            member = tarfile.TarInfo(name)  # of nobody, at no time
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()
