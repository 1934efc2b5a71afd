# `make` alone prints these lines.
#   make demo      audit the bundled nodes; the first time it makes .venv and installs ruleaudit into it
#   make test      every check that CI runs: format, lint, types, layers, tests with coverage, documents, build
#   make update    rewrite what is generated: format, docs/codes.md, the man page, the outputs in the documents
#   make docs      build the pages of the documentation into build/site
#   make single-file  build dist/ruleaudit.pyz, ruleaudit as one file for nodes that have nothing but Python
#   make bench     measure the audit of a large node against iptables-restore --test (that part as root)
#   make evidence  everything that shows whether the audit can be believed, at full length (the kernel's part as root)
#   make mutants   change the audit's code in 500 places, one at a time, and list what no test notices
#   make clean     remove .venv, caches and build results

PYTHON ?= python3
.DEFAULT_GOAL := help
.PHONY: help demo test update docs single-file bench evidence mutants clean

help:
	@sed -n 's/^#   //p' Makefile

# The stamps are older than pyproject.toml when its dependencies may have changed.
.venv/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ruleaudit needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --editable .
	@.venv/bin/python -m compileall -q src || true # an editable install does not, and where bytecode is not written each start compiles all
	@touch $@

# Dependency groups are read by pip 25.1 and newer; Debian 12 has 23.0.
.venv/.dev: pyproject.toml .venv/.installed
	.venv/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	.venv/bin/pip install --quiet --disable-pip-version-check --group dev --editable .
	@touch $@

demo: .venv/.installed
	@scripts/demo .venv/bin/ruleaudit

test: .venv/.dev
	@scripts/check .venv/bin

update: .venv/.dev
	@scripts/update .venv/bin

docs: .venv/.dev
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

single-file: .venv/.dev
	@scripts/single-file .venv/bin/python

bench: .venv/.installed
	@.venv/bin/python benchmarks/compare.py

evidence: .venv/.dev
	@scripts/evidence .venv/bin

mutants: .venv/.dev
	@.venv/bin/python tests/mutation.py --sample 500

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* build dist htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
