"""Where a connection goes: from its client to the pod, step by step, with the rules that decide (way 1 to 3 of the README).

`question` reads what is asked, `follow` works out the way as values (`values`), `text`, `structured` and `picture` render them.
"""

from ruleaudit.trace.follow import trace
from ruleaudit.trace.nodes import Nodes, SeveralNodesError, read_nodes
from ruleaudit.trace.values import Trace

__all__ = ["Nodes", "SeveralNodesError", "Trace", "read_nodes", "trace"]
