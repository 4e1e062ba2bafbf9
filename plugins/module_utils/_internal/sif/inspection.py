# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The attributes of an image, as ``apptainer inspect --all`` shows it, without running the engine.

The engine wrote it into a SIF as data. Of a sandbox, the engine reads it from files each time (``inspect.go`` of
apptainer/apptainer), and follows symlinks on the host there. Here, a link is followed as the container would see it:
so a sandbox cannot show a file of the host to whoever inspects it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from ..errors import InvalidImage, InvalidSif
from . import container
from .formats import is_sandbox

_METADATA = "inspect-metadata.json"
_MAX_METADATA = 16 * 1024 * 1024  # bytes
_MAX_LINKS = 40  # followed for one path, as Linux does
_MAX_NAMES = 10_000  # in one directory
_FILES = {"runscript": "runscript", "startscript": "startscript", "test": "test", "helpfile": "runscript.help"}
_ENVIRONMENT, _DOCKER = "9*-environment.sh", "10-docker*.sh"


def inspect(path: str) -> dict[str, Any]:
    """Return the attributes of an image: its labels, scripts and environment, its definition, its applications.

    :param path: a SIF or a sandbox.
    :raises InvalidSif, InvalidImage: if it is neither, or damaged.
    :raises OSError: if it cannot be read.
    """
    if not os.path.isdir(path):
        return _of_sif(path)
    if not is_sandbox(path):
        raise InvalidImage("it is a directory, and not a sandbox")
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _Sandbox(root).attributes()
    finally:
        os.close(root)


def _of_sif(path: str) -> dict[str, Any]:
    """Read the attributes as data: of a file that someone has replaced, the engine would start what is in it."""
    content = container.read_object(path, _METADATA, _MAX_METADATA)
    try:
        attributes = json.loads(content or b"")["data"]["attributes"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidSif(f"it holds no sound {_METADATA}") from error
    return dict(attributes) if isinstance(attributes, dict) else {}


class _Sandbox:
    """The metadata in the files of one sandbox."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._left = _MAX_METADATA

    def attributes(self) -> dict[str, Any]:
        found = self._described(".singularity.d", (_DOCKER, _ENVIRONMENT))
        found.update(self._text(".singularity.d/Singularity", "deffile"))
        apps = {
            name: self._described(f"scif/apps/{name}/scif", (_ENVIRONMENT,))
            for name in self._names("scif/apps")
            if self._is_directory(f"scif/apps/{name}/scif")
        }
        return {**found, "apps": apps} if apps else found

    def _described(self, directory: str, patterns: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, name in _FILES.items():
            found.update(self._text(f"{directory}/{name}", key))
        for text in self._text(f"{directory}/labels.json", "labels").values():
            labels = _labels(text)
            if labels is not None:
                found["labels"] = labels
        environment: dict[str, str] = {}
        for name in self._names(f"{directory}/env"):
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                environment.update(self._text(f"{directory}/env/{name}", f"/{directory}/env/{name}"))
        return {**found, "environment": environment} if environment else found

    def _text(self, path: str, key: str) -> dict[str, str]:
        """Return the text of a regular file, without the last ends of lines, under a key; nothing if there is none."""
        with self._opened(path) as descriptor:
            if descriptor is None or not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return {}
            with os.fdopen(os.dup(descriptor), "rb") as stream:
                content = stream.read(self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise InvalidImage(f"its metadata is larger than {_MAX_METADATA >> 20} MiB")
        text = content.decode("utf-8", "replace").rstrip("\n")
        return {key: text} if text else {}

    def _names(self, path: str) -> list[str]:
        with self._opened(path) as descriptor:
            if descriptor is None or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                return []
            return sorted(os.listdir(descriptor))[:_MAX_NAMES]

    def _is_directory(self, path: str) -> bool:
        with self._opened(path) as descriptor:
            return descriptor is not None and stat.S_ISDIR(os.fstat(descriptor).st_mode)

    @contextmanager
    def _opened(self, path: str) -> Iterator[int | None]:
        """Open what lies at a path of the container, for a block; None if there is nothing, or an endless symlink."""
        trail = [os.dup(self._root)]
        try:
            yield trail[-1] if self._walk(trail, path.split("/")) else None
        finally:
            _close(trail, 0)

    @staticmethod
    def _walk(trail: list[int], names: list[str]) -> bool:
        """Open one name after the other, each from the descriptor of the one before, and never above the first.

        Nothing is opened but directories, regular files, and what symlinks lead to.
        """
        todo = names[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                _close(trail, max(1, len(trail) - 1))
            if name in ("", ".", ".."):
                continue
            try:
                mode = os.stat(name, dir_fd=trail[-1], follow_symlinks=False).st_mode
                if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                    trail.append(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=trail[-1]))
                    continue
                target = os.readlink(name, dir_fd=trail[-1]) if stat.S_ISLNK(mode) else ""
            except (FileNotFoundError, NotADirectoryError):
                return False
            links += 1
            if not target or links > _MAX_LINKS:
                return False
            if target.startswith("/"):
                _close(trail, 1)
            todo += target.split("/")[::-1]
        return True


def _close(trail: list[int], length: int) -> None:
    """Close the last descriptors, so that this many are left."""
    while len(trail) > length:
        os.close(trail.pop())


def _labels(text: str) -> dict[str, str] | None:
    """Return the labels of a document; None if it is not one of texts by name, which the engine leaves out as well."""
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(labels, dict) or not all(isinstance(value, (str, type(None))) for value in labels.values()):
        return None
    return {name: value or "" for name, value in labels.items()}
