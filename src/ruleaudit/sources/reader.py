"""Files, folders, archives and standard input are read, within one limit."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ruleaudit.errors import RAISE_LIMIT, InputError
from ruleaudit.sources.archives import decompressed, limited, magic, tar_members, zip_members
from ruleaudit.sources.decode import as_text, normalised
from ruleaudit.sources.kinds import InputKind, Source
from ruleaudit.sources.paste import sources_of
from ruleaudit.sources.recognise import HEAD, recognise

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_FILES", "STDIN", "Reader", "read_plain"]

STDIN = "<stdin>"
MAX_BYTES = 1 << 30
"""More than this is refused, of all inputs together, decompressed. The largest node seen has 116 MB."""
MAX_FILES = 10_000
"""How many files of one folder or archive are looked at."""
MAX_DEPTH = 3
"""How deep below a named folder files are looked for."""


@dataclass(slots=True)
class Reader:
    """Reads inputs one after the other, and keeps what they hold in `sources`."""

    limit: int
    """How many bytes may be read, decompressed: the limit is one of all inputs together."""
    max_files: int
    """How many files of one folder or archive are looked at."""
    taken: int = 0
    """How many bytes were read."""
    sources: list[Source] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def one(self, path: str, stdin: BinaryIO | None) -> None:
        """A path that the user gave, or "-" for `stdin`."""
        if path != "-":
            self.named(path)
        elif stdin is None:
            raise InputError("there is no standard input to read", STDIN)
        else:
            self.content(STDIN, limited(stdin, STDIN, self.limit, self.taken), given=True)

    def named(self, path: str) -> None:
        """A path that the user gave."""
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116  a Path would lose "./" and "//", and messages name the path as given
            if stat.S_ISDIR(mode):
                self._folder(path)
            elif self._is_new(path):
                with Path(path).open("rb") as stream:
                    self.content(path, limited(stream, path, self.limit, self.taken), given=True)
        except FileNotFoundError as error:
            raise InputError("there is no such file or folder", path) from error
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror or error}", path) from error

    def content(self, path: str, data: bytes, *, given: bool) -> None:
        """Bytes of a file or of standard input: maybe compressed, maybe an archive."""
        data = decompressed(data, path, self.limit, self.taken)
        kind = magic(data)
        if kind not in ("tar", "zip"):
            self.taken += len(data)
            self.sources.extend(sources_of(path, data, given=given))
            return
        if not given:
            self.sources.append(Source(path, InputKind.OTHER, "", b"", given=False, reason="an archive; name it to have it read"))
            return
        members = tar_members if kind == "tar" else zip_members
        before = len(self.sources)
        for member, content in members(path, data, self.limit - self.taken, self.max_files):
            self._found(f"{path}:{member}", content)
        self._require_any(path, before, "archive")

    def _folder(self, path: str) -> None:
        before = len(self.sources)
        count = 0
        for file in _files(Path(path), MAX_DEPTH):
            count += 1
            if count > self.max_files:
                what = f"holds more than {self.max_files:,} files; name the ones that belong to the node; {RAISE_LIMIT}"
                raise InputError(what, path)
            if not self._is_new(str(file)):
                continue
            name = os.path.join(path, file.relative_to(path))  # noqa: PTH118  keeps the path as the user gave it
            try:
                with file.open("rb") as stream:
                    head = stream.read(HEAD)
                    if _is_ours(head, name):
                        self._found(name, head + limited(stream, name, self.limit, self.taken))
                    else:
                        self._found(name, head)
            except OSError as error:
                self._passed_over(name, f"cannot be read: {error.strerror or error}")
        self._require_any(path, before, "folder")

    def _found(self, path: str, data: bytes) -> None:
        """A file that the user did not name: what cannot be read is passed over, and says why."""
        try:
            self.content(path, data, given=False)
        except InputError as error:
            self._passed_over(path, error.message)

    def _passed_over(self, path: str, reason: str) -> None:
        self.sources.append(Source(path, InputKind.OTHER, "", b"", given=False, reason=reason))

    def _require_any(self, path: str, before: int, what: str) -> None:
        if all(source.kind in (InputKind.OTHER, InputKind.EMPTY) for source in self.sources[before:]):
            raise InputError(
                f"the {what} holds {'nothing' if len(self.sources) == before else 'no file'} that ruleaudit reads", path
            )

    def _is_new(self, path: str) -> bool:
        """Whether a file is read for the first time: a folder and a file in it may both be named. Pipes are always new."""
        real = os.path.realpath(path)
        if not os.path.isfile(real):  # noqa: PTH113  of a string that is no Path before
            return True
        if real in self.seen:
            return False
        self.seen.add(real)
        return True


def _is_ours(head: bytes, path: str) -> bool:
    """Whether a found file is worth reading whole, by its beginning."""
    if magic(head) is not None or len(head) < HEAD:
        return True
    try:
        return recognise(as_text(normalised(head, path))).kind is not InputKind.OTHER
    except InputError:
        return False


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """The regular files of a folder and of its subfolders, by name; hidden ones and links to folders are left out."""
    entries = sorted(folder.iterdir())
    for entry in entries:
        if not entry.name.startswith(".") and entry.is_file():
            yield entry
    if depth > 1:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir() and not entry.is_symlink():
                yield from _files(entry, depth - 1)


def read_plain(path: str) -> bytes:
    """The content of one file as text, decompressed. Raises InputError when it cannot be read or is no text."""
    try:
        with Path(path).open("rb") as stream:
            return normalised(decompressed(limited(stream, path, MAX_BYTES), path, MAX_BYTES), path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path) from error
