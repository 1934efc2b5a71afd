"""What ruleaudit raises when it cannot go on."""

from __future__ import annotations

__all__ = ["RAISE_LIMIT", "InputError", "RuleauditError"]

RAISE_LIMIT = "--limit-factor raises this limit"
"""What every refusal of an input for its size ends with."""


class RuleauditError(Exception):
    """The root of every error that ruleaudit raises on purpose."""


class InputError(RuleauditError):
    """An input that cannot be read or is none of ours: `message` says why and what to do; `line` is 1-based or None."""

    def __init__(self, message: str, path: str, line: int | None = None) -> None:
        self.message = message
        self.path = path
        self.line = line
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {message}")
