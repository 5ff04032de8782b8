# Everything a newcomer types. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What another project's shell may have left, and what would send the installation elsewhere.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV
# Without bytecode every process compiles all that it imports: pytest takes twice as long to collect.
unexport PYTHONDONTWRITEBYTECODE
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV

.DEFAULT_GOAL := help
.PHONY: help demo up test crash check bench chaos histories screenshots lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED)  ## start everything and play 200 lives; Ctrl-C stops
	@$(BIN)/python crm.py demo $(ARGS)

up: $(INSTALLED)  ## start everything; Ctrl-C stops
	@$(BIN)/python crm.py up $(ARGS)

test: $(INSTALLED)  ## the whole suite, on the real PostgreSQL and Temporal
	@$(BIN)/python -m tests.browser_here
	$(BIN)/python -m pytest -q -n 3 --dist loadscope --no-loadscope-reorder --durations=5 $(ARGS)

crash: $(INSTALLED)  ## 300 lives while worker, Temporal and PostgreSQL are killed 30 times
	$(BIN)/python -m pytest -q -s tests/crash --full-size $(ARGS)

check: $(INSTALLED)  ## format, lint, import rules, types, the compose file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy .
	@sh deploy/check-compose.sh

bench: $(INSTALLED)  ## the speed claims, measured (writes var/bench.json)
	$(BIN)/python -m benchmarks $(ARGS)

chaos: $(INSTALLED)  ## the fault runs at full size: kills, mail servers, webhooks, opt-outs
	$(BIN)/python -m chaos $(ARGS)

histories: $(INSTALLED)  ## add the workflow histories that are not stored yet
	$(BIN)/python -m tests.record_histories $(ARGS)

screenshots: $(INSTALLED)  ## make the pictures of the README anew
	$(BIN)/python -m docs.screenshots $(ARGS)

lock: $(INSTALLED)  ## pin the newest versions requirements*.in allow
	$(BIN)/python -m uv pip compile --generate-hashes --no-emit-index-url --no-header --universal \
		--python-version 3.11 -q requirements.in requirements-dev.in -o requirements.lock

clean:  ## remove what was installed and cached; var/ (the data) stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock
	@sh deploy/install.sh $(PYTHON) $(VENV)
	@touch $@
