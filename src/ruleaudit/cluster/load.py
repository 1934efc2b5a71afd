"""Texts of Kubernetes objects -> Cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

import msgspec

from ruleaudit.addresses import canonical_address, family_of
from ruleaudit.cluster.objects import (
    ConfigMap,
    ConfigMapData,
    Endpoints,
    EndpointSlice,
    Ingress,
    IngressClass,
    KubernetesObject,
    Node,
    Pod,
    Service,
)
from ruleaudit.collector import without_collection
from ruleaudit.documents import json_documents, looks_like_json, to_utf8, without_nulls, yaml_documents
from ruleaudit.errors import RAISE_LIMIT, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["MAX_PROBLEMS", "MAX_VALUES", "SERVICE_NAME_LABEL", "Cluster", "ObjectProblem", "load"]

MAX_VALUES: Final = 20_000_000
"""More values than this, counted by the commas between them, are refused: they would take gigabytes. The largest cluster seen has 1.2 million."""
MAX_PROBLEMS: Final = 10_000
"""After so many objects that do not fit their kind the input is refused: it is no answer of an API server."""

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
"""The label of an EndpointSlice that names its Service (k8s.io/api/discovery/v1)."""


class _Kind(NamedTuple):
    type: type[KubernetesObject]
    groups: frozenset[str]
    namespaced: bool


# By kind and API group: other groups have a Service (serving.knative.dev) or an Ingress (config.openshift.io) of their own.
_KINDS: Final[Mapping[str, _Kind]] = {
    "Service": _Kind(Service, frozenset({""}), True),
    "EndpointSlice": _Kind(EndpointSlice, frozenset({"discovery.k8s.io"}), True),
    "Endpoints": _Kind(Endpoints, frozenset({""}), True),
    "Node": _Kind(Node, frozenset({""}), False),
    "Pod": _Kind(Pod, frozenset({""}), True),
    "Ingress": _Kind(Ingress, frozenset({"networking.k8s.io", "extensions"}), True),
    "IngressClass": _Kind(IngressClass, frozenset({"networking.k8s.io"}), False),
    "ConfigMap": _Kind(ConfigMap, frozenset({""}), True),
}
_DECODERS: Final[Mapping[str, msgspec.json.Decoder[KubernetesObject]]] = {
    name: msgspec.json.Decoder(kind.type) for name, kind in _KINDS.items()
}


class _Head(msgspec.Struct, gc=False, rename="camel"):
    """What says of which kind a document or a list item is."""

    kind: str | None = None
    api_version: str | None = None


class _List(_Head, gc=False, rename="camel"):
    """A document: a list when it has items."""

    items: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET


class _LooseMetadata(msgspec.Struct, gc=False):
    name: object = None
    namespace: object = None


class _Loose(msgspec.Struct, gc=False):
    metadata: _LooseMetadata | None = None
    message: object = None


_NO_DATA: Final = ConfigMapData()
_head_decoder: Final = msgspec.json.Decoder(_Head)
_list_decoder: Final = msgspec.json.Decoder(_List)
_array_decoder: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ERROR_PATH: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_REPEAT: Final = "get the objects again in one go: kubectl get services,endpointslices,endpoints,nodes,pods -A -o json"

_Object = TypeVar("_Object", bound=KubernetesObject)
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ObjectProblem:
    """Something about one object that a reader of the findings must know. `where` is the JSON path within the object, "" for
    all of it.
    """

    path: str
    kind: str
    namespace: str
    name: str
    where: str
    message: str

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name or "without a name"
        return f"{self.path}: {self.kind} {name}{f' at {self.where}' if self.where else ''}: {self.message}"


@dataclass(frozen=True)
class Cluster:
    """The Kubernetes objects of one cluster. Keys are (namespace, name), for nodes and ingress classes the name.

    `problems`: objects that were left out, and why. `notes`: objects that were given more than once, or without their namespace.
    `kinds`: the kinds of which objects, or empty typed lists, were given. `config_maps`: those of CoreDNS and kubelet only. Not
    slotted, because indexes are built when first used.
    """

    services: Mapping[Key, Service] = field(default_factory=dict)
    slices: Mapping[Key, EndpointSlice] = field(default_factory=dict)
    endpoints: Mapping[Key, Endpoints] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    pods: Mapping[Key, Pod] = field(default_factory=dict)
    ingresses: Mapping[Key, Ingress] = field(default_factory=dict)
    ingress_classes: Mapping[str, IngressClass] = field(default_factory=dict)
    config_maps: Mapping[Key, ConfigMap] = field(default_factory=dict)
    problems: tuple[ObjectProblem, ...] = ()
    notes: tuple[ObjectProblem, ...] = ()
    kinds: frozenset[str] = frozenset()

    def has_kind(self, kind: str) -> bool:
        """Whether objects of a kind ("EndpointSlice") were given at all: their absence means something only then."""
        return kind in self.kinds

    def slices_of(self, namespace: str, service_name: str) -> tuple[EndpointSlice, ...]:
        """The EndpointSlices that name a Service by their label, in the order in which they were given."""
        return self._slices_by_service.get((namespace, service_name), ())

    def pods_at(self, address: str) -> tuple[Pod, ...]:
        """The pods that have an address: several on the host network, or where a finished pod's address was given out again."""
        family = family_of(address)
        canonical = None if family is None else canonical_address(address, family)
        return () if canonical is None else self.pods_by_address.get(canonical, ())

    @cached_property
    def pods_by_address(self) -> Mapping[str, tuple[Pod, ...]]:
        """Pods by canonical address, those that still run first."""
        found: dict[str, list[Pod]] = {}
        for pod in self.pods.values():
            for text in pod.addresses:
                family = 6 if ":" in text else 4
                address = canonical_address(text, family)
                if address is not None:
                    found.setdefault(address, []).append(pod)
        return {
            address: tuple(pods if len(pods) == 1 else sorted(pods, key=lambda pod: pod.finished))
            for address, pods in found.items()
        }

    def pods_selected_by(self, service: Service) -> tuple[Pod, ...]:
        """The pods that the selector of one of its Services matches, finished ones included; none without a selector.

        As the endpoint controllers list them (labels.Set(selector).AsSelectorPreValidated()).
        """
        selector = service.spec.selector
        if not selector:
            return ()
        namespace = service.metadata.namespace
        candidates = min((self._pods_by_label.get((namespace, *pair), []) for pair in selector.items()), key=len)
        return tuple(
            [pod for pod in candidates if all(pod.metadata.label(name) == value for name, value in selector.items())]
            if len(selector) > 1
            else candidates
        )

    @cached_property
    def _pods_by_label(self) -> Mapping[tuple[str, str, str], list[Pod]]:
        """Pods by namespace, label and its value, for the labels that selectors name."""
        wanted = {
            (one.metadata.namespace, name, value)
            for one in self.services.values()
            for name, value in (one.spec.selector or {}).items()
        }
        found: dict[tuple[str, str, str], list[Pod]] = {}
        for pod in self.pods.values():
            metadata = pod.metadata
            for name, value in (metadata.labels or {}).items():
                key = (metadata.namespace, name, value)
                if key in wanted:
                    found.setdefault(key, []).append(pod)
        return found

    @cached_property
    def _slices_by_service(self) -> Mapping[Key, tuple[EndpointSlice, ...]]:
        found: dict[Key, tuple[EndpointSlice, ...]] = {}
        for one in self.slices.values():
            metadata = one.metadata
            name = metadata.label(SERVICE_NAME_LABEL)
            if name:
                key = metadata.namespace, name
                found[key] = (*found[key], one) if key in found else (one,)
        return found

    @cached_property
    def newest_change(self) -> datetime | None:
        """When a Service or one of its EndpointSlices was last made or changed, as far as they say it; None where none does."""
        return max((time for key, service in self.services.items() for time in self._times_of(key, service)), default=None)

    def _times_of(self, key: Key, service: Service) -> Iterator[datetime]:
        texts = [service.metadata.creation_timestamp]
        for one in self.slices_of(*key):
            texts += [
                one.metadata.creation_timestamp,
                one.metadata.annotation("endpoints.kubernetes.io/last-change-trigger-time"),
            ]
        for text in texts:
            if text:
                try:
                    found = datetime.fromisoformat(text)
                except ValueError:
                    continue
                if found.tzinfo is not None:
                    yield found


def load(parts: Sequence[tuple[str, bytes]], *, limit_factor: int = 1) -> Cluster:
    """Read the objects of a cluster from texts: (path for messages, content) each, JSON or YAML.

    Each may be one object, a List of any kind, an array, or several documents one after another. Kinds that are not audited are
    passed over. An object that does not fit its kind is left out and reported under `problems`; one given twice counts once,
    the newest resourceVersion winning. Raises InputError for a text that is no Kubernetes object, is cut short or is malformed.
    """
    loader = _Loader(limit_factor)
    with without_collection():
        for path, data in parts:
            loader.read(path, data)
    return loader.cluster()


_HEAD = re.compile(rb'\s*+\{\s*+"apiVersion":\s*+"([\w./-]++)",\s*+"kind":\s*+"(\w++)",\s*+"')
_HEAD_BYTES = 200


class _Texts(dict[bytes, str]):
    """Few words that stand in very many objects, each decoded once."""

    def __missing__(self, word: bytes) -> str:
        found = self[word] = word.decode()
        return found


_TEXTS = _Texts()


class _Loader:
    """Collects objects by kind and key."""

    def __init__(self, limit_factor: int) -> None:
        self.limit_factor = limit_factor
        self.objects: dict[str, dict[Key, KubernetesObject]] = {name: {} for name in _KINDS}
        self.problems: list[ObjectProblem] = []
        self.notes: list[ObjectProblem] = []
        self.kinds: set[str] = set()
        self.values = 0

    def cluster(self) -> Cluster:
        return Cluster(
            services=self._all("Service", Service),
            slices=self._all("EndpointSlice", EndpointSlice),
            endpoints=self._all("Endpoints", Endpoints),
            nodes={name: one for (_, name), one in self._all("Node", Node).items()},
            pods=self._all("Pod", Pod),
            ingresses=self._all("Ingress", Ingress),
            ingress_classes={name: one for (_, name), one in self._all("IngressClass", IngressClass).items()},
            config_maps=self._all("ConfigMap", ConfigMap),
            problems=tuple(self.problems),
            notes=tuple(self.notes),
            kinds=frozenset(self.kinds),
        )

    def _all(self, kind: str, type_: type[_Object]) -> dict[Key, _Object]:
        assert _KINDS[kind].type is type_
        return cast("dict[Key, _Object]", self.objects[kind])

    def read(self, path: str, data: bytes) -> None:
        data = to_utf8(data, path)
        documents = 0
        if looks_like_json(data):
            self.values += data.count(b",")
            limit = MAX_VALUES * self.limit_factor
            if self.values > limit:
                what = f"holds more values than are read ({limit:,}); get only what is audited: {_REPEAT}; {RAISE_LIMIT}"
                raise InputError(what, path)
            for raw in json_documents(data, path):
                documents += 1
                self._json_document(path, raw)
        else:
            for document in yaml_documents(data, path, self.limit_factor):
                documents += 1
                self._plain_document(path, document)
        if not documents:
            raise InputError(f"no Kubernetes objects in it: the text is empty; {_REPEAT}", path)

    def _json_document(self, path: str, raw: msgspec.Raw) -> None:
        try:
            document = (
                _List(kind="List", items=_array_decoder.decode(raw))
                if bytes(memoryview(raw)[:1]) == b"["
                else _list_decoder.decode(raw)
            )
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"not Kubernetes objects: {error}", path) from error
        kind, version = _document_kind(document, path)
        if isinstance(document.items, msgspec.UnsetType) or not kind.endswith("List"):
            if kind == "Status":
                raise _status_error(_plain(raw), path)
            self._json_object(path, raw, kind, version)
            return
        item_kind = kind.removesuffix("List")
        self._list_given(item_kind, version)
        decode_head = _head_decoder.decode
        for item in document.items or ():
            found = _HEAD.match(memoryview(item)[:_HEAD_BYTES])
            if found is not None:  # as kubectl prints it: every object begins with these two
                self._json_object(path, item, _TEXTS[found[2]], _TEXTS[found[1]])
                continue
            try:
                head = decode_head(item)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._problem(path, item_kind or "object", _plain(item), error)
                continue
            if not head.kind and not item_kind:
                self._report(
                    path, "object", "", "", "kind", f"an item of the list has no kind, so nobody knows what it is; {_REPEAT}"
                )
                continue
            self._json_object(path, item, head.kind or item_kind, head.api_version or (version if item_kind else ""))

    def _json_object(self, path: str, raw: msgspec.Raw, kind: str, version: str) -> None:
        if not _is_audited(kind, version):
            return
        self.kinds.add(kind)
        try:
            found = _DECODERS[kind].decode(raw)
        except (msgspec.DecodeError, RecursionError):
            # Go writes an empty list as null here and there: worth a second, slower look before the object is called broken.
            self._plain_object(path, _plain(raw), kind)
        except UnicodeDecodeError as error:
            self._problem(path, kind, _plain(raw), error)
        else:
            self._add(path, kind, found)

    def _plain_document(self, path: str, document: object) -> None:
        for entry in document if isinstance(document, list) else (document,):
            if not isinstance(entry, dict):
                raise InputError(f"not Kubernetes objects: {type(entry).__name__} where an object was expected; {_REPEAT}", path)
            kind, version = entry.get("kind"), entry.get("apiVersion")
            head = _List(kind=kind if isinstance(kind, str) else None, api_version=version if isinstance(version, str) else None)
            kind, version = _document_kind(head, path)
            items = entry.get("items")
            if "items" not in entry or not kind.endswith("List") or not isinstance(items, list | None):
                if kind == "Status":
                    raise _status_error(entry, path)
                if _is_audited(kind, version):
                    self._plain_object(path, entry, kind)
                continue
            item_kind = kind.removesuffix("List")
            self._list_given(item_kind, version)
            for item in items or ():
                own_kind, own_version = (item.get("kind"), item.get("apiVersion")) if isinstance(item, dict) else (None, None)
                used = own_kind if isinstance(own_kind, str) else item_kind
                if not used:
                    self._report(
                        path, "object", "", "", "kind", f"an item of the list has no kind, so nobody knows what it is; {_REPEAT}"
                    )
                    continue
                if _is_audited(used, own_version if isinstance(own_version, str) else version if item_kind else ""):
                    self._plain_object(path, item, used)

    def _plain_object(self, path: str, value: object, kind: str) -> None:
        self.kinds.add(kind)
        try:
            found = msgspec.convert(without_nulls(value), _KINDS[kind].type)
        except (msgspec.ValidationError, RecursionError) as error:
            self._problem(path, kind, value, error)
        else:
            self._add(path, kind, found)

    def _list_given(self, item_kind: str, version: str) -> None:
        if _is_audited(item_kind, version):
            self.kinds.add(item_kind)

    def _add(self, path: str, kind: str, found: KubernetesObject) -> None:
        metadata = found.metadata
        if kind == "ConfigMap" and isinstance(found, ConfigMap) and found.data == _NO_DATA:
            return  # of anything else: there are many, and large ones
        if not metadata.name:
            self._report(
                path, kind, metadata.namespace, "", "$.metadata.name", "the object has no name and is left out; " + _REPEAT
            )
            return
        if not _KINDS[kind].namespaced:
            if metadata.namespace:
                metadata = msgspec.structs.replace(metadata, namespace="")
                found = msgspec.structs.replace(found, metadata=metadata)
        elif not metadata.namespace:
            metadata = msgspec.structs.replace(metadata, namespace="default")
            found = msgspec.structs.replace(found, metadata=metadata)
            self._note(path, kind, metadata.key, "the object names no namespace and is taken as one of namespace default")
        if isinstance(found, Service):
            for text in (found.spec.cluster_ip, *found.spec.cluster_ips):
                if text not in (None, "", "None") and family_of(text) is None:
                    message = f"{text!r} is no address; the object is left out: correct it or {_REPEAT}"
                    self._report(path, kind, *metadata.key, "$.spec.clusterIP", message)
                    return
        known = self.objects[kind]
        before = known.setdefault(metadata.key, found)
        if before is not found and before != found:
            known[metadata.key] = self._newer(path, kind, before, found)

    def _newer(self, path: str, kind: str, before: KubernetesObject, found: KubernetesObject) -> KubernetesObject:
        old, new = before.metadata.resource_version, found.metadata.resource_version
        if old and new and old.isdigit() and new.isdigit():
            winner = before if int(old) > int(new) else found
            self._note(
                path,
                kind,
                found.metadata.key,
                f"given more than once: resourceVersion {winner.metadata.resource_version} is used",
            )
            return winner
        self._note(
            path,
            kind,
            found.metadata.key,
            "given more than once, differently and without comparable resourceVersions: the last is used",
        )
        return found

    def _problem(self, path: str, kind: str, value: object, error: Exception) -> None:
        try:
            metadata = msgspec.convert(value, _Loose).metadata or _LooseMetadata()
        except msgspec.ValidationError:
            metadata = _LooseMetadata()
        namespace = metadata.namespace if isinstance(metadata.namespace, str) else ""
        name = metadata.name if isinstance(metadata.name, str) else ""
        matched = _ERROR_PATH.match(str(error))
        what, where = (matched["what"], matched["path"] or "") if matched else (str(error), "")
        self._report(path, kind, namespace, name, where, f"{what}; the object is left out: correct it or {_REPEAT}")

    def _report(self, path: str, kind: str, namespace: str, name: str, where: str, message: str) -> None:
        self.problems.append(ObjectProblem(path, kind, namespace, name, where, message))
        limit = MAX_PROBLEMS * self.limit_factor
        if len(self.problems) > limit:
            raise InputError(f"more than {limit:,} objects cannot be read, the last one: {message}; {RAISE_LIMIT}", path)

    def _note(self, path: str, kind: str, key: Key, message: str) -> None:
        self.notes.append(ObjectProblem(path, kind, key[0], key[1], "", message))


def _plain(raw: msgspec.Raw) -> object:
    """A JSON value as plain values, however broken: bytes that are no UTF-8 are replaced; None when it is nested without end."""
    try:
        return msgspec.json.decode(bytes(raw).decode(errors="replace"))
    except (msgspec.DecodeError, RecursionError):
        return None


def _document_kind(document: _List, path: str) -> tuple[str, str]:
    if not document.kind:
        raise InputError(f"not a Kubernetes object: it has no kind; {_REPEAT}", path)
    return document.kind, document.api_version or ""


def _is_audited(kind: str, version: str) -> bool:
    known = _KINDS.get(kind)
    # Without an apiVersion only the kind can be gone by.
    return known is not None and (not version or version.rpartition("/")[0] in known.groups)


def _status_error(value: object, path: str) -> InputError:
    message = value.get("message") if isinstance(value, dict) else None
    return InputError(f"not objects but the API server's answer {message!r}; {_REPEAT}", path)
