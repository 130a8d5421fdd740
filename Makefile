# How to work on tf_hqgnn: `make demo` shows it, `make test` checks it; each sets up what it needs.
.DEFAULT_GOAL := help
.PHONY: help setup demo check chromium test test-install test-long engines test-engines test-java docs test-docs images audit pin-images lint format lock gpu-programs bench bench-small bench-amazon bench-gowalla bench-auto tables clean fuzz soak

# The first of these that is Python 3.10 or 3.11 makes the environment; `make PYTHON=/path/to/python3.11` names another.
# Where there is none, uv is put into .venv-uv by whatever Python there is, and fetches 3.11.
PYTHON ?= $(shell for p in python3.11 python3.10 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
ANY_PYTHON := $(shell for p in python3 python python3.13 python3.12; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && echo $$p && break; done)
NO_PYTHON = tf_hqgnn needs Python 3.11 (or 3.10) with venv, found $$($(or $(PYTHON),python3) --version 2>&1 | tail -n 1)
BIN := .venv/bin
# pip is told what it may install: uv, by these hashes; uv installs the rest by those of the locks.
PIP_INSTALL = -m pip --quiet --disable-pip-version-check install --no-deps --require-hashes -r
UV_LOCK = supply_chain/requirements-uv.lock
# Two workers share two cores; OpenBLAS's own threads would only wait for each other.
ONE_THREAD = OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
DATA ?=
ITEMS ?=
USERS ?=
CONFIG ?=
EXPLORE ?=
OUT ?= demo

help:
	@echo "make demo   log -> TFX pipeline -> served recommendations (DATA=log.csv ITEMS=items.csv,more.csv USERS=users.csv OUT=demo; EXPLORE=1 leaves a page running)"
	@echo "make check  lint and unit tests (a minute and a half)"
	@echo "make test   lint and the tests (10 minutes on two cores); make test-install: the wheel in clean environments (15 minutes)"
	@echo "make test-long  further cases, and whole ways that take many seconds: TFX day after day, Beam's workers, a minute of load"
	@echo "make test-engines  what runs elsewhere, in processes as there: Flink and Spark, Kubeflow's steps, a cluster"
	@echo "make engines  Flink, Spark and Beam's job servers into .engines (Java 17 and Maven; 700 MB, a minute)"
	@echo "make test-java  clients in Java, C and Go get the answers that Python gets (JDK 17, Maven, gcc, Go 1.24; 2 GB in .java; 4 minutes)"
	@echo "make docs   the documentation's site, build/site/index.html; make test-docs: its checks, the notebooks, and all that its pages tell one to run"
	@echo "make audit  a bill of materials, and the advisories of what is locked; make images: builds and runs the images (root, half an hour)"
	@echo "make setup  .venv from requirements.lock; also: lint, format, lock, gpu-programs, pin-images, fuzz, soak, bench-small (minutes), bench (hours), clean"

setup: .venv/.installed

.venv/.installed: requirements.lock $(UV_LOCK) setup.py pyproject.toml
	@if test -x $(BIN)/python; then :; \
	elif $(or $(PYTHON),false) -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null; then \
		$(PYTHON) -m venv .venv; \
	elif test "$(origin PYTHON)" != file || test -z "$(ANY_PYTHON)"; then \
		echo "$(NO_PYTHON); install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	else \
		echo "no Python 3.11 or 3.10 here, only $$($(ANY_PYTHON) --version 2>&1): uv fetches Python 3.11"; \
		$(ANY_PYTHON) -m venv .venv-uv && .venv-uv/bin/python $(PIP_INSTALL) $(UV_LOCK) \
			&& .venv-uv/bin/uv venv --quiet --seed --python 3.11 .venv 2>.venv-uv/log \
			|| { rm -rf .venv; echo "$(NO_PYTHON), and uv couldn't fetch it; install Python 3.11, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	fi
	@$(BIN)/python $(PIP_INSTALL) $(UV_LOCK)
	@echo "installing requirements.lock into .venv (2 GB, some minutes the first time)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# A third party's TF Serving client whose protobuf can't share our environment.
.venv-clients/.installed: tests/clients/requirements.lock .venv/.installed
	@test -x .venv-clients/bin/python || $(BIN)/python -m venv --without-pip .venv-clients
	@$(BIN)/uv pip install --quiet --python .venv-clients/bin/python --require-hashes -r tests/clients/requirements.lock
	@touch $@

# Another one, with the official stubs but without TensorFlow.
.venv-min-tfs-client/.installed: tests/clients/min-tfs-client.lock .venv/.installed
	@test -x .venv-min-tfs-client/bin/python || $(BIN)/python -m venv --without-pip .venv-min-tfs-client
	@$(BIN)/uv pip install --quiet --python .venv-min-tfs-client/bin/python --require-hashes -r tests/clients/min-tfs-client.lock
	@touch $@

# An S3 server on loopback, between the steps of the pipeline.
.venv-s3/.installed: tests/pipelines/s3.lock .venv/.installed
	@test -x .venv-s3/bin/python || $(BIN)/python -m venv --without-pip .venv-s3
	@$(BIN)/uv pip install --quiet --python .venv-s3/bin/python --require-hashes -r tests/pipelines/s3.lock
	@touch $@

# Checks of serving/ offline: Kubernetes' schemas and hadolint.
.venv-serving/.installed: serving/requirements-tools.lock .venv/.installed
	@test -x .venv-serving/bin/python || $(BIN)/python -m venv --without-pip .venv-serving
	@$(BIN)/uv pip install --quiet --python .venv-serving/bin/python --require-hashes -r serving/requirements-tools.lock
	@touch $@

# The bill of materials and the look-up of advisories.
.venv-audit/.installed: supply_chain/requirements-audit.lock .venv/.installed
	@test -x .venv-audit/bin/python || $(BIN)/python -m venv --without-pip .venv-audit
	@$(BIN)/uv pip install --quiet --python .venv-audit/bin/python --require-hashes -r supply_chain/requirements-audit.lock
	@touch $@

# The documentation's site.
.venv-docs/.installed: docs/requirements.lock .venv/.installed
	@test -x .venv-docs/bin/python || $(BIN)/python -m venv --without-pip .venv-docs
	@$(BIN)/uv pip install --quiet --python .venv-docs/bin/python --require-hashes -r docs/requirements.lock
	@touch $@

# The browser of tests/explore. Debian's is installed where make may do so.
chromium: .venv/.installed
	@PYTHONPATH=tests/explore $(BIN)/python -c 'from chromium import find_chromium; raise SystemExit(find_chromium() is None)' \
		|| { test "$$(id -u)" = 0 && command -v apt-get > /dev/null && { apt-get install -qq -y --no-install-recommends chromium \
		|| { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; }; } > /dev/null 2>&1; } \
		|| echo "there is no Chromium here, and it can't be installed: the tests of the explorer's page are skipped"

# What `kubectl apply -k` makes of serving/, where there is a Go to build it with; go.sum has the hashes.
.kustomize/kustomize: supply_chain/kustomize/go.mod supply_chain/kustomize/go.sum
	@(command -v go > /dev/null && cd supply_chain/kustomize && GOFLAGS=-mod=readonly GOTOOLCHAIN=local go build -o $(CURDIR)/$@ sigs.k8s.io/kustomize/kustomize/v5) \
		|| echo "kustomize isn't built, for want of Go 1.24 or of its modules: the test that needs it is skipped"

# The peer of benchmarks/lightgcn.py. pip's own settings may name a place that has torch's CPU build; PyPI's needs CUDA's
# libraries besides, 2 GB.
.venv-recbole/.installed: benchmarks/recbole/requirements.lock benchmarks/recbole/torch.lock benchmarks/recbole/torch-cuda.lock .venv/.installed
	@test -x .venv-recbole/bin/python || $(BIN)/python -m venv --without-pip .venv-recbole
	@$(BIN)/python $(subst -m pip,-m pip --python .venv-recbole/bin/python,$(PIP_INSTALL)) benchmarks/recbole/torch.lock
	@.venv-recbole/bin/python -c 'from importlib.metadata import version; raise SystemExit("+cpu" not in version("torch"))' \
		|| $(BIN)/uv pip install --quiet --python .venv-recbole/bin/python --no-deps --require-hashes -r benchmarks/recbole/torch-cuda.lock
	@$(BIN)/uv pip install --quiet --python .venv-recbole/bin/python --no-deps --require-hashes -r benchmarks/recbole/requirements.lock
	@touch $@

# implicit, a peer of benchmarks.peers. Its processes run with OPENBLAS_NUM_THREADS=1: it has threads of its own.
.venv-implicit/.installed: benchmarks/implicit/requirements.lock .venv/.installed
	@test -x .venv-implicit/bin/python || $(BIN)/python -m venv --without-pip .venv-implicit
	@$(BIN)/uv pip install --quiet --python .venv-implicit/bin/python --require-hashes -r benchmarks/implicit/requirements.lock
	@touch $@

# SANSA, a peer of benchmarks.peers. scikit-sparse, which it imports, is compiled here, with SuiteSparse's headers.
.venv-sansa/.installed: benchmarks/sansa/requirements.lock .venv/.installed
	@test -e "$${SUITESPARSE_INCLUDE_DIR:-/usr/include/suitesparse}/cholmod.h" || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null \
		&& { apt-get install -qq -y libsuitesparse-dev || { apt-get update -qq && apt-get install -qq -y libsuitesparse-dev; }; } > /dev/null 2>&1; } \
		|| { echo "SANSA needs SuiteSparse's headers and a C compiler: install libsuitesparse-dev and gcc, or name their folder in SUITESPARSE_INCLUDE_DIR" >&2; exit 1; }
	@test -x .venv-sansa/bin/python || $(BIN)/python -m venv --without-pip .venv-sansa
	@$(BIN)/uv pip install --quiet --python .venv-sansa/bin/python --require-hashes -r benchmarks/sansa/requirements.lock
	@touch $@

# RecTools, with an implicit of its own: peers of benchmarks.quick_start.
.venv-quick-start/.installed: benchmarks/quick_start/requirements.lock .venv/.installed
	@test -x .venv-quick-start/bin/python || $(BIN)/python -m venv --without-pip .venv-quick-start
	@$(BIN)/uv pip install --quiet --python .venv-quick-start/bin/python --require-hashes -r benchmarks/quick_start/requirements.lock
	@touch $@

# LightFM, the peer of benchmarks.new_by_features.
.venv-lightfm/.installed: benchmarks/lightfm/requirements.lock .venv/.installed
	@test -x .venv-lightfm/bin/python || $(BIN)/python -m venv --without-pip .venv-lightfm
	@$(BIN)/uv pip install --quiet --python .venv-lightfm/bin/python --require-hashes -r benchmarks/lightfm/requirements.lock
	@touch $@

# FAISS and usearch, peers of benchmarks.ann.
.venv-ann/.installed: benchmarks/ann/requirements.lock .venv/.installed
	@test -x .venv-ann/bin/python || $(BIN)/python -m venv --without-pip .venv-ann
	@$(BIN)/uv pip install --quiet --python .venv-ann/bin/python --require-hashes -r benchmarks/ann/requirements.lock
	@touch $@

# jaxlib without TensorFlow, as on a machine that runs benchmarks/gpu.
.venv-gpu/.installed: benchmarks/gpu/requirements.lock .venv/.installed
	@test -x .venv-gpu/bin/python || $(BIN)/python -m venv --without-pip .venv-gpu
	@$(BIN)/uv pip install --quiet --python .venv-gpu/bin/python --require-hashes -r benchmarks/gpu/requirements.lock
	@touch $@

demo: .venv/.installed
	@exec $(BIN)/python -m pipelines.demo --out "$(OUT)" $(if $(DATA),--data "$(DATA)") $(if $(ITEMS),--items "$(ITEMS)") $(if $(USERS),--users "$(USERS)") $(if $(CONFIG),--config "$(CONFIG)") $(if $(EXPLORE),--explore)

# In a minute and a half: what to run after every change.
check: lint .venv-serving/.installed
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "unit and not long"

TEST_NEEDS = .venv-clients/.installed .venv-implicit/.installed .venv-min-tfs-client/.installed .venv-serving/.installed .venv-audit/.installed .kustomize/kustomize chromium

test: lint $(TEST_NEEDS)
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=20 -rs

# What `make test` leaves out so that it ends in ten minutes: further cases, and whole ways that take many seconds.
test-long: $(TEST_NEEDS)
	$(ONE_THREAD) $(BIN)/python -m pytest -m long -n 2 --dist loadfile --no-loadscope-reorder --durations=20 -rs

# The wheel from an empty folder: the newest and the lowest releases, every Python here, every platform's resolution.
test-install: .venv/.installed
	$(BIN)/python -m pytest -m install tests/install -n 2 --dist loadfile --no-loadscope-reorder --durations=20

# Flink, Spark and Beam's job servers. Their tests are skipped where they aren't here. Without Java 17 and Maven it says
# what to install.
engines: .venv/.installed
	@$(BIN)/python -m engines.install

# What runs elsewhere, in processes as there: Flink and Spark, the steps of Kubeflow with artifacts in S3, the workers of
# a cluster, programs for a GPU.
test-engines: .venv/.installed .venv-gpu/.installed .venv-s3/.installed
	$(ONE_THREAD) $(BIN)/python -m pytest -m engines -n 2 --dist loadfile --no-loadscope-reorder --durations=20 -rs

# Clients in Java, C and Go, in their own processes and by gRPC. What can't be had here is said, and its tests are skipped.
test-java: .venv/.installed
	@$(BIN)/python tests/clients/java_parts.py
	$(BIN)/python -m pytest -m java tests/clients --durations=10 -rs

# The site of docs/ into build/site; a broken link or an unknown name is an error.
docs: .venv-docs/.installed
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict

# The same, what the site must not do, the notebooks, and every line of its pages.
test-docs: .venv-docs/.installed
	$(BIN)/python -m pytest -m docs tests/docs -n 2 --dist loadfile --no-loadscope-reorder --durations=3

# The images by buildah, on a Debian of its own making in place of the official bases, and the steps of the pipeline
# in them: root, half an hour and 12 GB in .images the first time. Without root, buildah, debootstrap or crun the tests are skipped by name.
images: .venv/.installed
	$(BIN)/python -m pytest -m images tests/images --durations=10 -rs

# A bill of materials (sbom.cdx.json), and the advisories of what is locked.
audit: .venv-audit/.installed
	@.venv-audit/bin/python supply_chain/audit.py

# Digests of the images into the files that name them.
pin-images: .venv/.installed
	@$(BIN)/python supply_chain/pin_images.py

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/.installed
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
		--all-extras --no-emit-package tf-hqgnn pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url \
		--excludes benchmarks/recbole/excludes.txt benchmarks/recbole/requirements.in -o benchmarks/recbole/requirements.lock
	{ $(BIN)/uv pip compile --quiet --no-deps --no-header --no-annotate --python-version 3.10 --generate-hashes --no-emit-index-url \
		benchmarks/recbole/torch.in | sed '$$s/$$/ \\/' && grep -e '--hash' benchmarks/recbole/torch-cpu.txt; } > benchmarks/recbole/torch.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url --no-emit-package torch \
		--constraints benchmarks/recbole/requirements.lock benchmarks/recbole/torch.in -o benchmarks/recbole/torch-cuda.lock
	$(BIN)/uv pip compile --quiet --no-deps --python-version 3.10 --generate-hashes --no-emit-index-url \
		supply_chain/requirements-uv.in -o $(UV_LOCK)
	$(BIN)/uv pip compile --quiet --no-deps --python-version 3.10 --generate-hashes --no-emit-index-url \
		supply_chain/requirements-cpu.in -o supply_chain/requirements-cpu.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url \
		supply_chain/requirements-audit.in -o supply_chain/requirements-audit.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url \
		benchmarks/implicit/requirements.in -o benchmarks/implicit/requirements.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url \
		benchmarks/sansa/requirements.in -o benchmarks/sansa/requirements.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url \
		benchmarks/lightfm/requirements.in -o benchmarks/lightfm/requirements.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url \
		benchmarks/ann/requirements.in -o benchmarks/ann/requirements.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url \
		benchmarks/quick_start/requirements.in -o benchmarks/quick_start/requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
		benchmarks/gpu/requirements.in -o benchmarks/gpu/requirements.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url \
		tests/clients/min-tfs-client.in -o tests/clients/min-tfs-client.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url \
		tests/pipelines/s3.in -o tests/pipelines/s3.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url \
		serving/requirements-tools.in -o serving/requirements-tools.lock
	$(BIN)/uv pip compile --quiet --python-version 3.10 --generate-hashes --no-emit-index-url \
		docs/requirements.in -o docs/requirements.lock
	$(BIN)/uv pip compile --quiet --no-deps --python-version 3.10 --generate-hashes --no-emit-index-url \
		engines/requirements.in -o engines/requirements.lock

INPUTS ?= 100000
SECONDS ?= 3600

# Random protocol buffers, JSON and bytes against a server (an hour); `make test` sends a sample.
fuzz: .venv/.installed
	$(BIN)/python -m benchmarks.fuzz --inputs $(INPUTS)

# 64 clients, new versions, dying clients; `make test-long` runs a minute of it.
soak: .venv/.installed
	$(BIN)/python -m benchmarks.soak --seconds $(SECONDS)

WORK ?= bench-results
PROGRAMS ?= gpu-programs

# The hot programs for a machine with a GPU and without TensorFlow: benchmarks/README.md says how to run them there.
gpu-programs: .venv/.installed
	$(BIN)/python -m benchmarks.gpu make "$(PROGRAMS)"

# The tables and the figure of README.md, docs/ and benchmarks/README.md from the CSVs in benchmarks/results.
tables: .venv/.installed
	$(BIN)/python -m benchmarks.tables
	$(BIN)/python -m benchmarks.overview

PEERS = $(BIN)/python -m benchmarks.peers run --work $(WORK)
OURS = $(PEERS) --models tf_hqgnn
CODES = $(BIN)/python -m benchmarks.quantization run --work $(WORK)/quantization
FLOAT = --set model.embedding_dim=$(1) --set quantization.bits=null

# Minutes: the parts that need no peer, and all models on MovieLens.
bench-small: .venv/.installed .venv-recbole/.installed .venv-implicit/.installed .venv-sansa/.installed .venv-ann/.installed .venv-quick-start/.installed
	@for b in data sparse_product ode_solvers evaluation training graph_training; do \
		echo "== benchmarks/$$b.py"; $(BIN)/python -m benchmarks.$$b || exit; done
	$(PEERS) --data ml-100k --max-seconds 120
	$(PEERS) --data ml-100k --models implicit-als --epochs 1 3
	$(OURS) --data ml-100k --config configs/movielens.yaml
	$(OURS) --data ml-100k --config configs/movielens.yaml --epochs 3 5
	$(OURS) --data ml-100k --config configs/spectral.yaml $(call FLOAT,32)
	$(OURS) --data ml-100k --config configs/spectral.yaml $(call FLOAT,32) \
		$(foreach s,user_exponent=0.2 item_exponent=0.3 popularity=0.1,--set model.spectral_$s)
	$(OURS) --data ml-100k --config configs/spectral.yaml $(call FLOAT,64)
	$(BIN)/python -m benchmarks.peers report --work $(WORK) --data ml-100k
	$(BIN)/python -m benchmarks.epochs --data ml-100k --out $(WORK)/epochs.csv
	$(BIN)/python -m benchmarks.quick_start --data ml-100k
	$(BIN)/python -m benchmarks.ann run --work $(WORK) --sizes 1e5
	$(BIN)/python -m benchmarks.scale run --work $(WORK) --sizes 1e6 && $(BIN)/python -m benchmarks.scale report --work $(WORK)

# Hours. What is done is not done again: after an interruption the same command goes on. Results: $(WORK)/*.csv.
bench: bench-auto bench-small bench-amazon bench-gowalla
	$(BIN)/python -m benchmarks.peers report --work $(WORK)
	$(BIN)/python -m benchmarks.scale run --work $(WORK) && $(BIN)/python -m benchmarks.scale report --work $(WORK)
	$(BIN)/python -m benchmarks.epochs --data beauty --out $(WORK)/epochs.csv
	$(BIN)/python -m benchmarks.epochs --data gowalla --turn 1 --repetitions 1 --out $(WORK)/epochs.csv
	$(BIN)/python -m benchmarks.ann run --work $(WORK)
	$(CODES) --data ml-100k
	$(CODES) --data beauty --set quantization.distillation.max_epochs=6 --set quantization.distillation.evaluate_every=3
	$(CODES) --data ml-100k --models lightgcn
	$(BIN)/python -m benchmarks.quantization report --work $(WORK)/quantization

# All models on Beauty and Toys, ours on three splits; then shorter trainings, for the curve.
bench-amazon: .venv/.installed .venv-recbole/.installed .venv-implicit/.installed .venv-sansa/.installed
	$(OURS) --data beauty toys --seeds 2020 2021 2022 --config configs/default.yaml configs/wide_8bit.yaml configs/spectral.yaml
	$(OURS) --data beauty toys --config configs/wide_8bit.yaml --epochs 3 4 5
	$(OURS) --data beauty toys --config configs/wide_8bit.yaml --set model.embedding_dim=128 --epochs 3 8
	$(OURS) --data beauty toys --config configs/wide_8bit.yaml --set model.embedding_dim=128
	$(OURS) --data beauty toys --config configs/wide_8bit.yaml --set model.embedding_dim=192 --set propagation.search=false --epochs 4 5
	$(OURS) --data beauty toys --config configs/default.yaml --epochs 3 10
	$(OURS) --data beauty toys --config configs/spectral.yaml $(call FLOAT,64)
	$(OURS) --data beauty toys --config configs/spectral.yaml --set model.embedding_dim=128
	$(OURS) --data beauty toys --config configs/spectral.yaml --set model.embedding_dim=512
	$(PEERS) --data beauty toys --models implicit-als --epochs 1 3
	$(PEERS) --data beauty toys --max-seconds 150

# The same on Gowalla's standard split, refitted.
bench-gowalla: .venv/.installed .venv-recbole/.installed .venv-implicit/.installed .venv-sansa/.installed
	$(OURS) --refit --data gowalla --config configs/gowalla.yaml --set training.refit=false
	$(OURS) --refit --data gowalla --config configs/gowalla.yaml --set training.refit=false --epochs 4
	$(OURS) --refit --data gowalla --config configs/gowalla.yaml --set training.refit=false $(call FLOAT,64) --epochs 1 2 4 12
	$(OURS) --refit --data gowalla --config configs/spectral.yaml --set model.spectral_iterations=2 $(call FLOAT,64)
	for d in 128 256 512 640; do \
		$(OURS) --refit --data gowalla --config configs/spectral.yaml --set model.spectral_iterations=2 --set model.embedding_dim=$$d || exit; done
	$(PEERS) --refit --data gowalla --max-seconds 120 --config configs/gowalla.yaml --set training.refit=false

# `auto` and the peers on every log: all choose on the validation split and are tested as they are, but on Gowalla, where
# all are refitted on training and validation together. The other targets add what learns in RecBole.
BESIDE_AUTO = tf_hqgnn popularity implicit-als implicit-bpr recbole-ItemKNN recbole-EASE GF-CF sansa
bench-auto: .venv/.installed .venv-recbole/.installed .venv-implicit/.installed .venv-sansa/.installed
	$(PEERS) --data ml-100k lastfm citeulike beauty toys sports --models $(BESIDE_AUTO) --config configs/auto.yaml
	$(PEERS) --refit --data gowalla --models $(BESIDE_AUTO) --config configs/auto.yaml
	$(OURS) --data lastfm citeulike sports --config configs/wide_8bit.yaml configs/movielens.yaml
	$(PEERS) --data lastfm citeulike sports --models recbole-BPR recbole-LightGCN recbole-SimpleX --max-seconds 150
	$(BIN)/python -m benchmarks.peers report --work $(WORK)

# What a training or a benchmark has left stays: runs, demo, bench-results.
clean:
	rm -rf .venv .venv-uv build .venv-clients .venv-min-tfs-client .venv-serving .venv-docs .venv-recbole .venv-implicit .venv-sansa .venv-lightfm .venv-ann .venv-gpu .venv-s3 .venv-audit .kustomize .java .images .engines sbom.cdx.json gpu-programs .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
