# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inspect
short_description: The data of C(sregistry inspect), from the facts
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Makes the object that C(sregistry inspect) prints, with the same keys in the same order.
  - An image that was taken over from a database of C(sregistry) keeps its C(id), C(collection_id), C(version) and
    C(metrics). For other images C(id) is the number in the table of P(hpc.sregistry.images_table#filter), and
    C(collection_id) that of the collection in the same order.
positional: _input, name
options:
  _input:
    description:
      - The list of RV(hpc.sregistry.sregistry_info#module:images), gathered with
        O(hpc.sregistry.sregistry_info#module:manifests=true). Without it, C(metrics) is empty.
    type: raw
    required: true
  name:
    description:
      - The image. Without it, the result is a list of all of them.
    type: str
  registry:
    description:
      - The registry of names that name none.
    type: str
    default: docker.io
"""

EXAMPLES = r"""
- name: Read the inventory with its manifests
  hpc.sregistry.sregistry_info:
    manifests: true
  register: store

- name: Show one image as sregistry does
  ansible.builtin.debug:
    msg: "{{ store.images | hpc.sregistry.inspect('continuumio/anaconda3') }}"
"""

RETURN = r"""
_value:
  description: The object, or the list of them.
  type: raw
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._internal.oci.reference import DOCKER_HUB
from ..plugin_utils._internal.inventories.rows import Row, by_age, rows_of, uri_of

_SREGISTRY = "sregistry"
_HUB = "https://index.docker.io"


def inspect(value: object, name: str | None = None, registry: str = DOCKER_HUB) -> Any:
    """Return what ``sregistry inspect`` prints of an image, or of all.

    :raises AnsibleFilterError: if the input is not an inventory, or does not know the name.
    """
    rows = by_age(rows_of(value))
    collections = list(dict.fromkeys(row["collection"] for row in rows))
    objects = [_inspect(number, collections.index(row["collection"]) + 1, row) for number, row in enumerate(rows, 1)]
    if name is None:
        return objects
    uri = uri_of(name, registry)
    found = [one for one, row in zip(objects, rows) if row["reference"] == uri]
    if not found:
        raise AnsibleFilterError(f"image {uri} was not found in the inventory")
    return found[-1]


def _inspect(number: int, collection: int, row: Row) -> dict[str, Any]:
    """Return the object of one row; its keys are in alphabetical order, as sregistry prints them."""
    history = row.get("metrics", {}).get(_SREGISTRY)
    former = next((one for one in history or () if one["image"] == row["path"]), history[-1] if history else None)
    taken = former if former and row["digest"] is None else {}
    return {
        "client": row["client"],
        "collection": row["collection"],
        "collection_id": taken.get("collection_id", collection),
        "created_at": row["created_at"].replace("T", " ").rstrip("Z"),
        "id": taken.get("id", number),
        "image": row["path"],
        "metrics": taken["metrics"] if taken else _metrics(row),
        "name": row["name"],
        "tag": row["tag"],
        "uri": taken.get("uri") or row["reference"],
        "url": taken["url"] if taken else _url(row),
        "version": taken.get("version") or row["sha256"],
    }


def _url(row: Row) -> str:
    """Return the source of the image; sregistry writes an image of a registry without a scheme."""
    url = str(row.get("url", row["reference"]))
    return str(row["reference"]) if url.startswith("docker://") and row["digest"] else url


def _metrics(row: Row) -> dict[str, Any]:
    """Return the manifests by their schema versions; ``1`` shows the layers as schema 1 does, the newest first."""
    manifest = row.get("metrics", {}).get("manifest")
    if not isinstance(manifest, Mapping):
        return {}
    base = _HUB if row["registry"] == DOCKER_HUB else f"https://{row['registry']}"
    repository = "/".join(part for part in (row["collection"], row["name"]) if part)
    link = f"{base}/v2/{repository}/manifests"
    own = f"{link}/{row['tag'] or row['digest']}"
    version = str(manifest.get("schemaVersion", 2))
    if version == "1":
        return {"1": {**manifest, "selfLink": own}, "selfLink": link}
    first = {
        "architecture": row["platform"].split("/")[1],
        "fsLayers": [{"blobSum": layer["digest"]} for layer in reversed(row.get("layers", []))],
        "mediaType": manifest.get("mediaType", ""),
        "schemaVersion": manifest.get("schemaVersion", 2),
        "selfLink": own,
    }
    return {"1": first, version: {**manifest, "selfLink": own}, "selfLink": link}


class FilterModule:
    """Ansible asks this class for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"inspect": inspect}
