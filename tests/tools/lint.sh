#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs the linters, the type checker and the documentation checks on a copy of the work tree, all of them even after
# a failure, and builds the collection's artifact. Arguments are the names of the checks to run: "lint.sh types".

set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$ROOT/tests/tools/tree.sh"
need git tar

wanted=("$@")
known=()
failures=()

check() {
    local name="$1"
    shift
    known+=("$name")
    [[ ${#wanted[@]} == 0 || " ${wanted[*]} " == *" $name "* ]] || return 0
    echo "--- $name"
    "$@" || failures+=("$name")
}

need_known() {
    local name
    for name in "${wanted[@]}"; do
        [[ " ${known[*]} " == *" $name "* ]] || {
            echo "there is no check $name; there are: ${known[*]}" >&2
            return 1
        }
    done
}

types() {
    local failed=0 collection=ansible_collections.hpc.sregistry
    # What "tests.lab" is to the tests must not be "ansible_collections.….tests.lab" as well: each file has one name.
    mkdir -p "$tree/shared/tests"
    cp -r tests/lab tests/faults tests/measure tests/bench tests/fleet tests/report tests/examples "$tree/shared/tests"
    (cd "$tree" && MYPYPATH="$tree:$tree/shared" mypy --config-file "$COLLECTION/pyproject.toml" \
        -p "$collection.plugins" -p "$collection.tests.unit") || failed=1
    MYPYPATH="$tree/$COLLECTION:$tree" mypy tests/lab tests/faults tests/measure tests/bench tests/fleet tests/report tests/examples tests/integration tests/tools || failed=1
    return "$failed"
}

shell_scripts() {
    git ls-files -z -- '*.sh' .ci/run | xargs -0 shellcheck --exclude=SC1090,SC1091
}

# A module or a module utility has to run on the oldest Python of a managed host. The one newer module is imported
# only where it exists.
oldest_python() {
    vermin --quiet --no-tips --violations --target=3.9- --exclude compression --exclude compression.zstd plugins
}

artifact() {
    local unwanted
    ansible-galaxy collection build --output-path "$tree/artifact" &&
        tar -tzf "$tree"/artifact/hpc-sregistry-*.tar.gz >"$tree/artifact/files" || return
    if unwanted="$(grep -E '(^|/)(__pycache__|\..*|output|.*\.(pyc|sif|tar\.gz))(/|$)' "$tree/artifact/files")"; then
        printf 'the artifact holds what it should not:\n%s\n' "$unwanted"
        return 1
    fi
    echo "$(wc -l <"$tree/artifact/files") files"
}

exec {lock}>"$CACHE/lint.lock"
flock "$lock"
# A hook of git has the index of its own work tree in these.
mapfile -t variables < <(git rev-parse --local-env-vars)
unset "${variables[@]}"
tree="$(copy_tree lint)"
cd "$tree/$COLLECTION"
export ANSIBLE_COLLECTIONS_PATH="$tree" MYPY_CACHE_DIR="$CACHE/mypy" RUFF_CACHE_DIR="$CACHE/ruff" NO_COLOR=1

check ruff-check ruff check --quiet .
check ruff-format ruff format --check --quiet .
check types types
check oldest-python oldest_python
check shellcheck shell_scripts
check yamllint yamllint --strict .
check ansible-lint ansible-lint --offline --profile production --nocolor
check documentation antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs self .
check changelog antsibull-changelog lint
check licences reuse lint --lines
check artifact artifact
need_known

if ((${#failures[@]})); then
    printf 'lint failed: %s\n' "${failures[@]}" >&2
    exit 1
fi
echo "lint passed"
