"""Bytes as text: byte order marks, UTF-16, binary files, the warnings of kubectl."""

from __future__ import annotations

import codecs
import re

from ruleaudit.errors import InputError
from ruleaudit.sources.recognise import BINARY, HEAD, MISTAKES

__all__ = ["as_text", "normalised", "without_warnings"]


def normalised(data: bytes, path: str) -> bytes:
    """Without a byte order mark, UTF-16 as UTF-8. Raises InputError for binary data."""
    if data.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :]
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").encode("utf-8")
        except UnicodeError as error:
            raise InputError(f"begins like UTF-16 text and is none ({error})", path) from error
    if b"\0" in data:
        head = as_text(data[:HEAD])
        for pattern, refusal in MISTAKES:  # `iptables -L` prints the raw memory of some matches
            if pattern.search(head):
                raise InputError(refusal, path)
        raise InputError(BINARY, path)
    return data


def as_text(data: bytes) -> str:
    """UTF-8 as text; other bytes as surrogate escapes, so that they survive."""
    return data.decode("utf-8", "surrogateescape")


_KUBECTL_WARNING = re.compile(rb"Warning: [^\n]*\n")


def without_warnings(data: bytes) -> bytes:
    """Objects after the warnings of `kubectl ... 2>&1`: these become empty lines, so that line numbers stay."""
    lines = 0
    end = 0
    while (found := _KUBECTL_WARNING.match(data, end)) is not None:
        end = found.end()
        lines += 1
    return b"\n" * lines + data[end:] if lines else data
