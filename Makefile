# A bare machine needs git, make and Python 3.11 to 3.13; everything else comes into .venv.
.PHONY: reproduce reproduce-all test test-all check lab site clean environment lock
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
READY := .venv/.ready
PRESET = $(shell sed -n 's/^preset: //p' params.yaml)
FIRST = $(shell sed -n 's/^first: //p' plan.yaml)
SET = $(PRESET)-$(FIRST)

help:                 ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

environment: $(READY) ## .venv from requirements.lock

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "ctrcl: no Python 3.11 to 3.13 with venv found; install one, or run make PYTHON=/path/to/python3.12" >&2; exit 2; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	test -x .venv/bin/uv || .venv/bin/python -m pip install --quiet "uv>=0.5"
	uv pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	uv pip install --quiet --no-deps --no-build-isolation --editable .
	test -e .git || dvc config --local core.no_scm true
	touch $@

data: $(READY) data.dvc
	dvc pull --quiet data
	touch data

reproduce: data       ## the main comparison on drawn data and its report: about 12 minutes on two cores
	dvc repro prepare@$(SET)
	ctrcl train $(FIRST) --table main
	dvc repro main@$(SET) figures@$(PRESET)-qualitative-$(FIRST)
	ctrcl results compare

reproduce-all: data   ## every table of the preset in force: dvc repro
	dvc repro prepare
	ctrcl train
	dvc repro
	ctrcl results index
	ctrcl results compare

test: data            ## the quick test suite: about five minutes on two cores
	pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: data        ## the slow tests too
	pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(READY)       ## style and types
	ruff check . && ruff format --check . && mypy

lab: data             ## JupyterLab on copies of the notebooks, in artifacts/lab
	mkdir -p artifacts/lab
	cp -Rn notebooks/. artifacts/lab/ || true
	jupyter lab artifacts/lab $(LAB)

site: $(READY)        ## the static site, in artifacts/site/html
	python docs/site.py

lock: $(READY)        ## resolve requirements.lock again from pyproject.toml
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --group dev pyproject.toml -o requirements.lock

clean:                ## remove the environment, caches and artifacts; results/ and data stay
	rm -rf .venv artifacts .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
