"""The mutation run's own tool (tests/mutation.py): what it changes, and that the change arrives in living code."""

from __future__ import annotations

import ast
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from tests.mutation import Module, changes

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = '''"""A module."""
FLAGS = {"a": 1}
NAMES = frozenset(FLAGS)


def grown(number: int) -> int:
    return number + 1


def chosen(number: int, *, fine: bool = True) -> str | None:
    """A docstring is left alone."""
    if number > 1 and fine:
        return f"more than {number}"
    for one in range(number):
        if not one:
            continue
    return None
'''


def texts(source: str) -> list[str]:
    return [change.text for change in changes(ast.parse(source))]


def test_what_is_changed() -> None:
    found = texts(SOURCE)
    for text in (
        "'a'  ->  'a~'",
        "1  ->  2",
        "number + 1  ->  number - 1",
        "return number + 1  ->  return None",
        "if number > 1 and fine  ->  if False",
        "number > 1  ->  number >= 1",
        "number > 1 and fine  ->  without fine",
        "not one  ->  one",
        "continue  ->  pass",
    ):
        assert text in found
    assert not any("docstring" in text or text.startswith("True") for text in found)
    assert [text for text in found if "more than" in text] == ["return f'more than {number}'  ->  return None"]


def test_a_change_arrives_where_the_code_lives(tmp_path: Path) -> None:
    """In functions, in tables, and in what is made of a table."""
    path = tmp_path / "held.py"
    path.write_text(SOURCE)
    for text, number, names in (("number + 1  ->  number - 1", 4, {"a"}), ("'a'  ->  'a~'", 6, {"a~"})):
        living = ModuleType("held")
        exec(compile(SOURCE, str(path), "exec"), vars(living))
        module = Module("held", living, path, SOURCE)
        grown = living.grown
        module.functions[".grown", grown.__code__.co_firstlineno] = [grown]
        module.put(texts(SOURCE).index(text))
        assert (grown(5), set(living.NAMES)) == (number, names)
    assert "held" not in sys.modules
