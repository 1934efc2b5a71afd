"""The objects of a capture: the kinds that an audit reads, and of them the fields that it reads. Everything else stays where it is."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ruleaudit.cluster import objects
from ruleaudit.documents import json_documents
from ruleaudit.errors import InputError
from ruleaudit.ways.ingress import CLASS_ANNOTATION, DEFAULT_CLASS_ANNOTATION, changes_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ruleaudit.sources import Source

__all__ = ["documents", "reduced", "reduced_objects"]

_TYPES: Final = {
    "Service": objects.Service,
    "EndpointSlice": objects.EndpointSlice,
    "Endpoints": objects.Endpoints,
    "Node": objects.Node,
    "Pod": objects.Pod,
    "Ingress": objects.Ingress,
    "IngressClass": objects.IngressClass,
}
_ANNOTATIONS: Final = frozenset(
    (
        CLASS_ANNOTATION,
        DEFAULT_CLASS_ANNOTATION,
        "service.kubernetes.io/topology-aware-hints",
        "service.kubernetes.io/topology-mode",
        "endpoints.kubernetes.io/last-change-trigger-time",
    )
)
"""Annotations whose values are read. What others hold may be anything: an earlier version of the object, tokens, configuration."""
_Fields = dict[str, Any] | None
"""What is kept of a value: fields by name, or all of it (None)."""


def reduced_objects(sources: Iterable[Source]) -> bytes:
    """The objects of every list in `sources` as one List, one object on a line. Raises InputError where one of them is no JSON."""
    lines = [
        msgspec.json.encode({"apiVersion": version, "kind": kind, **reduced(kind, item)})
        for source in sources
        for kind, version, item in documents(source)
        if kind in _TYPES
    ]
    return b'{"apiVersion":"v1","kind":"List","items":[\n' + b",\n".join(lines) + b"\n]}\n"


def documents(source: Source) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Kind, apiVersion and content of each object in the pages of a list. Raises InputError."""
    for text in json_documents(source.data, source.path):
        try:
            page = msgspec.json.decode(text)
            kind = str(page["kind"]).removesuffix("List")
            version = str(page["apiVersion"])
            for item in page["items"] or ():
                yield kind, version, dict(item)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"is no list of Kubernetes objects ({error})", source.path) from error


def reduced(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    """An object of a kind that audits read, with the fields that they read. What does not fit its type is kept as it is."""
    kept: dict[str, Any] = _kept(item, _fields_of(kind))
    metadata = kept.get("metadata")
    if isinstance(metadata, dict) and isinstance(annotations := metadata.pop("annotations", None), dict):
        kept_annotations = dict(_annotations(annotations))
        if kept_annotations:
            metadata["annotations"] = kept_annotations
    return kept


def _annotations(annotations: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in annotations.items():
        if name in _ANNOTATIONS:
            yield name, value
        elif changes_path(name):
            yield name, value if value in ("true", "false") else ""


def _kept(value: Any, fields: _Fields) -> Any:  # noqa: ANN401  any JSON
    if fields is None:
        return value
    if isinstance(value, list):
        return [_kept(entry, fields) for entry in value]
    if isinstance(value, dict):
        return {name: _kept(value[name], inner) for name, inner in fields.items() if name in value}
    return value


@cache
def _fields_of(kind: str) -> _Fields:
    return _of_type(msgspec.inspect.type_info(_TYPES[kind]))


def _of_type(info: msgspec.inspect.Type) -> _Fields:
    """The fields of a struct, by their names in JSON; those of the structs that a list or an alternative holds."""
    if isinstance(info, msgspec.inspect.StructType):
        return {one.encode_name: _of_type(one.type) for one in info.fields}
    if isinstance(info, msgspec.inspect.VarTupleType):
        return _of_type(info.item_type)
    if isinstance(info, msgspec.inspect.UnionType):
        found = [fields for one in info.types if (fields := _of_type(one)) is not None]
        return found[0] if found else None
    return None
