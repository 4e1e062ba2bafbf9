#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Brings the lab up and measures on its hosts how an image comes to a fleet, see tests/fleet. HOSTS says on how many;
# arguments go to tests.fleet, "report" writes the tables of the last measurement again.

set -euo pipefail

LISTS="" source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$ROOT/tests/tools/tree.sh"

ANSIBLE_COLLECTIONS_PATH="$(link_tree)"
export ANSIBLE_COLLECTIONS_PATH
cd "$ROOT"
exec python -m tests.fleet ${HOSTS:+--hosts "$HOSTS"} "$@"
