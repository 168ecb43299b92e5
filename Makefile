# Everything a developer or an operator does with this repository, one target each. `make` alone lists them.

# A distribution's Python is built with profile-guided optimisation. One built by hand mostly is not, and spends about
# 15 % more CPU on each put; so it is taken only where there is no other.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
            && echo /usr/bin/python3 || echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# The package as a wheel has it, its hot road compiled where that can be done here: made once for each state of the
# sources, which takes about a minute. Prints where it is; where it cannot be built, nothing, and the sources run.
BUILD := $(BIN)/python -m tests.support.built

# Three workers share the tests; tests/conftest.py says which tests stay together on one of them.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder

# In CI a test that fails among the others has a second try, as many wait for clusters of real processes that share two
# cores with all the rest; the summary lists each that needed it.
SECOND_TRY := $(if $(CI),--reruns 1 -rR)

# How long `make soak` and `make interrupt` go on.
SECONDS ?= 3600

.DEFAULT_GOAL := help
.PHONY: help env wheel up down test test-fast soak interrupt lint format proto bench reference clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP)  ## make the environment in .venv (does nothing when it is up to date)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "etcdpy needs Python 3.11 or newer; say which with: make PYTHON=python3.x env")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

wheel: env  ## build a wheel in dist/, compiled where gcc and Python's headers are there (ETCDPY_COMPILE=0: not)
	@rm -rf build
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w dist .
	@rm -rf build
	@ls dist/etcdpy-*.whl

up: env  ## run three members with mutual TLS on loopback, and show how to talk to them (DETACH=1: in the background)
	@PYTHONPATH=$$($(BUILD)) $(BIN)/python -P -m etcdpy.local up $(if $(DETACH),--detach) $(ARGS)

down: env  ## stop what `make up DETACH=1` started
	@$(BIN)/python -m etcdpy.local down

test: env  ## run every test: style, units, properties, and real processes beside real etcd
	@$(BIN)/python -m tests.support.reference >/dev/null || true
	@ETCDPY_BUILT=$$($(BUILD)) $(PYTEST) $(SECOND_TRY)

test-fast: env  ## run the tests that start no process: about a minute
	@$(PYTEST) --ignore=tests/processes --ignore=tests/interop --ignore=tests/tidy

soak: env  ## clusters and hostile inputs under random seeds for SECONDS (an hour, half each); names each seed that fails
	@$(BIN)/python -m tests.simulation --soak $$(( $(SECONDS) / 2 )); simulated=$$?; \
	    $(BIN)/python -m tests.fuzz --soak $$(( $(SECONDS) / 2 )) && exit $$simulated

interrupt: env  ## end each playbook before each of its tasks and run it again, for SECONDS (PLAYBOOKS="site auth"; CUT=1: by kill -9)
	@$(BIN)/python -m tests.hosts.interruption --seconds $(SECONDS) $(if $(CUT),--cut) $(PLAYBOOKS)

lint: env  ## ruff and mypy, without changing anything
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: env  ## let ruff put the source in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

proto: env  ## generate etcdpy/proto/*_pb2.py and .pyi from the .proto files
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. \
	    --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --mypy_out=quiet:. etcdpy/proto/*.proto

bench: env  ## measure etcdpy and real etcd side by side (WORKLOADS="W1 W11": only some; SOURCES=1: not compiled)
	@$(if $(SOURCES),,export ETCDPY_BUILT=$$($(BUILD)) && )$(BIN)/python -m bench $(addprefix --only ,$(WORKLOADS))
	@$(if $(WORKLOADS),,$(BIN)/python -m bench.clients)

reference: env  ## build real etcd's binaries, which tests and bench compare with (needs Go)
	@$(BIN)/python -m tests.support.reference

clean:  ## remove what the other targets made, the environment included
	rm -rf $(VENV) .local build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
