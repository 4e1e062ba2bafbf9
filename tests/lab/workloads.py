# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of the benchmark: what people of HPC pull, in the sizes and shapes that make a difference.

Their layers are real Debian packages, apart from one of generated files. Trees take minutes to build and are kept.
"""

from __future__ import annotations

import random
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.lab import debian, large, paths, rootfs, tree
from tests.lab.difference import difference, whole
from tests.lab.large import Stream

TREE_VERSION = 1
LEVEL = 6  # what container builders compress layers with

COMPILER = ("gcc", "g++", "make", "python3-minimal")
NUMERICS = (
    "gfortran",
    "libopenmpi-dev",
    "openmpi-bin",
    "libhdf5-openmpi-dev",
    "python3-scipy",
    "python3-pandas",
    "python3-matplotlib",
    "cmake",
    "git",
)
CLANG = ("llvm-14", "clang-14", "libclang-14-dev")

DIRECTORIES, FILES_EACH = 600, 100
WORDS, LONGEST = 4000, 900


def compiler() -> list[Stream]:
    """Return a compiler and an application: three layers, 130 MB compressed, 10,000 entries."""
    return [_base(), _compiler(), _application()]


def science() -> list[Stream]:
    """Return MPI, HDF5, SciPy, two compilers and an application: four layers, 560 MB compressed, 53,000 entries."""
    science_tar = _tree("science", *COMPILER, *NUMERICS, *CLANG)
    more = Stream(difference(_compiler_tar(), science_tar), "RUN apt-get install science", LEVEL)
    return [_base(), _compiler(), more, _application()]


def files() -> list[Stream]:
    """Return 60,000 small files of text, as in a package tree or a data set: two layers, 140 MB compressed."""
    return [_base(), Stream(_small_files(), "COPY files /opt/files", LEVEL)]


def single() -> list[Stream]:
    """Return all in one layer of 400 MB compressed, as squashed images are."""
    return [Stream(whole(_tree("single", *COMPILER, *NUMERICS)), "ADD rootfs", LEVEL)]


def _base() -> Stream:
    return Stream(whole(rootfs.base_tar()), "ADD rootfs", LEVEL)


def _compiler() -> Stream:
    return Stream(difference(rootfs.base_tar(), _compiler_tar()), "RUN apt-get install compiler", LEVEL)


def _compiler_tar() -> Path:
    return _tree("compiler", *COMPILER)


def _application() -> Stream:
    """Return a small layer that adds, changes and removes."""
    app = tree.Tree().directory("opt").directory("opt/app").file("etc/issue", "An image of the benchmark.\n")
    for number in range(50):
        app.file(f"opt/app/{number:02}.conf", f"setting {number}\n" * 20)
    return Stream([app.whiteout("usr/share/doc/make/copyright").tar()], "COPY app /opt/app", LEVEL)


def _tree(name: str, *packages: str) -> Path:
    """Return a Debian with these packages as one tar, without device nodes; built once."""
    tar = paths.cache() / f"bench-{name}-{TREE_VERSION}.tar"
    if not tar.exists():
        print(f"Building a Debian tree for the image bench/{name}, for some minutes", file=sys.stderr, flush=True)
        options = ["--format=tar", "--skip=output/dev", f"--include={','.join(packages)}"]
        debian.bootstrap(tar, [rootfs.BASE_SUITE], options)
    return tar


def _small_files() -> Iterator[bytes]:
    source = random.Random("files")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(source.choices(letters, k=source.randint(2, 11))).encode() for _number in range(WORDS)]
    for directory in range(DIRECTORIES):
        name = f"opt/files/{directory:03}"
        yield from large.member(large.new(name, tarfile.DIRTYPE, 0o755))
        for number in range(FILES_EACH):
            text = b" ".join(source.choices(words, k=source.randint(20, LONGEST)))
            yield from large.member(large.new(f"{name}/{number:02}.txt", tarfile.REGTYPE, 0o644, len(text)), [text])
    yield large.END
