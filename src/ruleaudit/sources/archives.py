"""Compressed files and archives: their content, within limits; nothing is unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, BinaryIO, NamedTuple, cast

from ruleaudit.errors import RAISE_LIMIT, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Member", "beginning", "decompressed", "limited", "magic", "members", "unpacked"]

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_COMPRESSED = frozenset({"gzip", "xz", "bzip2", "zstd"})
_TAR_MAGIC_AT = 257
_PART = 1 << 20


def magic(data: bytes) -> str | None:
    """What some bytes begin as: gzip, xz, bzip2, zstd, tar or zip; None for anything else."""
    for beginning, name in _MAGIC:
        if data.startswith(beginning):
            return name
    return "tar" if data[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar" else None


def limited(stream: IO[bytes] | io.BufferedIOBase, path: str, limit: int, taken: int = 0, head: bytes = b"") -> bytes:
    """All of a stream whose beginning `head` was read; `limit` is how many bytes all inputs may have, `taken` how many the others had."""
    if not head:
        data = stream.read(limit - taken + 1)
        if len(data) > limit - taken:
            raise _too_large(path, limit, taken)
        return data
    whole = io.BytesIO()  # it grows in place: two parts put together would be held twice
    part = head
    while part:
        whole.write(part)
        if whole.tell() > limit - taken:
            raise _too_large(path, limit, taken)
        part = stream.read(_PART)
    return whole.getvalue()


def _too_large(path: str, limit: int, taken: int) -> InputError:
    beside = f", {taken:,} of them from the inputs before" if taken else ""
    return InputError(
        f"holds more bytes than are read ({limit:,}{beside}); name only what belongs to the node; {RAISE_LIMIT}", path
    )


def decompressed(data: bytes, path: str, limit: int, taken: int = 0) -> bytes:
    """The content of a compressed file; other data as it is. Compression within compression is not undone."""
    if magic(data) not in _COMPRESSED:
        return data
    with unpacked(io.BytesIO(data), path) as stream:
        return limited(stream, path, limit, taken)


def beginning(stream: BinaryIO, path: str, size: int) -> bytes:
    """The first bytes of an open file, decompressed where it is compressed; `size` at most. Raises InputError as `decompressed` does."""
    with unpacked(stream, path) as content:
        return content.read(size)


_ZIP_FAULTS = (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error, lzma.LZMAError, OSError)
"""What zipfile raises for an archive that is damaged, encrypted, or compressed in a way that it does not know."""


@contextmanager
def unpacked(packed: BinaryIO, path: str) -> Iterator[BinaryIO | io.BufferedIOBase]:
    """What a file holds whose reading begins here, to be read while this is entered: decompressed where it is compressed, else itself.

    Raises InputError for what is damaged.
    """
    name = magic(packed.read(_TAR_MAGIC_AT))
    packed.seek(0)
    if name == "zstd":
        raise InputError("is compressed with zstd, which cannot be read here; give it decompressed (zstd -d)", path)
    if name not in _COMPRESSED:
        yield packed
        return
    try:
        with _opened(name, packed) as stream:
            yield stream
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"is a {name} file that is cut short or damaged ({error}); copy it again", path) from error


def _opened(name: str, packed: BinaryIO) -> gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File:
    if name == "gzip":
        return gzip.GzipFile(fileobj=packed)
    return lzma.LZMAFile(packed) if name == "xz" else bz2.BZ2File(packed)


class _Measured(io.RawIOBase):
    """A stream of which only so much may be read: more raises InputError."""

    def __init__(self, stream: BinaryIO | io.BufferedIOBase, path: str, limit: int, taken: int) -> None:
        super().__init__()
        self._stream, self._path, self._limit, self._taken = stream, path, limit, taken
        self._left = limit - taken

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._path, self._limit, self._taken)
        return data


class Member(NamedTuple):
    """What an archive holds. `content`: that of a file, to be read before the next member is asked for; None for a folder and for a link."""

    name: str
    content: IO[bytes] | None = None
    is_link: bool = False


@contextmanager
def members(
    kind: str, stream: BinaryIO | io.BufferedIOBase, path: str, max_files: int, limit: int, taken: int = 0
) -> Iterator[Iterator[Member]]:
    """The files, folders and links in an archive that is a "tar" or a "zip", one after the other.

    Nothing is held. Of a tar archive, which can only be read as a whole, no more is read than `limit` less what is `taken`; a zip archive must
    be seekable. Raises InputError for what is damaged, too large or has too many files, while it is entered.
    """
    if kind == "tar":
        try:
            with tarfile.open(fileobj=_Measured(stream, path, limit, taken), mode="r|") as archive:
                yield _tar_members(archive, path, max_files)
        except tarfile.TarError as error:
            raise InputError(f"is a tar archive that is cut short or damaged ({error}); copy it again", path) from error
        return
    try:
        with zipfile.ZipFile(cast("IO[bytes]", stream)) as zipped:
            yield _zip_members(zipped, path, max_files)
    except _ZIP_FAULTS as error:
        raise InputError(f"is a zip archive that cannot be read ({error}); copy it again, without a password", path) from error


def _tar_members(archive: tarfile.TarFile, path: str, max_files: int) -> Iterator[Member]:
    for number, member in enumerate(archive):
        if number >= max_files:
            raise InputError(f"the archive has more than {max_files:,} members; {RAISE_LIMIT}", path)
        if member.isfile():
            yield Member(member.name, archive.extractfile(member))
        elif member.isdir() or member.issym() or member.islnk():
            yield Member(member.name, is_link=not member.isdir())


def _zip_members(archive: zipfile.ZipFile, path: str, max_files: int) -> Iterator[Member]:
    found = archive.infolist()
    if len(found) > max_files:
        raise InputError(f"the archive has more than {max_files:,} members; {RAISE_LIMIT}", path)
    for member in found:
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        if is_link or member.is_dir():
            yield Member(member.filename.rstrip("/"), is_link=is_link)
            continue
        with archive.open(member) as content:
            yield Member(member.filename, content)
