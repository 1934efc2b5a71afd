"""Where the grammars are: beside the package in a wheel, at the root of a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ruleaudit.errors import RuleauditError

__all__ = ["grammar_text"]


@cache
def grammar_text(name: str) -> str:
    """The text of the grammar `name`, as "iptables_save.lark". RuleauditError when the installation lacks it."""
    package = Path(__file__).resolve().parent
    for folder in (package / "grammars", package.parent.parent / "grammars"):
        file = folder / name
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise RuleauditError(f"the grammar {name} is not installed: install ruleaudit again")
