# Everything happens inside this folder: the virtual environment is .venv, caches lie in it, runs go to runs/.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check -c constraints.txt
export MPLCONFIGDIR := $(CURDIR)/.venv/matplotlib

.PHONY: train test lint docs torture fuzz rllib clean

train: .venv/installed  ## train the quickstart configuration and say where to look
	$(BIN)/rl-rms train drifting_cartpole

test: .venv/installed-dev .venv/browser  ## run the whole default suite
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: .venv/installed-dev  ## style, types and the floors' imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p rl_rms
	$(BIN)/lint-imports

docs: .venv/installed-dev  ## the documentation site, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

torture: .venv/installed-dev  ## faults put in on purpose, in full, and what became of the work; and long runs
	$(BIN)/python benchmarks/torture.py
	$(BIN)/python benchmarks/soak.py

fuzz: .venv/installed-dev  ## thousands of examples for each property, and a million inputs for each reader of files
	$(BIN)/python -m pytest -q -m hypothesis --hypothesis-profile=fuzz -n 2
	$(PIP) atheris
	for reader in checkpoint config; do $(BIN)/python tests/fuzz/readers.py $$reader -runs=1000000 -max_len=2000; done

rllib: .venv-rllib/installed  ## the optimizer in RLlib's PPO and IMPALA
	.venv-rllib/bin/python examples/rllib.py

clean:  ## remove everything that the other targets made, except runs
	rm -rf .venv .venv-rllib build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# torch first and alone: pulled in by another package it may come as a build for CUDA of several gigabytes.
.venv/torch: constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch
	touch $@

# RLlib pins an older Gymnasium than is installed with the rest.
.venv-rllib/installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-rllib
	.venv-rllib/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check -c constraints.txt torch
	.venv-rllib/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check -c constraints.txt \
		-e . 'ray[rllib]>=2.55'
	touch $@

.venv/installed: .venv/torch pyproject.toml
	$(PIP) -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) -e '.[dev,docs,box2d,mujoco,curricula,video,plots,sweep,ray,flower]'
	touch $@

# What the tests look at TensorBoard and reports with; where it cannot be installed, they say so and are skipped.
.venv/browser: .venv/installed-dev
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
		>.venv/browser.log 2>&1 || echo "chromium is missing and cannot be installed here: see .venv/browser.log"
	touch $@
