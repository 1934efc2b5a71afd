"""Files, folders, archives and standard input are read, within one limit."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from ruleaudit.errors import RAISE_LIMIT, InputError
from ruleaudit.sources.archives import beginning, decompressed, limited, magic, members, unpacked
from ruleaudit.sources.decode import as_text, normalised
from ruleaudit.sources.kinds import InputKind, Source
from ruleaudit.sources.paste import sources_of
from ruleaudit.sources.recognise import HEAD, LONG_HEAD, UNKNOWN, recognise

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "INNER_ARCHIVE",
    "LINK",
    "LINK_IN_ARCHIVE",
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_FILES",
    "STDIN",
    "Reader",
    "glance",
    "glance_file",
    "is_archive",
    "leads_elsewhere",
    "read_plain",
]

STDIN = "<stdin>"
MAX_BYTES = 1 << 30
"""More than this is refused, of all inputs together, decompressed. The largest node seen has 116 MB."""
MAX_FILES = 10_000
"""How many files of one folder or archive are looked at."""
MAX_DEPTH = 3
"""How deep below a named folder files are looked for."""
_ARCHIVE_HEAD = 512
"""The first header of a tar archive."""
INNER_ARCHIVE = "an archive; name it to have it read"
LINK = "a link to a folder, which is not followed here; name the folder to have it read"
LINK_IN_ARCHIVE = "a link, which is not followed in an archive; pack what it leads to"


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
    folders: list[str] = field(default_factory=list)
    """The folders that archives hold, named as their files are: "archive:folder"."""

    def one(self, path: str, stdin: BinaryIO | None) -> None:
        """A path that the user gave, or "-" for `stdin`."""
        if path != "-":
            self.named(path)
        elif stdin is None:
            raise InputError("there is no standard input to read", STDIN)
        else:
            # From where it stands on: what was read of it before is not ours, and it is not gone back to.
            self._stream(STDIN, io.BytesIO(limited(stdin, STDIN, self.limit, self.taken)), given=True)

    def named(self, path: str) -> None:
        """A path that the user gave."""
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116  a Path would lose "./" and "//", and messages name the path as given
            if stat.S_ISDIR(mode):
                self._folder(path)
            elif self._is_new(path):
                with Path(path).open("rb") as stream:
                    self._stream(path, stream, given=True)
        except FileNotFoundError as error:
            raise InputError("there is no such file or folder", path) from error
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror or error}", path) from error

    def _stream(self, path: str, stream: BinaryIO, *, given: bool) -> None:
        """A file, maybe compressed, maybe an archive. Of what is compressed and none of ours only the beginning is held."""
        if not stream.seekable():
            stream = io.BytesIO(limited(stream, path, self.limit, self.taken))
        with unpacked(stream, path) as content:
            head = content.read(_ARCHIVE_HEAD if content is stream else LONG_HEAD)
            kind = magic(head)
            if kind in ("tar", "zip"):
                content.seek(0)
                self._archive(path, kind, content, given=given)
                return
            if content is stream:
                content.seek(0)
                data = limited(content, path, self.limit, self.taken)
            elif len(head) < LONG_HEAD or _is_ours(head[:HEAD], path) or _is_ours(head, path):
                if _is_blank(head):
                    raise InputError(UNKNOWN, path)
                content.seek(0)
                data = limited(content, path, self.limit, self.taken)
            else:
                data = head
        self.taken += len(data)
        self.sources.extend(sources_of(path, data, given=given))

    def _archive(self, path: str, kind: str, content: BinaryIO | io.BufferedIOBase, *, given: bool) -> None:
        if not given:
            self._passed_over(path, INNER_ARCHIVE)
            return
        before = len(self.sources)
        if kind == "zip" and not isinstance(content, io.BufferedReader | io.BytesIO):
            content = io.BytesIO(limited(content, path, self.limit, self.taken))  # its directory is at its end
        with members(kind, content, path, self.max_files, self.limit, self.taken) as found:
            for member in found:
                name = f"{path}:{member.name}"
                if member.content is not None:
                    self._read_found(name, member.content)
                elif member.is_link:
                    self._passed_over(name, LINK_IN_ARCHIVE)
                else:
                    self.folders.append(name)
        self._require_any(path, before, "archive")

    def _folder(self, path: str) -> None:
        before = len(self.sources)
        for name in _names(path, self.max_files):
            self.found_file(name)
        self._require_any(path, before, "folder")

    def found_file(self, path: str) -> None:
        """A file of a folder that the user gave: read whole where its beginning is of ours."""
        if os.path.isdir(path):  # noqa: PTH112
            self._passed_over(path, LINK)
            return
        if not self._is_new(path):
            return
        try:
            with Path(path).open("rb") as stream:
                self._read_found(path, stream)
        except OSError as error:
            self._passed_over(path, f"cannot be read: {error.strerror or error}")

    def _read_found(self, path: str, stream: IO[bytes]) -> None:
        """A file that the user did not name, read whole where its beginning is of ours: what cannot be read is passed over, and says why."""
        data = stream.read(HEAD)
        if data.isspace():
            data += stream.read(LONG_HEAD - HEAD)
        if _is_blank(data):
            self._passed_over(path, UNKNOWN)
            return
        if _is_ours(data, path):
            data = limited(stream, path, self.limit, self.taken, data)
        try:
            self._stream(path, io.BytesIO(data), given=False)
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


def glance(folder: str, max_files: int) -> list[Source]:
    """What the files of a folder are, by their beginnings: sources without their content, but for descriptions of captures.

    Raises InputError where the folder cannot be read or holds more than `max_files` files.
    """
    found: list[Source] = []
    try:
        for name in _names(folder, max_files):
            found += glance_file(name)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", folder) from error
    return found


def glance_file(path: str) -> list[Source]:
    """What a file is, by its beginning: as `glance` gives it; kind OTHER where it cannot be read, and for a link to a folder."""
    if os.path.isdir(path):  # noqa: PTH112
        return [Source(path, InputKind.OTHER, "", b"", given=False, reason=LINK)]
    try:
        with Path(path).open("rb") as stream:
            head = beginning(stream, path, HEAD)
        if magic(head) in ("tar", "zip"):
            raise InputError(INNER_ARCHIVE, path)
        sources = sources_of(path, head, given=False)
    except InputError as error:
        return [Source(path, InputKind.OTHER, "", b"", given=False, reason=error.message)]
    except OSError as error:
        return [Source(path, InputKind.OTHER, "", b"", given=False, reason=f"cannot be read: {error.strerror or error}")]
    return [one if one.kind is InputKind.CAPTURE_META else replace(one, text="", data=b"") for one in sources]


def is_archive(path: str) -> bool:
    """Whether a regular file begins as an archive does, maybe compressed. Pipes can be read once only and are not looked at."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as stream:
            return magic(beginning(stream, path, _ARCHIVE_HEAD)) in ("tar", "zip")
    except (InputError, OSError):
        return False


def _is_ours(head: bytes, path: str) -> bool:
    """Whether a found file is worth reading whole, by its beginning."""
    name = magic(head)
    if name is not None or len(head) < HEAD:
        return name not in ("tar", "zip")
    try:
        return recognise(as_text(normalised(head, path))).kind is not InputKind.OTHER
    except InputError:
        return False


def _is_blank(head: bytes) -> bool:
    """Whether a file holds nothing but blanks as far as its first telling line may be."""
    return len(head) == LONG_HEAD and head.isspace()


def _names(folder: str, max_files: int) -> Iterator[str]:
    """The files of a folder and of its subfolders; their paths begin as the user gave the folder's. Raises InputError for too many."""
    for number, file in enumerate(_files(Path(folder), MAX_DEPTH)):
        if number >= max_files:
            what = f"holds more than {max_files:,} files; name the ones that belong to the node; {RAISE_LIMIT}"
            raise InputError(what, folder)
        yield os.path.join(folder, file.relative_to(folder))  # noqa: PTH118


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """The regular files of a folder and of its subfolders, by name, and links that are not followed or lead nowhere; hidden ones are left out."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in entries if entry.is_dir()]
    followed = {entry for entry in folders if not entry.is_symlink() or (depth == MAX_DEPTH and leads_elsewhere(folder, entry))}
    for entry in entries:
        if entry.is_file() or (entry.is_symlink() and not entry.exists()):
            yield entry
    yield from (entry for entry in folders if entry not in followed)
    if depth > 1:
        for entry in folders:
            if entry in followed:
                yield from _files(entry, depth - 1)


def leads_elsewhere(folder: Path, link: Path) -> bool:
    """Whether a link in a folder leads to another folder, which neither lies in it nor holds it: nothing is met twice or without end."""
    here, there = folder.resolve(), link.resolve()
    return not (there.is_relative_to(here) or here.is_relative_to(there))


def read_plain(path: str) -> bytes:
    """The content of one file as text, decompressed. Raises InputError when it cannot be read or is no text."""
    try:
        with Path(path).open("rb") as stream:
            return normalised(decompressed(limited(stream, path, MAX_BYTES), path, MAX_BYTES), path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path) from error
