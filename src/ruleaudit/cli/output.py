"""Where reports go: what --output names, and files that are written as a whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from ruleaudit.cli.terminal import drawn
from ruleaudit.errors import RuleauditError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import TextIO

    from ruleaudit.cli.terminal import Color
    from ruleaudit.reports.formats import Target
    from ruleaudit.reports.text import Line

__all__ = ["OutputError", "report_targets", "write", "write_all", "write_lines"]


class OutputError(RuleauditError):
    """The report cannot be written; the message says where and why."""


def report_targets(outputs: Sequence[str], chosen: str | None) -> list[Target]:
    """Where the report goes. Without --output it is printed; with it, only a format that was asked for and that no file gets.

    Raises OutputNameError, and before the work OutputError where a folder is missing or a file is named twice.
    """
    from pathlib import Path

    from ruleaudit.reports.formats import Target, target

    targets = [target(text, chosen) for text in outputs]
    if not targets or (chosen is not None and all(one.format != chosen for one in targets)):
        targets.append(Target(chosen or "text", "-"))
    seen: set[str] = set()
    for _, path in targets:
        place = path if path == "-" else os.path.realpath(path)
        if place in seen:
            raise OutputError(f"{'standard output' if path == '-' else path}: more than one report would be written there")
        if path != "-" and not Path(path).absolute().parent.is_dir():
            raise OutputError(f"{path}: there is no such folder to write to")
        seen.add(place)
    return targets


def write(text: str, output: str | None) -> None:
    """One text, to a file or to standard output (None, "-")."""
    write_all([(text, output or "-")])


def write_lines(lines: Iterable[Line], output: str | None, color: Color) -> None:
    """Lines as text, to a file or to standard output (None, "-"), there with colours where they are wanted."""
    write(drawn(lines, color, printed=output in (None, "-")), output)


def write_all(texts: Sequence[tuple[str, str]]) -> None:
    """Texts to files or to standard output ("-"). The files come first: what is printed is said to be done.

    Each file is written as a whole or stays as it is, so that a reader never sees half a report; and none is changed before all of
    them lie complete beside their places. What cannot be replaced, a device or a pipe, comes after that.
    """
    prepared: list[tuple[Path, Path, str]] = []
    try:
        for text, output in sorted(texts, key=lambda one: os.path.exists(one[1]) and not os.path.isfile(one[1])):  # noqa: PTH110, PTH113
            if output != "-":
                prepared.extend(_prepared(text.encode("utf-8", "backslashreplace"), output))
        for temporary, target, output in prepared:
            try:
                temporary.replace(target)
            except OSError as error:
                raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        for temporary, _, _ in prepared:
            temporary.unlink(missing_ok=True)
    for text, output in texts:
        if output == "-":
            _print(text)


def _print(text: str) -> None:
    standard_output: TextIO | None = sys.stdout  # None where the caller closed it
    if standard_output is None:
        raise OutputError("standard output is closed")
    encoding = standard_output.encoding or "utf-8"
    try:
        stream = sys.stdout.buffer
        stream.write(text.encode(encoding, "backslashreplace"))
        stream.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough. What the interpreter flushes at its end must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(f"standard output cannot be written: {error.strerror or error}") from error


def _prepared(data: bytes, output: str) -> list[tuple[Path, Path, str]]:
    """`data` in a file beside `output`: (that file, what it is to replace, `output`). Nothing is left to do for a device or a pipe."""
    import tempfile
    from pathlib import Path

    target = Path(output).resolve()  # a link stays a link
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # a device or a pipe, which cannot be replaced
            return []
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as stream:
            temporary = Path(stream.name)
            try:
                stream.write(data)
                stream.flush()
                temporary.chmod(mode)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
    return [(temporary, target, output)]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
