# Every action of the project. `make help` lists them; each target sets up the environment it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

EXP ?= ftcn_tt
ARGS ?=

.PHONY: help install data export preview check-data data-card weights train evaluate compare report calibrate predict serve robustness confounds certify benchmark test test-slow lint format types check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(STAMP): setup.cfg pyproject.toml weights/catalog.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; say which with PYTHON=/path/to/python3."; exit 1; }
	@echo "Setting up $(VENV) (once; a few GB, one to three minutes) ..."
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]' 2> >(grep -v '^WARNING: Location' >&2)
	@$(PY) -m weights.catalog
	@touch $@

install: $(STAMP) ## create .venv with everything the suite needs

# Quote a variable for the shell, whatever a path of the user's holds: spaces, dollars, apostrophes.
q = '$(subst ','\'',$(value $(1)))'

# Shorthand options of experiments.run, added only where the user gave them.
RUN_FLAGS = --exp $(EXP) $(if $(DATA),--data $(DATA)) $(if $(ROOT),--root $(call q,ROOT)) \
  $(if $(GPUS),--gpus $(GPUS)) $(if $(STRATEGY),--strategy $(STRATEGY)) $(ARGS)

data: $(STAMP) ## prepare videos: ROOT=<videos> OUT=<prepared> [DATASET=ffpp] [SUBSET="names"] [BACKEND=mesh|fan|given|bench] [WORKERS=N] [REUSE_BOXES=1] [ENGINE=dask ADDRESS=tcp://...] [ARGS=--list]
	@$(PY) -m datamodules.preprocess $(if $(DATASET),--layout $(call q,DATASET)) $(foreach name,$(SUBSET),--subset '$(name)') $(if $(ROOT),--dataset $(call q,ROOT)) $(if $(OUT),--output $(call q,OUT)) $(if $(BACKEND),--backend $(BACKEND)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(filter-out 0,$(REUSE_BOXES)),--reuse-boxes) $(if $(ENGINE),--engine $(ENGINE)) $(if $(ADDRESS),--address $(ADDRESS)) $(ARGS)

export: $(STAMP) ## write a prepared store for DeepfakeBench: MANIFEST=<prepared>/manifest.jsonl OUT=<folder> [ARGS="--frames all"]
	@test -n $(call q,MANIFEST) -a -n $(call q,OUT) || { echo "Usage: make export MANIFEST=<prepared>/manifest.jsonl OUT=<folder>"; exit 2; }
	@$(PY) -m datamodules.datasets.export --manifest $(call q,MANIFEST) --format deepfakebench --output $(call q,OUT) $(ARGS)

preview: $(STAMP) ## draw the fakes that training makes of a real video: ROOT=<prepared> OUT=sheet.png [ARGS="--seed 3"]
	@test -n $(call q,ROOT) -a -n $(call q,OUT) || { echo "Usage: make preview ROOT=<prepared> OUT=sheet.png"; exit 2; }
	@$(PY) -m datamodules.blending --preview --root $(call q,ROOT) --out $(call q,OUT) $(ARGS)

check-data: $(STAMP) ## damage, leaks and near-duplicates: MANIFEST=<prepared>/manifest.jsonl [RAW=<videos>] [OUT=<folder>] [ARGS=--fast]
	@test -n $(call q,MANIFEST) || { echo "Usage: make check-data MANIFEST=<prepared>/manifest.jsonl [RAW=<raw videos>]"; exit 2; }
	@$(PY) -m datamodules.integrity --manifest $(call q,MANIFEST) $(if $(RAW),--raw $(call q,RAW)) $(if $(OUT),--out $(call q,OUT)) $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

data-card: $(STAMP) ## write the data card of a prepared folder again: MANIFEST=<prepared>/manifest.jsonl
	@test -n $(call q,MANIFEST) || { echo "Usage: make data-card MANIFEST=<prepared>/manifest.jsonl [OUT=<folder>]"; exit 2; }
	@$(PY) -m datamodules.integrity --card $(call q,MANIFEST) $(if $(OUT),--out $(call q,OUT)) $(ARGS)

weights: $(STAMP) ## fetch and check the small detector files
	@$(PY) -m weights.catalog --strict

train: $(STAMP) ## train and test EXP=ftcn_tt [DATA=demo|folder] [ROOT=<prepared>] [GPUS=N] [STRATEGY=ddp] [ARGS="..."]
	@$(PY) -m experiments.run fit $(RUN_FLAGS)

evaluate: $(STAMP) ## test again: RUN=runs/<run>; on other sets: RUN="runs/a runs/b" PROTOCOL=cross_dataset [DATASETS="..."] [STORES="..."]
	@test -n $(call q,RUN) || { echo "Usage: make evaluate RUN=runs/<run> [PROTOCOL=...] [DATASETS=...] [STORES=...]"; exit 2; }
	@$(PY) -m experiments.evaluate --run $(if $(PROTOCOL)$(DATASETS),$(RUN),$(call q,RUN)) $(if $(PROTOCOL),--protocol $(PROTOCOL)) $(if $(DATASETS),--datasets $(DATASETS)) $(if $(STORES),--stores $(STORES)) $(ARGS)

report: $(STAMP) ## tables of scores from ledgers: LEDGERS="a.parquet b.parquet ..." [OUT=reports] [ARGS="--no-face real"]
	@test -n $(call q,LEDGERS) || { echo 'Usage: make report LEDGERS="runs/<run>/scores/test.parquet ..." [OUT=<folder>]'; exit 2; }
	@$(PY) -m experiments.report $(LEDGERS) $(if $(OUT),--out $(call q,OUT)) $(ARGS)

calibrate: $(STAMP) ## fit threshold and calibration on validation: RUN=runs/<run> [ARGS="--at fpr=0.01 --abstain 0.1"]
	@test -n $(call q,RUN) || { echo "Usage: make calibrate RUN=runs/<run>"; exit 2; }
	@$(PY) -m experiments.calibrate --run $(call q,RUN) $(ARGS)

compare: $(STAMP) ## put runs side by side, one page and tables: RUNS="runs/a runs/b" [OUT=reports/<name>] [ARGS="--store <prepared>"]
	@test -n $(call q,RUNS) || { echo 'Usage: make compare RUNS="runs/a runs/b" [OUT=reports/<name>]'; exit 2; }
	@$(PY) -m experiments.compare $(RUNS) $(if $(OUT),--out $(call q,OUT)) $(ARGS)

# What the user chose; EXP has a default, which is not asked for here.
PREDICT_EXP = $(if $(filter file,$(origin EXP)),,$(EXP))

predict: $(STAMP) ## score videos: VIDEO="x.mp4 folder" RUN="runs/a runs/b" | WEIGHTS=METHOD:FILE | EXP="ftcn_tt hff" [OUT=<folder>]
	@test -n $(call q,VIDEO) -a -n $(call q,RUN)$(call q,WEIGHTS)"$(PREDICT_EXP)" || { echo 'Usage: make predict VIDEO=x.mp4 RUN=runs/<run> (or WEIGHTS=METHOD:FILE, or EXP="ftcn_tt hff") [OUT=<folder>]'; exit 2; }
	@if test -e $(call q,VIDEO); then videos=($(call q,VIDEO)); else read -ra videos <<< $(call q,VIDEO); fi; \
	if test -e $(call q,RUN); then runs=($(call q,RUN)); else read -ra runs <<< $(call q,RUN); fi; \
	$(PY) -m experiments.predict --video "$${videos[@]}" $(if $(RUN),--run "$${runs[@]}") $(if $(WEIGHTS),--weights $(call q,WEIGHTS)) $(if $(PREDICT_EXP),--exp $(PREDICT_EXP)) $(if $(OUT),--out $(call q,OUT)) $(ARGS)

serve: $(STAMP) ## score videos over HTTP, with a page at /: RUN=runs/<run> | WEIGHTS=METHOD:FILE | EXP=hff [PORT=8000] [ARGS="--host 0.0.0.0"]
	@test -n $(call q,RUN)$(call q,WEIGHTS)"$(PREDICT_EXP)" || { echo "Usage: make serve RUN=runs/<run> (or WEIGHTS=METHOD:FILE, or EXP=hff) [PORT=8000]"; exit 2; }
	@exec $(PY) -m experiments.serve $(if $(RUN),--run $(call q,RUN)) $(if $(WEIGHTS),--weights $(call q,WEIGHTS)) $(if $(PREDICT_EXP),--exp $(PREDICT_EXP)) $(if $(PORT),--port $(PORT)) $(ARGS)

robustness: $(STAMP) ## AUC against severity: RUN=runs/<run> ROOT=<raw videos> OUT=<folder> [ARGS="--perturbations all"]
	@test -n $(call q,RUN) -a -n $(call q,ROOT) -a -n $(call q,OUT) || { echo "Usage: make robustness RUN=runs/<run> ROOT=<raw videos> OUT=<folder>"; exit 2; }
	@$(PY) -m experiments.robustness --run $(call q,RUN) --root $(call q,ROOT) --out $(call q,OUT) $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

confounds: $(STAMP) ## what gives fakes away beside the forgery: ROOT=<raw or prepared videos> OUT=<folder> [RUN=runs/<run>]
	@test -n $(call q,ROOT) -a -n $(call q,OUT) || { echo "Usage: make confounds ROOT=<raw or prepared videos> OUT=<folder> [RUN=runs/<run>]"; exit 2; }
	@$(PY) -m experiments.confounds --root $(call q,ROOT) --out $(call q,OUT) $(if $(RUN),--run $(call q,RUN)) $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

certify: $(STAMP) ## recompute the official golden numbers: EXP=ftcn_tt
	@$(PY) -m weights.certify $(EXP) $(ARGS)

benchmark: $(STAMP) ## speed, memory, effect: EXP=<method>, or EXP=freezing|effect|data|storage|memory|prepare|report with ARGS
	@$(PY) -m experiments.benchmark $(EXP) $(ARGS)

test: $(STAMP) ## run the tests on all cores (no network, no GPU)
	@$(PY) -m pytest -q -n auto --dist loadfile $(ARGS)

test-slow: $(STAMP) ## run all tests, the slow ones too
	@$(PY) -m pytest -q -n auto --dist loadfile -m "not gpu" $(ARGS)

lint: $(STAMP) ## ruff: rules and format
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

format: $(STAMP) ## ruff: mend what can be mended
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

types: $(STAMP) ## mypy, strict
	@$(PY) -m mypy

check: lint types test ## what CI runs and what must pass before a commit

clean: ## remove caches; never runs/, data/ or weights/files/
	@rm -rf .pytest_cache .mypy_cache .ruff_cache build *.egg-info
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
