#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs a command in the environment of the tests, with this work tree as the collection: "run.sh ansible-doc --list".

set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$ROOT/tests/tools/tree.sh"

ANSIBLE_COLLECTIONS_PATH="${ANSIBLE_COLLECTIONS_PATH:-$(link_tree)}"
export ANSIBLE_COLLECTIONS_PATH
exec "$@"
