# Everything a newcomer or CI needs. The environment is made once, in .venv, unless you are inside one already.
PYTHON ?= python3
ifdef VIRTUAL_ENV
VENV := $(VIRTUAL_ENV)
else
VENV := .venv
endif
BIN := $(VENV)/bin
# setuptools warns of every editable install, whatever lies in the folder.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet
# With it the tests of the training run too; without, they are skipped: make test TORCH=torch
TORCH ?=
# What tests and checks are installed from, every file by its hash: make test LOCK=.ci/requirements.lock
LOCK ?=
# What the built-in model is made from, and where: make builtin
SHARED ?= ../shared
WORK ?= work
IMAGES ?= $(VENV)/demo-images
# Tests run in so many processes, each a file at a time: make test JOBS=4, and JOBS=0 for one after the other
JOBS ?= 2
# The longest files come first (pytest.ini_options.testpaths), so that no process ends up alone with one.
PYTEST = pytest --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder

.PHONY: lock audit demo test check docs style coverage bench faults fuzz fuzz-files builtin clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ddfa-batch-ready: pyproject.toml | $(BIN)/python
	$(PIP) --upgrade pip
	$(if $(TORCH),$(PIP) $(TORCH))
	$(if $(LOCK),$(PIP) --require-hashes --requirement $(LOCK))
	$(PIP) --editable '.[test,check]'
	@touch $@

$(VENV)/.ddfa-batch-demo: pyproject.toml | $(BIN)/python
	$(PIP) --upgrade pip
	$(PIP) --editable '.[demo]'
	@touch $@

demo: $(VENV)/.ddfa-batch-demo ## the main job on real photographs; with the official model: make demo MODEL=path/to/3DDFA_V2
	$(BIN)/python examples/demo.py "$(MODEL)"

test: $(VENV)/.ddfa-batch-ready ## all tests
	$(BIN)/python -m $(PYTEST)

# Without torch the training's tests are skipped, so its code is not counted.
UNMEASURED = $(shell $(BIN)/python -c "import torch" 2>/dev/null || echo "--omit=tasks/training/*,pipeline/train*.py")

check: style coverage ## style, types, import contracts; all tests, with the share of branches they reach

style: $(VENV)/.ddfa-batch-ready ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build && $(BIN)/python -m pip install --quiet --no-deps --target build/types .
	ln -sfn ../../recipes build/types/recipes
	cd build/types && MYPYPATH=. $(abspath $(BIN))/mypy --config-file ../../pyproject.toml -p ddfa_batch -p recipes
	$(BIN)/lint-imports

docs: $(VENV)/.ddfa-batch-ready ## the documentation as a site, build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

coverage: $(VENV)/.ddfa-batch-ready ## all tests; fails where they reach too few branches of the package
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/python -m coverage run -m $(PYTEST)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report $(UNMEASURED)

bench: $(VENV)/.ddfa-batch-ready ## speed against bare kernels: make bench IMAGES=folder
	$(BIN)/python benchmarks/throughput.py $(IMAGES)

# The log is gone on with: remove it to begin anew. What make faults SHORT=1 tries is drawn by SEED.
faults: $(VENV)/.ddfa-batch-ready ## faults injected into real runs, an hour or two; five minutes of them: make faults SHORT=1
	$(BIN)/python benchmarks/faults --log $(or $(LOG),build/faults$(if $(SHORT),-short).jsonl) --seed $(or $(SEED),0) $(if $(SHORT),--short)

fuzz-files: $(VENV)/.ddfa-batch-ready ## damaged tars, ZIPs, tables, videos, lists, bundles, run folders: make fuzz-files MUTANTS=300
	$(BIN)/python benchmarks/fuzz_files.py --mutants $(or $(MUTANTS),300) --seed $(or $(SEED),0)

fuzz: $(VENV)/.ddfa-batch-ready ## damaged pictures of every format through whole runs: make fuzz PICTURES=20000 SEED=1
	$(BIN)/python benchmarks/fuzz.py --pictures $(or $(PICTURES),2000) --seed $(or $(SEED),0)

lock: $(BIN)/python ## the newest versions of everything CI installs, with their hashes
	$(PIP) uv
	$(BIN)/uv pip compile pyproject.toml --extra test --extra check --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-annotate --custom-compile-command 'make lock' --quiet --output-file .ci/requirements.lock

audit: $(BIN)/python ## known vulnerabilities of what CI installs; asks pypi.org
	$(PIP) pip-audit
	$(BIN)/pip-audit --require-hashes --disable-pip --requirement .ci/requirements.lock

builtin: $(VENV)/.ddfa-batch-ready ## the built-in model anew, from the training data to the wheel's files: hours
	$(PIP) --editable '.[train]' scikit-image
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m recipes.builtin.recipe $(SHARED) $(WORK)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
