#!/usr/bin/env bash
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced after environment.sh. Ansible finds a collection only at …/ansible_collections/hpc/sregistry, wherever this
# repository was cloned to. Both functions print the directory that holds ansible_collections.

export COLLECTION=ansible_collections/hpc/sregistry

# A tree with a link to the work tree: what runs there sees each edit at once.
link_tree() {
    local tree
    tree="$CACHE/link-$(sha256sum <<<"$ROOT" | cut -c1-12)"
    mkdir -p "$tree/ansible_collections/hpc"
    ln -sfn "$ROOT" "$tree/$COLLECTION"
    echo "$tree"
}

# A tree with a copy of every file that git tracks or would track, itself a git work tree: what tools write there
# is no part of the repository. NAME keeps the copies of checks that run side by side apart.
copy_tree() {
    local name="$1" tree path
    tree="$CACHE/$name-$(sha256sum <<<"$ROOT" | cut -c1-12)"
    rm -rf "$tree"
    mkdir -p "$tree/$COLLECTION"
    git -c "safe.directory=$ROOT" -C "$ROOT" ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' path; do
            [[ ! -e "$ROOT/$path" && ! -L "$ROOT/$path" ]] || printf '%s\0' "$path"
        done |
        tar -C "$ROOT" --create --file=- --no-recursion --null --files-from=- |
        tar -C "$tree/$COLLECTION" --extract --file=- --no-same-owner
    git -C "$tree/$COLLECTION" init --quiet --initial-branch=main
    git -C "$tree/$COLLECTION" add --all
    echo "$tree"
}
