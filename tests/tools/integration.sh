#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs the integration tests with pytest against the lab, which has to be up. Arguments go to pytest.

set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$ROOT/tests/tools/tree.sh"

tree="$(link_tree)"
export PYTHONPATH="$tree" ANSIBLE_COLLECTIONS_PATH="$tree"
cd "$ROOT"
exec python -m pytest tests/integration "$@"
