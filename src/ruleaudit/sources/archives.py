"""Compressed files and archives: their content, within limits; nothing is unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from ruleaudit.errors import RAISE_LIMIT, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["beginning", "decompressed", "limited", "magic", "tar_members", "zip_members"]

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


def magic(data: bytes) -> str | None:
    """What some bytes begin as: gzip, xz, bzip2, zstd, tar or zip; None for anything else."""
    for beginning, name in _MAGIC:
        if data.startswith(beginning):
            return name
    return "tar" if data[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar" else None


def limited(stream: BinaryIO | io.BufferedIOBase, path: str, limit: int, taken: int = 0) -> bytes:
    """All of a stream; `limit` is how many bytes all inputs may have, `taken` how many the others had."""
    data = stream.read(limit - taken + 1)
    if len(data) > limit - taken:
        beside = f", {taken:,} of them from the inputs before" if taken else ""
        raise InputError(
            f"holds more bytes than are read ({limit:,}{beside}); name only what belongs to the node; {RAISE_LIMIT}", path
        )
    return data


def decompressed(data: bytes, path: str, limit: int, taken: int = 0) -> bytes:
    """The content of a compressed file; other data as it is. Compression within compression is not undone."""
    name = magic(data)
    if name not in _COMPRESSED:
        return data
    with _unpacked(name, io.BytesIO(data), path) as stream:
        return limited(stream, path, limit, taken)


def beginning(stream: BinaryIO, path: str, size: int) -> bytes:
    """The first bytes of an open file, decompressed where it is compressed; `size` at most. Raises InputError as `decompressed` does."""
    data = stream.read(size)
    name = magic(data)
    if name not in _COMPRESSED:
        return data
    stream.seek(0)
    with _unpacked(name, stream, path) as unpacked:
        return unpacked.read(size)


@contextmanager
def _unpacked(name: str, packed: BinaryIO, path: str) -> Iterator[gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File]:
    """What is compressed as `name` says, to be read while it is entered: what is damaged is an InputError."""
    if name == "zstd":
        raise InputError("is compressed with zstd, which cannot be read here; give it decompressed (zstd -d)", path)
    try:
        with _opened(name, packed) as stream:
            yield stream
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"is a {name} file that is cut short or damaged ({error}); copy it again", path) from error


def _opened(name: str, packed: BinaryIO) -> gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File:
    if name == "gzip":
        return gzip.GzipFile(fileobj=packed)
    return lzma.LZMAFile(packed) if name == "xz" else bz2.BZ2File(packed)


def tar_members(path: str, data: bytes, limit: int, max_files: int) -> Iterator[tuple[str, bytes]]:
    """The regular files of a tar archive: (name, content). Raises InputError for more, or larger ones, than are read."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for number, member in enumerate(archive):
                if number >= max_files:
                    raise InputError(f"the archive has more than {max_files:,} members; {RAISE_LIMIT}", path)
                if not member.isfile():
                    continue
                if member.size > limit:
                    raise InputError(
                        f"the member {member.name} has {member.size:,} bytes, more than are read ({limit:,}); {RAISE_LIMIT}", path
                    )
                stream = archive.extractfile(member)
                if stream is not None:
                    yield member.name, stream.read()
    except tarfile.TarError as error:
        raise InputError(f"is a tar archive that is cut short or damaged ({error}); copy it again", path) from error


def zip_members(path: str, data: bytes, limit: int, max_files: int) -> Iterator[tuple[str, bytes]]:
    """The files of a zip archive: (name, content). `limit` is that of all of them together. Raises InputError."""
    left = limit
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > max_files:
                raise InputError(f"the archive has more than {max_files:,} members; {RAISE_LIMIT}", path)
            for member in members:
                if member.is_dir():
                    continue
                with archive.open(member) as stream:
                    content = stream.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise InputError(
                        f"the archive holds more than {limit:,} bytes, which no node's dumps and objects do; {RAISE_LIMIT}", path
                    )
                yield member.filename, content
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise InputError(f"is a zip archive that cannot be read ({error}); copy it again, without a password", path) from error
