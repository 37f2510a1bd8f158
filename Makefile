# Needs git, make and Python 3.11 or newer; everything else goes into .venv. Another interpreter: make PYTHON=python3.12 …
FITS := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(FITS)' 2>/dev/null && echo $$python && break; done)
SET_UP = @$(if $(PYTHON),,echo "refund-worker needs Python 3.11 or newer (none found): install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1;) \
	$(PYTHON) -c '$(FITS)' || { echo "$(PYTHON) is older than Python 3.11" >&2; exit 1; }; \
	$(PYTHON) .ci/set_up.py
COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --custom-compile-command "make lock" $(UPGRADE)
LOCK = $(COMPILE) pyproject.toml client/pyproject.toml --extra all --extra otel --group build

.DEFAULT_GOAL := help
.PHONY: help demo dev test quick check bench simulate crashes interleavings mutants mutation chaos image lock clean runtime-installed dev-installed

help: ## list these targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: runtime-installed ## the whole story on this machine, in under a minute after set-up; ends by itself
	@.venv/bin/refund-worker demo

dev: runtime-installed ## everything in one place on http://127.0.0.1:8000, until Ctrl-C
	@.venv/bin/refund-worker dev

test: dev-installed ## all tests, on SQLite and on a real Postgres and Valkey; ARGS="-k word" narrows
	@.venv/bin/pytest -q -n 3 --dist loadgroup --durations 15 --durations-min 10 $(ARGS)

quick: dev-installed ## domain, layout and units, in under a minute
	@.venv/bin/pytest -q -n 2 tests/domain tests/engine/views tests/test_layout.py tests/test_single_places.py \
		tests/test_language.py tests/test_redaction.py tests/test_dangers.py tests/mutants $(ARGS)

check: dev-installed ## lint, format, types, the direction of imports, the lock files
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@MYPYPATH=examples/month-of-a-site .venv/bin/mypy examples/month-of-a-site/*.py
	@.venv/bin/pytest -q tests/test_layout.py tests/test_single_places.py tests/test_locks.py

SCHEDULES ?= 2000
SEED ?= 1

simulate: dev-installed ## seeded schedules of faults: SCHEDULES=n SEED=s; ends in one line, 1 if a promise was broken
	@.venv/bin/python -m tests.simulation --schedules $(SCHEDULES) --seed $(SEED)

crashes: dev-installed ## a crash at every point of every path, singly and in pairs
	@.venv/bin/python -m tests.crashes

interleavings: dev-installed ## every pair of operations on one refund, up to two preemptions, SQLite and Postgres; ARGS=--single
	@.venv/bin/python -m tests.interleavings $(ARGS)

bench: dev-installed ## measure throughput and latency
	@.venv/bin/python -m tests.bench

mutants: dev-installed ## switch each defence off alone and see that a test notices; WORDS="quiet window" narrows
	@.venv/bin/python -m tests.mutants $(WORDS)

SAMPLE ?= 20

mutation: dev-installed ## small defects drawn at random, each against the tests that run its line; SAMPLE=n a folder, SEED=s
	@test -x .mutation/bin/python || $(PYTHON) -m venv .mutation
	@.mutation/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes \
		-r requirements-mutation.lock
	@.venv/bin/python -m tests.mutation --sample $(SAMPLE) --seed $(SEED) $(ARGS)

SECONDS ?= 60

chaos: dev-installed ## harm a whole deployment on real servers, then compare the books; SECONDS=n SEED=s
	@.venv/bin/python -m tests.chaos --seconds $(SECONDS) --seed $(SEED) $(if $(MUTANT),--mutant $(MUTANT))

image: dev-installed ## run the steps of deploy/Dockerfile in a clean Debian, then a refund in it; needs root; 3 minutes
	@.venv/bin/python -m tests.image

lock: dev-installed ## pin the dependencies anew (maintainers; UPGRADE=--upgrade takes the newest)
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(LOCK) --group dev -o requirements-dev.lock
	@$(LOCK) --constraints requirements-dev.lock -o requirements.lock
	@$(COMPILE) --group mutation -o requirements-mutation.lock
	@$(COMPILE) --group openapi-client -o requirements-openapi-client.lock

clean: ## remove everything that the targets above have made
	@rm -rf .venv .refund-worker .mutation .openapi-client .image .mypy_cache .ruff_cache .pytest_cache .hypothesis dist \
		tests/thirdparty/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

runtime-installed:
	$(SET_UP) runtime

dev-installed:
	$(SET_UP) dev
