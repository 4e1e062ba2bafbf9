# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images in the storage: pushing those that are missing, and listing what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.lab import oci, paths
from tests.lab.catalogue import RECIPES, Recipe


class UnknownImage(Exception):
    """An image was asked for that is not in the catalogue."""


def ensure(repositories: list[str] | None = None) -> list[str]:
    """Push what is missing, and on-demand images when asked for by name; return the pushed names."""
    pushed: list[str] = []
    with oci.Client() as client:
        for recipe in _wanted(repositories):
            if not _in_place(recipe):
                recipe.build(client)
                _record(recipe).write_text(json.dumps({"version": recipe.version}), encoding="utf-8")
                pushed.extend(recipe.names)
    return pushed


def names() -> list[str]:
    """Return the names of all images of the catalogue that are pushed now."""
    return [name for recipe in RECIPES for name in recipe.names if _tag_link(name).exists()]


def listing() -> list[str]:
    """Write one line an image: name, digest, number of layers or members, stored size, kind."""
    return [_line(name) if _tag_link(name).exists() else f"{name:<28} not pushed" for name in _all_names()]


def _all_names() -> list[str]:
    return [name for recipe in RECIPES for name in recipe.names]


def _line(name: str) -> str:
    digest = _tag_link(name).read_text(encoding="ascii")
    document = _blob(digest)
    kind = document.get("mediaType", "Docker schema 1").rpartition("application/vnd.")[2]
    parts = document.get("layers") or document.get("manifests") or document.get("fsLayers") or []
    size = sum(part.get("size", 0) for part in document.get("layers", []))
    return f"{name:<28} {digest[:19]} {len(parts):>3} parts {size / 1e6:>8.1f} MB  {kind}"


def _blob(digest: str) -> dict[str, Any]:
    kind, _separator, value = digest.partition(":")
    data = paths.storage() / "docker/registry/v2/blobs" / kind / value[:2] / value / "data"
    document: dict[str, Any] = json.loads(data.read_bytes())
    return document


def _wanted(repositories: list[str] | None) -> list[Recipe]:
    if repositories is None:
        return [recipe for recipe in RECIPES if not recipe.on_demand]
    found = {}
    for asked in repositories:
        for recipe in RECIPES:
            if asked in recipe.names or asked in [oci.reference(name).repository for name in recipe.names]:
                found[asked] = recipe
        if asked not in found:
            raise UnknownImage(f"there is no image {asked!r}; `images` without names lists them")
    return list(dict.fromkeys(found.values()))


def _in_place(recipe: Recipe) -> bool:
    """Tell whether this version was pushed and all its tags are there; looked up in the storage, which logs nothing."""
    try:
        record = json.loads(_record(recipe).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return record == {"version": recipe.version} and all(_tag_link(name).exists() for name in recipe.names)


def _record(recipe: Recipe) -> Path:
    return paths.images() / f"{recipe.title}.json"


def _tag_link(name: str) -> Path:
    where = oci.reference(name)
    tags = paths.storage() / "docker/registry/v2/repositories" / where.repository / "_manifests/tags"
    return tags / where.target / "current/link"
