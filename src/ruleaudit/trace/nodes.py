"""The nodes whose dumps were given, one or several, as `check` takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ruleaudit.audit import UnknownNodeError, open_node
from ruleaudit.audit.shared import Shared
from ruleaudit.errors import InputError, RuleauditError
from ruleaudit.near import did_you_mean, near_matches
from ruleaudit.sources import Captures, InputKind, beside, gather, holds_dumps, read_captures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import BinaryIO

    from ruleaudit.audit import NodeModel
    from ruleaudit.audit.inputs import Progress
    from ruleaudit.cluster import Cluster
    from ruleaudit.kubeproxy.settings import GivenSettings
    from ruleaudit.sources import Source

__all__ = ["Nodes", "SeveralNodesError", "read_nodes"]


class SeveralNodesError(RuleauditError):
    """Dumps of one node that no file holds, beside the files of `count` others."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"these dumps are about one node, and the inputs are about {count:,} others")


@dataclass
class Nodes:
    """The nodes that were given. `first`: the one that --node names, else the first; `chosen`: it was named. `notes`: on their objects."""

    first: NodeModel
    models: tuple[NodeModel, ...]
    chosen: bool = False
    notes: tuple[str, ...] = ()

    @property
    def cluster(self) -> Cluster:
        """The objects, those beside the first node."""
        return self.first.cluster

    def named(self, name: str | None) -> NodeModel | None:
        """The node of that name, where its dump was given; the only node without a name stands for nobody else."""
        return next((one for one in self.models if name is not None and one.name == name), None)

    @property
    def others(self) -> tuple[NodeModel, ...]:
        """All but the first."""
        return tuple(one for one in self.models if one is not self.first)


def read_nodes(
    paths: Sequence[str],
    stdin: BinaryIO | None = None,
    *,
    shared: Sequence[str] = (),
    outside: Sequence[Source] = (),
    node: str | None = None,
    settings: GivenSettings | None = None,
    progress: Progress | None = None,
    limit_factor: int = 1,
) -> Nodes:
    """Read the inputs that `paths` and `shared` name, of one node or of several: see `sources.gather`.

    `outside`: sources that no file holds, which several nodes have in common. `node`: the node that is asked about, `settings`
    kube-proxy's where the user gives them. Where the objects of nodes differ, those of the first count, and a note says so. Raises
    InputError, UnknownNodeError; SeveralNodesError for dumps that are given `outside`.
    """
    given = gather(paths, stdin, shared=shared, limit_factor=limit_factor)
    if isinstance(given, Captures):
        if any(map(holds_dumps, outside)):
            raise SeveralNodesError(len(given.nodes))
        return _several(replace(given, shared=(*given.shared, *outside)), node, settings, progress, limit_factor)
    sources = beside(given, outside)
    model = _usable(open_node(sources, node=node, settings=settings, progress=progress, limit_factor=limit_factor), sources)
    return Nodes(model, (model,), chosen=node is not None)


def _several(
    captures: Captures, node: str | None, settings: GivenSettings | None, progress: Progress | None, limit_factor: int
) -> Nodes:
    """The nodes of several captures. Objects that one of them has serve those that have none: packets cross one cluster."""
    groups = [[*captures.shared, *own] for own in read_captures(captures.nodes, limit_factor=limit_factor)]
    objects = next(([one for one in group if one.kind is InputKind.OBJECTS] for group in groups if _has_objects(group)), [])
    models: dict[str, NodeModel] = {}
    own: dict[str, frozenset[bytes]] = {}
    kept = Shared(captures.shared)  # the same objects are read once
    if settings is not None:
        settings = replace(settings, node=None, node_addresses=None)  # one node's, which no other one has
    for capture, group in zip(captures.nodes, groups, strict=True):
        sources = group if _has_objects(group) else [*group, *objects]
        model = _usable(
            open_node(sources, settings=settings, progress=progress, limit_factor=limit_factor, shared=kept, place=capture.name),
            sources,
        )
        if model.name is None:
            raise InputError(
                "which node it is, is not known: no meta.json and no settings of kube-proxy name it, and no Node is called as its folder or file",
                capture.path,
            )
        if model.name in models:
            raise InputError(f"node {model.name} is given twice: give each node's dumps once, from one moment", capture.path)
        models[model.name] = model
        own[model.name] = frozenset(one.data for one in sources if one.kind is InputKind.OBJECTS)
    if node is not None and node not in models:
        near = did_you_mean(near_matches(node, models, cutoff=0.4))
        raise UnknownNodeError(f"no dumps of node {node!r} were given, but of {', '.join(models)}{near}")
    chosen = node or next(iter(models))
    first = models[chosen]
    if node is not None and first.cluster.nodes and node not in first.cluster.nodes:
        raise UnknownNodeError(
            f"the objects that are given with node {node} have no such Node: they are of another cluster, or of another time"
        )
    return Nodes(first, tuple(models.values()), chosen=node is not None, notes=tuple(_notes(chosen, first.cluster, own)))


def _notes(first: str, cluster: Cluster, own: Mapping[str, frozenset[bytes]]) -> Iterator[str]:
    """That the objects beside one node count, where those beside others are not the same: by each node's name."""
    differing = [name for name in own if own[name] != own[first]]
    if differing:
        yield f"the objects beside {', '.join(differing)} differ from those beside {first}, which count"
    strange = [name for name in own if cluster.nodes and name not in cluster.nodes]
    if strange:
        yield f"the objects that count have no Node {', '.join(strange)}: they are of another cluster, or of another time"


def _usable(model: NodeModel, sources: Sequence[Source]) -> NodeModel:
    """The node, where there are rules to be asked. Raises InputError with what is said of the inputs where there are none."""
    if model.families:
        return model
    told = [one.message for one in model.findings if one.code in ("RA001", "RA002", "RA004", "RA005")]
    raise InputError(
        f"no rules or virtual servers of kube-proxy were given: {'; '.join(told) or 'nothing serves Services here'}",
        sources[0].path,
    )


def _has_objects(group: Sequence[Source]) -> bool:
    return any(one.kind is InputKind.OBJECTS for one in group)
