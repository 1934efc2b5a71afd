"""The reports that `check` and `lint` make: a text for every target, and what is said beside them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from ruleaudit.cli.terminal import drawn, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ruleaudit.cli.terminal import Color
    from ruleaudit.reports.formats import Target
    from ruleaudit.reports.selection import Hidden
    from ruleaudit.reports.text import Line

__all__ = ["Presentation", "report_texts", "say_beside", "say_notices", "tells_all"]


class Presentation(NamedTuple):
    """What an audit comes to, in every way it may be asked for: text, another format by its name, the line that sums it up.

    `failures`: why some of the nodes have no report.
    """

    lines: Callable[[], Iterable[Line]]
    render: Callable[[str], str]
    summary: Callable[[], Line]
    failures: tuple[str, ...] = ()


def report_texts(
    targets: Iterable[Target], lines: Callable[[], Iterable[Line]], render: Callable[[str], str], color: Color
) -> list[tuple[str, str]]:
    """(text, path) for every target, before any is written: what cannot be made is written nowhere.

    `lines` makes the report as text, `render` in another format, by its name.
    """
    rendered = cache(render)
    return [(drawn(lines(), color, printed=path == "-") if name == "text" else rendered(name), path) for name, path in targets]


def tells_all(targets: Iterable[Target]) -> bool:
    """Whether a report is printed that has room for all there is to say.

    Commands for GitHub count, too: its runner would take what is said beside them, on standard error, for one.
    """
    return any(one.path == "-" and one.format in ("text", "github") for one in targets)


def say_beside(targets: Sequence[Target], presented: Presentation, hidden: Hidden, notices: Iterable[str]) -> None:
    """Diagnostics beside the reports: what failed, the summary where files are written, what is hidden where a report has no room for it."""
    from ruleaudit.reports.text import hidden_text, plain

    if tells_all(targets):
        return
    for failure in presented.failures:
        say(f"ruleaudit: {failure}")
    if any(one.path != "-" for one in targets):
        say(plain([presented.summary()]).rstrip())
    if hidden.count and any(one.format in ("json", "gitlab") for one in targets):
        say(hidden_text(hidden))
    say_notices(notices)


def say_notices(notices: Iterable[str]) -> None:
    """A line for each."""
    from ruleaudit.reports.printable import printable

    for notice in notices:
        say(printable(notice))
