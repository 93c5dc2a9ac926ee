# `make help` lists the targets. Variables: PROFILE=quick|laptop|paper, ONLY="05 06", SET="name=value …",
# RESUME=1, PIP_ARGS="options for pip", PYTHON=python3.
PROFILE ?= quick
ONLY ?=
SET ?=
RESUME ?=
PIP_ARGS ?=
PYTHON ?= python3
# Two test processes with one thread each: threads that outnumber the cores make small solves many times slower.
WORKERS ?= 2
TEST_THREADS ?= 1
BENCHMARKS := exact_field kpm_field equal_error descriptor_cost time_step

# Extras that requirements.lock serves; `make site` installs its own.
LOCKED := notebooks cluster vtk dev

# Threads that wait by spinning make small solves a hundred times slower on a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE

BIN := .venv/bin
STAMP := .venv/.installed
one_thread := env OMP_NUM_THREADS=$(TEST_THREADS) MKL_NUM_THREADS=$(TEST_THREADS) \
  OPENBLAS_NUM_THREADS=$(TEST_THREADS) NUMBA_NUM_THREADS=$(TEST_THREADS)
# Lists such as SET='lengths=[12,18]' must reach the program without the shell reading them.
options = $(if $(ONLY),--only $(ONLY)) $(if $(RESUME),--resume)
settings = $(if $(strip $(SET)),--set $(foreach setting,$(SET),'$(setting)'))

.DEFAULT_GOAL := help
.PHONY: help setup lock reproduce test lint lab figures paper animations store tables site manifest reference bench gpu clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-12s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install the locked packages

$(STAMP): requirements.lock pyproject.toml
	@echo "== setup: .venv from requirements.lock"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Packages of a CUDA build come with the torch that wants them; the lock serves the CPU's too.
lock: ## renew requirements.lock: the newest versions in the ranges, but torch as it is
	@echo "== lock"
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) pip-tools
	build/lock/bin/pip-compile --quiet --upgrade --upgrade-package "$$(grep '^torch==' requirements.lock)" \
	  $(LOCKED:%=--extra %) --build-deps-for editable --allow-unsafe --strip-extras --pip-args='$(PIP_ARGS)' \
	  --no-header --no-annotate --no-emit-options --output-file build/lock/all.txt pyproject.toml
	{ grep '^#' requirements.lock; \
	  sed -e '/^#/d' -e '/^$$/d' -e '/^nvidia-/d' -e '/^cuda-/d' -e '/^triton==/d' -e 's/+[a-z0-9.]*$$//' build/lock/all.txt \
	  | LC_ALL=C sort; } > build/lock/requirements.lock
	mv build/lock/requirements.lock requirements.lock

reproduce: $(STAMP) ## run the notebooks (PROFILE, ONLY, SET, RESUME) and publish their figures
	@echo "== reproduce: profile $(PROFILE)"
	$(BIN)/sdml reproduce --profile $(PROFILE) $(options) $(settings)

test: $(STAMP) ## tests, laws, and nbval on the notebooks
	@echo "== test: units and laws"
	$(one_thread) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
	@echo "== test: notebooks"
	$(one_thread) SDML_BUILD=$(CURDIR)/build/test/quick SDML_BATCH=1 TQDM_DISABLE=1 \
	  $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope \
	  --nbval-lax --nbval-current-env --nbval-sanitize-with nbval.cfg notebooks

lint: $(STAMP) ## ruff check, ruff format, mypy
	@echo "== lint: ruff"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo "== lint: mypy"
	$(BIN)/mypy sdml

lab: $(STAMP) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

figures: $(STAMP) ## publish the figures of the largest finished profile
	@echo "== figures"
	$(BIN)/sdml figures

paper: $(STAMP) ## draw the figures P1 ... P5 of the paper alone, from data/reference (two minutes)
	@echo "== paper"
	$(one_thread) $(BIN)/python studies/paper_figures.py

animations: $(STAMP) ## run both quenches and draw them as figures/quench_*.gif (four minutes)
	@echo "== animations"
	$(one_thread) $(BIN)/python studies/animations.py

store: $(STAMP) ## execute the quick profile into notebooks/ (ONLY, RESUME)
	@echo "== store"
	$(BIN)/sdml store $(options)

tables: $(STAMP) ## renew the tables of README.md and docs/
	$(BIN)/sdml tables

site: $(STAMP) ## build the site of notebooks, reference and figures in build/site
	@echo "== site"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) --no-build-isolation -c requirements.lock -e '.[site]'
	$(BIN)/python -m sphinx -q -b html -d build/doctrees -c docs . build/site
	@echo "build/site/index.html"

manifest: ## renew data/SHA256SUMS, which lists the released weights too
	cd data && find . ../sdml/weights -type f ! -name SHA256SUMS | LC_ALL=C sort | sed 's|^\./||' | xargs $(PYTHON) -c \
	  'import hashlib, sys; [print(hashlib.sha256(open(name, "rb").read()).hexdigest(), name, sep="  ") for name in sys.argv[1:]]' > SHA256SUMS

reference: $(STAMP) ## make the long runs behind notebooks 05 and 06 anew, from seeds (two days of one core)
	$(one_thread) $(BIN)/python studies/coarsening.py all
	$(one_thread) $(BIN)/python studies/coarsening.py all --output time_steps
	$(one_thread) $(BIN)/python studies/harmonics.py
	$(one_thread) $(BIN)/python studies/transition.py run 12 18
	$(one_thread) $(BIN)/python studies/transition.py run 24 --between 0.024 0.033
	$(one_thread) $(BIN)/python studies/transition.py collect
	for part in '' --networks --turns; do $(one_thread) $(BIN)/python studies/walls.py $$part --output walls || exit 1; done
	$(one_thread) $(BIN)/python studies/shrinking.py all
	$(one_thread) $(BIN)/python studies/arrest.py all

bench: $(STAMP) ## run the measurements in benchmarks/
	@set -e; for script in $(BENCHMARKS:%=benchmarks/%.py); do echo "== bench: $$script"; $(BIN)/python $$script; done

gpu: $(STAMP) ## check and measure a GPU, in pieces that can go on; without one at toy size
	@echo "== gpu"
	$(BIN)/python benchmarks/gpu.py

clean: ## remove build/ and caches; .venv stays
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -print0 | xargs -0 rm -rf
