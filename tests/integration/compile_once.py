# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imported by each Python on a host, while tests run there: what it compiled of a module's archive is kept.

Ansible sends source, and Python compiles all of it in each run of a module. That took up to half of the processor
time on the hosts. What is kept is used for the same source only: the key is that of Python's own compiled files, a
hash of the source, in a directory for the version of Python. Each user has files of their own.
"""

from __future__ import annotations

import _imp
import importlib.util
import marshal
import os
import sys
import zipimport
from types import CodeType
from typing import Any

_DIRECTORY = f"/run/compiled-once/{os.getuid()}/{importlib.util.MAGIC_NUMBER.hex()}"
_files: Any = _imp
_archives: Any = zipimport
_compile = _archives._compile_source


def _compile_once(path: str, source: bytes) -> CodeType:
    kept = f"{_DIRECTORY}/{importlib.util.source_hash(source).hex()}"
    try:
        with open(kept, "rb") as stream:
            code: CodeType = marshal.load(stream)
    except (OSError, EOFError, ValueError, TypeError):
        code = _compile(path, source)
        _keep(kept, code)
    _files._fix_co_filename(code, path)  # each run has its archive in a directory of its own
    return code


def _keep(path: str, code: CodeType) -> None:
    draft = f"{path}.{os.getpid()}"
    try:
        os.makedirs(_DIRECTORY, mode=0o700, exist_ok=True)
        with open(draft, "wb") as stream:
            marshal.dump(code, stream)
        os.replace(draft, path)
    except OSError:  # such as no space left, which is what some tests are about
        return


# Before 3.10, a thread may find a module half executed: imports as slow as they are show that.
if sys.version_info >= (3, 10):  # noqa: UP036
    _archives._compile_source = _compile_once
