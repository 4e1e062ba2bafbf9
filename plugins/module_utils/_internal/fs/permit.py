# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that root may read out, change, remove or move, where other users could have named or placed them.

What a document of the inventory names is the word of whoever could write the document. Outside of the store, root
touches only that user's own files for it. A file with a second name that nobody knows may be any file of the host.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import StorageError
from .guard import (
    ANYBODY,
    ENTRY,
    FILE,
    MAX_LINKS,
    ROOT,
    Way,
    foreign,
    held_descriptor,
    is_below,
    is_roots_link,
    leads_home,
    looked_at,
    reached,
    safe_path,
    writers,
)


@contextmanager
def reading(path: str, base: str = "", word: int = ROOT, out: bool = True) -> Iterator[str]:
    """Hold a file for reading, for a block; gives the path to read it by, which means this very file.

    :param base: a store; below it no other user's symlink counts.
    :param word: whose word the path is.
    :param out: somebody is shown what is in it, or gets a copy.
    :raises OSError: if it cannot be opened.
    :raises StorageError: if it may be a file that whoever could have named or placed it cannot read.
    """
    if os.geteuid() != ROOT or held_descriptor(path) is not None:
        yield path
        return
    descriptor, exposed = _opened(path, base, MAX_LINKS, word if out else None)
    try:
        with safe_path(descriptor, path, exposed) as held:
            yield held
    finally:
        os.close(descriptor)


def need_meant(path: str, base: str, word: int, what: str) -> None:
    """Refuse to take away or move what a document names, if whoever could write the document could not do it himself.

    :param path: what it names; it need not be there.
    :param base: the store. What lies there may be taken away.
    :param word: whose word the document is.
    :param what: names the document, and the way out, in errors.
    :raises StorageError: naming the path.
    """
    if os.geteuid() != ROOT:
        return
    inside = is_below(path, base)
    try:
        with reached(os.path.dirname(path), base if inside else "") as place:
            status = os.lstat(os.path.join(place, os.path.basename(path)))
    except OSError:
        return  # there is nothing, or nothing that could be reached
    if not inside and word not in (ROOT, status.st_uid):
        raise StorageError(
            f"{path} belongs to the user {status.st_uid} and lies outside of {base}, and {_name(word)} could have "
            f"written its name into {what}"
        )


@contextmanager
def changing(path: str, kept: str = "") -> Iterator[int | None]:
    """Hold a file or directory whose owner and mode are to be changed; gives a descriptor for that. It gives None where
    its path serves as well: nobody could put another file there, or this is not root.

    :param kept: another name that the file may have.
    :raises OSError: if it cannot be opened.
    :raises StorageError: if it may be a file from elsewhere, to which somebody gave a second name here.
    """
    if os.geteuid() != ROOT:
        yield None
        return
    way = Way(os.path.dirname(path))
    place = way.to()
    try:
        holder = looked_at(place)
        if not way.exposed and not writers(holder, groups=True, adding=True):
            yield None
            return
        descriptor = os.open(os.path.basename(path), FILE, dir_fd=place)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and _is_strange(status, holder, 1 + _is_at(kept, status)):
                raise StorageError(
                    f"{path} has {status.st_nlink} names and belongs to the user {status.st_uid}, so it may be a file "
                    "from elsewhere: its owner and mode are not changed; remove it, or look what it is and set them "
                    "with ansible.builtin.file"
                )
            yield descriptor
        finally:
            os.close(descriptor)
    finally:
        os.close(place)


def _opened(path: str, base: str, links: int, word: int | None) -> tuple[int, bool]:
    """Return a file for reading, as ``reading`` allows it, and whether another one could come in its place.

    :param word: None if nothing of the file is shown.
    """
    inside = is_below(path, base)
    way = Way(os.path.dirname(path))
    place = way.to(base if inside else "")
    name = os.path.basename(path)
    try:
        holder = looked_at(place)
        try:
            descriptor = os.open(name, FILE, dir_fd=place)
        except OSError as error:
            if error.errno != errno.ELOOP or not links:
                raise
            link = os.open(name, ENTRY, dir_fd=place)
            try:
                status, target = os.fstat(link), os.readlink("", dir_fd=link)
            finally:
                os.close(link)
            there = os.path.join(os.path.dirname(path), target)
            descriptor, _exposed = _opened(there, base if is_below(there, base) else "", links - 1, word)
            if not is_roots_link(status, holder) and not leads_home(status, os.fstat(descriptor)):
                os.close(descriptor)
                raise foreign(path, name, target, status) from error
            return descriptor, True
    finally:
        os.close(place)
    status = os.fstat(descriptor)
    readable = status.st_mode & stat.S_IROTH and (way.public or inside)
    # who may write there by a group may read what that group may read
    readable = readable or (status.st_mode & stat.S_IRGRP and ROOT != status.st_gid == holder.st_gid)
    open_to_others = way.exposed or bool(writers(holder, groups=True, adding=True))
    planted = open_to_others and _is_strange(status, holder, 1)
    if word is not None and not readable and (planted if inside or word == ROOT else word != status.st_uid):
        os.close(descriptor)
        raise StorageError(
            f"{path} belongs to the user {status.st_uid}, not everybody may read it, and another user could have named "
            "it or put it there, so root does not read it out; look what it is, and copy it to where only root writes"
        )
    return descriptor, way.exposed or open_to_others  # in /tmp, who owns a file may put another one there


def _is_strange(file: os.stat_result, holder: os.stat_result, names: int) -> bool:
    """Tell whether a file has more names than are known, and is not one of the owner of the directory that it is in."""
    return file.st_nlink > names and (file.st_uid == ROOT or file.st_uid != holder.st_uid)


def _is_at(path: str, status: os.stat_result) -> bool:
    try:
        return bool(path) and os.path.samestat(os.lstat(path), status)
    except OSError:
        return False


def _name(word: int) -> str:
    return "several users" if word == ANYBODY else f"the user {word}"
