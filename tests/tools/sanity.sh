#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs every test of ansible-test sanity, without an ignore file, on a copy of the work tree. Arguments go to
# ansible-test, so that "sanity.sh --test pep8" runs one of them.

set -euo pipefail

LISTS="checks" source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$ROOT/tests/tools/tree.sh"
need git tar

exec {lock}>"$CACHE/sanity.lock"
flock "$lock"

# The compile and import tests run for every Python of a managed host that can be found. A directory of shims answers
# for versions it does not have, so it gives way to the versions themselves.
search_path=""
IFS=: read -ra directories <<<"$PATH"
for directory in "${directories[@]}" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin; do
    [[ "$directory" == */shims || ! -d "$directory" ]] || search_path+="${search_path:+:}$directory"
done

home="$CACHE/ansible-test-home"
python "$ROOT/tests/tools/ansible_test_home.py" "$home"
tree="$(copy_tree sanity)"
cd "$tree/$COLLECTION"
env HOME="$home" PATH="$search_path" ansible-test sanity --local --color no --truncate 0 "$@" {lock}>&-
