# Every target does its own set-up: it makes the virtual environment .venv once, from requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Without --no-compile pip compiles all modules of all packages, which takes a third of the set-up; most are never imported.
INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check --no-compile
ARGS ?=
# Without bytecode files each process that a test starts compiles torch and everything else again: 7 s instead of 3.
unexport PYTHONDONTWRITEBYTECODE
# One more than the cores: many tests wait for processes that they start.
TEST_PROCESSES := $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else "auto")')

.DEFAULT_GOAL := help
.PHONY: help setup simulate test test-all lint benchmark docs docs-serve docs-check gpu-check fuzz soak wheels push push-pretrain status submit lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@echo "setting up $(VENV): torch and some hundred other packages of requirements.lock, once, in two to ten minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -c requirements.lock torch
	$(INSTALL) -c requirements.lock -e '.[home,test]'
	$(BIN)/python -c 'import matplotlib.figure, hrm_submit.run.worker, hrm_submit.report.build'  # what is imported is compiled now
	@touch $@ && echo "$(VENV) is ready: . $(BIN)/activate"

setup: $(READY) ## make the virtual environment .venv

simulate: $(READY) ## run the Kaggle notebook offline on this machine: ARGS='--mode scored --tasks 20'
	$(BIN)/python scripts/simulate_kaggle.py $(ARGS)

test: $(READY) ## run linters, types, import contracts and tests
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal $(ARGS)

test-all: $(READY) ## run the same and the slow tests
	$(MAKE) --no-print-directory test ARGS='-m "slow or not slow" $(ARGS)'

lint: $(READY) ## run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmark: $(READY) ## measure every speed that docs/speed.md quotes: ARGS='training start --json F'
	$(BIN)/python scripts/benchmark.py $(ARGS)

docs-check: $(READY) ## check README and docs/, figures, links, site, code blocks: ARGS='-k budget'
	$(BIN)/python -m pytest --timeout 0 -m '' tests/test_docs.py $(ARGS)

docs: $(READY) ## build docs/ as a site that opens from disk: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q --strict $(ARGS)
	@echo "open $(CURDIR)/build/site/index.html"

docs-serve: $(READY) ## show docs/ at http://127.0.0.1:8000, changes included
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve $(ARGS)

gpu-check: $(READY) ## check this machine's GPU in five minutes: ARGS='engine speed --json F'
	$(BIN)/python scripts/gpu_check.py $(ARGS)

fuzz: $(READY) ## read thousands of damaged files: ARGS='-k checkpoint'
	$(BIN)/python -m pytest --timeout 0 --hypothesis-profile many tests/test_hostile.py $(ARGS)

soak: $(READY) ## kill runs at random moments, and run random schedules of faults: ARGS='--trials 30 --schedules 1000'
	$(BIN)/python -m pytest --timeout 0 -m '' tests/run/test_kills.py tests/run/test_trials.py $(ARGS)

wheels: $(READY) ## fill offline_wheels/, from which the notebook installs
	$(BIN)/python scripts/build_offline_wheels.py $(ARGS)

push: $(READY) ## push dataset and notebook to Kaggle: make push OWNER=you, first with ARGS=--dry-run
	$(BIN)/python scripts/build_offline_wheels.py
	$(BIN)/python scripts/kaggle_ship.py push $(if $(OWNER),--owner $(OWNER)) $(ARGS)

push-pretrain: $(READY) ## pre-train on Kaggle's GPUs: make push-pretrain OWNER=you, make status ARGS=--pretrain
	$(BIN)/python scripts/build_offline_wheels.py --with-data
	$(BIN)/python scripts/kaggle_ship.py push --pretrain $(if $(OWNER),--owner $(OWNER)) $(ARGS)

status: $(READY) ## follow the pushed notebook and fetch its outputs
	$(BIN)/python scripts/kaggle_ship.py status $(if $(OWNER),--owner $(OWNER)) $(ARGS)

submit: $(READY) ## submit the version that was pushed last to the competition
	$(BIN)/python scripts/kaggle_ship.py submit $(if $(OWNER),--owner $(OWNER)) $(ARGS)

lock: ## write requirements.lock from the newest versions that pyproject.toml allows
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install -q torch==2.13.0
	$(VENV)-lock/bin/python -m pip install -q -e '.[home,test]'
	(sed -n '/^#/p' requirements.lock; $(VENV)-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//') > requirements.lock.new
	mv requirements.lock.new requirements.lock && rm -rf $(VENV)-lock

clean: ## remove what was built; runs/, data/ and build/kaggle/ stay
	rm -rf build/site build/lib build/bdist.* dist *.egg-info .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
