# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading layers: every compression, by every decoder that is here, whole and damaged."""

from __future__ import annotations

import builtins
import gzip
import io
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from types import ModuleType
from typing import IO, Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidLayer
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers import compression
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.compression import decompressed

CONTENT = Random(3).randbytes(300_000) + bytes(9_000_000) + b"the end"
SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"12345"

Open = Callable[[bytes], IO[bytes]]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Open bytes as a layer."""

    def open_layer(data: bytes) -> IO[bytes]:
        path = tmp_path / "layer"
        path.write_bytes(data)
        return decompressed(path.open("rb"), "the layer")

    return open_layer


def gzipped(content: bytes, **how: Any) -> bytes:
    """Return one gzip member."""
    return gzip.compress(content, mtime=0, **how)


def zstd(content: bytes, *options: str) -> bytes:
    """Return one zstd frame, made by the program."""
    program = shutil.which("zstd")
    if not program:
        pytest.skip("there is no zstd here to make frames with; install the package zstd")
    return subprocess.run([program, "-qc", *options], input=content, capture_output=True, check=True).stdout


# gzip


@pytest.fixture(params=["zlib", "isal"])
def gzip_decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read gzip by one of the libraries."""
    module: ModuleType = zlib
    if request.param == "isal":
        module = pytest.importorskip(
            "isal.isal_zlib", reason="isal is not installed here; tests/requirements.txt has it"
        )
    monkeypatch.setattr(compression, "_gzip_module", module)


_NAMED, _REST = b"\x1f\x8b\x08\x08\0\0\0\0\0\xff", b"\0" + gzipped(b"abc")[10:]  # before and after a name in a header
GZIPPED: Mapping[str, tuple[bytes, bytes]] = {
    "one member": (gzipped(CONTENT), CONTENT),
    "fast": (gzipped(CONTENT, compresslevel=1), CONTENT),
    "stored": (gzipped(CONTENT, compresslevel=0), CONTENT),
    "two members": (gzipped(CONTENT[:1000]) + gzipped(CONTENT[1000:]), CONTENT),
    "many members": (b"".join(gzipped(CONTENT[n * 1000 : n * 1000 + 1000]) for n in range(200)), CONTENT[:200_000]),
    "an empty member between": (gzipped(b"a") + gzipped(b"") + gzipped(b"b"), b"ab"),
    "empty": (gzipped(b""), b""),
    "zeros after it": (gzipped(CONTENT) + bytes(5000), CONTENT),
    "many zeros after it": (gzipped(CONTENT) + bytes(3 << 20), CONTENT),
    "zeros between": (gzipped(b"a") + bytes(512) + gzipped(b"b"), b"ab"),
    "many zeros between": (gzipped(b"a") + bytes(3 << 20) + gzipped(b"b"), b"ab"),
    "something else after it": (gzipped(CONTENT) + b"\0\0garbage that is longer than a header", CONTENT),
    "a little after it": (gzipped(CONTENT) + b"\n", CONTENT),
    "something after many zeros": (gzipped(CONTENT) + bytes(3 << 20) + b"x" + gzipped(b"no more"), CONTENT),
    "a member in what is none": (gzipped(CONTENT) + b"x" * (3 << 20) + gzipped(b"no more"), CONTENT),
    "a magic in two reads": (_NAMED.ljust(compression.CHUNK - 1 - len(_REST), b"n") + _REST + gzipped(b"c"), b"abcc"),
    "a name in the header": (_NAMED + b"name" + _REST, b"abc"),
}


@pytest.mark.usefixtures("gzip_decoder")
@pytest.mark.parametrize(("data", "content"), GZIPPED.values(), ids=GZIPPED.keys())
def test_gzip_is_read(data: bytes, content: bytes, opened: Open) -> None:
    with opened(data) as stream:
        assert stream.read() == content


@pytest.mark.usefixtures("gzip_decoder")
@pytest.mark.parametrize("size", [1, 511, 512, 10_000_000])
def test_a_read_never_gives_more_than_was_asked_for(size: int, opened: Open) -> None:
    content = CONTENT[-2000:] if size == 1 else CONTENT
    pieces = []
    with opened(gzipped(content)) as stream:
        while piece := stream.read(size):
            pieces.append(piece)
    assert max(map(len, pieces)) <= size
    assert b"".join(pieces) == content


@pytest.mark.usefixtures("gzip_decoder")
def test_a_little_data_that_becomes_much_is_not_held_in_memory_at_once(opened: Open) -> None:
    with opened(gzipped(bytes(200 << 20))) as stream:
        largest = total = 0
        while piece := stream.read(1 << 30):
            largest, total = max(largest, len(piece)), total + len(piece)
    assert total == 200 << 20
    assert largest <= 4 << 20


_MEMBER = gzipped(CONTENT)
DAMAGED_GZIP: Mapping[str, tuple[bytes, str]] = {
    "only the magic": (b"\x1f\x8b", "cut off"),
    "header alone": (_MEMBER[:10], "cut off"),
    "half": (_MEMBER[: len(_MEMBER) // 2], "cut off"),
    "no checksum": (_MEMBER[:-8], "cut off"),
    "a byte less": (_MEMBER[:-1], "cut off"),
    "the second member cut": (gzipped(b"a") + _MEMBER[:1000], "cut off"),
    "a wrong checksum": (_MEMBER[:-8] + b"\0\0\0\0" + _MEMBER[-4:], "damaged"),
    "a wrong length": (_MEMBER[:-4] + b"\0\0\0\0", "damaged"),
    "an unknown method": (b"\x1f\x8b\x07" + _MEMBER[3:], "damaged"),
    "a second header alone": (_MEMBER + _MEMBER[:10], "cut off"),
    "a damaged member after it": (_MEMBER + b"\0\0\x1f\x8b\x07 and more than a header", "damaged"),
}


@pytest.mark.usefixtures("gzip_decoder")
@pytest.mark.parametrize(("data", "said"), DAMAGED_GZIP.values(), ids=DAMAGED_GZIP.keys())
def test_damaged_gzip_is_reported(data: bytes, said: str, opened: Open) -> None:
    with pytest.raises(InvalidLayer, match=f"the layer is {said}"), opened(data) as stream:
        stream.read()


@pytest.mark.usefixtures("gzip_decoder")
def test_a_flipped_bit_anywhere_is_reported(opened: Open) -> None:
    data = gzipped(CONTENT[:2000])
    for position in range(15, len(data), 97):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(InvalidLayer), opened(bytes(damaged)) as stream:
            stream.read()


# zstd

LIBRARIES = ("compression.zstd", "zstandard")


def _hide(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> None:
    """Let the import of some modules fail."""
    real = builtins.__import__

    def importing(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        wanted = {name, *(f"{name}.{part}" for part in fromlist or ())}
        if level == 0 and wanted & set(names):
            raise ImportError(name)
        return real(name, globals, locals, fromlist or (), level)

    monkeypatch.setattr(builtins, "__import__", importing)


@pytest.fixture(params=[*LIBRARIES, "the program"])
def zstd_decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read zstd by one of the decoders."""
    if request.param == "compression.zstd" and sys.version_info < (3, 14):
        pytest.skip("compression.zstd is part of Python from 3.14 on")
    if request.param == "zstandard":
        pytest.importorskip("zstandard", reason="zstandard is not installed here; tests/requirements.txt has it")
    if request.param == "the program" and not shutil.which("zstd"):
        pytest.skip("there is no program zstd here; install the package zstd")
    _hide(monkeypatch, [name for name in LIBRARIES if name != request.param])


ZSTD: Mapping[str, tuple[Callable[[], bytes], bytes]] = {
    "one frame": (lambda: zstd(CONTENT), CONTENT),
    "best": (lambda: zstd(CONTENT, "-19"), CONTENT),
    "no checksum": (lambda: zstd(CONTENT, "--no-check"), CONTENT),
    "two frames": (lambda: zstd(CONTENT[:1000]) + zstd(CONTENT[1000:]), CONTENT),
    "many frames": (lambda: zstd(CONTENT[:100]) * 200, CONTENT[:100] * 200),
    "a skippable frame first": (lambda: SKIPPABLE + zstd(CONTENT), CONTENT),
    "a skippable frame between": (lambda: zstd(b"a") + SKIPPABLE + zstd(b"b"), b"ab"),
    "a skippable frame last": (lambda: zstd(CONTENT) + SKIPPABLE, CONTENT),
    "a long window": (lambda: zstd(CONTENT, "--long=29"), CONTENT),
    "empty": (lambda: zstd(b""), b""),
}


@pytest.mark.usefixtures("zstd_decoder")
@pytest.mark.parametrize(("data", "content"), ZSTD.values(), ids=ZSTD.keys())
def test_zstd_is_read(data: Callable[[], bytes], content: bytes, opened: Open) -> None:
    with opened(data()) as stream:
        assert stream.read() == content


DAMAGED_ZSTD: Mapping[str, Callable[[bytes], bytes]] = {
    "only the magic": lambda frame: frame[:4],
    "half": lambda frame: frame[: len(frame) // 2],
    "a byte less": lambda frame: frame[:-1],
    "the second frame cut": lambda frame: frame + frame[:1000],
    "a flipped bit": lambda frame: frame[:1000] + bytes([frame[1000] ^ 1]) + frame[1001:],
    "something else after it": lambda frame: frame + b"garbage that is longer than a header",
}


@pytest.mark.usefixtures("zstd_decoder")
@pytest.mark.parametrize("damage", DAMAGED_ZSTD.values(), ids=DAMAGED_ZSTD.keys())
def test_damaged_zstd_is_reported(damage: Callable[[bytes], bytes], opened: Open) -> None:
    with (
        pytest.raises(InvalidLayer, match=r"the layer is (damaged|cut off)"),
        opened(damage(zstd(CONTENT))) as stream,
    ):
        stream.read()


def test_zstd_without_a_decoder_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    source = io.BytesIO(b"\x28\xb5\x2f\xfd")
    _hide(monkeypatch, LIBRARIES)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InvalidLayer, match=r"the layer is compressed with zstd.*install the package zstd"):
        decompressed(source, "the layer")


@pytest.mark.usefixtures("zstd_decoder")
def test_a_reader_that_is_closed_early_leaves_no_process(opened: Open) -> None:
    stream = opened(zstd(CONTENT))
    assert stream.read(10) == CONTENT[:10]
    process: subprocess.Popen[bytes] | None = getattr(stream, "_process", None)
    stream.close()
    assert process is None or process.poll() is not None


# Everything else


@pytest.mark.parametrize(
    "content", [b"", b"\x1f", b"ustar", b"BZh9", CONTENT], ids=["empty", "a byte", "tar", "bzip2", "long"]
)
def test_what_is_not_compressed_is_read_as_it_is(content: bytes, opened: Open) -> None:
    with opened(content) as stream:
        assert stream.read() == content


@pytest.mark.usefixtures("zstd_decoder")
@pytest.mark.parametrize("kind", ["gzip", "zstd", "plain"])
def test_the_source_is_closed_with_the_reader(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(gzipped(b"content") if kind == "gzip" else zstd(b"content") if kind == "zstd" else b"content")
    source = path.open("rb")
    with decompressed(source, "the layer") as stream:
        assert stream.read(3) == b"con"
    assert source.closed
