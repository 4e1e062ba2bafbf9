# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The large image is what it says, also where its parts are stored and not compressed; its progress is checked."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from typing import Any

import pytest

from tests.bench.huge import check, sent
from tests.lab import huge, large
from tests.measure.command import Failed


@pytest.mark.parametrize("number", range(3))
def test_a_layer_is_gzip_of_the_tar_with_its_digest(number: int) -> None:
    layer = huge.layers(part=300)[number]
    blob = b"".join(layer.compressed())
    decoder = zlib.decompressobj(wbits=31)
    tar = decoder.decompress(blob)
    assert (decoder.eof, decoder.unused_data) == (True, b"")
    assert layer.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        files = [member for member in archive if member.isfile()]
        contents = [archive.extractfile(member).read() for member in files]  # type: ignore[union-attr]
    assert len(files) == [huge.FILES // 300, 1, 1][number]
    assert len(set(contents)) == len(files), "the packer would store equal files once"


def test_what_is_stored_and_what_is_compressed_stand_beside_each_other() -> None:
    pieces = [b"a" * 999, huge.Incompressible(b"b" * 70_000), huge.Incompressible(b"c"), b"", b"a" * 999, b"d"]
    blob = b"".join(huge.Mixed(pieces).compressed())
    assert zlib.decompress(blob, 31) == b"".join(pieces)
    assert 70_000 < len(blob) < 70_300


def test_the_largest_file_does_not_fit_the_digits_of_a_tar_header() -> None:
    head = large.new("weights", tarfile.REGTYPE, 0o644, huge.WEIGHTS * large.MEBIBYTE)
    assert head.size > 8 * 1024**3 - 1
    with pytest.raises(ValueError, match="overflow"):
        head.tobuf(tarfile.USTAR_FORMAT)


def state(fetched: int, read: int, to_fetch: int | None = 9) -> dict[str, Any]:
    return {"fetched": fetched, "to_fetch": to_fetch, "read": read, "to_read": 9}


@pytest.mark.parametrize(
    ("states", "why"),
    [
        ([state(0, 0), state(4, 0), state(9, 9)], ""),
        ([state(0, 0, None), state(4, 0, None)], ""),
        ([], ""),
        ([state(4, 0), state(3, 0)], "went back"),
        ([state(4, 5), state(4, 4)], "went back"),
        ([state(10, 0)], "more than there is"),
        ([state(4, 10)], "more than there is"),
    ],
)
def test_a_progress_that_cannot_be_true_is_no_measurement(states: list[dict[str, Any]], why: str) -> None:
    if not why:
        check(states)
        return
    with pytest.raises(Failed, match=why):
        check(states)


def test_what_a_registry_sent_is_in_its_log() -> None:
    line = '127.0.0.1 - - [01/Dec/2026:03:09:08 +0000] "{} /v2/{}/blobs/sha256:12 HTTP/1.1" {} {} "" "hpc.sregistry"\n'
    asked = [("GET", "bench/huge", 200, 7), ("GET", "bench/huge", 206, 80), ("GET", "bench/huge", 404, 900)]
    others = [("HEAD", "bench/huge", 200, 1000), ("GET", "bench/huge-tenth", 200, 10_000)]
    assert sent("".join(line.format(*each) for each in (*asked, *others)), "bench/huge") == 87
