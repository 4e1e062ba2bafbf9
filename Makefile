# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hpc.sregistry
LAB := $(or $(SREGISTRY_LAB_DIR),$(CACHE)/lab)
TOOLS := tests/tools

.PHONY: help demo test lint sanity unit integration format changelog bench fleet picture lab lab-down clean

help: ## show this help
	@echo 'make TARGET [VARIABLE=VALUE …]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo 'Variables:'
	@echo '  PYTHON=python3.12       the Python for all of it, 3.11 or newer; the newest found unless given'
	@echo '  IMAGE=name[:tag]        demo: the image to bring to the hosts'
	@echo '  INVENTORY=hosts.yml     demo: your own hosts instead of the lab'
	@echo '  NO_HTTPS=true           demo: the registry of the image speaks plain HTTP'
	@echo '  ARGS="FILE -k digest"   unit, integration: for pytest; sanity: for ansible-test; lint: which checks, as "types"'
	@echo '  RUNS=5 IMAGES=files     bench: how often, and which of compiler,science,files,single, or huge; ARGS=report: no new run'
	@echo '  ARGS=inflate            bench: only compare what inflates gzip, on one large layer'
	@echo '  ARGS=entries            bench: only memory and CPU time of layers with 300,000 and a million entries'
	@echo '  ARGS=unchanged          bench: only measure what a task that changes nothing costs a fleet'
	@echo '  BEFORE=COMMIT           bench: no report, but the ratios of this code to that of a commit, in one run'
	@echo '  HOSTS=1,4               fleet: on how many hosts; ARGS=report: no new run'
	@echo '  JOBS=1                  test: how many phases run side by side, 2 unless given'
	@echo
	@echo 'Each target sets itself up below $(CACHE).'

demo: ## bring an image to hosts of the lab, or of INVENTORY, as a SIF file
	@$(TOOLS)/demo.sh

test: ## every check there is: sanity, lint, unit, integration
	@$(TOOLS)/test.sh

lint: ## linters, types, documentation, changelog, licences, the artifact
	@$(TOOLS)/lint.sh $(ARGS)

sanity: ## ansible-test sanity, without an ignore file
	@$(TOOLS)/sanity.sh $(ARGS)

unit: ## the unit tests
	@$(TOOLS)/unit.sh $(ARGS)

integration: ## playbooks against the hosts and registries of the lab
	@$(TOOLS)/integration.sh $(ARGS)

format: ## format the Python files, and mend what can be mended without a doubt
	@$(TOOLS)/format.sh

changelog: ## show what the next release says of itself
	@$(TOOLS)/changelog.sh

bench: ## measure pulls beside apptainer's on a host of the lab, and write docs/benchmarks.md
	@$(TOOLS)/bench.sh $(ARGS)

fleet: ## measure how an image comes to 1, 2, 4, 8, 16 hosts of the lab, and write the figures of docs/fleet.md
	@$(TOOLS)/fleet.sh $(ARGS)

picture: ## the picture in docs/report.md
	@$(TOOLS)/picture.sh

lab: ## start registries and managed hosts on this machine
	@$(TOOLS)/lab.sh up

lab-down: ## stop them
	@if [[ -d '$(LAB)' ]]; then $(TOOLS)/lab.sh down; fi

clean: ## remove all that the targets made, the lab too
	@if [[ -d '$(LAB)' ]]; then $(TOOLS)/lab.sh clean; fi
	rm -rf --one-file-system -- '$(CACHE)'
