# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON of manifests and configs, read with bounds: they are written into the inventory, and read there again."""

from __future__ import annotations

import json
from typing import Any

from ..errors import InvalidManifest, InvalidReference
from .reference import check_digest

_MAX_NESTING = 100  # levels of lists and objects


def parse_object(content: bytes | str, what: object, name: str) -> dict[str, Any]:
    """Read a JSON object.

    :param what: names the image in errors.
    :param name: the kind of document, such as ``manifest``.
    :raises InvalidManifest: if it is something else, or cannot be written as JSON again.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(f"malformed {name} of {what}: it is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidManifest(f"malformed {name} of {what}: it is not a JSON object")
    _check_nesting(document, what, name)
    try:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:  # half a surrogate pair, or NaN: the controller could not read the inventory any more
        raise InvalidManifest(f"malformed {name} of {what}: it has a text or number that JSON cannot tell") from error
    return document


def _check_nesting(document: dict[str, Any], what: object, name: str) -> None:
    """Refuse a document that nests too deep to be written and read again."""
    level: list[Any] = [document]
    for _depth in range(_MAX_NESTING):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise InvalidManifest(f"malformed {name} of {what}: its JSON nests deeper than {_MAX_NESTING} levels")


def need_digest(value: Any, what: object, name: str = "manifest") -> str:
    """Return a value of a document that must be a digest.

    :raises InvalidManifest: if it is not one.
    """
    try:
        return check_digest(value if isinstance(value, str) else "")
    except InvalidReference as error:
        raise InvalidManifest(f"malformed {name} of {what}: {error}") from error


def need_list(document: dict[str, Any], key: str, what: object) -> list[Any]:
    """Return a value of a manifest that must be a list.

    :raises InvalidManifest: if it is not one.
    """
    value = document.get(key)
    if not isinstance(value, list):
        raise InvalidManifest(f"malformed manifest of {what}: '{key}' is not a list")
    return value
