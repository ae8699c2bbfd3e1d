# make demo       train and evaluate UPerNet + GFNet-H-Ti on synthetic scenes, with pictures
# make test       compile mmcv's operators (once per machine), lint, run the whole test suite
# make test-fast  lint, and the tests of models, checkpoints, utils and the package: for daily work
# make lint       ruff, the contracts of who imports whom (import-linter), types (mypy)
# make install    the environment of make demo, in .venv;  make install-det: that of make test
# make torture    the tests of docs/reliability.md in full (half an hour), and their figures
PYTHON ?= python3
PY := .venv/bin/python
# Processes that run the tests, each with one thread: models are small, threads would wait.
WORKERS ?= 2
SHARED := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
FAST := tests/models tests/checkpoint tests/utils tests/test_package.py
test test-fast torture: export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-fast torture install install-det lint clean

demo: install
	$(PY) tools/train.py configs/upernet_gfnet_ade20k.py --demo

test: install-det lint
	$(PY) -m pytest $(SHARED)

test-fast: install-det lint
	$(PY) -m pytest $(SHARED) $(FAST)

torture: install-det
	$(PY) -m tests.torture $(SHARED)

install:
	@$(PYTHON) .dev/install.py

install-det:
	@$(PYTHON) .dev/install.py --det

lint: install-det
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports --no-logo
	$(PY) -m mypy

# The trainings under work_dirs stay, but for the demo's.
clean:
	rm -rf .venv data/demo work_dirs/demo build *.egg-info .*_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
