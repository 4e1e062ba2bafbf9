# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds of a file: the builder, the packer, the bounds; the same everywhere; and the engine's view of the result."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests import lab
from tests.lab import catalogue, debian, oci, packers, paths, tree

from .conftest import REGISTRY, Host, run
from .tags import Tag
from .trees import scan

BEGAN = "/run/test-build-began"
SUITES = {"bullseye": "sandbox", "bookworm": "stream", "trixie": "stream", "sid": "stream"}


@contextmanager
def packer(host: Host, script: str) -> Iterator[None]:
    """Put another mksquashfs on a host; in the script, the real one is ``mksquashfs.away``."""
    place = "/usr/bin/mksquashfs"
    host.shell(f"mv {place} {place}.away; cat > {place} <<'END'\n{script}\nEND\nchmod 755 {place}")
    try:
        yield
    finally:
        host.shell(f"mv {place}.away {place}")


@pytest.fixture(scope="module", autouse=True)
def began(hosts: tuple[Host, Host]) -> None:
    """Note on the hosts when the tests of this file began: what others left there before is not theirs."""
    for host in hosts:
        host.shell(f"touch {BEGAN}")


def leftovers(host: Host) -> str:
    """List the files that a failed run should not have left."""
    names = "-name '*.tmp' -o -name 'sregistry-*' -o -name '*.sif'"
    return host.shell(f"find /tmp ~ \\( {names} \\) -newercm {BEGAN}").stdout


def test_layers_are_streamed_unless_something_else_is_asked_for(node1: Host, tag: Tag) -> None:
    first = node1.sregistry("pull", tag.name)["images"][0]
    assert (first["builder"]["name"], first["builder"]["reason"]) == ("stream", "mksquashfs reads tar archives")
    assert [each["name"] for each in first["builder"]["decoders"]] == ["zlib"], (
        "the hosts of the lab have nothing faster"
    )
    assert first["builder"]["decoders"][0]["bytes"] > 1024
    assert {"metadata", "pack", "assemble"} < first["seconds"].keys()
    second = node1.sregistry("pull", tag.name, builder="sandbox", force=True)["images"][0]
    assert (second["builder"]["name"], second["builder"]["reason"]) == ("sandbox", "asked for")
    assert {"metadata", "index", "unpack", "pack", "assemble"} < second["seconds"].keys()
    assert "builder" not in node1.sregistry("pull", tag.name)["images"][0]


@pytest.mark.parametrize("image", ["lab/debian:12", "lab/hazards:latest", "lab/schema1:latest"])
def test_every_host_and_every_user_builds_the_same_bytes(node1: Host, node2: Host, image: str) -> None:
    results = [
        node1.sregistry("pull", image),
        node2.as_user("hpc").sregistry("pull", image, threads=1, packer_processors=1),
        node2.sregistry("pull", image, tmpdir="/var/tmp", niceness=5, packer_memory="64M"),
        node1.sregistry("pull", image, force=True),
    ]
    assert len({result["images"][0]["sha256"] for result in results}) == 1
    unpacked = [host.sregistry("pull", image, builder="sandbox", force=True) for host in (node1, node2)]
    assert len({result["images"][0]["sha256"] for result in unpacked}) == 1
    unique = [node1.sregistry("pull", image, reproducible=False, force=True)["images"][0]["sha256"] for _run in "12"]
    assert len(set(unique)) == 2


def test_a_file_that_is_not_reproducible_is_built_again_when_it_shall_be(node1: Host, tag: Tag) -> None:
    node1.sregistry("pull", tag.name, reproducible=False)
    assert not node1.sregistry("pull", tag.name, reproducible=False)["changed"]
    assert node1.sregistry("pull", tag.name)["images"][0]["action"] == "rebuilt"
    assert not node1.sregistry("pull", tag.name, reproducible=False)["changed"]


def test_the_engine_does_with_a_file_all_that_it_does_with_its_own(node1: Host) -> None:
    host = node1.as_user("hpc")
    path = host.sregistry("pull", "lab/debian:12")["images"][0]["path"]
    script = f"""
        set -eu
        export HOME=$(mktemp -d) SIF={path}
        trap 'rm -rf "$HOME"' EXIT
        apptainer sif header $SIF | grep -q amd64
        apptainer sif list $SIF | grep -q 'FS (Squashfs/\\*System/amd64)'
        apptainer sif dump 1 $SIF | grep -qx 'bootstrap: docker'
        apptainer inspect $SIF | grep -q org.label-schema.usage.singularity.deffile.from
        [ "$(apptainer exec $SIF cat /opt/app/VERSION)" = 1.1 ]
        apptainer run $SIF | grep -q 'entry: dear world'
        apptainer instance start $SIF lab >/dev/null 2>&1
        [ "$(apptainer exec instance://lab cat /opt/app/VERSION)" = 1.1 ]
        apptainer instance stop lab >/dev/null 2>&1
        cp $SIF signed.sif
        printf 'lab\\nlab@example.org\\n\\nn\\n' | apptainer key newpair --password '' --push=false \
            --name lab --email lab@example.org --comment '' >/dev/null
        apptainer sign signed.sif </dev/null >/dev/null
        apptainer verify --local signed.sif >/dev/null
        apptainer build --sandbox rebuilt $SIF >/dev/null 2>&1
        [ "$(cat rebuilt/opt/app/VERSION)" = 1.1 ]
        chmod -R u+w rebuilt; rm -rf rebuilt signed.sif
        echo all of it
    """
    assert host.shell(f"cd $(mktemp -d) && {script}", timeout=7200).stdout.endswith("all of it\n")


def many_files(count: int) -> bytes:
    """Return a layer of empty files in one directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(count):
            archive.addfile(tarfile.TarInfo(f"crowd/{number:05}"))
    return buffer.getvalue()


def test_a_crowded_directory_is_unpacked_unless_streaming_is_asked_for(node1: Host) -> None:
    name = f"{Tag().repository}:1"
    lab.push(name, catalogue.tiny_with(oci.layer(many_files(50_000), level=1)))
    count = "apptainer exec --userns {} /bin/busybox sh -c 'ls /crowd | wc -l'"
    image = node1.sregistry("pull", name)["images"][0]
    assert image["builder"]["name"] == "sandbox"
    assert "'/crowd' holds more than 20000 files" in image["builder"]["reason"]
    assert int(node1.shell(count.format(image["path"])).stdout) == 50_000
    streamed = node1.sregistry("pull", name, builder="stream", force=True)["images"][0]
    assert streamed["builder"]["name"] == "stream"
    assert int(node1.shell(count.format(streamed["path"])).stdout) == 50_000


@pytest.mark.parametrize("builder", ["stream", "sandbox"])
def test_the_root_directory_is_the_images_own(node1: Host, builder: str) -> None:
    name = f"{Tag().repository}:1"
    root = tree.Tree().directory(".", 0o711, 3, 4).file("hello", "hello\n")
    lab.push(name, catalogue.tiny_with(oci.layer(root.tar())))
    result = node1.sregistry("pull", name, builder=builder)
    (found,) = scan(node1, result["images"][0]["path"])
    assert (found["."]["mode"], found["."]["owner"]) == (oct(0o711), [3, 4])
    assert "hello" in found


DIES = """#!/bin/sh
case " $* " in *" -tar "*) head -c 300000 >/dev/null; echo 'FATAL ERROR: out of luck' >&2; exit 1;; esac
exec /usr/bin/mksquashfs.away "$@"
"""
CRASHES = DIES.replace("echo 'FATAL ERROR: out of luck' >&2; exit 1", "kill -SEGV $$")
GRUMBLES = """#!/bin/sh
case " $* " in *" -tar "*) echo 'Could not resolve hardlink a, file b does not exist';; esac
exec /usr/bin/mksquashfs.away "$@"
"""
FAILURES = [
    pytest.param(DIES, "out of luck", id="ends with an error"),
    pytest.param(CRASHES, "was killed by signal 11", id="crashes"),
    pytest.param(GRUMBLES, "Could not resolve hardlink", id="leaves something out"),
]


@pytest.mark.parametrize(("script", "words"), FAILURES)
def test_a_packer_that_fails_in_mid_stream_is_quoted(node1: Host, script: str, words: str) -> None:
    with packer(node1, script):
        failed = node1.sregistry("pull", "lab/debian:12", builder="stream")
        assert failed["failed"]
        assert words in failed["msg"]
        assert leftovers(node1) == ""
        unpacked = node1.sregistry("pull", "lab/debian:12")
    image = unpacked["images"][0]
    assert image["builder"]["name"] == "sandbox"
    assert words in image["builder"]["reason"]
    assert any(words in warning for warning in unpacked["warnings"])
    assert "entry: dear world" in run(node1, image["path"])


@pytest.mark.parametrize("builder", ["stream", "sandbox"])
def test_a_disk_that_fills_up_is_said_so_and_nothing_is_left(node1: Host, builder: str) -> None:
    node1.shell("mkdir -p /tmp/small && mount -t tmpfs -o size=20m tmpfs /tmp/small")
    try:
        failed = node1.sregistry("pull", "lab/debian:12", builder=builder, dest="/tmp/small/debian.sif")
        assert failed["failed"]
        assert "no space left" in failed["msg"]
        assert node1.shell("ls -A /tmp/small").stdout == ""
    finally:
        node1.shell("umount /tmp/small; rmdir /tmp/small")


def test_a_temporary_directory_that_passes_on_its_group_makes_no_difference(node1: Host) -> None:
    node1.shell("rm -rf /tmp/group && mkdir /tmp/group && chown root:hpc /tmp/group && chmod 2755 /tmp/group")
    for builder in ("stream", "sandbox"):
        usual = node1.sregistry("pull", "lab/tiny", builder=builder, force=True)["images"][0]
        special = node1.sregistry("pull", "lab/tiny", builder=builder, force=True, tmpdir="/tmp/group")["images"][0]
        assert usual["sha256"] == special["sha256"], builder


@pytest.mark.parametrize("suite", SUITES)
def test_packers_of_all_ages_make_the_same_tree(node1: Host, suite: str) -> None:
    try:
        release = packers.packer(suite)
    except debian.NotAvailable as missing:
        pytest.skip(str(missing))
    theirs = node1.sregistry("pull", "lab/hazards", dest="/tmp/theirs.sif")
    assert theirs["images"][0]["builder"]["name"] == "stream"
    copy_packer(node1, suite)
    with packer(node1, f'#!/bin/sh\nexec /opt/packers/{suite}/mksquashfs "$@"'):
        results = [node1.sregistry("pull", "lab/hazards", dest=f"/tmp/{number}.sif", force=True) for number in "12"]
        again = node1.sregistry("pull", "lab/hazards", dest="/tmp/3.sif", builder="sandbox")
    (image, same), other = [result["images"][0] for result in results], again["images"][0]
    assert image["builder"]["name"] == SUITES[suite], image["builder"]
    assert image["sha256"] == same["sha256"]
    assert not results[0].get("warnings")
    trees = scan(node1, image["path"], other["path"], "/tmp/theirs.sif")
    assert trees[0] == trees[1] == trees[2]
    recorded = node1.shell("cat ~/.singularity/shub/.sregistry/images/*").stdout
    assert f"mksquashfs {release.version}" in recorded


def test_a_packer_that_cannot_date_the_root_directory_is_not_used_by_an_ordinary_user(node1: Host, tag: Tag) -> None:
    try:
        packers.packer("bookworm")
    except debian.NotAvailable as missing:
        pytest.skip(str(missing))
    copy_packer(node1, "bookworm")
    with packer(node1, '#!/bin/sh\nexec /opt/packers/bookworm/mksquashfs "$@"'):
        result = node1.as_user("hpc").sregistry("pull", tag.name)["images"][0]
        refused = node1.as_user("hpc").sregistry("pull", tag.name, builder="stream", force=True)
    assert result["builder"]["name"] == "sandbox"
    assert "gives the root directory of a tar archive to the user that runs it" in result["builder"]["reason"]
    assert "ask for builder: auto" in refused["msg"]


def copy_packer(host: Host, suite: str) -> None:
    """Put the packer of a Debian release on a host, into ``/opt/packers``."""
    source = paths.cache() / "packers" / suite
    host.copy_directory(str(source), f"/opt/packers/{suite}")


@pytest.mark.parametrize("compression", ["zstd", "gzip", "lz4", "xz"])
def test_a_compression_that_is_asked_for_is_an_input_of_the_build(node1: Host, compression: str) -> None:
    node1.sregistry("pull", "lab/tiny")
    first = node1.sregistry("pull", "lab/tiny", compression=compression)
    assert first["changed"] == (compression != "zstd")
    assert not node1.sregistry("pull", "lab/tiny", compression=compression)["changed"]
    assert not node1.sregistry("pull", "lab/tiny")["changed"]
    path = first["images"][0]["path"]
    assert superblock(node1, path) == compression
    assert run(node1, path) == "hello from tiny 1.0"


def superblock(host: Host, path: str) -> str:
    """Return the compression of a SIF's file system, as unsquashfs names it."""
    dump = f"apptainer sif dump 4 {path} > /tmp/part.sqfs && unsquashfs -s /tmp/part.sqfs; rm -f /tmp/part.sqfs"
    (line,) = [line for line in host.shell(dump).stdout.splitlines() if line.startswith("Compression ")]
    return line.split()[1]


def test_a_level_that_is_asked_for_is_an_input_of_the_build(node1: Host) -> None:
    sizes = []
    for level in (1, 19):
        result = node1.sregistry("pull", "lab/tiny:latest", compression="zstd", compression_level=level)
        assert result["changed"]
        sizes.append(result["images"][0]["size"])
    assert sizes[0] > sizes[1]
    assert not node1.sregistry("pull", "lab/tiny:latest", compression_level=19)["changed"]
    assert node1.sregistry("pull", "lab/tiny:latest", compression_level=3)["changed"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compression": "xz", "compression_level": 3}, "the compression xz has no level 3"),
        ({"compression_level": 40}, "has no level 40 (from 1 to 22)"),
        ({"packer_memory": "1M"}, "give 64M or more"),
        ({"packer_processors": 0}, "give 1 or more"),
        ({"niceness": 30}, "niceness is 30; it goes from 0 to 19"),
    ],
)
def test_a_bound_that_makes_no_sense_is_refused(node1: Host, options: dict[str, Any], words: str) -> None:
    failed = node1.sregistry("pull", "lab/tiny", **options)
    assert failed["failed"]
    assert words in failed["msg"]
    assert leftovers(node1) == ""


def test_the_packer_is_bounded_as_asked(node1: Host, tag: Tag) -> None:
    spy = '#!/bin/sh\necho "$(nice) $*" >> /tmp/spied\nexec /usr/bin/mksquashfs.away "$@"'
    with packer(node1, spy):
        node1.sregistry("pull", tag.name, packer_processors=1, packer_memory="100M", niceness=7)
    spied = node1.shell("cat /tmp/spied; rm /tmp/spied").stdout.splitlines()
    (packed,) = [line for line in spied if " -tar " in line]
    assert packed.startswith("7 ")
    assert " -processors 1" in packed
    assert " -mem 100M" in packed


def test_a_deleted_file_comes_back_from_the_cache(node1: Host, tag: Tag) -> None:
    first = node1.sregistry("pull", tag.name)["images"][0]
    node1.shell(f"rm {first['path']}")
    tag.listen()
    back = node1.sregistry("pull", tag.name)["images"][0]
    assert tag.heard() == ["GET manifests"]
    assert (back["action"], back["sha256"]) == ("repaired", first["sha256"])
    assert "restore" in back["seconds"]
    assert "builder" not in back
    assert run(node1, back["path"]) == "one"
    assert not node1.sregistry("pull", tag.name, checksum=True)["changed"]


def test_a_file_that_was_changed_in_place_does_not_come_back(node1: Host, tag: Tag) -> None:
    first = node1.sregistry("pull", tag.name)["images"][0]
    node1.shell(f"echo more >> {first['path']}; rm {first['path']}")
    back = node1.sregistry("pull", tag.name)["images"][0]
    assert back["builder"]["name"] == "stream"
    assert back["sha256"] == first["sha256"]


def test_a_file_that_another_user_could_change_does_not_come_back(node1: Host, tag: Tag) -> None:
    first = node1.sregistry("pull", tag.name, owner="hpc")["images"][0]
    node1.shell(f"rm {first['path']}")
    back = node1.sregistry("pull", tag.name, owner="hpc")["images"][0]
    assert back["builder"]["name"] == "stream"
    assert node1.shell(f"stat -c %U {back['path']}").stdout == "hpc\n"


def test_a_file_that_is_in_use_elsewhere_stays_as_it_is(node1: Host, tag: Tag) -> None:
    first, second = (node1.sregistry("pull", tag.name, dest=f"/tmp/{name}.sif", mode="0640") for name in "ab")
    assert first["images"][0]["sha256"] == second["images"][0]["sha256"]
    node1.shell("ln /tmp/b.sif /tmp/c.sif; rm /tmp/b.sif")
    back = node1.sregistry("pull", tag.name, dest="/tmp/b.sif", mode="0600")["images"][0]
    assert back["builder"]["name"] == "stream"
    assert node1.shell("stat -c %a /tmp/a.sif /tmp/b.sif /tmp/c.sif").stdout.split() == ["640", "600", "640"]


def test_the_file_of_another_version_at_the_same_place_is_not_kept(node1: Host, tag: Tag) -> None:
    other = Tag()
    other.push("two")
    old = node1.sregistry("pull", tag.name, dest="/tmp/app.sif")["images"][0]
    new = node1.sregistry("pull", other.name, dest="/tmp/app.sif")["images"][0]
    kept = node1.shell("ls ~/.apptainer/cache/blob/blobs/sha256").stdout.split()
    assert new["sha256"] in kept
    assert old["sha256"] not in kept


def test_the_file_of_an_older_image_is_not_kept(node1: Host, tag: Tag) -> None:
    old = node1.sregistry("pull", tag.name)["images"][0]
    tag.push("two")
    new = node1.sregistry("pull", tag.name)["images"][0]
    kept = node1.shell("ls ~/.apptainer/cache/blob/blobs/sha256").stdout.split()
    assert new["sha256"] in kept
    assert old["sha256"] not in kept


def test_the_registry_is_named_once(node1: Host) -> None:
    """The name that a file was pulled by is in it; this is what makes two names two files."""
    one, two = (node1.sregistry("pull", f"lab/tiny:{name}")["images"][0] for name in ("1.0", "latest"))
    assert one["manifest_digest"] == two["manifest_digest"]
    assert one["sha256"] != two["sha256"]
    assert f"from: {REGISTRY}/lab/tiny:1.0" in node1.shell(f"apptainer sif dump 1 {one['path']}").stdout
