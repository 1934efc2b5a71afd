"""Inputs: files, folders, archives and standard input, each with what it is: that is found by its content, never by its name.

`kinds`: one input, and the kinds there are. `recognise`: what a text is. `decode`: bytes as text. `paste`: dumps that follow each other in one
text. `archives`: compressed files, tar and zip. `reader`: files, folders and standard input, within limits. `evidence`: whose a
dump is. `failed`: what is a node's without a dump. `captures`: which inputs are about which node.
"""

from ruleaudit.sources.captures import Capture, Captures, beside, gather, read, read_captures
from ruleaudit.sources.evidence import holds_dumps
from ruleaudit.sources.failed import is_failed_dump
from ruleaudit.sources.kinds import InputKind, Source
from ruleaudit.sources.reader import MAX_BYTES, MAX_DEPTH, MAX_FILES, STDIN, read_plain
from ruleaudit.sources.recognise import UNKNOWN, Recognised, recognise

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_FILES",
    "STDIN",
    "UNKNOWN",
    "Capture",
    "Captures",
    "InputKind",
    "Recognised",
    "Source",
    "beside",
    "gather",
    "holds_dumps",
    "is_failed_dump",
    "read",
    "read_captures",
    "read_plain",
    "recognise",
]
