#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Brings the lab up and runs the integration tests against it with pytest, three files at a time, each on two hosts of its
# own, and test_fleet.py on four more. Arguments go to pytest.

set -euo pipefail

LISTS="browser" source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$ROOT/tests/tools/tree.sh"

tree="$(link_tree)"
export PYTHONPATH="$tree" ANSIBLE_COLLECTIONS_PATH="$tree"
"$ROOT/tests/tools/lab.sh" up --hosts 10
cd "$ROOT"
exec python -m pytest --numprocesses 3 --dist loadfile -o testpaths=tests/integration "$@"
