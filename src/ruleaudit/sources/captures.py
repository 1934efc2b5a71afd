"""Which inputs are about which node: all about one, or several nodes' captures and what these have in common.

Dumps are of several nodes where descriptions of captures differ, or where folders that do not lie in each other hold dumps of the same: of a
family's table, of virtual servers, of sets. Several dumps in one folder are one node's: both families, with and without counters, table by table;
but for those that hold the same and whose files are called differently, as nodes are.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from ruleaudit.errors import InputError
from ruleaudit.sources import reader as reading
from ruleaudit.sources.evidence import ARCHIVE_NAME, Evidence, apart, dumped, folder_of, holds_dumps, node_of, require_one_moment
from ruleaudit.sources.kinds import InputKind, Source
from ruleaudit.sources.reader import INNER_ARCHIVE, MAX_BYTES, Reader, glance, glance_file, is_archive
from ruleaudit.sources.recognise import BINARY, UNKNOWN

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
            raise InputError("holds no dump of a node's rules; what nodes have in common is given with --objects", one.path)
        require_one_moment(own)
        found.append(own)
    return found


def gather(
    paths: Sequence[str],
    stdin: BinaryIO | None = None,
    *,
    shared: Sequence[str] = (),
    limit: int = MAX_BYTES,
    limit_factor: int = 1,
) -> list[Source] | Captures:
    """What `paths` and `shared` name: every input where they are about one node, as `read` gives them; or several nodes' captures.

    They are about several where `read` would refuse them, and the dumps of each node lie in a folder or an archive of its own, given as such or a
    subfolder of one that is given; or in files called as their nodes (see `Captures.require_names`). All other inputs, and all of `shared`, are
    those that the nodes have in common; a file that is none of ours is passed over then: `captures/*` names it beside the folders. Only as much
    is read as it takes to see that; an archive that holds several nodes is read once, as a whole. Raises InputError as `read` does.
    """
    reader = _reader(limit, limit_factor)
    evidence = Evidence()
    inputs = []
    several = False
    for path in _once((*paths, *shared)):
        of_node = path not in shared
        alone = of_node and _may_be_capture(path)
        one = _Input(path, alone=alone, file=of_node and not alone and path != "-")
        inputs.append(one)
        several |= one.look(reader, evidence, stdin, several=several)
    failed = next((one.error for one in inputs if one.error is not None), None)
    if failed is not None and not several and any(one.alone and one.holds_dumps for one in inputs):
        several = True  # one that cannot be read, beside one that can
    if not several:
        failed = failed or next((one.stray for one in inputs if one.stray is not None), None)
        if failed is not None:
            raise failed
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
        raise InputError(
            f"is about one node, and the inputs are about {len(nodes):,}: put it into the folder of its node", stray.path
        )
    return Captures(tuple(nodes), tuple(common))


def beside(given: Sequence[Source], outside: Sequence[Source]) -> list[Source]:
    """The sources of one node that files hold and that no file holds, `outside`. Raises InputError where both are dumps of the same."""
    seen = {what for one in outside for what in dumped(one)}
    twice = next((one for one in given if not seen.isdisjoint(dumped(one))), None)
    if twice is not None:
        raise InputError("is a dump of what --live reads on this node; give one of both", twice.path)
    return [*given, *outside]


def _reader(limit: int, limit_factor: int) -> Reader:
    return Reader(limit * limit_factor, reading.MAX_FILES * limit_factor)


def _once(paths: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(paths)


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
    error: InputError | None = None
    stray: InputError | None = None
    """Why it is none of ours, where it is a file: among several nodes' folders it is passed over."""
    is_node_file: bool = False
    """It is one of a node's files, where inputs are of several nodes."""

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
                if os.path.isdir(self.path) and (several or _folders_in(self.path)):  # noqa: PTH112
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

    def parts(self, reader: Reader) -> tuple[list[Capture], list[Source]]:
        """The nodes that it is or holds, and what it holds beside them, where inputs are of several nodes."""
        if not self.alone:
            return [], [] if self.is_node_file else self.found or []
        if self.several:
            return self._parts_of_several(reader)
        if self.error is None and any(map(_is_ours, self.found or ())) and not self.holds_dumps:
            found = self._whole(self.found or (), reader)
            if not any(map(holds_dumps, found)):
                return [], found
        return [Capture(self.path)], []

    def _parts_of_several(self, reader: Reader) -> tuple[list[Capture], list[Source]]:
        nodes: list[Capture] = []
        on_disk = os.path.isdir(self.path)  # noqa: PTH112
        dumps = [one for one in self.found or () if holds_dumps(one)]
        if len({folder_of(one.path) for one in dumps}) == 1:
            nodes = _by_file(dumps, held=not on_disk)
            return nodes, self._whole([one for one in self.found or () if not holds_dumps(one)], reader)
        folders, beside = _by_node(self.path, self.found or (), on_disk=on_disk)
        common = self._whole(beside, reader)
        for inner, found in sorted(folders.items()):
            if not any(map(holds_dumps, found)) and not _is_broken(found):
                whole = self._whole(found, reader)
                if not any(map(holds_dumps, whole)):
                    common += whole
                    continue
            if on_disk:
                nodes.append(Capture(os.path.join(self.path, *inner)))  # noqa: PTH118  keeps the path as the user gave it
            else:
                nodes.append(Capture(f"{self.path}:{'/'.join(inner)}", tuple(found)))
        return nodes, common

    def _read(self, reader: Reader, stdin: BinaryIO | None) -> None:
        before = len(reader.sources)
        reader.one(self.path, stdin)
        self.found, self.whole = reader.sources[before:], True

    def _whole(self, found: Iterable[Source], reader: Reader) -> list[Source]:
        """The sources `found`, of which those that were looked at by a glance only are read now."""
        if self.whole:
            return list(found)
        before = len(reader.sources)
        for path in dict.fromkeys(one.path for one in found):
            reader.found_file(path)
        return reader.sources[before:]


# --- several nodes in one folder or archive ---


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


def _by_node(path: str, found: Iterable[Source], *, on_disk: bool) -> tuple[dict[tuple[str, ...], list[Source]], list[Source]]:
    """What a folder or an archive of several nodes holds: (by the folders beside each other of which some hold dumps, all else).

    A folder is named by its steps from `path` on. Raises InputError where dumps lie beside these folders, too.
    """
    placed = [(tuple(one.path[len(path) :].lstrip("/:").split("/")[:-1]), one) for one in found]
    holding = list(dict.fromkeys(steps for steps, one in placed if holds_dumps(one)))
    top = tuple(os.path.commonprefix(holding))  # noqa: RUF071  of steps, not of characters
    if top in holding:
        here = [one for steps, one in placed if steps == top and holds_dumps(one)]
        told = [one.path for one in here if one.kind is InputKind.CAPTURE_META] or [here[0].path]
        below = dict.fromkeys(folder_of(one.path) for steps, one in placed if steps != top and holds_dumps(one))
        _refuse_several([*told, *below], _APART)
    folders: dict[tuple[str, ...], list[Source]] = {}
    if on_disk:
        folders = {(*top, name): [] for name in _folders_in(os.path.join(path, *top))}  # noqa: PTH118  of a string that is no Path before
    beside: list[Source] = []
    for steps, one in placed:
        inner = steps[: len(top) + 1]
        (folders.setdefault(inner, []) if len(inner) > len(top) and inner[: len(top)] == top else beside).append(one)
    return folders, beside


def _is_broken(found: Sequence[Source]) -> bool:
    """Whether a folder without any dump, beside folders of nodes, is a node's of which nothing can be read; others just lie there."""
    return not found or (
        not any(map(_is_ours, found))
        and any(one.kind is InputKind.EMPTY or one.reason not in (UNKNOWN, BINARY, INNER_ARCHIVE) for one in found)
    )


def _is_ours(source: Source) -> bool:
    return source.kind not in (InputKind.OTHER, InputKind.EMPTY)


def _folders_in(path: str) -> list[str]:
    """The names of the folders in a folder, but for hidden ones and links. Those of one that cannot be read are none."""
    try:
        with os.scandir(path) as entries:
            return sorted(one.name for one in entries if not one.name.startswith(".") and one.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _may_be_capture(path: str) -> bool:
    """Whether an input is a folder or an archive, by what it is or else, where it is damaged, by its name."""
    if path == "-":
        return False
    if os.path.isdir(path):  # noqa: PTH112
        return True
    return (bool(ARCHIVE_NAME.search(path)) and os.path.exists(path)) or is_archive(path)  # noqa: PTH110


# --- what is about one node, and what about several ---

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
