"""The command `anonymize`: a capture that can be shown to others."""

from __future__ import annotations

import io
import secrets
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["anonymize"]

_ENDINGS = (".tar.gz", ".tgz")


def anonymize(
    paths: tuple[str, ...],
    output: str,
    key: str | None,
    limit_factor: int,
    say: Callable[[str], None],
    write: Callable[[bytes, str], None],
) -> None:
    """Read the capture at `paths`, rewrite it, and write it to `output`: a folder, or a file whose name is that of an archive.

    `key`: None for a new one. `write` writes a file as a whole or not at all. Raises UsageError for a folder that holds something,
    InputError for inputs that cannot be read.
    """
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
    found = anonymized(
        read(paths, limit_factor=limit_factor),
        Mapping(secrets.token_bytes(32) if key is None else key.encode("utf-8", "surrogateescape")),
        limit_factor=limit_factor,
    )
    if archive:
        write(_packed(found.files), output)
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"--output {output}: cannot be written: {error.strerror or error}."
            raise click.UsageError(what, click.get_current_context()) from error
        for name, text in found.files.items():
            write(text.encode("utf-8", "surrogateescape"), str(folder / name))
    for what in found.left_out:
        say(f"left out: {printable(what)}")
    kept = "names that every cluster has (default/kubernetes, kube-system, kube-dns), ports and times are as they were"
    say(f"{output}: {len(found.files)} files; {kept}")


def _packed(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            data = text.encode("utf-8", "surrogateescape")
            member = tarfile.TarInfo(name)  # of nobody, at no time
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()
