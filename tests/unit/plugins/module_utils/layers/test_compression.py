# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading layers: every compression, by every decoder that is here, whole and damaged."""

from __future__ import annotations

import builtins
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from types import ModuleType
from typing import IO, Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidLayer
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers import inflate
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.compression import decompressed
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.decompressed_stream import (
    CHUNK,
    Decompressed,
    totals,
)

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


INFLATERS = ("zlib", "isal", "igzip", "rapidgzip")


@pytest.fixture(params=INFLATERS)
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read gzip by one of the decoders, whatever the size of the file."""
    name: str = request.param
    if name == "rapidgzip":
        pytest.importorskip("rapidgzip", reason="rapidgzip is not installed here; tests/requirements.txt has it")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})  # also where there is only one
        monkeypatch.setattr(inflate, "_WORTH_PROCESSORS", 0)
    if name == "igzip":
        if not shutil.which("igzip"):
            pytest.skip("there is no program igzip here; install the package isal (isa-l on Enterprise Linux)")
        monkeypatch.setattr(inflate, "_WORTH_A_PROGRAM", 0)
    module: ModuleType = zlib
    if name == "isal":
        module = pytest.importorskip(
            "isal.isal_zlib", reason="isal is not installed here; tests/requirements.txt has it"
        )
    monkeypatch.setattr(inflate, "_gzip_module", module)
    return name


_NAMED, _REST = b"\x1f\x8b\x08\x08\0\0\0\0\0\xff", b"\0" + gzipped(b"abc")[10:]  # before and after a name in a header
_FIELDS = b"\x1f\x8b\x08\x1e\0\0\0\0\0\xff\x04\0DATAname\0comment\0"  # all but FHCRC
_FLAGS = _FIELDS + (zlib.crc32(_FIELDS) & 0xFFFF).to_bytes(2, "little")
GZIPPED: Mapping[str, tuple[bytes, bytes]] = {
    "one member": (gzipped(CONTENT), CONTENT),
    "fast": (gzipped(CONTENT, compresslevel=1), CONTENT),
    "stored": (gzipped(CONTENT, compresslevel=0), CONTENT),
    "two members": (gzipped(CONTENT[:1000]) + gzipped(CONTENT[1000:]), CONTENT),
    "many members": (b"".join(gzipped(CONTENT[n * 1000 : n * 1000 + 1000]) for n in range(200)), CONTENT[:200_000]),
    "2,000 members": (b"".join(gzipped(CONTENT[n * 150 : n * 150 + 150]) for n in range(2000)), CONTENT[:300_000]),
    "2,000 members after a large one": (gzipped(CONTENT) + gzipped(b"ab") * 2000, CONTENT + b"ab" * 2000),
    "large members": (gzipped(CONTENT) * 3, CONTENT * 3),
    "an empty member after it": (gzipped(CONTENT) + gzipped(b""), CONTENT),
    "every field in the header": (_FLAGS + gzipped(CONTENT)[10:], CONTENT),
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
    "a magic in two reads": (_NAMED.ljust(CHUNK - 1 - len(_REST), b"n") + _REST + gzipped(b"c"), b"abcc"),
    "a name in the header": (_NAMED + b"name" + _REST, b"abc"),
}


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize(("data", "content"), GZIPPED.values(), ids=GZIPPED.keys())
def test_gzip_is_read(data: bytes, content: bytes, opened: Open) -> None:
    with opened(data) as stream:
        assert stream.read() == content


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize("size", [1, 511, 512, 10_000_000])
def test_a_read_never_gives_more_than_was_asked_for(size: int, opened: Open) -> None:
    content = CONTENT[-2000:] if size == 1 else CONTENT
    pieces = []
    with opened(gzipped(content)) as stream:
        while piece := stream.read(size):
            pieces.append(piece)
    assert max(map(len, pieces)) <= size
    assert b"".join(pieces) == content


@pytest.mark.usefixtures("inflater")
def test_a_little_data_that_becomes_much_is_not_held_in_memory_at_once(opened: Open) -> None:
    with opened(gzipped(bytes(200 << 20))) as stream:
        largest = total = 0
        while piece := stream.read(1 << 30):
            largest, total = max(largest, len(piece)), total + len(piece)
    assert total == 200 << 20
    assert largest <= 4 << 20


_MEMBER = gzipped(CONTENT)
_CUT = "the layer is cut off: the gzip stream has no end"
_INVALID = "the layer is damaged: its gzip stream is not valid"
DAMAGED_GZIP: Mapping[str, tuple[bytes, str]] = {
    "only the magic": (b"\x1f\x8b", _CUT),
    "header alone": (_MEMBER[:10], _CUT),
    "half": (_MEMBER[: len(_MEMBER) // 2], _CUT),
    "no checksum": (_MEMBER[:-8], _CUT),
    "a byte less": (_MEMBER[:-1], _CUT),
    "a large second member cut": (_MEMBER + _MEMBER[: len(_MEMBER) // 2], _CUT),
    "the second member cut": (gzipped(b"a") + _MEMBER[:1000], _CUT),
    "a wrong checksum": (_MEMBER[:-8] + b"\0\0\0\0" + _MEMBER[-4:], _INVALID),
    "a wrong length": (_MEMBER[:-4] + b"\0\0\0\0", _INVALID),
    "a flipped bit": (_MEMBER[:200_000] + bytes([_MEMBER[200_000] ^ 4]) + _MEMBER[200_001:], _INVALID),
    "a flipped bit early": (_MEMBER[:1000] + bytes([_MEMBER[1000] ^ 4]) + _MEMBER[1001:], _INVALID),
    "a wrong checksum of the header": (_FLAGS[:-1] + bytes([_FLAGS[-1] ^ 1]) + _MEMBER[10:], _INVALID),
    "an unknown method": (b"\x1f\x8b\x07" + _MEMBER[3:], _INVALID),
    "a second header alone": (_MEMBER + _MEMBER[:10], _CUT),
    "a damaged member after it": (_MEMBER + b"\0\0\x1f\x8b\x07 and more than a header", _INVALID),
}


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize(("data", "said"), DAMAGED_GZIP.values(), ids=DAMAGED_GZIP.keys())
def test_damaged_gzip_is_reported(data: bytes, said: str, opened: Open) -> None:
    with pytest.raises(InvalidLayer) as error, opened(data) as stream:
        stream.read()
    assert str(error.value) == said


@pytest.mark.usefixtures("inflater")
def test_a_flipped_bit_anywhere_is_reported(opened: Open) -> None:
    data = gzipped(CONTENT[:2000])
    for position in range(15, len(data), 97):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(InvalidLayer), opened(bytes(damaged)) as stream:
            stream.read()


Work = list[Decompressed]
Inflated = Callable[[bytes, "int | None", Work], IO[bytes]]


@pytest.fixture
def inflated(tmp_path: Path) -> Inflated:
    """Open bytes as a layer that some processors may inflate, with an account of who does."""

    def open_layer(data: bytes, processors: int | None, work: Work) -> IO[bytes]:
        path = tmp_path / "layer"
        path.write_bytes(data)
        return decompressed(path.open("rb"), "the layer", processors, work)

    return open_layer


def _names(work: Work) -> list[str]:
    return [each.decoder for each in work]


def test_the_account_names_who_inflated_how_much(inflater: str, inflated: Inflated) -> None:
    work: Work = []
    with inflated(_MEMBER, None, work) as stream:
        assert len(stream.read()) == len(CONTENT)
    assert [(each.decoder, each.bytes) for each in work] == [(inflater, len(CONTENT))]
    assert work[0].seconds > 0


def test_what_a_program_does_not_prove_is_read_again_and_told(inflater: str, inflated: Inflated) -> None:
    work: Work = []
    with inflated(_MEMBER + b"something else", None, work) as stream:
        assert stream.read() == CONTENT
    program = inflater in ("igzip", "rapidgzip")
    assert _names(work)[-1] == ("zlib" if program else inflater), "this one has the last word"
    assert work[-1].bytes == len(CONTENT)


@pytest.mark.parametrize("level", [1, 6])
def test_a_layer_of_real_files_is_the_same_by_each(level: int, inflater: str, inflated: Inflated) -> None:
    archive, work = io.BytesIO(), list[Decompressed]()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted(Path(os.__file__).parent.glob("[a-p]*.py")):
            tar.add(path, path.name)
    with inflated(gzipped(archive.getvalue(), compresslevel=level), None, work) as stream:
        assert stream.read() == archive.getvalue()
    assert _names(work) == [inflater]


def test_a_layer_of_what_cannot_be_compressed_is_inflated_by_each(inflater: str, inflated: Inflated) -> None:
    work, content = list[Decompressed](), Random(1).randbytes(3 << 20)
    with inflated(gzipped(content), None, work) as stream:
        assert stream.read() == content
    assert _names(work) == [inflater]


@pytest.mark.usefixtures("inflater")
def test_how_far_a_layer_was_read_only_grows_and_ends_at_its_size(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(gzipped(Random(1).randbytes(8 << 20), compresslevel=1))
    source, positions = path.open("rb"), [0]
    with decompressed(source, "the layer") as stream:
        while stream.read(1 << 20):
            positions.append(source.tell())
        positions.append(source.tell())
    assert positions == sorted(positions)
    assert positions[-1] == path.stat().st_size


@pytest.mark.usefixtures("inflater")
def test_a_reader_of_gzip_that_is_closed_early_leaves_no_process(inflated: Inflated) -> None:
    before = _children()
    stream = inflated(gzipped(CONTENT * 4), None, [])
    assert stream.read(10) == CONTENT[:10]
    stream.close()
    assert _children() <= before


def _children() -> set[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


@pytest.mark.parametrize("inflater", ["rapidgzip"], indirect=True)
def test_one_layer_at_a_time_is_inflated_by_several_processors(
    inflater: str, inflated: Inflated, tmp_path: Path
) -> None:
    works: list[Work] = [[], [], []]
    with inflated(_MEMBER, None, works[0]) as first:
        assert first.read(10) == CONTENT[:10]
        with decompressed((tmp_path / "layer").open("rb"), "another", None, works[1]) as second:
            assert second.read() == CONTENT
        assert first.read() == CONTENT[10:]
    with inflated(_MEMBER, None, works[2]) as third:
        assert third.read() == CONTENT
    assert [_names(work) for work in works] == [[inflater], ["zlib"], [inflater]]


@pytest.mark.parametrize("inflater", ["rapidgzip"], indirect=True)
def test_who_takes_too_much_memory_is_ended_and_the_rest_inflated_by_one(
    inflater: str, inflated: Inflated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflate, "_MOST_MEMORY", 1 << 20)
    work: Work = []
    content = CONTENT * 5
    with inflated(gzipped(content), None, work) as stream:
        assert stream.read() == content
    assert _names(work) == [inflater, "zlib"]
    assert 0 < work[0].bytes < len(content)


@pytest.mark.parametrize("inflater", ["rapidgzip"], indirect=True)
@pytest.mark.parametrize(
    ("processors", "usable", "least"),
    [(1, {0, 1}, 0), (None, {1}, 0), (None, {0, 1}, 1 << 30)],
    ids=["one may be used", "one is there", "a small layer"],
)
def test_one_processor_or_a_small_layer_is_not_for_several(
    processors: int | None,
    usable: set[int],
    least: int,
    inflater: str,
    inflated: Inflated,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: usable)
    monkeypatch.setattr(inflate, "_WORTH_PROCESSORS", least)
    work: Work = []
    with inflated(_MEMBER, processors, work) as stream:
        assert stream.read() == CONTENT
    assert _names(work) == ["zlib"] != [inflater]


def test_the_totals_name_each_decoder_once_the_busiest_first() -> None:
    work = [Decompressed("isal", 10, 0.25), Decompressed("rapidgzip", 500, 1.0), Decompressed("isal", 20, 0.5)]
    assert totals(work) == [
        {"name": "rapidgzip", "bytes": 500, "seconds": 1.0},
        {"name": "isal", "bytes": 30, "seconds": 0.75},
    ]
    assert totals([]) == []


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
