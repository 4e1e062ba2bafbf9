# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests of Docker's schema 1, which hold the config of their image, and may be signed.

Source: distribution's "Image Manifest Version 2, Schema 1".
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidManifest
from .config import Config, check_run_config, parse_platform
from .descriptor import Descriptor
from .json_document import need_digest, need_list, parse_object

# A gzip'ed empty tar archive, which schema 1 repeats for every history entry that changed no file.
SCHEMA1_EMPTY_LAYER = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"


@dataclass(frozen=True)
class Schema1:
    """An old manifest with its config inside; ``layers`` from the oldest to the newest, the empty ones left out."""

    config: Config
    layers: tuple[Descriptor, ...]


def parse_schema1(document: dict[str, Any], what: object) -> Schema1:
    """Read a schema 1 manifest.

    It lists layers and history newest first; the newest history entry holds the image's config.

    :raises InvalidManifest: if it is malformed.
    """
    layers = need_list(document, "fsLayers", what)
    history = need_list(document, "history", what)
    if not layers or len(layers) != len(history):
        raise InvalidManifest(f"malformed schema 1 manifest of {what}: fsLayers and history differ in length")
    kept: list[Descriptor] = []
    newest: dict[str, Any] = {}
    for position, (layer, entry) in enumerate(zip(layers, history)):
        digest = layer.get("blobSum") if isinstance(layer, dict) else None
        text = entry.get("v1Compatibility") if isinstance(entry, dict) else None
        if not isinstance(digest, str) or not isinstance(text, str):
            raise InvalidManifest(
                f"malformed schema 1 manifest of {what}: layer {position} lacks blobSum or v1Compatibility"
            )
        compatibility = parse_object(text, what, "v1Compatibility")
        if position == 0:
            newest = compatibility
        if digest != SCHEMA1_EMPTY_LAYER and not compatibility.get("throwaway"):
            kept.insert(0, Descriptor(need_digest(digest, what), None))
    for key in ("id", "parent", "parent_id", "layer_id", "throwaway", "Size"):
        newest.pop(key, None)
    newest["architecture"] = newest.get("architecture") or document.get("architecture") or "amd64"
    newest["os"] = newest.get("os") or "linux"
    check_run_config(newest, what)
    return Schema1(Config(parse_platform(newest), None, newest), tuple(kept))


def signed_payload(content: bytes) -> bytes:
    """Return what a signed schema 1 manifest signs; any other content as it is.

    Only this may be read on: no digest covers the rest of the document.

    Source: distribution's "Image Manifest Version 2, Schema 1", section "Signed Manifests".
    """
    if b'"signatures"' not in content:
        return content
    try:
        document = json.loads(content)
        if document["schemaVersion"] != 1:
            return content
        header = json.loads(_unbase64url(document["signatures"][0]["protected"]))
        return content[: int(header["formatLength"])] + _unbase64url(header["formatTail"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
        return content


def _unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
