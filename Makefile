# make demo   a fresh environment, then the whole flow on a simulated study
# make test   the same environment, then lint, types and all tests
# make test-torchgeo   an environment with torchgeo (6 GB), then the tests of its pretrained networks
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
GEO    := .venv-torchgeo

.PHONY: install demo test test-torchgeo lint types unit doctor freeze clean
.DEFAULT_GOAL := test

# torch comes first and alone: any other package would pull the newest build with its CUDA libraries
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(STAMP)

# made anew only when the code or the environment changed; the summary is shown either way
demo: demo/summary.txt
	@cat demo/summary.txt

demo/summary.txt: $(STAMP) $(shell find src -name '*.py' -o -name '*.j2' -o -name '*.css')
	@mkdir -p demo
	$(BIN)/terracausal demo --out demo > demo/summary.part
	@mv demo/summary.part $@

doctor: $(STAMP)
	$(BIN)/terracausal doctor

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	@# --verify changes nothing and fails where a notebook still has outputs
	@for notebook in notebooks/*.ipynb; do \
	  test ! -e "$$notebook" || $(BIN)/nbstripout --verify "$$notebook" || exit 1; done

types: $(STAMP)
	$(BIN)/mypy

# one thread per worker: linear algebra that shares cores with its neighbours waits more than it works
unit: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

test: lint types unit

# torchgeo needs torchvision, whose builds go with other builds of torch than ours
$(GEO)/.installed: pyproject.toml
	test -x $(GEO)/bin/python || $(PYTHON) -m venv $(GEO)
	$(GEO)/bin/pip install --quiet --editable '.[torchgeo,pretrained]' pytest pytest-timeout
	touch $@

test-torchgeo:
	@if test ! -e $(GEO)/.installed && test $$(df -Pk . | awk 'NR == 2 {print $$4}') -lt 10485760; then \
	  echo "skipped: the environment of torchgeo takes 6 GB, and less than 10 GB are free here"; \
	else $(MAKE) $(GEO)/.installed && OMP_NUM_THREADS=1 $(GEO)/bin/pytest tests/torchgeo; fi

freeze: $(STAMP)
	@echo "# Every version that a fresh environment gets; regenerate with: make freeze"
	@$(BIN)/pip freeze --exclude-editable | sed 's/+cpu//'

clean:
	rm -rf $(VENV) $(GEO) demo build dist .mypy_cache .ruff_cache .pytest_cache
