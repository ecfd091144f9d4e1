# Each target sets up what it needs (scripts/bootstrap) and is a quick no-op the second time.
PYTHON := .venv/bin/python
SHELL := /bin/bash
.PHONY: demo test lint bench format lock

demo:  ## real sandboxes made, wrecked, rolled back and forked, a model trained and served
	@scripts/bootstrap demo
	@$(PYTHON) scripts/demo.py

test:  ## every test, the ones with real sandboxes included; as root
	@scripts/bootstrap test
	@scripts/test $(ARGS)

lint:  ## style, types, layers
	@scripts/bootstrap lint
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/pyright
	@.venv/bin/lint-imports

format:  ## rewrite the source in the project's style
	@scripts/bootstrap lint
	@.venv/bin/ruff check --fix --exit-zero .
	@.venv/bin/ruff format .

bench:  ## every figure of the README beside its peer; as root, takes long
	@scripts/bootstrap bench
	@for script in sandbox_life cli_start density api_load network_setup proxy sleep_wake up heavy_tail scheduler_quality scheduler_throughput scheduler_system gateway routing autoscale bench_tool; do $(PYTHON) benchmarks/$$script.py || exit 1; done

lock:  ## write requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile -q pyproject.toml --extra dev --extra postgres --generate-hashes --python-version 3.11 -o requirements.lock
