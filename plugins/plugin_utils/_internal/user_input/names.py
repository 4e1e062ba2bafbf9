# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists of names as people, surveys and command lines write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from ....module_utils._internal.text import shown

_QUERY = re.compile(r"https?://[^\s,]*\?")


def names_in(value: object) -> list[str]:
    """Return the names in a list, or in a text where commas or line ends separate them, or in the JSON of a list.

    :raises ValueError: if it is neither list nor text, or anything in the list is not.
    """
    if isinstance(value, str):
        return list(_of_text(value))
    if isinstance(value, (list, tuple)):
        return [name for one in value for name in _of_item(one)]
    raise ValueError(f"wants a list of names, or a text with commas or lines, not {type(value).__name__}")


def _of_item(value: object) -> list[str]:
    if isinstance(value, str) and "\n" not in value.strip():
        return [value.strip()] if value.strip() else []
    return names_in(value)


def _of_text(text: str) -> Iterator[str]:
    if text.lstrip().startswith("["):
        try:
            yield from names_in(json.loads(text))
        except ValueError as error:
            raise ValueError(
                f"wants a list of names, and {shown(text.strip())!r} begins as one in JSON and is not one; put each "
                f"name in double quotes, or leave out the brackets: {error}"
            ) from error
        return
    for line in text.splitlines():
        for name in [line] if _QUERY.search(line) else line.split(","):
            if name.strip():
                yield name.strip()
