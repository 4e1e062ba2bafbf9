# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host did with a list of images, as the result of ``sregistry_pull`` tells it.

Hosts are not trusted: what one of them returns can spoil its own row only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ....module_utils._internal.errors import InvalidReference
from ....module_utils._internal.oci.reference import check_digest
from ....module_utils._internal.text import shown

FAILED = "failed"
BUILT, FETCHED = "built", "fetched"
"""How a file came to a host that did not have it."""

WEB = ("https://", "http://")
_FINISHED = (*WEB, "oras://")
_NEW_FILE = ("pulled", "rebuilt", "repaired")

_SAID = "Task failed: "
"""What Ansible puts before the reason."""
_MAX_CAUSE = 2000
_KILLED = (137, 143, -9, -15)  # the exit status of what SIGKILL or SIGTERM ended, as a shell and as Python tell it
_MARKS = 20  # of files, that a host is known by
_MAX_COUNT = 2**63 - 1
_QUERY = re.compile(r"[?#].*?(?=(?:@sha(?:256|512):[0-9a-f]+)?\Z)", re.DOTALL)


@dataclass(frozen=True)
class Image:
    """What a host says of one image, of which it was given the name (sizes in bytes).

    ``missed`` means that the cache of finished files did not have it. ``made`` is ``BUILT`` or ``FETCHED``, empty for a
    file that is not new, or that came back from the cache of the host.
    """

    name: str
    uri: str
    action: str
    changed: bool
    platform: str
    digest: str | None
    manifest_digest: str | None
    path: str | None
    size: int | None
    sha256: str | None
    fetched: int
    error: str | None
    missed: bool
    made: str = ""

    @classmethod
    def of(cls, name: str, value: Any, sizes: Mapping[str, int] | None = None) -> Image:
        """Read one entry of the result of ``sregistry_pull``.

        :param sizes: by the name in its canonical form, how much the layers are of an image that has no file yet.
        :raises ValueError: if it is none.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("action"), str):
            raise ValueError("an image without an action")
        failed = value["action"] == FAILED or value.get("error") is not None
        fetched = value.get("fetched")
        return cls(
            name=name,
            uri=shown(_text(value.get("reference")) or told(name), 1000),
            action=shown(value["action"], 40),
            changed=value.get("changed") is True,
            platform=_text(value.get("platform")) or "",
            digest=_digest(value.get("digest")),
            manifest_digest=_digest(value.get("manifest_digest")),
            path=_text(value.get("path")),
            size=_count(value.get("size")) or (sizes or {}).get(str(value.get("reference"))),
            sha256=_text(value.get("sha256")),
            fetched=(_count(fetched.get("bytes")) or 0) if isinstance(fetched, Mapping) else 0,
            error=line(value.get("error"), "it gave no reason") if failed else None,
            missed=value.get("sif_cache") == "miss",
            made="" if failed else _made(name, value),
        )


@dataclass(frozen=True)
class Work:
    """What a host did: its ``images`` by their names, or why there is nothing of it to tell (``lost``).

    ``marks`` are those of some files of its inventory, as ``marks_of`` makes them.
    """

    images: dict[str, Image] = field(default_factory=dict)
    lost: str | None = None
    marks: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: Mapping[str, Any], names: Sequence[str]) -> Work:
        """Read the result of ``sregistry_pull``; nothing that is in it raises an exception.

        :param names: which the task was given, in their order.
        """
        if result.get("unreachable"):
            return cls(lost=unreachable(result))
        if result.get("skipped"):
            return cls()
        images = result.get("images")
        if not isinstance(images, Sequence) or isinstance(images, str):
            return cls(lost=_why(result))
        if len(images) != len(names):
            return cls(lost=f"its result tells of {len(images)} images, and it was asked for {len(names)}")
        try:
            sizes = _sizes(result.get("diff"))
            told_images = {name: Image.of(name, image, sizes) for name, image in zip(names, images)}
            return cls(told_images, marks=tuple(marks_of(result)[:_MARKS]))
        except ValueError as error:
            return cls(lost=f"its result cannot be read: {error}")

    @property
    def useless(self) -> bool:
        """Whether not a single image is in its place."""
        return self.lost is not None or (bool(self.images) and all(one.error for one in self.images.values()))


def marks_of(result: Mapping[str, Any]) -> list[str]:
    """What tells the files of an inventory, by path and time in nanoseconds, from those of any other file system.

    :param result: of a module that tells of an inventory; nothing that is in it raises an exception.
    """
    facts = result.get("ansible_facts")
    inventory = facts.get("sregistry") if isinstance(facts, Mapping) else None
    rows = inventory.get("images") if isinstance(inventory, Mapping) else None
    files = [
        f"{row['mtime_ns']} {row['path']}"
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, Mapping) and isinstance(row.get("mtime_ns"), int) and isinstance(row.get("path"), str)
    ]
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16] for text in files]


def _made(name: str, value: Mapping[str, Any]) -> str:
    """How a new file came to be."""
    seconds = value.get("seconds")
    restored = isinstance(seconds, Mapping) and "restore" in seconds
    if value.get("changed") is not True or value["action"] not in _NEW_FILE or restored:
        return ""
    return FETCHED if value.get("sif_cache") == "hit" or name.startswith(_FINISHED) else BUILT


def _sizes(differences: Any) -> dict[str, int]:
    """By the name of an image, how much its layers are, which a result tells in diff mode only."""
    sizes = {}
    for one in differences if isinstance(differences, list) else []:
        after = one.get("after") if isinstance(one, Mapping) else None
        size = _count(after.get("size")) if isinstance(after, Mapping) else None
        if size is not None:
            sizes[str(one.get("after_header"))] = size
    return sizes


def _why(result: Mapping[str, Any]) -> str:
    """Why a result tells of no image."""
    said = line(result.get("msg"), "nothing is known of it: it failed or could not be reached before")
    if "module_stdout" not in result:
        return said
    # Ansible's own words are about JSON that it did not find.
    errors = str(result.get("module_stderr") or "").split("\n")
    if result.get("rc") in _KILLED or not (result.get("module_stdout") or any(map(str.strip, errors))):
        return "the module ended without a result: it was killed, maybe for lack of memory, or the host went down"
    last = next((text for text in reversed(errors) if text.strip()), "")
    return f"{said}: {line(last, '')}" if last else said


def line(value: Any, otherwise: str) -> str:
    """A message on one line, not longer than somebody reads."""
    return shown(" ".join(str(value or "").split()), _MAX_CAUSE) or otherwise


def unreachable(result: Mapping[str, Any]) -> str:
    """Why a host could not be reached, from the result of a task on it."""
    said = line(result.get("msg"), "it gave no reason")
    return f"unreachable: {said[len(_SAID) :] if said.startswith(_SAID) else said}"


def inert(value: Any) -> Any:
    """A text that Ansible before 2.19 takes for no template, which another host could have written."""
    return re.sub(r"\{(?=[{%#])", "{ ", value) if isinstance(value, str) else value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT else None


def _digest(value: Any) -> str | None:
    try:
        return check_digest(value) if isinstance(value, str) else None
    except InvalidReference:
        return None


def told(name: str) -> str:
    """A name as it may be shown: the query of a web address may be a secret."""
    return _QUERY.sub("", name) if name.startswith(WEB) else name
