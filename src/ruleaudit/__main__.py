"""`python -m ruleaudit`, and the entry point of the command."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from ruleaudit import cli

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; without `arguments`, as the command does, end the process with it.

    The process ends at once: of a large node there are millions of values, and to take them apart one by one before the operating
    system takes all memory back costs a tenth of the whole audit. For the same reason nothing is collected on the way.
    """
    if arguments is not None:
        return cli.main(arguments)
    gc.disable()
    status = cli.main()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (AttributeError, OSError, ValueError):
        return status  # closed or broken: the interpreter's own end says what there is to say
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
