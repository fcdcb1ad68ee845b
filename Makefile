# The only door: README and CI call these and nothing else.
PYTHON ?= python3
VENV := .venv
# What an installation is made of, but for the Python in it.
BUILT := pyproject.toml constraints.txt hatch_build.py src/shipworthy/serve/_numbers.c
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-soak test-torch test-openvino test-tensorflow lint bench bench-tools clients peers docs clean

demo: $(VENV)/.demo  ## install, ship the digits model, print the evidence, leave a release
	$(BIN)/shipworthy ship examples/digits

# Each needs a framework, and has a target and an environment of its own.
APART := --ignore tests/pytorch --ignore tests/tensorflow --ignore tests/nncf_openvino

test: $(VENV)/.dev lint clients  ## everything that must hold, but what test-soak runs
	$(BIN)/python -m pytest --numprocesses auto --cov --cov-report=term -m "not slow" --ignore tests/fuzz $(APART) $(ARGS)

test-soak: $(VENV)/.dev clients  ## the long tests one by one, and the fuzzers for ten minutes; SOAK_SECONDS=0: in short
	$(BIN)/python -m pytest tests -m "slow$(if $(filter 0,$(SOAK_SECONDS)), and not long)" $(APART) $(ARGS)
	SOAK_SECONDS=$${SOAK_SECONDS-500} timeout 600 $(BIN)/python -m pytest tests/fuzz $(ARGS)

test-torch: .frameworks/torch/.made  ## PyTorch for real: models taken in, pruning, the vision example
	.frameworks/torch/bin/python -m pytest tests/pytorch $(ARGS)

.frameworks/torch/.made: $(BUILT)
	$(PYTHON) -m venv .frameworks/torch
	.frameworks/torch/bin/python -m pip install --quiet --disable-pip-version-check $$(grep ^torch== constraints.txt)
	.frameworks/torch/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[sklearn,openvino,torch,dev]'
	touch $@

test-openvino: .frameworks/openvino/.made  ## OpenVINO and NNCF for real: the runner, and INT8 by NNCF
	.frameworks/openvino/bin/python -m pytest tests/nncf_openvino tests/backends/test_openvino.py $(ARGS)

.frameworks/openvino/.made: $(BUILT)
	$(PYTHON) -m venv .frameworks/openvino
	.frameworks/openvino/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[sklearn,openvino,nncf,dev]'
	touch $@

test-tensorflow: .frameworks/tensorflow/.made  ## Keras and TensorFlow for real: models taken in, pruning
	.frameworks/tensorflow/bin/python -m pytest --numprocesses auto tests/tensorflow $(ARGS)

# What the last line installs would bring a second TensorFlow; decision 18.
.frameworks/tensorflow/.made: $(BUILT)
	$(PYTHON) -m venv .frameworks/tensorflow
	.frameworks/tensorflow/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[sklearn,tensorflow,dev]' dm-tree
	.frameworks/tensorflow/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps tf-keras tensorflow-model-optimization
	touch $@

lint: $(VENV)/.dev  ## style, types, and pages that are made from the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

bench: $(VENV)/.dev  ## the benchmarks; each script answers one question
	for script in benchmarks/*.py; do $(BIN)/python $$script || [ $$? -eq 77 ] || exit 1; done

bench-tools:  ## the clients that benchmarks/serve.py and tests/fuzz ask servers with; Debian and its kin, as root
	apt-get update --quiet && apt-get install --yes --quiet curl nghttp2-client wrk

clients: .clients/triton/.made .clients/kserve/.made .clients/ovms/.made .clients/fuzz/.made  ## the clients that people have, for the tests

.clients/%/.made: tests/serve/clients/requirements/%.txt
	$(PYTHON) -m venv .clients/$*
	.clients/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

peers: $(patsubst benchmarks/peers/%/requirements.txt,.peers/%/.made,$(wildcard benchmarks/peers/*/requirements.txt))  ## other servers to compare with; --keep-going where one does not install

.peers/%/.made: benchmarks/peers/%/requirements.txt
	$(PYTHON) -m venv .peers/$*
	.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

docs: $(VENV)/.dev  ## write the pages that are made from the code
	$(BIN)/python docs/generate.py

clean:  ## remove what make made
	rm -rf $(VENV) .clients .peers .frameworks .shipworthy .mypy_cache .pytest_cache .ruff_cache .coverage

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BUILT) | $(BIN)/python
	$(PIP) --editable '.[sklearn,mlflow]'
	touch $@

$(VENV)/.dev: $(BUILT) | $(BIN)/python
	$(PIP) --editable '.[sklearn,xgboost,lightgbm,mlflow,openvino,otel,dev]'
	touch $@ $(VENV)/.demo
