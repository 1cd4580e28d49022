# The environment lives in .venv and is made when a target needs it; it is made anew only when its lock changes.
# `make demo` needs less than the others, so that it is quick the first time.
BIN := .venv/bin
DEMO := .venv/.installed-sandbox
DEV := .venv/.installed-dev
CHECKS := style types imports dead-code dependencies mappings texts

.DEFAULT_GOAL := help
.PHONY: help install demo test fuzz bench check lock format $(CHECKS:%=check-%)

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile

install: $(DEV) ## make .venv with everything that development needs

demo: $(DEMO) ## the whole path on real parts, with synthetic patients (ARGS=--once ends by itself)
	@$(BIN)/ipt-bridge demo $(ARGS)

# In two processes: one has all that needs the FHIR server, the other most of the rest.
test: $(DEV) ## all tests (ARGS='tests/unit -k course' for some)
	$(BIN)/pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(ARGS)

fuzz: $(DEV) ## records changed and damaged in every way, some minutes long (ARGS='-k feed' for some)
	$(BIN)/pytest tests/property/test_any_bytes.py tests/property/test_any_feed.py --hypothesis-profile=long $(ARGS)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || { echo 'ipt-bridge: this machine has no atheris: only Linux on x86-64 is fuzzed by coverage.'; exit 0; }; \
	corpus=$$(mktemp -d) && $(BIN)/python -m tests.property.fuzz_inbound $$corpus -max_total_time=600 -artifact_prefix=$$corpus/

bench: $(DEV) ## how fast it is, on real parts (ARGS=--quick for two minutes)
	$(BIN)/python -m tests.bench $(ARGS)

check: $(CHECKS:%=check-%) ## style, types, imports, dead code, dependencies, mappings, files

lock: ## bring requirements/*.lock in line with pyproject.toml (ARGS=--upgrade takes newer versions)
	@command -v uv >/dev/null || { echo 'ipt-bridge: make lock needs uv. Install it (pip install uv).' >&2; exit 1; }
	$(LOCK) $(ARGS) --all-extras --group build --output-file requirements/dev.lock
	$(LOCK) --constraint requirements/dev.lock --group build --extra sandbox --output-file requirements/sandbox.lock
	$(LOCK) --constraint requirements/dev.lock --output-file requirements/service.lock
	uv pip compile $(LOCKED) --constraint requirements/dev.lock --group build --output-file requirements/build.lock

format: $(DEV) ## bring the code into its form
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

LOCKED = --quiet --universal --generate-hashes --no-header --no-annotate
LOCK = uv pip compile $(LOCKED) pyproject.toml

# The second stamp says that .venv holds the smaller lock too: the locks agree in every version.
$(DEV): requirements/dev.lock
	@requirements/install dev
	@touch $(DEMO) $@

$(DEMO): requirements/sandbox.lock
	@requirements/install sandbox
	@touch $@

check-style: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types: $(DEV)
	$(BIN)/mypy

check-imports: $(DEV)
	$(BIN)/lint-imports

# Fields and constants are left out: many are declared for what reads them by name.
check-dead-code: $(DEV)
	@found=$$($(BIN)/vulture); case $$? in 0|3) ;; *) echo "$$found"; exit 1; esac; \
	! echo "$$found" | grep -E 'unused (argument|class|function|import|method|property)|unreachable'

check-dependencies: $(DEV)
	$(BIN)/deptry .
	$(BIN)/validate-pyproject pyproject.toml

check-mappings: $(DEV)
	$(BIN)/ipt-bridge check --mappings-only

# Dots and letters in brackets, so that the patterns don't find themselves.
REGISTRIES = p[y]pi[.]|pythonhost[e]d[.]|m[a]ven[.]org|m[a]ven[.]apache|np[m]js[.]|crat[e]s[.]io

check-texts: $(DEV)
	$(BIN)/yamllint --strict .
	$(BIN)/hadolint deploy/Dockerfile
	@! git grep -nIE --untracked '$(REGISTRIES)' || { echo 'These lines name a package registry: leave that to the installer.' >&2; exit 1; }
	@! git grep -nIF --untracked -e '$(CURDIR)/' -e '$(HOME)/' || { echo 'These lines name a path of this machine.' >&2; exit 1; }
