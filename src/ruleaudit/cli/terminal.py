"""The terminal: whether there is one, lines of text with its colours and its width, and diagnostics."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from ruleaudit.reports.text import Line

__all__ = ["Color", "drawn", "is_terminal", "say"]

Color = Literal["auto", "always", "never"]


def say(text: str) -> None:
    """One line of diagnostics."""
    click.echo(text, err=True)


def drawn(lines: Iterable[Line], color: Color, *, printed: bool) -> str:
    """The lines as text: with colours where they are wanted, wrapped on a terminal. `printed`: it goes to standard output."""
    from ruleaudit.reports.text import colored, plain

    terminal = printed and is_terminal(sys.stdout)
    automatic = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    if color == "never" or (color == "auto" and not automatic):
        return plain(lines)
    import shutil

    return colored(lines, shutil.get_terminal_size().columns if terminal else None)


def is_terminal(stream: TextIO | None) -> bool:
    """False for a stream that the caller closed, too: the interpreter has None for it."""
    return stream is not None and stream.isatty()
