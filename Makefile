# Everything runs from .venv, which `make setup` builds from the hash-pinned requirements/dev.txt.
# Needed: make and one Python of 3.11, 3.12 or 3.13 with venv. Nothing is activated or installed outside this folder.

VENV    := .venv
RUN     := $(VENV)/bin/python
# Another interpreter: make setup PYTHON=/path/to/python3.12
PYTHON  ?=
# Test processes side by side; `make test WORKERS=0` runs in one, which a debugger likes.
WORKERS ?= 2
# Passed on to the command: make test ARGS="-k split", make demo ARGS=--fast
ARGS    ?=
UV      ?= uv

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format loadtest bench scenarios rollouts monitor statistics retraining conformance lock clean

help:  ## say what can be made
	@sed -n 's/^\([a-z]*\):.*  ## /  make \1\t/p' Makefile | expand -t 18
	@echo 'Options: PYTHON=python3.12, ARGS="...", WORKERS=2; make demo KEEP=1 leaves the gateway running.'

setup: $(VENV)/.project  ## make .venv with everything in it; does nothing when it is up to date

# The environment is made anew when the lock changed: what left the lock must leave the environment too.
# `sys._base_executable`: python3 may be this very .venv, when it is active, and would be deleted under us.
$(VENV)/.packages: requirements/dev.txt
	@python=; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	    python=$$("$$candidate" -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14); import ensurepip, venv; print(sys._base_executable)' 2>/dev/null) && break; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "make setup: found no Python 3.11, 3.12 or 3.13 with venv (tried: $(or $(PYTHON),python3 python3.13 python3.12 python3.11))." >&2; \
	    echo "Install one (Debian and Ubuntu: python3 and python3-venv) or name it: make setup PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$python" --version): about a hundred packages, half a minute when pip has them cached."; \
	rm -rf $(VENV) && "$$python" -m venv $(VENV)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(RUN) -m pip install -qq --no-input --only-binary=:all: --require-hashes -r requirements/dev.txt
	@touch $@

# The project itself has no hash, so it is a second step; its build tool comes from the lock.
$(VENV)/.project: $(VENV)/.packages pyproject.toml
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(RUN) -m pip install -qq --no-input --no-index --no-deps --no-build-isolation -e .
	@touch $@
	@echo "$(VENV) is ready."

demo: setup  ## run the whole loop on the Electricity stream and show it
	@exec $(VENV)/bin/gateway demo $(if $(KEEP),--keep) $(ARGS)

test: setup  ## run all tests
	@exec $(RUN) -m pytest -n $(WORKERS) $(ARGS)

# pytest comes last, so that a run ends on its own closing line. Which lines no test ran: .venv/bin/coverage report
check: setup  ## format, lint, types, import contracts, tests with branch coverage
	@echo "format" && $(RUN) -m ruff format --check .
	@echo "lint" && $(RUN) -m ruff check .
	@echo "types" && $(RUN) -m mypy
	@echo "import contracts" && $(VENV)/bin/lint-imports --no-logo
	@exec $(RUN) -m pytest -n $(WORKERS) --cov --cov-report= $(ARGS)

format: setup  ## lay the code out and mend what the linter can
	@$(RUN) -m ruff check --fix . ; $(RUN) -m ruff format .

loadtest: setup  ## start a gateway and put load on it, headless
	@exec $(RUN) loadtests/run.py $(ARGS)

# The peers are installed into .bench/ when they are first measured, each in an environment of its own.
bench: setup  ## measure the gateway beside bare floors and its peers; ARGS=--quick takes about a minute
	@exec $(RUN) -m loadtests.bench $(ARGS)

scenarios: setup  ## measure swaps, bad neighbours, overload, slow clients and memory; ARGS="overload --quick"
	@exec $(RUN) -m loadtests.scenarios $(ARGS)

rollouts: setup  ## roll bad and good versions out on a real gateway, and roll back; ARGS="broken --quick"
	@exec $(RUN) -m loadtests.rollouts $(ARGS)

monitor: setup  ## does the monitor keep up with 5,000 labelled predictions a second? ARGS="--seconds 20"
	@exec $(RUN) -m loadtests.monitor $(ARGS)

statistics: setup  ## try the rollout's rules and the monitor's detectors on made-up streams, beside others; ARGS="--quick --seed 7"
	@missed=0; for study in rollout_study monitor_study; do \
	    $(RUN) -m tests.statistics.$$study $(ARGS) || missed=1; \
	done; exit $$missed

retraining: setup  ## try jobs that went wrong, nights of useless jobs, digests and kill -9; ARGS="kills --quick"
	@exec $(RUN) -W ignore -m tests.statistics.retraining_study $(ARGS)

# Stock clients and the ONNX backend suite's files live in an environment of their own; the gateway runs from .venv.
.conformance/.packages: requirements/conformance.txt $(VENV)/.packages
	@rm -rf .conformance && $(RUN) -m venv .conformance
	@PIP_DISABLE_PIP_VERSION_CHECK=1 .conformance/bin/python -m pip install -qq --no-input --only-binary=:all: --require-hashes -r requirements/conformance.txt
	@touch $@

conformance: setup .conformance/.packages  ## ask the gateway as stock clients of the protocol do, and replay the ONNX backend suite
	@GATEWAY_PYTHON=$(abspath $(RUN)) .conformance/bin/python -m pytest --confcutdir tests/conformance tests/conformance $(ARGS)
	@exec $(RUN) -m tests.conformance.backend.replay --suite \
	    "$$(.conformance/bin/python -c 'import importlib.util as u; print(u.find_spec("onnx").submodule_search_locations[0])')/backend/test/data"

# Only this target needs uv (pip install uv). One lock covers 3.11 to 3.13 on every platform and names no address:
# where packages come from is each machine's own setting, the hashes say that they are the right ones.
# The locks are kept where they still fit; `make lock ARGS=--upgrade` takes the newest of everything.
LOCK := UV_PYTHON_DOWNLOADS=never $(UV) pip compile -q --no-config --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"
lock:  ## resolve pyproject.toml into requirements/*.txt again
	$(LOCK) $(ARGS) pyproject.toml --extra dev --group build -o requirements/dev.txt
	$(LOCK) pyproject.toml -c requirements/dev.txt -o requirements/runtime.txt
	$(LOCK) --group build -c requirements/dev.txt -o requirements/build.txt
	$(LOCK) $(ARGS) --group conformance -o requirements/conformance.txt

clean:  ## remove the environment and all caches; a gateway's data is left alone
	rm -rf $(VENV) .bench .conformance build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find gateway tests models loadtests -name __pycache__ -type d -prune -exec rm -rf {} +
