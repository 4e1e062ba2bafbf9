# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine's memory, brought into the state of one that has run for long: full of files that were read once.

A virtual machine gets a page from its host when it first touches it, and gives free ones back. Both takes time, which
counts as that of the process that writes there: with many hosts at once more than all else that a fetch does. Where
memory is full, new pages are old ones that nobody needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BLOCK = 2**22


@contextmanager
def filler(directory: Path) -> Iterator[Path]:
    """Make a file without blocks on disk, as large as the memory; remove it in the end."""
    path = directory / "memory.fill"
    path.touch()
    try:
        os.truncate(path, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        yield path
    finally:
        path.unlink()


def fill(path: Path) -> None:
    """Read the file, so that all free memory holds it."""
    with path.open("rb", buffering=0) as stream:
        while stream.read(_BLOCK):
            pass
