# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of one host: of ``sregistry_pull``, ``sregistry_info`` and ``sregistry_remove``.

They are parsed here, once. Hosts are not trusted: nothing in a result raises an exception, and what one host returns
can spoil its own row only.
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
"""How a new file came to a host."""

WEB = ("https://", "http://")
_FINISHED = (*WEB, "oras://")
_NEW_FILE = ("pulled", "rebuilt", "repaired")

_KEPT = "kept"  # what sregistry_remove says of an image that stays, as a symlink leads to its file
_PREFIX = "Task failed: "  # Ansible puts it before the reason
_MAX_CAUSE = 2000
_MAX_NAME = 1000
_KILLED = (137, 143, -9, -15)  # exit statuses after SIGKILL and SIGTERM, as a shell and as Python tell them
_MAX_MARKS = 20
_MAX_COUNT = 2**63 - 1
_QUERY = re.compile(r"[?#].*?(?=(?:@sha(?:256|512):[0-9a-f]+)?\Z)", re.DOTALL)


@dataclass(frozen=True)
class ImageResult:
    """The result for one image, as a host returned it.

    :ivar name: as the task was given it.
    :ivar size, fetched: in bytes.
    :ivar missed: the cache of finished files did not have it.
    :ivar made: ``BUILT`` or ``FETCHED``; empty for a file that is not new, or came back from the cache of the host.
    """

    name: str
    reference: str
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
    def of(cls, name: str, value: Any, sizes: Mapping[str, int] | None = None) -> ImageResult:
        """Read one entry of the result of ``sregistry_pull``.

        :param sizes: by canonical name, the size of the layers of an image that has no file yet.
        :raises ValueError: if it is not such an entry.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("action"), str):
            raise ValueError("an image without an action")
        failed = value["action"] == FAILED or value.get("error") is not None
        fetched = value.get("fetched")
        return cls(
            name=name,
            reference=shown(_text(value.get("reference")) or without_query(name), _MAX_NAME),
            action=shown(value["action"], 40),
            changed=value.get("changed") is True,
            platform=_text(value.get("platform")) or "",
            digest=_digest(value.get("digest")),
            manifest_digest=_digest(value.get("manifest_digest")),
            path=_text(value.get("path")),
            size=_count(value.get("size")) or (sizes or {}).get(str(value.get("reference"))),
            sha256=_text(value.get("sha256")),
            fetched=(_count(fetched.get("bytes")) or 0) if isinstance(fetched, Mapping) else 0,
            error=one_line(value.get("error"), "it gave no reason") if failed else None,
            missed=value.get("sif_cache") == "miss",
            made="" if failed else _made(name, value),
        )


@dataclass(frozen=True)
class PullResult:
    """The result of ``sregistry_pull`` on a host.

    :ivar images: by name.
    :ivar lost: why the result tells of no image; None if it does.
    :ivar marks: of some files of the inventory, as ``_marks_of`` makes them.
    :ivar idle: the host had nothing to do, or has no result.
    :ivar store: the directory of the images; empty if it is not known.
    """

    images: Mapping[str, ImageResult] = field(default_factory=dict)
    lost: str | None = None
    marks: tuple[str, ...] = ()
    idle: bool = False
    unreachable: bool = False
    store: str = ""

    @classmethod
    def of(cls, result: Mapping[str, Any], names: Sequence[str]) -> PullResult:
        """Read a result, which may be empty.

        :param names: as the task was given them, in their order.
        """
        if result.get("unreachable"):
            return cls(lost=_unreachable(result), unreachable=True)
        idle, store = not result or bool(result.get("skipped")), _store_of(result)
        if result.get("skipped"):
            return cls(idle=True, store=store)
        images = result.get("images")
        if not isinstance(images, Sequence) or isinstance(images, str):
            return cls(lost=_why(result), idle=idle, store=store)
        if len(images) != len(names):
            lost = f"its result tells of {len(images)} images, and it was asked for {len(names)}"
            return cls(lost=lost, store=store)
        try:
            sizes = _sizes(result.get("diff"))
            read = {name: ImageResult.of(name, image, sizes) for name, image in zip(names, images)}
        except ValueError as error:
            return cls(lost=f"its result cannot be read: {error}", store=store)
        return cls(read, marks=tuple(_marks_of(result)[:_MAX_MARKS]), store=store)

    @property
    def useless(self) -> bool:
        """True if not a single image is in its place."""
        return self.lost is not None or (bool(self.images) and all(one.error for one in self.images.values()))


@dataclass(frozen=True)
class StoreRow:
    """A file in the inventory of a host that shares a store."""

    reference: str | None = None
    path: str | None = None
    sha256: str | None = None
    state: str | None = None

    @classmethod
    def of(cls, value: Any) -> StoreRow:
        """Read a row of ``sregistry_info``; an empty one stands for what cannot be read."""
        if not isinstance(value, Mapping):
            return cls()
        return cls(*(_text(value.get(key)) for key in ("reference", "path", "sha256", "state")))


@dataclass(frozen=True)
class StoreResult:
    """The result of ``sregistry_info`` on a host that looks at a store which another host fills.

    :ivar lost: why the host did not look; None if it did, or had nothing to do.
    :ivar marks: as in ``PullResult``, of all files.
    """

    rows: tuple[StoreRow, ...] = ()
    lost: str | None = None
    marks: frozenset[str] = frozenset()
    unreachable: bool = False
    store: str = ""

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> StoreResult:
        """Read a result, which may be empty."""
        rows = result.get("images")
        pull = PullResult.of(result, ())
        return cls(
            rows=tuple(map(StoreRow.of, rows)) if isinstance(rows, list) else (),
            lost=None if "images" in result else pull.lost,
            marks=frozenset(_marks_of(result)),
            unreachable=pull.unreachable,
            store=pull.store,
        )


@dataclass(frozen=True)
class RemovalResult:
    """The result of ``sregistry_remove`` on a host.

    :ivar removed: names of images, and paths of other files.
    :ivar kept: names of images that a symlink leads to.
    :ivar trouble: what went wrong; None if nothing did.
    """

    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    trouble: str | None = None
    unreachable: bool = False

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> RemovalResult:
        """Read a result, which may be empty."""
        if result.get("unreachable"):
            return cls(trouble=f"while images were to be removed: {_unreachable(result)}", unreachable=True)
        if not result or result.get("skipped"):
            return cls()
        images, swept = result.get("images"), result.get("swept")
        rows = [row for row in images if isinstance(row, Mapping)] if isinstance(images, list) else []
        removed = [row.get("reference") for row in rows if row.get("changed") is True]
        removed += swept if isinstance(swept, list) else []
        kept = [row.get("reference") for row in rows if row.get("action") == _KEPT]
        failed = not isinstance(images, list) or bool(result.get("msg"))
        trouble = one_line(result.get("msg"), "nothing is known of it") if failed else None
        return cls(_names_of(removed), _names_of(kept), trouble)


def _names_of(values: Sequence[Any]) -> tuple[str, ...]:
    """Return names or paths fit to be shown, each once."""
    return tuple(dict.fromkeys(shown(str(value), _MAX_NAME) for value in values))


def _inventory_of(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the facts about the inventory that a result has, or an empty mapping."""
    facts = result.get("ansible_facts")
    inventory = facts.get("sregistry") if isinstance(facts, Mapping) else None
    return inventory if isinstance(inventory, Mapping) else {}


def _store_of(result: Mapping[str, Any]) -> str:
    """Return the store, as a host tells it where its task did not fail."""
    found = _inventory_of(result).get("storage")
    return shown(found, _MAX_NAME) if isinstance(found, str) else ""


def _marks_of(result: Mapping[str, Any]) -> list[str]:
    """Return a mark for each file of an inventory, from its path and its time in nanoseconds.

    Marks of another file system are others, so they show whether two hosts share one.
    """
    rows = _inventory_of(result).get("images")
    files = [
        f"{row['mtime_ns']} {row['path']}"
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, Mapping) and isinstance(row.get("mtime_ns"), int) and isinstance(row.get("path"), str)
    ]
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16] for text in files]


def _made(name: str, value: Mapping[str, Any]) -> str:
    """Return how a new file came to be."""
    seconds = value.get("seconds")
    restored = isinstance(seconds, Mapping) and "restore" in seconds
    if value.get("changed") is not True or value["action"] not in _NEW_FILE or restored:
        return ""
    return FETCHED if value.get("sif_cache") == "hit" or name.startswith(_FINISHED) else BUILT


def _sizes(differences: Any) -> dict[str, int]:
    """Return by the name of an image the size of its layers, which a result tells in diff mode only."""
    sizes = {}
    for one in differences if isinstance(differences, list) else []:
        after = one.get("after") if isinstance(one, Mapping) else None
        size = _count(after.get("size")) if isinstance(after, Mapping) else None
        if size is not None:
            sizes[str(one.get("after_header"))] = size
    return sizes


def _why(result: Mapping[str, Any]) -> str:
    """Return why a result tells of no image."""
    said = one_line(result.get("msg"), "nothing is known of it: it failed or could not be reached before")
    if "module_stdout" not in result:
        return said
    # Ansible's own words are about JSON that it did not find.
    errors = str(result.get("module_stderr") or "").split("\n")
    if result.get("rc") in _KILLED or not (result.get("module_stdout") or any(map(str.strip, errors))):
        return "the module ended without a result: it was killed, maybe for lack of memory, or the host went down"
    last = next((text for text in reversed(errors) if text.strip()), "")
    return f"{said}: {one_line(last, '')}" if last else said


def _unreachable(result: Mapping[str, Any]) -> str:
    """Return why a host could not be reached, from the result of a task on it."""
    said = one_line(result.get("msg"), "it gave no reason")
    return f"unreachable: {said[len(_PREFIX) :] if said.startswith(_PREFIX) else said}"


def one_line(value: Any, otherwise: str) -> str:
    """Return a message on one line, of a length that people read."""
    return shown(" ".join(str(value or "").split()), _MAX_CAUSE) or otherwise


def without_templates(value: Any) -> Any:
    """Return a text in which Ansible before 2.19 finds no template: another host could have written one."""
    return re.sub(r"\{(?=[{%#])", "{ ", value) if isinstance(value, str) else value


def without_query(name: str) -> str:
    """Return a name as it may be shown: the query of a web address may be a secret."""
    return _QUERY.sub("", name) if name.startswith(WEB) else name


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT else None


def _digest(value: Any) -> str | None:
    try:
        return check_digest(value) if isinstance(value, str) else None
    except InvalidReference:
        return None
