# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lock files, which people edit and merge: errors name path and line."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import yaml

from ....module_utils._internal.errors import InvalidPlatform, InvalidReference, SregistryError
from ....module_utils._internal.oci.pins import Pin, Pins
from ....module_utils._internal.oci.reference import Reference
from ....module_utils._internal.text import shown

IMAGES = "images"
"""The one key of a lock file."""

AGAIN = "write it again with the playbook hpc.sregistry.lock"

_NOTHING: tuple[Any, ...] = ("", "null", "~", [])
_CONFLICT = re.compile(r"<{7} |={7}$|>{7} ")
"""What git writes into a file that it could not merge."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class InvalidLock(SregistryError):
    """A lock file that cannot be relied on."""


@functools.lru_cache(maxsize=8)  # a role reads it for each host
def read_lock(text: str, path: str, registry: str) -> dict[str, Any]:
    """Return the entries of a lock file by name, as they are written there.

    :param path: of the file, for errors.
    :param registry: the host of names that name none.
    :raises InvalidLock: naming path and line, if it is not YAML, has a key twice, locks nothing, or pins a name to what
        is not a digest.
    """
    return _LockFile(path).entries(text, registry)


class _LockFile:
    """A lock file, whose errors name its path."""

    def __init__(self, path: str) -> None:
        self._path = path

    def entries(self, text: str, registry: str) -> dict[str, Any]:
        root = self._composed(text)
        if root is None:
            raise self._refused(f"it is empty; restore it, or remove it and {AGAIN}")
        if not isinstance(root, yaml.MappingNode):
            raise self._refused(f"it is not a dictionary with the key {IMAGES}; {AGAIN}", root)
        self._need_keys_once(root)
        images = None
        for key, value in root.value:
            if key.value != IMAGES:
                only = f"which has nothing but {IMAGES}; remove it, or name another file"
                raise self._refused(f"{shown(key.value)!r} is not a key of a lock file, {only}", key)
            images = value
        if images is not None and not isinstance(images, yaml.MappingNode) and images.value not in _NOTHING:
            raise self._refused(f"{IMAGES} is not a dictionary of names and their digests; {AGAIN}", images)
        if images is None or not isinstance(images, yaml.MappingNode) or not images.value:
            raise self._refused(
                f"{IMAGES} names no image, so that nothing is locked; restore it, or remove the file and {AGAIN}", root
            )
        found = self._constructed(images)
        self._need_pins(images, found, registry)
        return found

    def _composed(self, text: str) -> yaml.Node | None:
        try:
            # Before ansible-core 2.19, what a lookup reads is a subclass of str, and libyaml takes str itself only.
            root: yaml.Node | None = yaml.compose(str.__str__(text), Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            marked = next((at for at, line in enumerate(text.splitlines(), 1) if _CONFLICT.match(line)), None)
            if marked:
                raise InvalidLock(
                    f"{self._path}, line {marked}: a merge left its conflict marks; keep one side, or {AGAIN}"
                ) from error
            mark = error.problem_mark or error.context_mark
            place = f", line {mark.line + 1}" if mark else ""
            raise InvalidLock(f"{self._path}{place}: it is not YAML, {error.problem}; mend or restore it") from error
        except yaml.YAMLError as error:
            why = getattr(error, "reason", error)  # of a character that YAML forbids, for which there is no line
            raise InvalidLock(f"{self._path}: it is not YAML, {why}; mend or restore it") from error
        return None if isinstance(root, yaml.ScalarNode) and root.value in _NOTHING else root

    def _need_keys_once(self, root: yaml.Node) -> None:
        for mapping in _mappings(root, set()):
            keys: dict[str, yaml.Node] = {}
            for key, _value in mapping.value:
                first = keys.setdefault(str(key.value), key)
                if first is not key:
                    line = first.start_mark.line + 1
                    raise self._refused(f"{shown(key.value)!r} stands in line {line} already; keep one", key)

    def _constructed(self, images: yaml.MappingNode) -> dict[str, Any]:
        loader = _Loader("")
        try:
            found = loader.construct_document(images)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or images.start_mark
            raise InvalidLock(f"{self._path}, line {mark.line + 1}: {error.problem}; mend or restore it") from error
        finally:
            loader.dispose()
        return {str(name): entry for name, entry in found.items()}

    def _need_pins(self, images: yaml.MappingNode, found: dict[str, Any], registry: str) -> None:
        """Raise unless each name means an image, and is pinned to a digest, the same one in each of its spellings."""
        first: dict[Reference, tuple[yaml.Node, Pin]] = {}
        for key, _value in images.value:
            try:
                ((reference, pin),) = Pins.parse({key.value: found.get(str(key.value))}, registry).pins.items()
            except (InvalidReference, InvalidPlatform) as error:
                raise self._refused(re.sub("^digests[:,] ", "", str(error)), key) from error
            other, pinned = first.setdefault(reference, (key, pin))
            if pinned != pin:
                line = other.start_mark.line + 1
                raise self._refused(f"{reference} is pinned to something else in line {line}; keep one", key)

    def _refused(self, why: str, node: yaml.Node | None = None) -> InvalidLock:
        place = f", line {node.start_mark.line + 1}" if node is not None else ""
        return InvalidLock(f"{self._path}{place}: {why}")


def _mappings(node: yaml.Node, seen: set[int]) -> Iterator[yaml.MappingNode]:
    """Yield all dictionaries of a document; those that an alias names again only once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
        for key, value in node.value:
            yield from _mappings(key, seen)
            yield from _mappings(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _mappings(value, seen)
