"""The exit statuses of every command."""

from __future__ import annotations

__all__ = ["CLEAN", "FAILED", "FOUND", "INTERRUPTED"]

CLEAN = 0
"""Done, and nothing at or above --fail-on."""
FOUND = 1
"""Findings; a connection that does not arrive; nodes that are not in a capture."""
FAILED = 2
"""Usage, unusable input, or a fault of ruleaudit."""
INTERRUPTED = 130
"""Ctrl-C."""
