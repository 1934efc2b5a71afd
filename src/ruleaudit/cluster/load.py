"""Kubernetes objects as kubectl and the API server write them -> Cluster."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ruleaudit.cluster import decode
from ruleaudit.cluster.addresses import canonical_address
from ruleaudit.cluster.objects import (
    Endpoints,
    EndpointSlice,
    Ingress,
    IngressClass,
    KubernetesObject,
    Node,
    Pod,
    Service,
)
from ruleaudit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["SERVICE_NAME_LABEL", "Cluster", "ObjectProblem", "load"]

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
"""The label by which an EndpointSlice names its Service (discovery/v1 LabelServiceName)."""


class _Kind(NamedTuple):
    type: type[KubernetesObject]
    groups: tuple[str, ...]
    """The API groups of the kind; "" is the core group. A Service of serving.knative.dev is none of ours."""
    namespaced: bool


_KINDS: Final[dict[str, _Kind]] = {
    "Service": _Kind(Service, ("",), True),
    "EndpointSlice": _Kind(EndpointSlice, ("discovery.k8s.io",), True),
    "Endpoints": _Kind(Endpoints, ("",), True),
    "Node": _Kind(Node, ("",), False),
    "Pod": _Kind(Pod, ("",), True),
    "Ingress": _Kind(Ingress, ("networking.k8s.io", "extensions"), True),
    "IngressClass": _Kind(IngressClass, ("networking.k8s.io",), False),
}


class ObjectProblem(NamedTuple):
    """An object that is left out of the cluster, or of which another copy is used.

    `file` is the part's path; `kind`, `namespace` and `name` say which object, as far as it can be told; `pointer` is the JSON path of the
    offending value ("$.spec.ports[0].port"), "" for the whole object. `message` says what is wrong, `hint` what to do.
    """

    file: str
    kind: str
    namespace: str
    name: str
    pointer: str
    message: str
    hint: str


@dataclass(frozen=True)
class Cluster:
    """The objects of one cluster, by kind and key. Immutable.

    Keys are (namespace, name), for Nodes and IngressClasses the name. `kinds` counts the objects that were given, by kind, unused kinds too;
    `problems` are objects that could not be used, `notes` those of which one of several differing copies is used.
    """

    services: Mapping[tuple[str, str], Service] = field(default_factory=dict)
    slices: Mapping[tuple[str, str], EndpointSlice] = field(default_factory=dict)
    endpoints: Mapping[tuple[str, str], Endpoints] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    pods: Mapping[tuple[str, str], Pod] = field(default_factory=dict)
    ingresses: Mapping[tuple[str, str], Ingress] = field(default_factory=dict)
    ingress_classes: Mapping[str, IngressClass] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[ObjectProblem, ...] = ()
    notes: tuple[ObjectProblem, ...] = ()

    @cached_property
    def _slices_by_service(self) -> Mapping[tuple[str, str], tuple[EndpointSlice, ...]]:
        lists: dict[tuple[str, str], list[EndpointSlice]] = {}
        for (namespace, _), entry in self.slices.items():
            service = entry.metadata.label(SERVICE_NAME_LABEL)
            if service:
                lists.setdefault((namespace, service), []).append(entry)
        return {key: tuple(entries) for key, entries in lists.items()}

    def slices_of(self, namespace: str, service_name: str) -> tuple[EndpointSlice, ...]:
        """The EndpointSlices that name this Service by label, in the order given; it need not exist."""
        return self._slices_by_service.get((namespace, service_name), ())

    @cached_property
    def pods_by_address(self) -> Mapping[str, tuple[Pod, ...]]:
        """The Pods that hold each address, in canonical text. Several: host-network Pods of one node, or an address used again."""
        lists: dict[str, list[Pod]] = {}
        for pod in self.pods.values():
            for address in pod.addresses:
                lists.setdefault(canonical_address(address) or address, []).append(pod)
        return {address: tuple(pods) for address, pods in lists.items()}

    def has_kind(self, kind: str) -> bool:
        """Whether any object of this kind was given, be it one that could not be used; an empty list of the kind counts."""
        return kind in self.kinds


class _Head(msgspec.Struct, rename="camel", gc=False):
    """What tells one document from another."""

    api_version: str | None = None
    kind: str | None = None
    items: list[msgspec.Raw] | None = None


class _Status(msgspec.Struct):
    """v1 Status: what the API server answers instead of objects."""

    message: str | None = None


_head: Final = msgspec.json.Decoder(_Head)
_status: Final = msgspec.json.Decoder(_Status)
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(slots=True)
class _Loader:
    """The objects collected so far."""

    objects: dict[str, dict[tuple[str, str], KubernetesObject]] = field(default_factory=lambda: {kind: {} for kind in _KINDS})
    files: dict[tuple[str, str, str], str] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    problems: list[ObjectProblem] = field(default_factory=list)
    notes: list[ObjectProblem] = field(default_factory=list)
    decoders: dict[str, Callable[[msgspec.Raw], KubernetesObject]] = field(
        default_factory=lambda: {kind: msgspec.json.Decoder(entry.type).decode for kind, entry in _KINDS.items()}
    )

    def read_json(self, data: bytes, path: str) -> None:
        for document in decode.json_documents(data, path):
            if bytes(memoryview(document)[:1]) == b"[":
                head = _Head(items=_items.decode(document))
            else:
                try:
                    head = _head.decode(document)
                except msgspec.ValidationError as error:
                    raise InputError(f"JSON, but no Kubernetes object: {error}", path) from error
            if head.kind == "Status":
                answer = _status.decode(document).message
                raise InputError(f"the API server's refusal instead of objects: {answer}; run the command again", path)
            if head.items is None:
                if head.kind is None:
                    raise InputError("JSON, but no Kubernetes object: it has no kind; give what kubectl get -o json writes", path)
                self.read_object(document, head.api_version, head.kind, path)
                continue
            listed = head.kind[: -len("List")] if head.kind and head.kind != "List" and head.kind.endswith("List") else None
            if listed is not None:
                self.kinds[listed] += 0
            for item in head.items:
                try:
                    own = _head.decode(item)
                except msgspec.ValidationError as error:
                    self.refuse(item, None, path, error)
                    continue
                kind = own.kind or listed
                if kind is None:
                    self.refuse(item, None, path, msgspec.ValidationError("Object missing required field `kind`"))
                    continue
                self.read_object(item, own.api_version or (head.api_version if listed else None), kind, path)

    def read_object(self, raw: msgspec.Raw, api_version: str | None, kind: str, path: str) -> None:
        known = _KINDS.get(kind)
        if known is None or (api_version is not None and api_version.rpartition("/")[0] not in known.groups):
            self.kinds[kind if known is None else f"{kind} ({api_version})"] += 1
            return
        self.kinds[kind] += 1
        try:
            value = self.decoders[kind](raw)
        except (msgspec.DecodeError, RecursionError):
            # Null where the API has a list or mapping is legal, and rare enough to be worth no second type.
            try:
                value = msgspec.convert(decode.without_nulls(msgspec.json.decode(raw)), known.type)
            except (msgspec.DecodeError, RecursionError) as error:
                self.refuse(raw, kind, path, error)
                return
        self.add(value, kind, known, path)

    def add(self, value: KubernetesObject, kind: str, known: _Kind, path: str) -> None:
        namespace, name = value.metadata.key
        if not name:
            self.problems.append(
                ObjectProblem(path, kind, namespace, "", "$.metadata.name", "the object has no name", "give the whole object, with its metadata")
            )
            return
        if known.namespaced and not namespace:
            namespace = "default"
            value = msgspec.structs.replace(value, metadata=msgspec.structs.replace(value.metadata, namespace=namespace))
        store = self.objects[kind]
        key = (namespace, name)
        earlier = store.get(key)
        if earlier is not None:
            value = self.newer(earlier, value, kind, key, path)
        store[key] = value

    def newer(self, earlier: KubernetesObject, later: KubernetesObject, kind: str, key: tuple[str, str], path: str) -> KubernetesObject:
        """The copy with the higher resourceVersion, the later one where that does not decide; noted where they differ."""
        old, new = (_version(copy.metadata.resource_version) for copy in (earlier, later))
        kept = earlier if old is not None and new is not None and old > new else later
        if earlier != later:
            message = f"given twice, with resourceVersion {earlier.metadata.resource_version} and {later.metadata.resource_version}"
            hint = f"resourceVersion {kept.metadata.resource_version} is used; give each object once"
            self.notes.append(ObjectProblem(path, kind, *key, "", message, hint))
        return kept

    def refuse(self, raw: msgspec.Raw, kind: str | None, path: str, error: Exception) -> None:
        """Keep a broken object as a problem, named as far as it can be."""
        namespace = name = ""
        try:
            plain = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            plain = None
        if isinstance(plain, dict):
            kind = kind or str(plain.get("kind") or "")
            metadata = plain.get("metadata")
            if isinstance(metadata, dict):
                namespace, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
        message, _, pointer = str(error).partition(" - at `")
        hint = "the object is left out; get it again from the API server (kubectl get -o json)"
        self.problems.append(ObjectProblem(path, kind or "", namespace, name, pointer.removesuffix("`") or "$", message, hint))

    def cluster(self) -> Cluster:
        stores = self.objects
        return Cluster(
            services=stores["Service"],  # type: ignore[arg-type]  # each store holds its kind's type only
            slices=stores["EndpointSlice"],  # type: ignore[arg-type]  # likewise
            endpoints=stores["Endpoints"],  # type: ignore[arg-type]  # likewise
            nodes={name: node for (_, name), node in stores["Node"].items()},  # type: ignore[misc]  # likewise
            pods=stores["Pod"],  # type: ignore[arg-type]  # likewise
            ingresses=stores["Ingress"],  # type: ignore[arg-type]  # likewise
            ingress_classes={name: entry for (_, name), entry in stores["IngressClass"].items()},  # type: ignore[misc]  # likewise
            kinds=dict(self.kinds),
            problems=tuple(self.problems),
            notes=tuple(self.notes),
        )


def _version(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def load(parts: Sequence[tuple[str, bytes]]) -> Cluster:
    """The cluster that `parts`, pairs of path and content, hold together.

    Each part is JSON or YAML: a List, a typed list as the API server answers, one object, several documents one after the other, or an array
    of objects. Of an object given twice the newest resourceVersion is used. An object with a value of the wrong type is left out and kept in
    `problems`; kinds that ruleaudit does not use are counted and passed over. Raises InputError when a part is cut short, is neither
    JSON nor YAML, or holds no Kubernetes object at all.
    """
    loader = _Loader()
    collecting = gc.isenabled()
    gc.disable()  # Nothing here makes cycles, and the collector would walk hundreds of thousands of new tuples again and again.
    try:
        for path, given in parts:
            before = sum(loader.kinds.values()), len(loader.kinds), len(loader.problems)
            data = decode.to_utf8(given, path)
            if decode.looks_like_json(data):
                loader.read_json(data, path)
            else:
                for document in decode.yaml_documents(data, path):
                    if not isinstance(document, (dict, list)):
                        raise InputError("neither JSON nor YAML objects; give what kubectl get -o json writes", path)
                    # YAML is read as the JSON it stands for, so that both follow one way.
                    loader.read_json(_as_json(document, path), path)
            if before == (sum(loader.kinds.values()), len(loader.kinds), len(loader.problems)) and not _empty_list(data):
                raise InputError("holds no Kubernetes object; give what kubectl get -o json writes", path)
    finally:
        if collecting:
            gc.enable()
    return loader.cluster()


def _as_json(document: object, path: str) -> bytes:
    try:
        return msgspec.json.encode(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"YAML that cannot be a Kubernetes object: {error}", path) from error


def _empty_list(data: bytes) -> bool:
    """Whether `data` is a List without items, which says that there are none."""
    return b"List" in data[:4096] and b"items" in data
