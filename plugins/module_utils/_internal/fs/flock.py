# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locks of open files, and whether they keep anybody out: the file systems of clusters do not all see to that.

Lustre without ``flock`` and NFS without a lock service refuse each lock; others grant it to everybody. With Lustre's
``localflock`` and NFS's ``nolock``, a lock keeps out the processes of the same host only, which nobody can find out
there. So what a lock protects must name its host, or must stand a second writer.
"""

from __future__ import annotations

import fcntl
import os


def lock(descriptor: int, wait: bool = False) -> bool:
    """Lock an open file or directory, until all duplicates of the descriptor are closed.

    :param wait: until another holder lets go of it.
    :returns: whether that keeps out the other processes of this host.
    :raises BlockingIOError: if another holds it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return _keeps_out(f"/proc/self/fd/{descriptor}")


def _keeps_out(path: str) -> bool:
    """Tell whether a locked file cannot be locked once more, opened anew: that decides, not the process (flock(2))."""
    try:
        again = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # To share a lock, it is enough to read, also on NFS.
        fcntl.flock(again, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(again)
    return False
