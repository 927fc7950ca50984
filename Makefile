# make demo: set up, train on phantoms, show a picture.   make test: set up, run the tests.
PYTHON ?= python3
VENV := .venv
WORK ?= runs/polyp
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

LABEL := .venv-label
LABEL_PIP := python -m pip install --disable-pip-version-check -c constraints-label.txt
PURELIB := -c "import sysconfig; print(sysconfig.get_path('purelib'))"

.PHONY: help demo test lint label test-label bundles results-polyp clean
help:
	@echo "make demo   train, evaluate and predict on phantoms made on the spot; a few minutes"
	@echo "make test   run the test suite, in WORKERS=2 processes"
	@echo "make lint   run ruff and mypy"
	@echo "make label  set up MONAI Label in $(LABEL), beside what is in $(VENV): docs/labelling.md"
	@echo "make test-label  set it up and run its tests"
	@echo "make bundles   write the configs and docs of all bundles anew, from configs/plans"
	@echo "make results-polyp DIR=FOLDER   train and measure every recipe on polyps; hours, goes on where it was stopped"
	@echo "make clean  remove the virtual environment and the demo's files"

$(VENV)/.core: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) -e ".[test]"
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) -e ".[dev,test]"
	@touch $(VENV)/.test $@

# MONAI Label's metadata asks for versions that exclude each other: it goes into an environment of its own, last and
# without dependencies. All else is taken from $(VENV).
$(LABEL)/.label: $(VENV)/.core constraints-label.txt
	$(PYTHON) -m venv $(LABEL)
	echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" > "$$($(LABEL)/bin/python $(PURELIB))/shared.pth"
	$(LABEL)/bin/$(LABEL_PIP) -e ".[label]"
	$(LABEL)/bin/$(LABEL_PIP) --no-deps monailabel pydicom-seg torchvision
	@touch $@

label: $(LABEL)/.label

test-label: $(VENV)/.test $(LABEL)/.label
	OMP_NUM_THREADS=1 $(LABEL)/bin/python -m pytest tests/label -n $(WORKERS) --dist loadfile --no-loadscope-reorder

demo: $(VENV)/.core
	$(BIN)/sam2unet demo

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bundles: $(VENV)/.core
	$(BIN)/python -m monai_sam2unet.plan configs/plans bundles

results-polyp: $(VENV)/.core
	$(BIN)/python -m benchmarks.polyp_results --dataset-dir $(DIR) --work-dir $(WORK) --output docs/results/polyp_tiny \
	  $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

clean:
	rm -rf $(VENV) $(LABEL) demo
