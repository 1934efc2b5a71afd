"""What kube-proxy does, by its releases and settings: the objects' side of the comparison.

`release` and `settings` say which kube-proxy it is, `endpoints` which endpoints it uses, `expect` what it programs for every service port, in
IPVS mode with the entries of `expected_sets`; `chains` are the names that it gives.
"""
