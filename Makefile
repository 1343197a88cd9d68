# Every target installs what it needs; `make` alone lists them.
# Required: Python 3.11, 3.12 or 3.13, make, git and, for the tests, Chromium and the programs of PostgreSQL.

EXTRAS        ?= train,dvc,s3,sign,dev
WORKERS       ?= 2
SLIM_VERSIONS ?= 3.11 3.12 3.13
SLIM_TESTS    ?= tests/test_errors.py tests/test_settings.py tests/test_progress.py tests/page/test_page.py tests/recipe \
                 tests/prepare/test_csv_cells.py tests/prepare/test_table.py tests/architecture/test_light_imports.py \
                 tests/bundle/test_files.py tests/bundle/test_decide.py tests/serve/test_app.py tests/serve/test_run.py \
                 tests/serve/test_hostile_requests.py tests/registry/test_store.py tests/registry/test_store_faults.py
LOWEST_EXTRAS ?= train,s3,sign,dev
LOWEST_TESTS  ?= $(SLIM_TESTS) tests/contract tests/metrics tests/models tests/registry tests/feedback \
                 tests/steps/test_pipeline.py tests/steps/test_image_loop.py
ARGS          ?=

BIN      := .venv/bin
READY    := .venv/.installed
SCANNED   = git ls-files -z --cached --others --exclude-standard --deduplicate

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fix bench soak secrets test-slim test-lowest constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="..." is passed to the command behind demo, test, soak, bench and constraints'

setup: $(READY) ## install everything into .venv (TORCH=cuda: with CUDA; PYTHON=path: with that Python)

demo: $(READY) ## run the whole loop on a small data set
	@$(BIN)/medloop demo $(ARGS)

# The tests of a file run in one process, since they share fixtures; more threads than cores would only wait.
test: $(READY) ## run the tests (WORKERS=0: in one process)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: $(READY) ## run every check that needs no test data: style, types, architecture, sizes, secrets
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/python -m pytest -q tests/architecture
	$(MAKE) --no-print-directory secrets

fix: $(READY) ## fix what ruff can fix, and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY) ## run the benchmarks
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(READY) ## run the long tests that `make test` skips
	$(BIN)/python -m pytest -m soak $(ARGS)

secrets: $(READY) ## scan every file that Git would add for keys and passwords
	$(SCANNED) | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline

test-slim: ## test the core alone, without torch and scikit-learn, on each Python found
	@tested=; for version in $(SLIM_VERSIONS); do \
	  python=$$(VERSIONS=$$version sh install.sh python 2>/dev/null) || { echo "no Python $$version here"; continue; }; \
	  PYTHON=$$python sh install.sh venv .venv-slim-$$version . pytest hypothesis || exit 1; \
	  .venv-slim-$$version/bin/python -m pytest $(SLIM_TESTS) || exit 1; \
	  tested="$$tested $$version"; \
	done; echo "tested the core on:$${tested:- no Python at all}"; [ -n "$$tested" ]

test-lowest: ## test the oldest releases that pyproject.toml allows (downloads a few GB)
	RESOLUTION=lowest-direct sh install.sh venv .venv-lowest ".[$(LOWEST_EXTRAS)]"
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n $(WORKERS) --dist loadfile $(LOWEST_TESTS) $(ARGS)

constraints: $(READY) ## update constraints.txt after a change of dependencies (ARGS=--upgrade: newest releases)
	@echo hatchling | env -u UV_FIND_LINKS -u UV_INDEX -u UV_EXTRA_INDEX_URL $(BIN)/uv --no-config pip compile \
	  pyproject.toml - --all-extras --universal --python-version 3.11 --fork-strategy fewest --quiet \
	  --no-annotate --custom-compile-command "make constraints" --output-file constraints.txt $(ARGS)

clean: ## remove the environments and everything that can be recreated
	rm -rf .venv .venv-slim-* .venv-lowest .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov dist build medloop-demo
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt install.sh $(if $(TORCH),FORCE)
	@sh install.sh venv .venv --editable ".[$(EXTRAS)]"

FORCE:
