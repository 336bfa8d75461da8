# `make help` lists the targets. Everything that is downloaded is pinned (requirements/*.txt, tests/tools/go.mod) and
# cached in $(CACHE), outside the checkout.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export CACHE := $(or $(MULTIARCH_CACHE),$(HOME)/.cache/multiarch.drone)
export MULTIARCH_CACHE := $(CACHE)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/build/collections
export ANSIBLE_HOME := $(CURDIR)/build/ansible-home
export ANSIBLE_NOCOWS := 1
export PYTHONDONTWRITEBYTECODE := 1
TREE := build/collections/ansible_collections/multiarch/drone
say = printf '\n==> %s\n' "$(1)"
# Evaluated only by the recipes that use it: an environment is made when it is first needed.
ENV = $$(tests/tools/venv test)/bin

.PHONY: help
help: ## List the targets
	grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# Python and Ansible find a collection by its path alone: build/collections leads back to this checkout.
$(TREE):
	mkdir -p $(@D)
	ln -sfn $(CURDIR) $@

.PHONY: test
test: test-fast sanity other-cores plays controllers browser docs-site kernel services molecule quickstart-test real artifact ## Every test (CI calls this)
	$(call say,every test passed)

.PHONY: test-fast
test-fast: lint docs unit ## What needs no host, in under a minute

.PHONY: lint
lint: $(TREE) ## Formatting, types, YAML and Ansible's own lint
	$(call say,ruff: format and lint)
	$(ENV)/ruff format --check --quiet . || { $(ENV)/ruff format --diff .; exit 1; }
	$(ENV)/ruff check --quiet .
	$(ENV)/python tests/tools/habits.py $$(git ls-files --cached --others --exclude-standard "*.py")
	$(call say,codespell)
	git ls-files -z --cached --others --exclude-standard | xargs -0 $(ENV)/codespell
	$(call say,mypy)
	mypy=$(ENV)/mypy
	(cd build/collections && "$$mypy" --config-file $(CURDIR)/pyproject.toml -p ansible_collections.multiarch.drone.plugins.module_utils)
	$(call say,yamllint)
	$(ENV)/yamllint --strict .
	$(call say,ansible-lint)
	PATH="$(ENV):$$PATH" $(ENV)/ansible-lint --offline

.PHONY: unit
unit: $(TREE) ## Unit and contract tests, on the default ansible-core; or TEST=path[::name]
	$(call say,$(or $(TEST),unit and contract tests))
	$(ENV)/pytest -q $(if $(TEST),$(TEST),-n 2 tests/unit tests/contract tests/drone)

.PHONY: fuzz
fuzz: $(TREE) ## Generated input against every parser and option: SECONDS=of each test (600), SEED=number (0); `make test` does it shortly
	$(call say,generated input)
	FUZZ_SECONDS=$(or $(SECONDS),600) FUZZ_SEED=$(or $(SEED),0) MULTIARCH_DRONE_FUZZ_SECONDS=$(or $(SECONDS),600) MULTIARCH_DRONE_FUZZ_SEED=$(or $(SEED),0) \
		$(ENV)/pytest -q -n 2 tests/fuzz tests/buildkit/test_readers.py tests/pipelines/test_yaml_reader.py tests/unit/plugins/modules/test_every_module_survives_any_option.py tests/unit/plugins/modules/test_killed_anywhere.py

.PHONY: coverage
coverage: $(TREE) ## Which lines of plugins/ the unit and contract tests run, by package; what nothing imports counts too
	$(call say,coverage of the unit and contract tests)
	tests/tools/coverage

.PHONY: mutants
mutants: $(TREE) ## How many small changes of the code the unit tests notice: SAMPLE=mutants a package (20), SEED=number (1)
	$(call say,mutants)
	$(ENV)/python tests/tools/mutants.py --sample $(or $(SAMPLE),20) --seed $(or $(SEED),1)

.PHONY: molecule
molecule: $(TREE) ## Real hosts in containers: every scenario, or SCENARIO=name
	$(call say,molecule: $(or $(SCENARIO),every scenario))
	PATH="$(ENV):$$PATH" $(ENV)/molecule test $(if $(SCENARIO),-s $(SCENARIO),--all)

.PHONY: quickstart
quickstart: $(TREE) ## The main job on this machine: hosts in containers that build, push and execute for several platforms
	tests/tools/packages git:git
	playbook=$$(tests/tools/venv run)/bin/ansible-playbook
	PATH="$$(dirname $$playbook):$$PATH" $$playbook multiarch.drone.quickstart $(ARGS)

.PHONY: clean
clean: ## No hosts, images, handlers and engine of ours on this machine; the cache stays
	roles/lab/files/machine clean
	tests/tools/vm clean
	rm -rf build

.PHONY: distclean
distclean: clean ## Nothing of ours at all
	rm -rf "$(CACHE)"

.PHONY: docs
docs: $(TREE) ## Documentation of modules and roles, changelog fragments
	$(call say,antsibull-docs and antsibull-changelog)
	PATH="$(ENV):$$PATH" $(ENV)/antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .
	$(ENV)/antsibull-changelog lint

.PHONY: docs-site
docs-site: $(TREE) ## The documentation as a site in build/docs-site/html, its links checked
	$(call say,the documentation site)
	tests/tools/docs-site

.PHONY: sanity
sanity: ## ansible-test sanity, on the oldest and the newest ansible-core that this machine's Pythons run
	$(call say,ansible-test sanity on the oldest ansible-core)
	tests/tools/sanity oldest
	newest=$$(tests/tools/newest-python)
	if [ -z "$$newest" ]; then printf '==> skipped: no Python 3.12 or later here for the newest ansible-core\n'; exit; fi
	$(call say,ansible-test sanity on the newest ansible-core)
	tests/tools/sanity newest "$$newest"

.PHONY: other-cores
other-cores: $(TREE) ## Unit and contract tests on the oldest and the newest ansible-core
	$(call say,unit and contract tests on the oldest ansible-core)
	$$(tests/tools/venv oldest)/bin/pytest -q -n 2 tests/unit tests/contract tests/drone
	newest=$$(tests/tools/newest-python)
	if [ -z "$$newest" ]; then printf '==> skipped: no Python 3.12 or later here for the newest ansible-core\n'; exit; fi
	$(call say,unit and contract tests on the newest ansible-core)
	$$(tests/tools/venv newest "$$newest")/bin/pytest -q -n 2 tests/unit tests/contract tests/drone

.PHONY: plays
plays: $(TREE) ## Real plays that look for secrets in what Ansible prints and leaves behind
	$(call say,real plays at -vvvv)
	PATH="$(ENV):$$PATH" $(ENV)/pytest -q -n 2 tests/plays

.PHONY: controllers
controllers: $(TREE) ## The examples by ansible-runner, as AWX runs them, by ansible-navigator and by ansible-builder
	$(call say,ansible-runner, ansible-navigator and ansible-builder)
	tests/tools/packages git:git
	PYTHONPATH="$(CURDIR)/build/collections" $$(tests/tools/venv controllers)/bin/pytest -q tests/controllers

.PHONY: browser
browser: $(TREE) ## The report's page in a real browser, judged by axe-core
	$(call say,the report in Chromium)
	tests/tools/packages chromium:chromium
	PYTHONPATH="$(CURDIR)/build/collections" $$(tests/tools/venv browser)/bin/pytest -q tests/browser

.PHONY: test-drone
test-drone: $(TREE) ## Drone as code against DRONE_SERVER with DRONE_TOKEN, on DRONE_TEST_REPOS; all is put back
	$(call say,Drone as code against $(or $(DRONE_SERVER),the stand-in))
	DRONE_SERVER="$(DRONE_SERVER)" DRONE_TOKEN="$(DRONE_TOKEN)" DRONE_TEST_REPOS="$(DRONE_TEST_REPOS)" $(ENV)/pytest -q tests/drone

.PHONY: quickstart-test
quickstart-test: ## The quickstart as a newcomer types it, twice
	$(call say,make quickstart twice)
	$(ENV)/pytest -q tests/quickstart

.PHONY: real
real: $(TREE) ## The real Drone, its runner and the article's plugin, where their images can be pulled; skipped elsewhere
	$(call say,the real Drone)
	PATH="$(ENV):$$PATH" $(ENV)/pytest -q tests/real

.PHONY: bench
bench: $(TREE) ## Ratios against the alternatives, measured in one run and kept in build/bench/results.json
	failed=
	for bench in tests/bench/*.py; do
	    printf '\n==> %s\n' "$$bench"
	    PATH="$(ENV):$$PATH" PYTHONPATH="$(CURDIR):$(CURDIR)/build/collections" $(ENV)/python "$$bench" || failed="$$failed $$bench"
	done
	[ -z "$$failed" ] || { printf 'over a limit, not judged or not measured:%s\n' "$$failed" >&2; exit 1; }

.PHONY: kernel
kernel: $(TREE) ## The real binfmt_misc, in namespaces of its own
	$(call say,the real binfmt_misc in private namespaces)
	roles/lab/files/machine engine
	$(ENV)/pytest -q -n 2 tests/kernel

.PHONY: services
services: $(TREE) ## A real registry, a real BuildKit, steps as Drone's runner runs them
	$(call say,a real registry and a real BuildKit)
	tests/tools/packages docker-registry:docker-registry skopeo:skopeo openssl:openssl git:git runc:runc sshd:openssh-server
	roles/lab/files/machine engine
	PATH="$(ENV):$$PATH" $(ENV)/pytest -q tests/registry tests/buildkit
	$(ENV)/pytest -q -n 2 tests/pipelines

.PHONY: kubernetes
kubernetes: $(TREE) ## Builders in a real cluster of one node in a container
	$(call say,a real Kubernetes)
	tests/tools/packages runc:runc kubectl:kubernetes-client
	roles/lab/files/machine engine
	roles/lab/files/machine image trixie
	PATH="$(ENV):$$PATH" $(ENV)/pytest -q -n 6 tests/kubernetes

.PHONY: vm
vm: $(TREE) ## A real arm64 host with a kernel of its own, in QEMU: not in `make test`, for it takes too long; nightly
	$(call say,an arm64 host with a kernel of its own)
	PATH="$(ENV):$$PATH" $(ENV)/pytest -v tests/vm

.PHONY: artifact
artifact: ## The tarball: its contents, galaxy-importer, and its use once installed
	$(call say,the artifact)
	tests/tools/artifact

.PHONY: format
format: ## Format the Python code and mend what ruff can
	$(ENV)/ruff format . && $(ENV)/ruff check --fix .

.PHONY: lock
lock: ## Resolve requirements/*.in again
	UV=$$(dirname $$(readlink -f $$(tests/tools/venv uv)))/uv-*/bin/uv
	cd requirements
	for name in uv run test oldest browser docs controllers; do $$UV pip compile -q --upgrade --python-version 3.11 --generate-hashes --custom-compile-command "make lock" $$name.in -o $$name.txt; done
	$$UV pip compile -q --upgrade --python-version 3.12 --generate-hashes --custom-compile-command "make lock" newest.in -o newest.txt
