"""The garbage collector, put off while many values are made that all live to the end."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["without_collection"]


@contextmanager
def without_collection() -> Iterator[None]:
    """The garbage collector off: hundreds of thousands of values without a cycle, which it would walk again and again, double the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
