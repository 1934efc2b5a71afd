"""The checks: small documented functions from one audited family to findings."""
