"""Every dump of every captured node: nothing is lost, nothing is odd, and both ways of reading agree."""

from __future__ import annotations

import lzma
import time
from typing import TYPE_CHECKING

import pytest

from ruleaudit.formats.iptables_save import parse, parse_with_grammar

if TYPE_CHECKING:
    from pathlib import Path

READ_BY_GRAMMAR = 700
"""Dumps of at most so many lines go through the grammar line by line as well: it reads about 8,000 lines a second."""


def dumps(folders: list[Path]) -> list[Path]:
    return [file for folder in folders for file in sorted(folder.glob("ip*tables-save*.txt*"))]


def text_of(file: Path) -> str:
    data = file.read_bytes()
    return (lzma.decompress(data) if file.suffix == ".xz" else data).decode("utf-8", "surrogateescape")


def test_captured_dumps_come_back_without_a_problem(capture_folders: list[Path]) -> None:
    files = dumps(capture_folders)
    assert files
    for file in files:
        text = text_of(file)
        dump = parse(text, str(file))
        assert dump.render() == text, file
        assert (dump.problems, dump.notes) == ([], []), file
        assert {table.family for table in dump.tables} <= {6 if file.name.startswith("ip6") else 4}, file
        for table in dump.tables:
            assert all(chain.line > 0 for chain in table.chains.values()), file


def test_captured_dumps_read_alike_by_the_grammar(capture_folders: list[Path]) -> None:
    seen: set[str] = set()
    for file in dumps(capture_folders):
        text = text_of(file)
        kind = file.parent.name.rsplit("-", 1)[0] + file.name  # dumps of one cluster and setting differ in little
        if kind in seen or text.count("\n") > READ_BY_GRAMMAR:
            continue
        seen.add(kind)
        fast, reference = parse(text, str(file)), parse_with_grammar(text, str(file))
        assert all(mine is theirs for mine, theirs in zip(fast.shapes, reference.shapes, strict=True)), file
        assert fast.values == reference.values, file


@pytest.mark.benchmark
def test_a_line_costs_about_two_microseconds(capture_folders: list[Path]) -> None:
    texts = [text_of(file) for file in dumps(capture_folders) if file.suffix == ".xz"]
    if not texts:
        pytest.skip("no capture of a large cluster")
    text = max(texts, key=len)
    parse(text[:1000], "warm up")
    begin = time.process_time()
    dump = parse(text, "large")
    spent = time.process_time() - begin
    assert spent / dump.line_count < 6e-6, f"{spent:.2f} s for {dump.line_count:,} lines"
