"""Text of inputs made safe to print: what a dump or an object holds must not steer a terminal or pass for another line."""

from __future__ import annotations

__all__ = ["escape", "printable", "shortened"]


def printable(text: str) -> str:
    r"""`text` with every character that is not printable written as an escape: `\x1b`, `\n`, `\u202e`.

    Bytes that were no UTF-8 (surrogate escapes) come out as the bytes they were: `\xff`.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else escape(character) for character in text)


def escape(character: str) -> str:
    r"""One character as an escape sequence: `\x1b`, `\u202e`; the surrogate escape of a byte as that byte, `\xff`."""
    point = ord(character)
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point - 0xDC00:02x}"
    return ascii(character)[1:-1]


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` characters, cut in the middle: a rule's chain is at its start, its target at its end."""
    if len(text) <= width:
        return text
    end = (width - 5) // 2
    return f"{text[: width - 5 - end]} ... {text[len(text) - end :]}"
