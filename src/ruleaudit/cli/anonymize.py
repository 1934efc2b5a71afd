"""The command `anonymize`: a capture that can be shown to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ruleaudit.cli.completion import complete_files
from ruleaudit.cli.options import common_options, limit_factor_option
from ruleaudit.cli.output import write_bytes
from ruleaudit.cli.statuses import CLEAN
from ruleaudit.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ruleaudit.cli.terminal import Color

__all__ = ["anonymize"]

_ENDINGS = (".tar.gz", ".tgz")


@click.command()
@click.argument("paths", metavar="CAPTURE...", nargs=-1, required=True, shell_complete=complete_files)
@click.option(
    "--output",
    metavar="DIR|FILE.tar.gz",
    required=True,
    shell_complete=complete_files,
    help="A new or empty folder, or an archive, to write to.",
)
@click.option("--key", metavar="TEXT", help="Names and addresses depend on this key alone; keep it secret.  [default: a new one]")
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
    from ruleaudit.reports.printable import printable
    from ruleaudit.sources import gather

    archive = output.endswith(_ENDINGS)
    folder = Path(output)
    if not archive and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.UsageError(
            f"--output {output}: is there already, and not an empty folder; name a new folder or a file that ends in .tar.gz.",
            click.get_current_context(),
        )
    found = anonymized(
        gather(paths, limit_factor=limit_factor),
        Mapping(secrets.token_bytes(32) if key is None else key.encode("utf-8", "surrogateescape")),
        limit_factor=limit_factor,
    )
    if archive:
        write_bytes(_packed(found.files), output)
    else:
        try:
            for name in found.files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"--output {output}: cannot be written: {error.strerror or error}."
            raise click.UsageError(what, click.get_current_context()) from error
        for name, text in found.files.items():
            write_bytes(text.encode("utf-8", "surrogateescape"), str(folder / name))
    for what in found.left_out:
        say(f"left out: {printable(what)}")
    kept = "names that every cluster has (default/kubernetes, kube-system, kube-dns), ports and times are as they were"
    say(f"{output}: {len(found.files)} files; {kept}")
    return CLEAN


def _packed(files: Mapping[str, str]) -> bytes:
    import io
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            data = text.encode("utf-8", "surrogateescape")
            member = tarfile.TarInfo(name)  # of nobody, at no time
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()
