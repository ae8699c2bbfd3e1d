# make demo       train and evaluate UPerNet + GFNet-H-Ti on synthetic scenes, with pictures
# make test       compile mmcv's operators (once per machine), lint, run the whole test suite
# make test-fast  lint, and the tests of models, checkpoints, utils and the package: for daily work
# make lint       ruff, the contracts of who imports whom (import-linter), types (mypy)
# make install    the environment of make demo, in .venv;  make install-det: that of make test
# make torture    the tests of docs/reliability.md in full (half an hour), and their figures
# make gpu        tests and benchmarks on an NVIDIA GPU, in ten minutes, by the Python that is active
PYTHON ?= python3
# Install what is missing, then run .venv's Python, which others do not change meanwhile.
RUN := $(PYTHON) .dev/install.py --run
RUN_DET := $(PYTHON) .dev/install.py --det --run
# Processes that run the tests, each with one thread: models are small, threads would wait.
WORKERS ?= 2
SHARED := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
FAST := tests/models tests/checkpoint tests/utils tests/test_package.py
test test-fast torture: export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-fast torture gpu install install-det lint clean

demo:
	$(RUN) tools/train.py configs/upernet_gfnet_ade20k.py --demo

test: lint
	$(RUN_DET) -m pytest $(SHARED)

test-fast: lint
	$(RUN_DET) -m pytest $(SHARED) $(FAST)

torture:
	$(RUN_DET) -m tests.torture $(SHARED)

# Not .venv's Python, whose PyTorch is for CPUs.
gpu:
	$(PYTHON) .dev/gpu.py

install:
	@$(PYTHON) .dev/install.py

install-det:
	@$(PYTHON) .dev/install.py --det

lint:
	$(RUN_DET) -m ruff check .
	$(RUN_DET) -m ruff format --check .
	$(RUN_DET) .venv/bin/lint-imports --no-logo
	$(RUN_DET) -m mypy

# The trainings under work_dirs stay, but for the demo's.
clean:
	@$(PYTHON) .dev/install.py --remove
	rm -rf data/demo work_dirs/demo build *.egg-info .*_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
