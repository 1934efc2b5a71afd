"""Which inputs are about which node: all about one, or several nodes' captures and what these have in common.

Dumps are of several nodes where descriptions of captures differ, or where folders that do not lie in each other hold dumps of the same: of a
family's table, of virtual servers, of sets. Several dumps in one folder are one node's: both families, with and without counters, table by table;
but for those that hold the same and whose files are called differently, as nodes are. A folder without any dump is a node's, too, where it is
called as a Node or has files called as dumps: no node is passed over because nothing can be read of it.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from ruleaudit.errors import InputError
from ruleaudit.sources import reader as reading
from ruleaudit.sources.evidence import (
    ARCHIVE_NAME,
    Evidence,
    apart,
    dumped,
    folder_of,
    holds_dumps,
    name_in,
    node_of,
    require_one_moment,
)
from ruleaudit.sources.failed import called_as_dump, commands_of, is_failed_dump, nodes_among
from ruleaudit.sources.kinds import InputKind, Source
from ruleaudit.sources.reader import (
    INNER_ARCHIVE,
    LINK,
    MAX_BYTES,
    Reader,
    glance,
    glance_file,
    is_archive,
    leads_elsewhere,
)
from ruleaudit.sources.recognise import BINARY, UNKNOWN, is_of_cluster

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

__all__ = ["Capture", "Captures", "beside", "gather", "read", "read_captures"]


@dataclass(frozen=True, slots=True)
class Capture:
    """The dumps of one of several nodes.

    `path`: a folder or an archive that the user gave, or one of the folders in it ("captures/node-a", "captures.tar.gz:node-a"); of `files`
    that lie beside other nodes' files, the first. `held`: its sources where they are read already, with those of other nodes in the same archive.
    `called`: the name of `files`, by which alone they were told from others.
    """

    path: str
    held: tuple[Source, ...] | None = field(default=None, repr=False)
    files: tuple[str, ...] = ()
    called: str = ""

    @property
    def name(self) -> str:
        """The name of the folder, archive or files, which is the node's where nothing else names it: of "x/node-a.tar.gz" it is "node-a"."""
        if self.called:
            return self.called
        place = self.path if self.held is None else self.path.rpartition(":")[2]
        return ARCHIVE_NAME.sub("", os.path.basename(os.path.abspath(place)))  # noqa: PTH100, PTH119  of a string that is no Path before

    def read(self, *, limit_factor: int = 1) -> list[Source]:
        """Its sources. Raises what `read_captures` raises."""
        return read_captures([self], limit_factor=limit_factor)[0]


@dataclass(frozen=True, slots=True)
class Captures:
    """Inputs that are about several nodes.

    `nodes`: each node's dumps, most of which are not read yet. `shared`: what all nodes have in common, such as the cluster's objects.
    """

    nodes: tuple[Capture, ...]
    shared: tuple[Source, ...]

    def require_names(self, known: Collection[str]) -> None:
        """Raise InputError where files that only their names tell apart are not called as a node of `known` each."""
        called = [one for one in self.nodes if one.called]
        unknown = next((one for one in called if one.called not in known), None)
        if unknown is not None:
            others = [one.path for one in called if one is not unknown]
            raise InputError(
                f"holds what {_listed(others) or 'another input'} holds, too: they are several nodes', or one's at several times, and "
                + (f"no Node is called {unknown.called}" if known else "no Node is known")
                + ". Call each file as its node and give the Nodes with --objects, or put the dumps of each into a folder of its own",
                unknown.path,
            )
        twice = next((one for one, count in Counter(one.called for one in called).items() if count > 1), None)
        if twice is not None:
            raise InputError(
                f"node {twice} is given twice: give each node's dumps once, from one moment",
                next(one.path for one in reversed(called) if one.called == twice),
            )


# --- reading ---


def read(paths: Sequence[str], stdin: BinaryIO | None = None, *, limit: int = MAX_BYTES, limit_factor: int = 1) -> list[Source]:
    """Every input that `paths` name: files, folders, archives, and "-" for `stdin`; a file named twice is read once.

    Files may be compressed (gzip, xz, bzip2). In folders and archives, what is none of ours is of kind OTHER; an empty file is of
    kind EMPTY. Raises InputError when a path cannot be read, is named and none of ours, when all hold more than `limit` bytes, or
    when they are dumps of several nodes. `limit_factor` times as many bytes and files are read.
    """
    reader = _reader(limit, limit_factor)
    for path in _once(paths):
        reader.one(path, stdin)
    places = _places_of_several(reader.sources)
    if places:
        _refuse_several(
            places,
            "read one of them; `ruleaudit check` takes all, where those of each lie in a folder of its own or in files called as the node",
        )
    require_one_moment(reader.sources)
    return reader.sources


def read_captures(captures: Sequence[Capture], *, limit_factor: int = 1) -> list[list[Source]]:
    """The sources of each of `captures`, all of them within one limit.

    Raises InputError where one cannot be read, holds no dump, or dumps of several nodes.
    """
    reader = _reader(MAX_BYTES, limit_factor)
    found = []
    for one in captures:
        before = len(reader.sources)
        for path in (one.files or (one.path,)) if one.held is None else ():
            reader.one(path, None)
        own = list(one.held) if one.held is not None else reader.sources[before:]
        places = _places_of_several(own)
        if places:
            raise InputError(f"holds dumps of several nodes itself ({_shown(places)}): give it alone, or each of them", one.path)
        if not any(map(holds_dumps, own)):
            raise InputError(f"holds no dump of a node's rules{_why_none(own)}", one.path)
        require_one_moment(own)
        found.append(own)
    return found


def _why_none(sources: Sequence[Source]) -> str:
    """What is wrong with the sources of a node without any dump, and what to do."""
    failed = next((one for one in sources if is_failed_dump(one) or one.kind is InputKind.EMPTY), None)
    if failed is not None:
        return f": {failed.path}: {failed.reason or 'is empty; take it again, as root'}"
    return "; what nodes have in common lies beside their folders, or is given with --objects and --kube-proxy-config"


def gather(
    paths: Sequence[str],
    stdin: BinaryIO | None = None,
    *,
    shared: Sequence[str] = (),
    limit: int = MAX_BYTES,
    limit_factor: int = 1,
) -> list[Source] | Captures:
    """What `paths` and `shared` name: every input where they are about one node, as `read` gives them; or several nodes' captures.

    They are about several where `read` would refuse them, or where one of several nodes has no dump (see `failed`); the dumps of each lie in a
    folder or an archive of its own, which is given as such or lies in a folder that is given, or in files called as their nodes (see
    `Captures.require_names`). All other inputs, and all of `shared`, are those that the nodes have in common; a file that is none of ours is passed
    over then: `captures/*` names it beside the folders. Only as much is read as it takes to see that; an archive that holds several nodes is
    read once, as a whole. Raises InputError as `read` does, and where a pipe or the only dump that is given is empty.
    """
    reader = _reader(limit, limit_factor)
    evidence = Evidence()
    inputs = []
    several = False
    for path in _once((*paths, *shared)):
        of_node = path not in shared
        alone = of_node and _may_be_capture(path)
        archives = _archives_of_nodes(path, reader) if alone else []
        for each in archives or [path]:
            inputs.append(_Input(each, alone=alone, file=of_node and not alone and path != "-"))
            several |= inputs[-1].look(reader, evidence, stdin, several=several)
        if archives:
            inputs.append(_Input(path, alone=False, file=False))
            inputs[-1].look_beside_archives(reader, archives)
    several |= _find_failed(inputs, reader)
    failed = next((one.error for one in inputs if one.error is not None), None)
    if failed is not None and not several and any(one.alone and one.holds_dumps for one in inputs):
        several = True  # one that cannot be read, beside one that can
    _require_written([source for one in inputs for source in one.found or ()])
    if not several:
        failed = failed or next((one.stray for one in inputs if one.stray is not None), None)
        if failed is not None:
            raise failed
        _require_archives_read(reader.sources)
        require_one_moment(reader.sources)
        return reader.sources
    nodes: list[Capture] = _by_file([source for one in inputs if one.is_node_file for source in one.found or ()])
    common: list[Source] = []
    with_objects: list[str] = []
    for one in inputs:
        own, beside = one.parts(reader)
        nodes += own
        common += beside
        if one.several and any(source.kind is InputKind.OBJECTS for source in beside):
            with_objects.append(one.path)
    if not nodes:
        _refuse_several(evidence.places(), _APART)
    if len(with_objects) > 1:
        raise InputError(
            f"holds several nodes and their objects, as {with_objects[0]} does: give one of them at a time", with_objects[1]
        )
    stray = next((one for one in common if holds_dumps(one)), None)
    if stray is not None:
        beside_it = f"so is {nodes[0].path}" if len(nodes) == 1 else f"the inputs are about {len(nodes):,}"
        raise InputError(f"is about one node, and {beside_it}: put it into the folder of its node", stray.path)
    return Captures(tuple(nodes), tuple(common))


def beside(given: Sequence[Source], outside: Sequence[Source]) -> list[Source]:
    """The sources of one node that files hold and that no file holds, `outside`. Raises InputError where both are dumps of the same."""
    seen = {what for one in outside for what in dumped(one)}
    twice = next((one for one in given if not seen.isdisjoint(dumped(one))), None)
    if twice is not None:
        raise InputError("is a dump of what --live reads on this node; give one of both", twice.path)
    return [*given, *outside]


def _require_archives_read(sources: Sequence[Source]) -> None:
    """Raise InputError where no dump is given, but archives that were not looked into, which may well hold them."""
    archive = next((one for one in sources if one.reason == INNER_ARCHIVE), None)
    if archive is not None and not any(map(holds_dumps, sources)):
        raise InputError(
            "is an archive that lies too deep to be read, and nothing else holds a dump of a node's rules; name it", archive.path
        )


def _reader(limit: int, limit_factor: int) -> Reader:
    return Reader(limit * limit_factor, reading.MAX_FILES * limit_factor)


def _once(paths: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(paths)


_Steps = tuple[str, ...]
"""The way to a folder or a file, from an input on that it lies in."""


@dataclass(slots=True)
class _Input:
    """What is known of one path that the user gave."""

    path: str
    alone: bool
    """It may be a node's, or several nodes': a folder or an archive that was not given as shared."""
    file: bool
    """It may be one of a node's files."""
    found: list[Source] | None = None
    """What it holds, of a folder maybe by a glance only; None: it is not looked at yet."""
    whole: bool = False
    """`found` was read as a whole."""
    several: bool = False
    """It holds several nodes itself."""
    one_held: bool = False
    """It does, and the dumps in it are of one of them."""
    error: InputError | None = None
    stray: InputError | None = None
    """Why it is none of ours, where it is a file: among several nodes' folders it is passed over."""
    is_node_file: bool = False
    """It is one of a node's files, where inputs are of several nodes."""
    failed: list[_Steps] = field(default_factory=list)
    """The folders, archives and links in it that are nodes' of which it holds no dump."""
    failed_files: list[Source] = field(default_factory=list)
    """Its files, beside those of other nodes, that are called as nodes and hold no dump."""
    is_failed: bool = False
    """It is itself a node's of which it holds no dump."""
    known: frozenset[str] = frozenset()
    """The names of Nodes among those of the folders in it."""
    folders: tuple[str, ...] = ()
    """The folders in an archive, maybe without any file: "archive:folder"."""

    @property
    def holds_dumps(self) -> bool:
        return any(map(holds_dumps, self.found or ()))

    def look(self, reader: Reader, evidence: Evidence, stdin: BinaryIO | None, *, several: bool) -> bool:
        """Look at it as closely as it takes to see whether inputs are of several nodes, which is returned; `several`: that is known.

        Raises InputError where what nodes have in common cannot be read; of a node's it is kept.
        """
        if not self.alone:
            if several and self.file:
                self.found = glance_file(self.path)
                self.is_node_file = self.holds_dumps
                if self.is_node_file:
                    return True
            try:
                self._read(reader, stdin)
            except InputError as error:
                if not self.file or error.message not in (UNKNOWN, BINARY):
                    raise
                self.stray = error
                self.found = [Source(self.path, InputKind.OTHER, "", b"", given=True, reason=error.message)]
                return several
            self.is_node_file = self.file and self.holds_dumps
        else:
            try:
                if os.path.isdir(self.path) and (several or _folders_in(self.path, follow=True)):  # noqa: PTH112
                    self.found = glance(self.path, reader.max_files)
                    self.several = _hold_several(self.found, reader)
                if several or self.several:
                    return True
                self._read(reader, stdin)
            except InputError as error:
                self.error = error
                return False
        evidence.add(self.found or ())
        if not evidence.places():
            return False
        self.several = self.alone and bool(_places_of_several(self.found or ()))
        return True

    def look_beside_archives(self, reader: Reader, archives: Collection[str]) -> None:
        """Read what lies in a folder beside archives that are nodes', which all nodes have in common."""
        self.found = [one for one in glance(self.path, reader.max_files) if one.path not in archives]
        self.found, self.whole = self.read_whole(self.found, reader), True

    def parts(self, reader: Reader) -> tuple[list[Capture], list[Source]]:
        """The nodes that it is or holds, and what it holds beside them, where inputs are of several nodes."""
        if not self.alone:
            return [], [] if self.is_node_file else self.found or []
        if self.several:
            return self._parts_of_several(reader)
        found = self.found or ()
        if self.error is None and not self.is_failed and any(map(_is_ours, found)) and not self.holds_dumps:
            common = self._common(found, reader)
            if common is not None:
                return [], common
        return [Capture(self.path)], []

    def _parts_of_several(self, reader: Reader) -> tuple[list[Capture], list[Source]]:
        nodes: list[Capture] = []
        on_disk = os.path.isdir(self.path)  # noqa: PTH112
        dumps = [one for one in self.found or () if holds_dumps(one)]
        if len({folder_of(one.path) for one in dumps}) == 1 and not self.failed:
            own = [*dumps, *self.failed_files]
            return _by_file(own, held=not on_disk), self.read_whole([one for one in self.found or () if one not in own], reader)
        folders, beside = self._by_node()
        common = self.read_whole(beside, reader)
        for inner, found in sorted(folders.items()):
            if (
                not any(map(holds_dumps, found))
                and inner not in self.failed
                and inner[-1] not in self.known
                and not _is_broken(found)
            ):
                shared = self._common(found, reader)
                if shared is not None:
                    common += shared
                    continue
            if on_disk:
                nodes.append(Capture(os.path.join(self.path, *inner)))  # noqa: PTH118  keeps the path as the user gave it
            else:
                nodes.append(Capture(f"{self.path}:{'/'.join(inner)}", tuple(found)))
        return nodes, common

    def _by_node(self) -> tuple[dict[_Steps, list[Source]], list[Source]]:
        """What a folder or an archive of several nodes holds: (by the folders beside each other of which some hold dumps, all else).

        Raises InputError where dumps lie beside these folders, too.
        """
        placed = [(self._steps(one.path)[:-1], one) for one in self.found or ()]
        holding = list(dict.fromkeys(steps for steps, one in placed if holds_dumps(one)))
        if self.one_held:
            holding += self.failed
        top = tuple(os.path.commonprefix(holding)) if len(holding) > 1 else holding[0][:-1]  # noqa: RUF071  of steps, not of characters
        if top in holding:
            here = [one for steps, one in placed if steps == top and holds_dumps(one)]
            told = [one.path for one in here if one.kind is InputKind.CAPTURE_META] or [here[0].path]
            below = dict.fromkeys(folder_of(one.path) for steps, one in placed if steps != top and holds_dumps(one))
            _refuse_several([*told, *below], _APART)
        folders: dict[_Steps, list[Source]] = {inner: [] for inner in (*self._folders_in(top), *self.failed)}
        beside: list[Source] = []
        for steps, one in placed:
            inner = next((failed for failed in self.failed if _begins(self._steps(one.path), failed)), steps[: len(top) + 1])
            (
                folders.setdefault(inner, []) if inner in folders or (len(inner) > len(top) and _begins(inner, top)) else beside
            ).append(one)
        return folders, beside

    # --- nodes without a dump ---

    def candidates(self) -> list[_Steps]:
        """What may be a node's without a dump: folders beside those that hold dumps, and all that is none of ours; where none holds any, on top."""
        if not self.alone or self.error is not None or self.found is None:
            return []
        holding = {self._steps(one.path)[:-1] for one in self.found if holds_dumps(one)}
        above = {steps[:length] for steps in holding for length in range(len(steps))} | {()}
        found: list[_Steps] = []
        for folder in sorted(above):
            if any(_begins(folder, one) for one in holding):
                continue
            folders = self._folders_in(folder)
            others = [self._steps(one.path) for one in self.found if not _is_ours(one)]
            found += [one for one in folders if one not in above and one not in holding]
            found += [one for one in others if one[:-1] == folder and (*folder, _name_of(one)) not in folders]
        return found

    def find_failed_files(self, known: Collection[str], named: Collection[str]) -> bool:
        """Find its files that are called as a Node of `known`, of which no dump is held, and return whether there are any.

        `named`: the Nodes as which files that hold dumps are called.
        """
        found = self.found or ()
        folders = {folder_of(one.path) for one in found if holds_dumps(one)}
        if not named or (self.alone and len(folders) != 1):
            return False
        self.failed_files = [
            one
            for one in found
            if not _is_ours(one)
            and name_in(one.path) in known
            and name_in(one.path) not in named
            and (self.file or folder_of(one.path) in folders)
        ]
        self.several |= self.alone and bool(self.failed_files)
        self.is_node_file |= self.file and bool(self.failed_files)
        return bool(self.failed_files)

    def holding(self) -> list[_Steps]:
        """The folders beside each other that hold all dumps, where these lie in folders."""
        if not self.alone or self.error is not None:
            return []
        places = list(dict.fromkeys(self._steps(one.path)[:-1] for one in self.found or () if holds_dumps(one)))
        above = len(os.path.commonprefix(places)) if places else 0  # noqa: RUF071  of steps, not of characters
        return list(dict.fromkeys(steps[: above + 1] for steps in places)) if all(len(steps) > above for steps in places) else []

    def find_failed(self, commands: Collection[str], *, beside: bool, known: frozenset[str]) -> bool:
        """Find what of it is a node's although it holds no dump, and return whether there is something and it makes inputs several nodes'.

        `commands`: of which the inputs hold the output; `beside`: another input holds dumps; `known`: the names of Nodes among those of its folders.
        """
        if not self.alone or self.error is not None or self.found is None:
            return False
        found, self.known = self.found, known
        for steps in self.candidates():
            failed = [one for one in found if is_failed_dump(one) and _begins(self._steps(one.path)[:-1], steps)]
            told = self.several or not commands
            if _name_of(steps) in known or (
                name_in(steps[-1]) and any(told or called_as_dump(one.path) in commands for one in failed)
            ):
                self.failed.append(steps)
        held = [(steps[-1], [one for one in found if _begins(self._steps(one.path)[:-1], steps)]) for steps in self.holding()]
        self.several |= _are_unlike(held, known)
        if self.failed and (self.holds_dumps or beside or len(self.failed) > 1):
            self.one_held = not self.several
            self.several = True
            return True
        self.failed = []
        if self.several:
            return True
        if not beside or self.holds_dumps:
            return False
        self.is_failed = (
            all(one.kind is InputKind.EMPTY for one in found)
            or Capture(self.path).name in known
            or any(is_failed_dump(one) and called_as_dump(one.path) in commands for one in found)
        )
        return self.is_failed

    def _steps(self, path: str) -> _Steps:
        """The way from it to a file or folder in it."""
        return tuple(path[len(self.path) :].lstrip("/:").split("/"))

    def _folders_in(self, steps: _Steps) -> list[_Steps]:
        """The folders in one of its folders."""
        if os.path.isdir(self.path):  # noqa: PTH112
            return [(*steps, name) for name in _folders_in(os.path.join(self.path, *steps), follow=not steps)]  # noqa: PTH118
        inside = [*(self._steps(one.path)[:-1] for one in self.found or ()), *map(self._steps, self.folders)]
        folders = dict.fromkeys(one[: len(steps) + 1] for one in inside if len(one) > len(steps) and _begins(one, steps))
        return [one for one in folders if one[-1] in (".", "..") or not one[-1].startswith(".")]

    def _common(self, found: Sequence[Source], reader: Reader) -> list[Source] | None:
        """What a folder without any dump, whose sources are `found`, has for all nodes; None where it is a node's all the same.

        Settings of kube-proxy that lie there are one node's, but for objects of the cluster that hold them.
        """
        whole = self.read_whole(found, reader)
        settings = [one for one in whole if one.kind is InputKind.PROXY_CONFIG and not is_of_cluster(one.data)]
        if any(map(holds_dumps, whole)) or (settings and not any(one.kind is InputKind.OBJECTS for one in whole)):
            return None
        return [replace(one, kind=InputKind.OTHER, data=b"", reason=_SETTINGS) if one in settings else one for one in whole]

    def _read(self, reader: Reader, stdin: BinaryIO | None) -> None:
        before, folders = len(reader.sources), len(reader.folders)
        reader.one(self.path, stdin)
        self.found, self.whole = reader.sources[before:], True
        self.folders = tuple(reader.folders[folders:])

    def read_whole(self, found: Iterable[Source], reader: Reader) -> list[Source]:
        """The sources `found`, of which those that were looked at by a glance only are read now."""
        if self.whole:
            return list(found)
        before = len(reader.sources)
        for path in dict.fromkeys(one.path for one in found):
            reader.found_file(path)
        return reader.sources[before:]


# --- several nodes in one folder or archive ---


def _archives_of_nodes(path: str, reader: Reader) -> list[str]:
    """The archives that lie in a folder which holds no dump but theirs."""
    if not os.path.isdir(path):  # noqa: PTH112
        return []
    with contextlib.suppress(InputError):  # why it cannot be read is said when it is looked at
        found = glance(path, reader.max_files)
        if not any(map(holds_dumps, found)):
            return [one.path for one in found if _is_archive(one) and folder_of(one.path) == (path.rstrip("/") or "/")]
    return []


def _find_failed(inputs: Sequence[_Input], reader: Reader) -> bool:
    """Find the nodes among `inputs` that hold no dump, and return whether these make inputs several nodes'."""
    alone = [(Capture(one.path).name, one.found or ()) for one in inputs if one.alone]
    files = [source for one in inputs if one.alone or one.file for source in one.found or ()]
    dumps = {name_in(one.path) for one in files if holds_dumps(one)}
    names = {_name_of(steps) for one in inputs for steps in one.candidates()}
    names.update(_name_of(steps) for one in inputs if len(one.holding()) > 1 for steps in one.holding())
    if len(alone) > 1:
        names.update(name for name, _ in alone)
    if any(dumps):
        names |= dumps.union(name_in(one.path) for one in files if not _is_ours(one))
    names = set(filter(name_in, names))
    known: frozenset[str] = frozenset()
    if names:  # else the objects, which may be large, are not looked at
        scratch = Reader(reader.limit, reader.max_files)
        objects: list[Source] = []
        for one in inputs:
            held = [source for source in one.found or () if source.kind is InputKind.OBJECTS]
            objects += one.read_whole(held, scratch)
        known = nodes_among(names, objects)
    holding = [one for one in inputs if one.holds_dumps]
    commands = commands_of(source for one in holding for source in one.found or ())
    found = [one.find_failed(commands, beside=any(other is not one for other in holding), known=known) for one in inputs]
    found += [one.find_failed_files(known, dumps & known) for one in inputs if one.alone or one.file]
    return any(found) or _are_unlike([one for one in alone if any(map(holds_dumps, one[1]))], known)


def _are_unlike(holding: Sequence[tuple[str, Sequence[Source]]], known: Collection[str]) -> bool:
    """Whether folders or archives, (name, sources), that hold no dump of the same are several nodes' all the same.

    They are where two are called as Nodes, or where a dump has failed in one that another holds.
    """
    named = [one for one in holding if name_in(one[0])]
    if sum(name in known for name, _ in named) > 1:
        return True
    for _, sources in named:
        failed = {called_as_dump(one.path) for one in sources if is_failed_dump(one)}
        if failed & commands_of(one for _, others in named if others is not sources for one in others):
            return True
    return False


def _require_written(sources: Sequence[Source]) -> None:
    """Raise InputError where a pipe that was given is empty, or a file and no dump of a node is given: the command that wrote it failed."""
    dumps = any(holds_dumps(one) and one.kind is not InputKind.CAPTURE_META for one in sources)
    for one in sources:
        # One of several files may well be empty: that of a family, or of a tool that nothing was set up with.
        if one.given and one.kind is InputKind.EMPTY and not (dumps and os.path.isfile(one.path)):  # noqa: PTH113
            raise InputError(
                "is empty: the command that was to write it has failed, or had nothing to say; run it again, as root where it reads rules",
                one.path,
            )


def _hold_several(found: Sequence[Source], reader: Reader) -> bool:
    """Whether a folder holds dumps of several nodes. `found`: its files, by a glance; dumps are read until it shows, and let go of."""
    evidence = Evidence()
    evidence.add(one for one in found if one.kind is InputKind.CAPTURE_META)
    if evidence.places():
        return True
    dumps = [one.path for one in found if holds_dumps(one)]
    folders = dict.fromkeys(map(folder_of, dumps))
    if len(folders) == 1:
        if len(dict.fromkeys(map(node_of, dumps))) < 2:
            return False
    elif len(apart(folders)) < 2:
        return False
    scratch = Reader(reader.limit, reader.max_files)
    for _, paths in groupby(dumps, folder_of):
        before = len(scratch.sources)
        for path in paths:
            scratch.found_file(path)
        evidence.add(scratch.sources[before:])
        if evidence.places():
            return True
    return False


def _by_file(dumps: Iterable[Source], *, held: bool = False) -> list[Capture]:
    """The nodes whose dumps lie in files beside each other, told apart by the names of these; `held`: what they hold is kept.

    Raises InputError where these are descriptions of captures without their dumps.
    """
    nodes: dict[tuple[str, str], list[Source]] = {}
    for one in dumps:
        nodes.setdefault(node_of(one.path), []).append(one)
    descriptions = {key: [one.path for one in own if one.kind is InputKind.CAPTURE_META] for key, own in nodes.items()}
    if any(len(descriptions[key]) == len(own) for key, own in nodes.items()):
        _refuse_several([path for paths in descriptions.values() for path in paths], _APART)
    found = []
    for (folder, name), own in nodes.items():
        files = tuple(dict.fromkeys(one.path for one in own))
        called = "" if descriptions[folder, name] else name or Capture(folder.rpartition(":")[2] or folder).name
        found.append(Capture(files[0], tuple(own) if held else None, files, called))
    return found


def _is_broken(found: Sequence[Source]) -> bool:
    """Whether a folder without any dump, beside folders of nodes, is a node's of which nothing can be read; others just lie there."""
    return not found or (
        not any(map(_is_ours, found))
        and any(one.kind is InputKind.EMPTY or one.reason not in (UNKNOWN, BINARY, INNER_ARCHIVE, LINK) for one in found)
    )


def _is_archive(source: Source) -> bool:
    """Whether a file of a folder is an archive, by what it is or else, where it is empty or damaged, by its name."""
    return source.reason == INNER_ARCHIVE or (not _is_ours(source) and ARCHIVE_NAME.search(source.path) is not None)


def _is_ours(source: Source) -> bool:
    return source.kind not in (InputKind.OTHER, InputKind.EMPTY)


def _folders_in(path: str, *, follow: bool) -> list[str]:
    """The names of the folders in a folder, but for hidden ones, and links to others where these are to be followed. Those of one that cannot be
    read are none.
    """
    try:
        with os.scandir(path) as entries:
            return sorted(
                one.name
                for one in entries
                if not one.name.startswith(".")
                and one.is_dir(follow_symlinks=follow)
                and (not one.is_symlink() or leads_elsewhere(Path(path), Path(one.path)))
            )
    except OSError:
        return []


def _name_of(steps: _Steps) -> str:
    """The name of a node whose folder or archive is at the end of some steps."""
    return Capture("/".join(steps)).name


def _begins(steps: _Steps, start: _Steps) -> bool:
    return steps[: len(start)] == start


def _may_be_capture(path: str) -> bool:
    """Whether an input is a folder or an archive, by what it is or else, where it is damaged, by its name."""
    if path == "-":
        return False
    if os.path.isdir(path):  # noqa: PTH112
        return True
    return (bool(ARCHIVE_NAME.search(path)) and os.path.exists(path)) or is_archive(path)  # noqa: PTH110


# --- what is about one node, and what about several ---

_SETTINGS = (
    "settings of kube-proxy in a folder without dumps beside nodes' folders are nobody's; give what all nodes have in common with"
    " --kube-proxy-config"
)
_APART = "put the dumps of each into a folder of its own"
_SHOWN = 5


def _places_of_several(sources: Iterable[Source]) -> list[str]:
    evidence = Evidence()
    evidence.add(sources)
    return evidence.places()


def _refuse_several(places: Sequence[str], how: str) -> NoReturn:
    raise InputError(
        f"here are dumps of several nodes, or of one at several times: {_shown(places)}; {how}", _common_folder(places)
    )


def _shown(places: Sequence[str]) -> str:
    """Places as they are named beside the folder that all of them are in."""
    common = _common_folder(places)
    return _listed([place.removeprefix(common).lstrip("/:") for place in places])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _common_folder(places: Sequence[str]) -> str:
    return folder_of(os.path.commonprefix([f"{place}/" for place in places]))  # noqa: RUF071  ":" parts them as well
