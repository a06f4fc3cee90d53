# `make demo` and `make test` work on a fresh machine: they make their own virtual environment.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -n $(WORKERS)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-core test-times test-full bench bench-quick soak verify-gpu-kernels verify-device \
	docs lint format clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=$(PYTHON) (3.11 or newer), WORKERS=$(WORKERS) (test processes), VENV=$(VENV)"

setup: $(VENV)/.stamp  ## the virtual environment, with rtrl installed from this folder

$(VENV)/.stamp: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("rtrl needs Python 3.11 or newer, but $(PYTHON) is %d.%d: name another one with make PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -e ".[dev]"
	@touch $@

demo: setup  ## learn a real stream online and compare with other methods
	@$(BIN)/python -m rtrl.cli.demo

# Most of the time goes into compiling hundreds of small programs, each run once: XLA's costliest
# passes are left out here, and are in for test-full and for all that users run.
# XLA ends a process over a flag that it does not know, and newer ones have no emitters to switch off.
NO_EMITTERS := --xla_cpu_use_fusion_emitters=false
KNOWS = $$(XLA_FLAGS=$(1) JAX_PLATFORMS=cpu $(BIN)/python -c 'import jax; jax.devices()' \
	>/dev/null 2>&1 && echo $(1))
QUICK = JAX_DISABLE_MOST_OPTIMIZATIONS=1 \
	XLA_FLAGS="$(call KNOWS,$(NO_EMITTERS)) --xla_cpu_parallel_codegen_split_count=1"

test: setup  ## the fast tests
	@$(QUICK) $(PYTEST)

test-core: setup  ## the essential tests only
	@$(QUICK) $(PYTEST) -m "core and not slow"

test-times: export RTRL_TEST_TIMES := $(CURDIR)/build/test-times.jsonl
test-times: setup  ## the fast tests, and what each of them costs (bench/results/suite.md)
	@mkdir -p build && rm -f $(RTRL_TEST_TIMES)
	@$(QUICK) PYTHONPATH=bench $(PYTEST) -p suite
	@$(BIN)/python bench/suite.py

test-full: setup  ## every test, slow ones included, on new random examples, with all of XLA's optimizations
	@HYPOTHESIS_PROFILE=explore $(PYTEST) -m ""

# Compilers for GPUs, a gigabyte of them, without the CUDA libraries: nothing runs on a GPU here.
# With another version of JAX: PYTHON=python3.12 GPU_VENV=.venv-gpu312 GPU_OUTPUT=<a file>
GPU_VENV ?= .venv-gpu
GPU_OUTPUT ?= bench/results/kernels_verify.json
GPU_PIP := $(GPU_VENV)/bin/python -m pip -qq --disable-pip-version-check

$(GPU_VENV)/.stamp: pyproject.toml
	@echo "Setting up $(GPU_VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(GPU_VENV)
	@$(GPU_PIP) install -e ".[gpu-verify]"
	@version=$$($(GPU_VENV)/bin/python -c 'import jax; print(jax.__version__)'); \
		$(GPU_PIP) install --no-deps jax-cuda13-plugin==$$version jax-cuda13-pjrt==$$version
	@touch $@

verify-gpu-kernels: $(GPU_VENV)/.stamp  ## compile the GPU kernel, without a GPU, for three generations
	@$(GPU_VENV)/bin/python tests/kernels/verify_gpu_kernels.py --output $(GPU_OUTPUT)

# Compilers and emulators come from Debian: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi
# qemu-system-arm qemu-user-static gcc-riscv64-linux-gnu libc6-dev-riscv64-cross
# gcc-s390x-linux-gnu libc6-dev-s390x-cross; the slow tests need clang libclang-rt-14-dev
verify-device: setup  ## run exported C on emulated machines (ARM, RISC-V, big-endian)
	@$(BIN)/python tests/device/verify_device.py

bench: setup  ## time and memory against BPTT and other libraries, on two quiet cores (20 minutes)
	@$(BIN)/python bench/floor.py
	@$(BIN)/python bench/scaling.py
	@$(BIN)/python bench/speed.py

bench-quick: setup  ## the same, small and rough (2 minutes); writes nothing
	@$(BIN)/python bench/speed.py --quick

soak: setup  ## ten million timesteps, and a hundred thousand with every fault; resumes (30 minutes)
	@$(BIN)/python bench/soak.py
	@$(BIN)/python bench/faults.py

docs: setup  ## the API reference, every link checked, into build/docs
	@$(BIN)/python tests/house/build_docs.py

lint: setup  ## style, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python

format: setup  ## rewrite the files in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:  ## remove the virtual environments and caches
	rm -rf .venv .venv312 .venv-gpu .venv-gpu312 build *.egg-info .pytest_cache .ruff_cache .hypothesis
