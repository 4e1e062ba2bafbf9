#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs the unit tests with pytest against the work tree, on all processors. Arguments go to pytest: "unit.sh -k digest",
# "unit.sh FILE", "unit.sh -n 0" (all tests in one process). Root with apt-get first gets the programs that are missing.
# For everybody else, a test is skipped that needs one, and says which.

set -euo pipefail

LISTS="" source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$ROOT/tests/tools/tree.sh"

PYTHONPATH="$(link_tree)"
export PYTHONPATH
if may_install && ! "$ROOT/tests/tools/lab.sh" packages; then
    echo "Not all packages could be installed; tests that need them are skipped" >&2
fi
export HYPOTHESIS_STORAGE_DIRECTORY="$CACHE/hypothesis"
cd "$ROOT"
exec python -m pytest --numprocesses logical --dist loadfile -o testpaths=tests/unit "$@"
