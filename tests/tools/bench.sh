#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Brings the lab up and measures on its first host, see tests/bench. RUNS says how often each command runs, IMAGES which
# images are taken (compiler,science,files,single, or huge), BEFORE a commit to compare with; arguments go to tests.bench,
# "report" writes the last report again, "inflate" compares what inflates gzip, "unchanged" measures what a task that
# changes nothing costs a fleet, "entries" what layers of many files cost.

set -euo pipefail

LISTS="" source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$ROOT/tests/tools/tree.sh"

ANSIBLE_COLLECTIONS_PATH="$(link_tree)"
export PYTHONPATH="$ANSIBLE_COLLECTIONS_PATH"
export ANSIBLE_COLLECTIONS_PATH
cd "$ROOT"
exec python -m tests.bench ${RUNS:+--runs "$RUNS"} ${IMAGES:+--images "$IMAGES"} ${BEFORE:+--before "$BEFORE"} "$@"
