"""Lint of captured nodes that are kept in a repository as fixtures: `ruleaudit lint`.

A fixture is a folder with the dumps of one node, the objects of its cluster, its description (meta.json) and what must be found on it
(expected.json). Lint is the audit of `check`, in which the objects' own oddities and risks are warnings, less what expected.json expects; and
beside it, whether the fixture is whole, is what its description says, and holds nothing secret.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ruleaudit.audit import audit_inputs
from ruleaudit.audit.inputs import read_inputs
from ruleaudit.catalogue import CATALOGUE
from ruleaudit.errors import InputError, RuleauditError
from ruleaudit.findings import Finding, Location, ProxySummary, Report, Severity
from ruleaudit.lint.description import META, Capture, gaps, read_description, wrong_description
from ruleaudit.lint.expectation import EXPECTED, compared, expected_text, read_expected
from ruleaudit.lint.secrets import secret_findings
from ruleaudit.sources import MAX_DEPTH, UNKNOWN, InputKind, read, read_plain
from ruleaudit.sources.reader import INNER_ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ruleaudit.lint.expectation import Expected
    from ruleaudit.sources import Source

__all__ = ["EXPECTED", "Linted", "fixture_folders", "fixture_name", "lint_folder"]

_DEEP: Final = 8
"""How deep below a named folder fixtures are looked for."""
_DUMPS: Final = frozenset({InputKind.IPTABLES_SAVE, InputKind.IPVSADM, InputKind.NFT})
_OWN: Final = ("RA011", "RA012", "RA013", "RA803")
"""What is wrong with the fixture itself: nothing that --write-expected may expect."""
_RAISED: Final = ("RA7", "RA8")


@dataclass(frozen=True, slots=True)
class Linted:
    """What lint says of one fixture. `report`: its node is the fixture's name, so that fixtures of one node are told apart. `expected`: the
    text that its expected.json would have to be for everything found on the node to be expected; None where that cannot be said.
    """

    folder: str
    report: Report
    expected: str | None

    @property
    def expected_path(self) -> str:
        """Where its expected.json is, or would be."""
        return os.path.join(self.folder, EXPECTED)  # noqa: PTH118  keeps the path as it was given


# --- which folders ---


def fixture_folders(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """The fixtures that paths mean, each once and in order; and files that belong to none, as a commit's files may.

    A folder means itself, or the fixtures below it; a file the fixture that it lies in. A fixture has a meta.json or an expected.json, or dumps
    of rules and objects; of a folder that is named, dumps alone will do. Raises InputError where a path is not there, or a folder holds no
    fixture.
    """
    folders: dict[Path, str] = {}  # by where they are, however they are spelt
    strays = []
    for path in paths:
        where = Path(path)
        if where.is_dir():
            found = list(_fixtures_below(where, path, _DEEP, named=True))
            if not found:
                raise InputError(f"holds no fixture: no folder with a {META}, an {EXPECTED}, or with dumps and objects", path)
            for one in found:
                folders.setdefault(Path(one).resolve(), one)
        elif where.exists():
            folder = next((one for one in where.parents if _is_marked(one)), None)
            if folder is None and _is_capture(where.parent, alone=False):
                folder = where.parent
            if folder is None:
                strays.append(path)
            else:
                folders.setdefault(folder.resolve(), str(folder))
        else:
            raise InputError("there is no such file or folder", path)
    return list(folders.values()), strays


def _fixtures_below(folder: Path, shown: str, depth: int, *, named: bool = False) -> Iterator[str]:
    if _is_marked(folder) or _is_capture(folder, alone=named):
        yield shown
        return
    if depth == 0:
        return
    try:
        inner = sorted(one for one in folder.iterdir() if not one.name.startswith(".") and one.is_dir() and not one.is_symlink())
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", shown) from error
    for one in inner:
        yield from _fixtures_below(one, os.path.join(shown, one.name), depth - 1)  # noqa: PTH118  keeps the path as it was given


def _is_marked(folder: Path) -> bool:
    return (folder / META).is_file() or (folder / EXPECTED).is_file()


def _is_capture(folder: Path, *, alone: bool) -> bool:
    """Whether the files of a folder are dumps of rules and objects; `alone`: dumps without objects will do."""
    kinds: set[InputKind] = set()
    for file in _regular_files(folder, 1):
        if file.suffix in (".py", ".go", ".rs", ".md"):
            continue  # sources hold dumps as texts
        try:
            kinds.update(source.kind for source in read([str(file)]))
        except InputError:
            continue
        if kinds & _DUMPS and (alone or InputKind.OBJECTS in kinds):
            return True
    return False


def _regular_files(folder: Path, depth: int) -> Iterator[Path]:
    """The regular files of a folder, hidden ones too, and of its folders."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for one in entries:
        if one.is_file():
            yield one
        elif depth > 1 and one.is_dir() and not one.is_symlink():
            yield from _regular_files(one, depth - 1)


# --- one fixture ---


def fixture_name(folder: str, base: str | None) -> str:
    """What a fixture is called in ignores and reports: its folder, however it was spelt, relative to `base`, the folder of the
    configuration, or to the working directory where that is None; with slashes.
    """
    return Path(os.path.relpath(folder, base)).as_posix()


def lint_folder(folder: str, *, base: str | None = None, limit_factor: int = 1, write: bool = False) -> Linted:
    """Lint one fixture. `base`: as for `fixture_name`. With `write` what is found counts as expected, as if `Linted.expected` had been
    written already.
    """
    name = fixture_name(folder, base)
    secrets = list(_secrets(folder))
    try:
        sources = read([folder], limit_factor=limit_factor)
        audited = audit_inputs(sources, limit_factor=limit_factor)
        inputs = read_inputs(sources, None, lambda _step, _part: None, limit_factor)
    except RuleauditError as error:
        unreadable = _finding("RA001", f"the fixture cannot be audited: {error}", folder, _AUDITED)
        empty = Report(name, (), ProxySummary(), 0, 0, 0)
        return Linted(folder, _named(empty, name, _identified([unreadable, *secrets], folder)), None)
    description, path = read_description(sources)
    capture = Capture(folder, sources, inputs, audited, description, path)
    own = [*gaps(capture), *wrong_description(capture), *secrets]
    found = [*map(_raised, audited.findings), *_unread(sources, audited)]
    identified = _identified([*own, *found], folder)
    found = identified[len(own) :]
    file = os.path.join(folder, EXPECTED)  # noqa: PTH118  keeps the path as it was given
    before: Expected | None = None
    try:
        before = read_expected(Path(file), file)
        text = expected_text(found, before)
        expected = read_expected_text(text, file) if write else before
    except InputError as error:
        unusable = _identified([_finding("RA001", str(error), file, _CORRECT)], folder)
        return Linted(folder, _named(audited, name, [*unusable, *identified]), None)
    if expected is None:
        note = _finding("RA004", f"no {EXPECTED} says what must be found here: every error and warning counts", folder)
        notes = _identified([replace(note, hint=_WRITE)], folder)
        return Linted(folder, _named(audited, name, [*identified, *notes]), text)
    kept, met = compared(identified, expected, audited.service_names)
    return Linted(folder, replace(_named(audited, name, kept), suppressed=tuple(met)), text)


def _identified(findings: Sequence[Finding], folder: str) -> list[Finding]:
    """The findings, known again by files as the fixture has them: how its folder was spelt is not what they are about."""
    prefix = re.compile(rf"(?<![\w./-]){re.escape(os.path.join(folder, ''))}(?:\./)*|(?<![\w./-]){re.escape(folder)}(?![\w./-])")  # noqa: PTH118
    renamed = {}
    found = []
    for one in findings:
        other = replace(one, subject=prefix.sub("", one.subject)) if one.subject else one
        renamed[one.fingerprint] = other.fingerprint
        found.append(other)
    return [one if one.cause is None else replace(one, cause=renamed.get(one.cause, one.cause)) for one in found]


_WRITE: Final = "`ruleaudit lint --write-expected` writes it"
_AUDITED: Final = (
    "correct the file that the message names, or take it again: nothing of the fixture is checked until it can be read"
)
_CORRECT: Final = (
    f"correct {EXPECTED} as the message says, or remove it and have `ruleaudit lint --write-expected` write it anew: until it can be read,"
    " nothing is expected"
)
_UNPACK: Final = "unpack it into a fixture of its own, or remove it: an archive within a fixture is not looked into"
_AGAIN: Final = "take the file again as the message says, or remove it"
_READABLE: Final = "make the file readable, or remove it"


def read_expected_text(text: str, path: str) -> Expected:
    """The expectation that a text is."""
    import json

    from ruleaudit.lint.expectation import expected_of

    return expected_of(json.loads(text), text, path)


def _named(report: Report, name: str, findings: Sequence[Finding]) -> Report:
    """The report as that of the fixture of that name, in the order of reports."""
    ordered = sorted(
        findings,
        key=lambda one: (
            one.code not in _OWN,
            one.severity.rank,
            one.cause is not None,
            one.code,
            one.service or "",
            one.message,
        ),
    )
    return replace(report, node=name, findings=tuple(replace(one, node=name) for one in ordered))


def _raised(finding: Finding) -> Finding:
    """The objects' own oddities and risks are warnings here: a fixture's objects are the repository's own."""
    if finding.severity is Severity.INFO and finding.code.startswith(_RAISED):
        return replace(finding, severity=Severity.WARNING)
    return finding


def _finding(code: str, message: str, path: str, hint: str = "") -> Finding:
    entry = CATALOGUE[code]
    place = Location(path, 0, "")
    return Finding(
        code, entry.name, entry.severity, message, hint=hint or entry.action, locations=(place,), subject=f"{path} {message}"
    )


def _unread(sources: Sequence[Source], audited: Report) -> Iterator[Finding]:
    """RA001 for files that should be dumps or objects and cannot be used, RA004 for those that are none."""
    passed_over = {one.path for one in audited.inputs if one.kind == InputKind.PROXY_CONFIG.value and not one.used}
    for source in sources:
        if source.path in passed_over:
            yield replace(
                _finding("RA004", f"{source.path} holds no settings of kube-proxy: it is not looked at", source.path), hint=""
            )
            continue
        name = source.path.replace(":", "/").rpartition("/")[2]
        if source.kind is not InputKind.OTHER or name == EXPECTED:
            continue
        if name == META:
            yield _finding(
                "RA012",
                f"{META} is no description: it is a JSON object with kube_proxy_version, node, mode and so on",
                source.path,
            )
        elif source.reason == UNKNOWN:
            yield replace(
                _finding("RA004", f"{source.path} is no dump and no objects: it is not looked at", source.path), hint=""
            )
        else:
            hint = _UNPACK if source.reason == INNER_ARCHIVE else _AGAIN
            yield _finding("RA001", f"{source.path} cannot be used: {source.reason}", source.path, hint)


def _secrets(folder: str) -> Iterator[Finding]:
    """RA803 for every file of the fixture, those too that are no inputs."""
    for file in _regular_files(Path(folder), MAX_DEPTH):
        path = os.path.join(folder, file.relative_to(folder))  # noqa: PTH118  keeps the path as it was given
        try:
            data = read_plain(str(file))
        except InputError:
            try:
                data = file.read_bytes()  # no text, or cut short: what is readable of it may be secret all the same
            except OSError as error:
                yield _finding("RA001", f"{path} cannot be read: {error.strerror or error}", path, _READABLE)
                continue
        yield from secret_findings(path, data.decode("utf-8", "replace"))
