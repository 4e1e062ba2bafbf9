# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Digests of what streams and files hold: ``ALGORITHM:HEXADECIMAL``, as the OCI image specification (descriptor.md)
writes them.
"""

from __future__ import annotations

import hashlib
from typing import IO

from .files import storage_error

CHUNK = 1024 * 1024  # bytes that are read at once


def hash_of(stream: IO[bytes], algorithm: str = "sha256", copy: IO[bytes] | None = None) -> hashlib._Hash:
    """Return the hash of what is left of a stream.

    :param copy: is written all that is read.
    :raises OSError: if it cannot be read, or the copy not be written.
    """
    hasher = hashlib.new(algorithm)
    for chunk in iter(lambda: stream.read(CHUNK), b""):
        hasher.update(chunk)
        if copy:
            copy.write(chunk)
    return hasher


def matches(stream: IO[bytes], digest: str) -> bool:
    """Tell whether what is left of a stream has a digest.

    :raises OSError: if it cannot be read.
    """
    algorithm, _colon, encoded = digest.partition(":")
    return hash_of(stream, algorithm).hexdigest() == encoded


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    :raises StorageError: if it cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return hash_of(stream).hexdigest()
    except OSError as error:
        raise storage_error(error, path) from error
