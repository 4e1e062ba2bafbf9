# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store: where the file of an image lies, and whether a file is still what the inventory says."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from urllib.parse import unquote

from ..errors import StorageError
from ..fs.digest import matches
from ..fs.files import storage_error
from ..late import importing
from ..oci.reference import Reference
from ..sif.formats import is_sandbox

PRESENT, MISSING, MODIFIED = "present", "missing", "modified"

_SIF = ".sif"
_MAX_FILE_NAME = 255  # bytes, on all usual file systems
_UNFIT = re.compile(r"[^A-Za-z0-9._+=~-]")


def file_name(reference: Reference) -> str:
    """Return the path of an image's file below a store, relative and with no colon: ``library/ubuntu-22.04.sif``.

    A last component that is too long for a file system is cut and ends in a hash.
    """
    if reference.from_web:
        return _file_name_of_web(reference)
    path = reference.path.replace(":", "_").replace("[", "").replace("]", "")
    parent, slash, name = path.rpartition("/")
    name = f"{name}-{reference.selector.replace(':', '-')}{_SIF}"
    if len(name) > _MAX_FILE_NAME:
        name = f"{name[:180]}-{hashlib.sha256(reference.uri.encode()).hexdigest()}.sif"
    return parent + slash + name


def _file_name_of_web(reference: Reference) -> str:
    """Return ``host/path/name.sif``: nothing in it is hidden, leads elsewhere, or has to be quoted in a shell."""
    host = reference.registry.replace(":", "_").replace("[", "").replace("]", "")
    parts = [_UNFIT.sub("_", unquote(part)) for part in reference.repository.split("/")]
    parts = [f"_{part[1:]}" if part.startswith((".", "-")) else part for part in parts]
    name = parts.pop()
    name = name[: -len(_SIF)] if name.endswith(_SIF) else name
    name += f"-{reference.digest.replace(':', '-')}" if reference.digest else ""
    if max(map(len, [name, *parts])) > _MAX_FILE_NAME - len(_SIF):
        mark = hashlib.sha256(reference.uri.encode()).hexdigest()
        name, parts = f"{name[:180]}-{mark}", [part[:180] for part in parts]
    return "/".join([host, *parts, name + _SIF])


def place(storage: str, reference: Reference, dest: str | None = None, many: bool = False) -> str:
    """Return the absolute path of an image's file.

    :param storage: root of the store, used where no ``dest`` is given.
    :param dest: a file; or a directory for files, if it is one (and no sandbox), ends with a slash, or there are
        ``many`` images.
    :raises StorageError: if the path is not absolute.
    """
    if dest is None:
        path = os.path.join(storage, file_name(reference))
    elif many or dest.endswith("/") or (os.path.isdir(dest) and not is_sandbox(dest)):
        path = os.path.join(dest, os.path.basename(file_name(reference)))
    else:
        path = dest
    if not os.path.isabs(path):
        raise StorageError(f"{path!r} is no absolute path; write storage and dest with a leading '/'")
    return os.path.normpath(path)


def state(path: str, size: int, mtime_ns: int, sha256: str, checksum: bool) -> str:
    """Return whether a recorded file is there and unchanged, by size and mtime, or by its whole content.

    :param size: in bytes, as recorded; so are ``mtime_ns`` (ns since the epoch) and ``sha256`` (hexadecimal; empty for
        a directory, which is there to be changed).
    :param checksum: read all of it and compare its sha256; a changed mtime alone then does not matter.
    :returns: ``present``, ``missing`` or ``modified``.
    :raises StorageError: if it cannot be looked at.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # nobody may ever write to a pipe
            return PRESENT if stat.S_ISDIR(status.st_mode) and not sha256 else MODIFIED
        if not sha256 or status.st_size != size:
            return MODIFIED
        if not checksum:
            return PRESENT if status.st_mtime_ns == mtime_ns else MODIFIED
        with importing:
            from ..fs.permit import reading
        with reading(path, out=False) as held, open(held, "rb", opener=_at_once) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return MODIFIED
            return PRESENT if matches(stream, f"sha256:{sha256}") else MODIFIED
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError as error:
        raise storage_error(error, path) from error


def _at_once(path: str, flags: int) -> int:
    """Open a file that may be a pipe by now, which nobody writes to."""
    return os.open(path, flags | os.O_NONBLOCK)
