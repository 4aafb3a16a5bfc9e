# `make` lists the targets. Each works alone, on a fresh clone: what it needs is installed first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

# A pipeline is many processes: where none may keep its bytecode, each compiles torch again: 5 seconds instead of 2.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help repro test lint bench gpu doctor new setup clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv and install what the project needs (the other targets do this first)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo "error: $(PYTHON) is '$$($(PYTHON) --version 2>&1)'; expected Python 3.11 to 3.13; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { echo "error: $(PYTHON) -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV): about 6 GB, most of it PyTorch; 2 to 4 minutes"
	@$(BIN)/python -m pip install --disable-pip-version-check --no-compile --progress-bar off \
	  --constraint constraints.txt --editable '.[pipeline,data,text,sound,teachers,tables,export,remote,dev]'
	@touch $@

repro: $(READY) ## a quick check-up, then every stage whose inputs changed; print the results
	@$(BIN)/python -m stages.doctor --quick --quiet
	@PATH="$$PWD/$(BIN):$$PATH" dvc repro
	@cat reports/table.txt
	@echo; echo "report: $$PWD/reports/report.html"

test: $(READY) ## run the tests (CPU only)
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY) ## ruff, mypy, import-linter
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --cache-dir .import_linter_cache

bench: $(READY) ## measure the claims; tables on the screen, figures in reports/bench/*.json
	@$(BIN)/python -m benchmarks

DEVICE ?= cuda
gpu: $(READY) ## what a graphics card is asked, in 9 minutes: tests, benchmarks, what fell short (DEVICE=cpu: a rehearsal)
	@$(BIN)/python -m benchmarks.gpu --device $(DEVICE)

doctor: $(READY) ## look at params.yaml, images, networks and disk before hours are spent on them
	@$(BIN)/python -m stages.doctor

MINUTES ?= 30
# As they were typed: make would expand a `$$` in them, and a shell would end at a quote.
unexport NAME DATA SOURCE MINUTES LATER TASK INPUT
export NEW_NAME := $(value NAME)
export NEW_DATA := $(value DATA)
export NEW_SOURCE := $(value SOURCE)
export NEW_MINUTES := $(value MINUTES)
export NEW_LATER := $(value LATER)
export NEW_TASK := $(value TASK)
export NEW_INPUT := $(value INPUT)
new: $(READY) ## a project for your own images: make new NAME=../pets DATA=path/to/images [INPUT=text|sound|table] [SOURCE=folder] [TASK=multilabel|segmentation|embedding] [MINUTES=30] [LATER=1]
	@$(BIN)/python -m stages.new_project --minutes="$$NEW_MINUTES" $${NEW_SOURCE:+--source="$$NEW_SOURCE"} $${NEW_INPUT:+--input="$$NEW_INPUT"} $${NEW_DATA:+--path="$$NEW_DATA"} $${NEW_TASK:+--task="$$NEW_TASK"} $${NEW_LATER:+--later} -- "$$NEW_NAME"

clean: ## delete work/ (unfinished work, second names of finished results), not data, reports or .venv
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m stages.clean; else rm -rf work; fi
