"""JSON and YAML texts, split into their documents. Nothing here knows a Kubernetes kind."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Final

import msgspec

from ruleaudit.errors import RAISE_LIMIT, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_YAML_BYTES", "json_documents", "looks_like_json", "plain_documents", "to_utf8", "without_nulls", "yaml_documents"]

MAX_YAML_BYTES: Final = 32 << 20
"""More YAML than this is refused: one to three megabytes of it are read in a second, a hundred times less than of JSON."""
_JSON_START: Final = re.compile(rb"\s*(?:\{\s*[\"}]|\[\s*[\[{\]\"])")
_BYTE_POSITION: Final = re.compile(r"\(byte (\d+)\)")
_raw: Final = msgspec.json.Decoder(msgspec.Raw)


def to_utf8(data: bytes, path: str) -> bytes:
    """`data` as UTF-8 without a byte order mark; UTF-16 with one (PowerShell's `>`) is converted. Raises InputError."""
    if data.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :]
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").encode()
        except UnicodeError as error:
            raise InputError(
                f"not the UTF-16 text that its byte order mark promises ({error}); save it as UTF-8", path
            ) from error
    return data


def looks_like_json(data: bytes) -> bool:
    """Whether `data` starts as a JSON object or array of objects does; YAML's flow style without quoted keys does not."""
    return _JSON_START.match(data) is not None


def json_documents(data: bytes, path: str) -> Iterator[msgspec.Raw]:
    """The JSON documents of `data` in order, undecoded. Several may follow each other with only white space between.

    Raises InputError, with the line, where the text is cut short or malformed.
    """
    rest = memoryview(data)
    start = 0
    while True:
        while start < len(data) and data[start] in b" \t\r\n":
            start += 1
        if start == len(data):
            return
        try:
            yield _raw.decode(rest[start:])
        except msgspec.DecodeError as error:
            end = _trailing(error)
            if end is None:
                raise _json_error(error, data, start, path) from error
            yield _raw.decode(rest[start : start + end])
            start += end
        except RecursionError as error:
            raise InputError("JSON nested too deeply to be Kubernetes objects", path, _line(data, start)) from error
        else:
            return


def _trailing(error: msgspec.DecodeError) -> int | None:
    """The length of the first document when `error` only says that something follows it."""
    text = str(error)
    position = _BYTE_POSITION.search(text)
    # This position, unlike msgspec's others, counts from 1.
    return int(position[1]) - 1 if position and "trailing characters" in text else None


def _json_error(error: msgspec.DecodeError, data: bytes, start: int, path: str) -> InputError:
    text = str(error)
    position = _BYTE_POSITION.search(text)
    if position is None:
        return InputError(
            f"the JSON ends before it is complete ({text}): the file was cut short; write it again, and check the disk",
            path,
            data.count(b"\n") + (not data.endswith(b"\n")),
        )
    return InputError(
        f"malformed JSON: {text}; write the file again with kubectl -o json", path, _line(data, start + int(position[1]))
    )


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def yaml_documents(data: bytes, path: str, limit_factor: int = 1) -> Iterator[object]:
    """The YAML documents of `data` as dicts, lists, str, int, float, bool and None; empty ones are left out.

    Raises InputError, with the line, on anything that is no YAML, is nested too deeply, or whose aliases expand beyond measure.
    """
    limit = MAX_YAML_BYTES * limit_factor
    if len(data) > limit:
        raise InputError(
            f"YAML of more than {limit >> 20} MiB is not read: give it as JSON (kubectl -o json); {RAISE_LIMIT}", path
        )
    import yaml

    from ruleaudit import yaml_events

    try:
        yield from yaml_events.documents(data)
    except yaml_events.YAMLRefusedError as error:
        raise InputError(f"YAML that is refused: {error}; write the file again with kubectl -o json", path, error.line) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = None if mark is None else min(mark.line, len(data.splitlines()) - 1) + 1
        raise InputError(
            f"malformed YAML: {error.problem or error.context}; write the file again with kubectl -o json", path, where
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(
            f"malformed YAML: {str(error).splitlines()[0]}; write the file again with kubectl -o json", path
        ) from error


def plain_documents(data: bytes, path: str) -> Iterator[object]:
    """The documents of a JSON or YAML text as plain values. Raises InputError."""
    data = to_utf8(data, path)
    if not looks_like_json(data):
        yield from yaml_documents(data, path)
        return
    for raw in json_documents(data, path):
        try:
            yield msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(f"malformed JSON: {error}", path) from error


def without_nulls(value: object) -> object:
    """`value` without the mapping entries that are null: in the Kubernetes API null means absent."""
    if isinstance(value, dict):
        return {key: without_nulls(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [without_nulls(entry) for entry in value]
    return value
