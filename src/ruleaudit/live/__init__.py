"""What is read from outside: the API server (`cluster`, `execute`) and the node that ruleaudit runs on (`node`); and captures of both.

Everything here only reads. Nothing of it is needed to audit files.
"""
