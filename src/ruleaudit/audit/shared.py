"""What audits of several nodes of one cluster have in common, so that it is made once: the objects, and what they say by themselves."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ruleaudit.checks.objects_alone import objects_alone
from ruleaudit.cluster import Cluster, load
from ruleaudit.formats.known_texts import KnownChains, KnownServers
from ruleaudit.kubeproxy.expect import Expectations
from ruleaudit.sources import InputKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.findings import Finding
    from ruleaudit.sources import Source

__all__ = ["Shared"]


@dataclass(slots=True)
class _Loaded:
    """Objects, by the digests of the texts that hold them; `paths` are those of the texts, in the same order."""

    digests: tuple[bytes, ...]
    paths: tuple[str, ...]
    cluster: Cluster
    alone: list[Finding] | None = None
    expectations: Expectations = field(default_factory=Expectations)


class Shared:
    """Keeps the objects of one audit for the next, where these are the same bytes; those of one cluster at a time.

    `sources`: the inputs that all nodes have in common. What they say of one node, its name and its addresses, is no other one's.
    """

    def __init__(self, sources: Sequence[Source] = ()) -> None:
        self._line_counts = {id(one): one.line_count for one in sources}
        self._held = tuple(sources)  # an identity is one only as long as its bearer lives
        self._digests = {id(one.data): _digest(one.data) for one in sources if one.kind is InputKind.OBJECTS}
        self._loaded: _Loaded | None = None
        self.chains = KnownChains()
        self.servers = KnownServers()

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Keep what the dumps of the nodes that are read meanwhile hold, for others that have it in the same words."""
        self.chains.learning = self.servers.learning = True
        yield
        self.chains.learning = self.servers.learning = False

    def holds(self, source: Source) -> bool:
        """Whether a source is one of those that all nodes have in common."""
        return id(source) in self._line_counts

    def line_count(self, source: Source) -> int:
        """How many line ends a source has: known of those that all nodes have in common, which are large."""
        known = self._line_counts.get(id(source))
        return source.line_count if known is None else known

    def cluster(self, parts: Sequence[tuple[str, bytes]], limit_factor: int) -> Cluster:
        """The objects in texts: (path, text). Raises InputError as `cluster.load` does."""
        digests = tuple(self._digests.get(id(data)) or _digest(data) for _, data in parts)
        paths = tuple(path for path, _ in parts)
        loaded = self._loaded
        if loaded is None or loaded.digests != digests:
            self._loaded = None  # let go of before others are read: never two clusters in memory
            loaded = self._loaded = _Loaded(digests, paths, load(parts, limit_factor=limit_factor))
        cluster = loaded.cluster
        if paths == loaded.paths or not (cluster.problems or cluster.notes):
            return cluster
        renamed = dict(zip(loaded.paths, paths, strict=True))  # the same text in another file: its problems are there, too
        problems, notes = (
            tuple(replace(one, path=renamed.get(one.path, one.path)) for one in found)
            for found in (cluster.problems, cluster.notes)
        )
        return replace(cluster, problems=problems, notes=notes)

    def alone(self, cluster: Cluster) -> list[Finding]:
        """What the objects contradict among themselves, as `objects_alone` says."""
        loaded = self._loaded
        if loaded is None or loaded.cluster is not cluster:
            return list(objects_alone(cluster))
        if loaded.alone is None:
            loaded.alone = list(objects_alone(cluster))
        return loaded.alone

    def expectations(self, cluster: Cluster) -> Expectations:
        """What was already asked of these objects for other nodes."""
        loaded = self._loaded
        return loaded.expectations if loaded is not None and loaded.cluster is cluster else Expectations()


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
