# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hashes of the rest of a stream, while it is copied, and of a whole file."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs.digest import (
    CHUNK,
    hash_of,
    matches,
    sha256_of,
)


@pytest.mark.parametrize("content", [b"", b"a", b"ab" * CHUNK])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_what_is_left_of_a_stream_is_hashed_and_copied(content: bytes, algorithm: str) -> None:
    stream, copy = io.BytesIO(b"before" + content), io.BytesIO()
    stream.seek(6)
    expected = hashlib.new(algorithm, content).hexdigest()
    assert hash_of(stream, algorithm, copy).hexdigest() == expected
    assert copy.getvalue() == content
    assert matches(io.BytesIO(content), f"{algorithm}:{expected}")
    assert not matches(io.BytesIO(content + b"."), f"{algorithm}:{expected}")


def test_a_file_is_hashed_or_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert sha256_of(str(path)) == hashlib.sha256(b"content").hexdigest()
    with pytest.raises(StorageError, match="absent"):
        sha256_of(str(tmp_path / "absent"))
