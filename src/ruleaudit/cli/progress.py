"""How far a command is: a bar on standard error."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from ruleaudit.cli.terminal import is_terminal

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as Bar

__all__ = ["Progress"]


class Progress:
    """A bar on standard error, if that is a terminal and the work takes longer than a second. `shown`: false for none at all."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown and is_terminal(sys.stderr)
        self._since = time.monotonic()
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, what: str, part: float) -> None:
        """Show that `what` is being done, and that `part` (0 to 1) of the whole is done."""
        if not self._shown or time.monotonic() - self._since < 1:
            return
        from ruleaudit.reports.printable import printable

        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (BarColumn(), TextColumn("{task.fields[what]}", markup=False))
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
            self._bar.add_task("", total=1.0, what="")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=part, what=printable(what), refresh=True)
