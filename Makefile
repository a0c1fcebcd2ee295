# All files stay in this folder, such as the virtual environment and caches in .venv and runs in runs/. Only
# test-slow may install Chromium with apt-get.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := -m pip install --quiet --no-cache-dir --disable-pip-version-check
PIP := $(BIN)/python $(INSTALL) -c constraints.txt
EXTRAS := box2d,mujoco,curricula,video,plots,sweep,ray,flower,completion
# The targets that do not use constraints.txt install this version first. Otherwise pip may install a CUDA build of
# several gigabytes.
TORCH := $(shell grep '^torch==' constraints.txt)
export MPLCONFIGDIR := $(CURDIR)/.venv/matplotlib
export PYRIGHT_PYTHON_CACHE_DIR := $(CURDIR)/.venv/pyright
export npm_config_cache := $(CURDIR)/.venv/npm

.PHONY: train test test-slow lint docs torture fuzz rllib compatibility peers dist audit lock newest test-newest test-lowest clean

train: .venv/installed  ## train the quickstart configuration
	$(BIN)/rl-rms train drifting_cartpole

test: .venv/installed-dev  ## the default suite
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not slow'

test-slow: .venv/installed-dev .venv/browser  ## the tests marked slow
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

# NumPy's types need a newer Python than 3.10, so its arrays have the type Any in the second run of mypy.
lint: .venv/installed-dev  ## style, types, Python 3.10, and the layers' imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p rl_rms
	$(BIN)/mypy --python-version 3.10 --no-warn-return-any --no-warn-unused-ignores -p rl_rms
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: .venv/installed-docs .venv/mermaid  ## the documentation site, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'The site is in build/site. Its search needs a server: $(BIN)/python -m http.server --directory build/site'

torture: .venv/installed-dev  ## injected faults and long runs
	$(BIN)/python benchmarks/torture.py
	$(BIN)/python benchmarks/soak.py

fuzz: .venv/installed-dev  ## thousands of examples for each property test, and random inputs for five file readers
	$(BIN)/python -m pytest -q -m hypothesis --hypothesis-profile=fuzz -n 2
	$(PIP) atheris
	for reader in checkpoint config optimizer; do $(BIN)/python tests/fuzz/readers.py $$reader -runs=1000000 -max_len=2000; done
	for reader in run sweep; do $(BIN)/python tests/fuzz/readers.py $$reader -runs=20000 -max_len=2000; done

rllib: .venv-rllib/installed  ## the optimizer in RLlib's PPO and IMPALA
	.venv-rllib/bin/python examples/rllib.py

compatibility: .venv-compatibility/installed  ## environments of other packages: the table of docs/compatibility.md
	MUJOCO_GL=egl .venv-compatibility/bin/python benchmarks/compatibility.py

peers: .venv-peers/installed  ## env steps a second beside other libraries: benchmarks/results/peers.md
	OMP_NUM_THREADS=1 .venv-peers/bin/python benchmarks/peers.py

dist: .venv/installed-dev  ## sdist and wheel in dist, the same bytes from the same commit
	rm -rf build/source dist
	mkdir -p build/source
	git archive HEAD | tar -x -C build/source
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --no-isolation --outdir dist build/source
	sha256sum dist/*

# pip-audit reports no vulnerabilities if it cannot reach PyPI's list. So it must first find a known one.
AUDIT := .venv-audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off --cache-dir .venv-audit/cache
audit: .venv-audit/installed  ## the versions in constraints.txt against PyPI's list of vulnerabilities
	@echo 'jinja2==3.1.2' >.venv-audit/vulnerable.txt
	@$(AUDIT) -r .venv-audit/vulnerable.txt >.venv-audit/answer.txt 2>&1; \
		grep -q CVE-2024-22195 .venv-audit/answer.txt || { echo "audit: nothing was audited. PyPI's list of" \
		"vulnerabilities has none for jinja2 3.1.2; can it be reached? See" \
		".venv-audit/answer.txt"; exit 1; }
	$(AUDIT) -r constraints.txt

lock: newest  ## rewrite constraints.txt with the newest versions that pyproject.toml allows
	{ echo '# Versions that make and CI install. Other Python versions use the ranges of pyproject.toml. Written by `make lock`.'; \
		.venv-newest/bin/python -m pip freeze --all --exclude pip --exclude-editable | sed -E \
		-e 's/\+[a-z0-9.]+$$//' -e "/^torch==/!s/$$/ ; $$(.venv-newest/bin/python -c \
		'import sys; print("python_version == \x27%d.%d\x27" % sys.version_info[:2])')/"; \
	} >.venv-newest/constraints.txt
	mv .venv-newest/constraints.txt constraints.txt

test-newest: newest  ## the suite with the newest versions that pyproject.toml allows
	.venv-newest/bin/python -m pytest -n 2 --dist loadgroup

# Old versions use functions that newer releases of other packages deprecate.
test-lowest: .venv-lowest/installed  ## the suite with the oldest versions that pyproject.toml allows
	.venv-lowest/bin/python -m pytest -n 2 --dist loadgroup -W ignore::DeprecationWarning

clean:  ## remove all files that the other targets made, except runs
	rm -rf .venv .venv-rllib .venv-compatibility .venv-peers .venv-audit .venv-newest .venv-lowest build dist *.egg-info \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# torch is installed first. As a dependency of another package, pip may install a CUDA build of several gigabytes.
.venv/torch: constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch
	touch $@

# RLlib pins an older Gymnasium, so it has its own environment.
.venv-rllib/installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-rllib
	.venv-rllib/bin/python $(INSTALL) $(TORCH) -e . 'ray[rllib]>=2.55'
	touch $@

.venv-peers/installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python $(INSTALL) $(TORCH) -e '.[plots]' skrl sbx-rl gymnax
	touch $@

.venv-compatibility/installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-compatibility
	.venv-compatibility/bin/python $(INSTALL) $(TORCH) -e '.[atari,dm-control,minigrid,robotics,video]' pytest \
		highway-env mo-gymnasium popgym flappy-bird-gymnasium gymnasium-2048 pettingzoo supersuit \
		bsuite crafter gym-anytrading tetris-gymnasium
	touch $@

.venv-audit/installed:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python $(INSTALL) pip-audit
	touch $@

# New releases do not change any file here, so make runs this target every time.
newest:
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python $(INSTALL) --upgrade $(TORCH) -e '.[dev,docs,$(EXTRAS)]'

# The documentation tools are not installed, because the lowest versions do not affect them.
.venv-lowest/installed: constraints-lowest.txt pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python $(INSTALL) -c constraints-lowest.txt -e '.[dev,$(EXTRAS)]'
	touch $@

.venv/installed: .venv/torch pyproject.toml
	$(PIP) -e .
	touch $@

.venv/installed-docs: .venv/installed
	$(PIP) -e '.[docs]'
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) -e '.[dev,docs,$(EXTRAS)]'
	touch $@

# Draws the diagrams of the documentation. Without npm, they are shown as text.
.venv/mermaid: .venv/installed-docs
	{ npm pack --silent --pack-destination .venv mermaid@11.17.2 && \
		tar -xzf .venv/mermaid-11.17.2.tgz -C .venv --strip-components=2 package/dist/mermaid.min.js; } \
		>.venv/mermaid.log 2>&1 || echo "mermaid cannot be installed here, so diagrams stay text: see .venv/mermaid.log"
	touch $@

# Tests open TensorBoard and reports in Chromium. Without Chromium, these tests are skipped.
.venv/browser: .venv/installed-dev
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
		>.venv/browser.log 2>&1 || echo "chromium is missing and cannot be installed here: see .venv/browser.log"
	touch $@
