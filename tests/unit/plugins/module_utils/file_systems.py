# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real processes on file systems whose locks keep nobody out, or only the processes of one host.

What ``flock`` does there is what a process believes; so it is replaced in the process, before our code is imported. A
host has a name and a boot of its own. The locks of the second host are those of open file descriptions (``F_OFD_SETLK``
in fcntl(2)): they keep out each other, and know nothing of the first host's ``flock``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

LOCKS_WORK = "flock works"
GRANTS_ALL = "flock grants everybody"
REFUSES = "flock fails"
LOCAL = "flock of one host"
KINDS = (LOCKS_WORK, GRANTS_ALL, REFUSES, LOCAL)

_PRELUDE = """
import errno, fcntl, os, struct, sys
kind, host = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
names = os.uname()
os.uname = lambda: os.uname_result((names[0], f"node{host}", *names[2:]))
def refuse(descriptor, operation):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
def by_description(descriptor, operation):
    shared, now = operation & fcntl.LOCK_SH, operation & fcntl.LOCK_NB
    how = fcntl.F_UNLCK if operation & fcntl.LOCK_UN else fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    fcntl.fcntl(number, 37 if now else 38, struct.pack("hhqqi", how, os.SEEK_SET, 0, 0, 0))
if kind == "flock grants everybody":
    fcntl.flock = lambda descriptor, operation: None
if kind == "flock fails":
    fcntl.flock = refuse
if kind == "flock of one host" and host:
    fcntl.flock = by_description
try:
    from ansible_collections.hpc.sregistry.plugins.module_utils import partial
except ImportError:
    pass
else:
    partial._BOOT = "/proc/sys/kernel/random/boot_id" if not host else "/nonexistent"
"""


def begin(kind: str, host: int, script: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start a Python process on one of two hosts.

    :param kind: one of ``KINDS``.
    :param host: 0 or 1.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _PRELUDE + script, kind, str(host), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment)
