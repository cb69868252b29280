# make demo   fresh machine: environment, then the main job on the embedded corpus (minutes on 2 cores)
# make app    a page on which to watch what a model hears; APP="--model ID --runs FOLDER" says of which
# make test   fresh machine: environment, then lint and tests
# make fuzz   every property test with 100,000 examples, new ones each time
# make coverage   line and branch coverage of the whole suite
# make mutation   changes folds.py, audit.py and ser_metrics.py in small ways and names the changes that no test notices
# make faults runs that are killed, stopped, out of disk, damaged, beside each other: docs/faults.md (under 30 minutes)
# make audit-pins   known vulnerabilities of the pinned versions
# make bench  the figures of speed and size, each beside what one would do instead (15 to 25 minutes on 2 cores);
#             bench-full: the rest, an hour or two. LISTS=DIR names a folder with EmoBox's cremad.csv, for a cache of
#             CREMA-D's real durations; bench-gpu: those of a GPU (minutes)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo app test lint fuzz faults coverage mutation audit-pins bench bench-full bench-gpu
.DEFAULT_GOAL := test

setup: $(VENV)/.done

# torch comes first and alone: resolved together with the rest, pip may fetch another build of it.
$(VENV)/.done: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[dev]"
	@# The registry's torchaudio is a CUDA build; beside a CPU-only torch its native libraries fail to load and take
	@# `import transformers` down with them. Everything that we use of it is pure Python and runs without them.
	$(BIN)/python -c "import torch, sys; sys.exit(torch.version.cuda is not None)" \
		&& find $(VENV) -path '*/torchaudio/lib/*.so' -delete || true
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# Ten minutes or more for each reader and the feature extractor, hours altogether: FUZZ="tests/test_fuzz.py -k array" names some.
fuzz: setup
	FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),100000) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m hypothesis --timeout 0 $(FUZZ)

coverage: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --cov

# What survives is explained in docs/quality.md; `.venv/bin/mutmut show NAME` prints one.
mutation: setup
	rm -rf mutants
	OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut results

faults: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults.py

# Known vulnerabilities of the pinned versions. It asks PyPI's service, and fails where that does not answer.
audit-pins: setup
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

$(VENV)/.benchmark: setup
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[benchmark]"
	touch $@

bench: $(VENV)/.benchmark
	$(BIN)/python benchmarks/run.py

bench-gpu: $(VENV)/.benchmark
	$(BIN)/python benchmarks/run.py --gpu

bench-full: $(VENV)/.benchmark
	$(BIN)/python benchmarks/run.py --full $(if $(LISTS),--lists $(LISTS))

# Fold 0 never met the voice of this clip: it is among the fold's test speakers.
demo: setup
	$(BIN)/python run_ser.py --corpus demo --num_folds 3 --num_train_epochs 15 --output_dir runs/demo
	$(BIN)/python -m ser_protocol.predict --model runs/demo/fold_00 \
		"$$($(BIN)/python -m dataset_scripts.demo)/en1_anger_1.flac"

app: setup
	$(BIN)/python app.py $(APP)
