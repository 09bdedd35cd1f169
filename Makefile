# make quickstart   train a small Mask R-CNN in minutes, in a virtual environment
# make test         run the tests in parallel: 6 to 9 minutes on two cores
# make test-torch VERSION=2.11.0   run the tests of operators, nets, detectors and the trainer with another torch
# make lint         check style with ruff, and the types of resdet with mypy
# make types        check the types of all packages, strictly; the result depends on the annotations of the installed torch
# make fuzz         read 10,000 damaged files of each kind (tests/fuzz/README.md): about 30 minutes on two cores
# make docs         build the documentation site in build/docs
# make dist         build wheel and source distribution, reproducibly, and check their metadata; needs the dev extra
# make bench        compare speed with torchvision, timm and pycocotools
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AT_ONCE := --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: quickstart test test-all test-gpu test-torch fuzz bench docs dist lint types clean

quickstart: $(READY)
	$(BIN)/resdet train --config shapes_mask_r18_fpn.yaml

# Without bytecode on the disk, each process that a test starts would compile all modules again.
test test-all: export PYTHONDONTWRITEBYTECODE =

test: $(READY)
	$(BIN)/python -m pytest $(AT_ONCE)

test-all: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[notebooks]'
	$(BIN)/python -m pytest $(AT_ONCE) -m "not gpu"

test-gpu: $(READY)
	$(BIN)/python -m pytest -m gpu

test-torch:
	$(PYTHON) -m venv $(VENV)-torch-$(VERSION)
	$(VENV)-torch-$(VERSION)/bin/python -m pip install --quiet --disable-pip-version-check torch==$(VERSION) torchvision --editable '.[test]'
	$(VENV)-torch-$(VERSION)/bin/python -m pytest $(AT_ONCE) tests/ops tests/backbones tests/detection tests/engine

fuzz: $(READY)
	PYTHONPATH=tests $(BIN)/python -m fuzz --count 10000

bench: $(READY)
	$(BIN)/resdet bench

docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --conf-dir docs . build/docs
	@echo build/docs/index.html

dist:
	rm -rf dist
	umask 022 && SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(PYTHON) -m build
	$(PYTHON) -m twine check --strict dist/*

lint: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[lint]'
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy --config-file .ci/mypy.ini
	$(BIN)/mypy --config-file .ci/mypy.ini --platform win32

types: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[lint]'
	$(BIN)/mypy

$(READY): setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "resdet needs Python 3.10 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
