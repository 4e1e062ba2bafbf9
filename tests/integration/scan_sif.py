# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run on a host, as root: unpack the file system of each SIF given and print all of its entries as JSON; a directory
given is looked at as it is.

Unpacking is done by unsquashfs, so this shares no code with what it judges.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from typing import Any

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}


def scan(root: bytes) -> dict[str, dict[str, Any]]:
    """Scan a directory: by path, kind, mode, owner, time, size, content, target, device, xattrs, links."""
    paths = [b"."]
    for parent, directories, files in os.walk(root):
        paths += [os.path.relpath(os.path.join(parent, name), root) for name in directories + files]
    found: dict[str, dict[str, Any]] = {}
    groups: dict[int, list[str]] = {}
    for path in sorted(paths):
        full = os.path.join(root, path)
        status = os.lstat(full)
        kind = KINDS[stat.S_IFMT(status.st_mode)]
        entry: dict[str, Any] = {
            "kind": kind,
            "mode": oct(stat.S_IMODE(status.st_mode)),
            "owner": [status.st_uid, status.st_gid],
            "mtime": int(status.st_mtime),
            "xattrs": {
                name: os.getxattr(full, name, follow_symlinks=False).hex()
                for name in sorted(os.listxattr(full, follow_symlinks=False))
            },
        }
        if kind == "file":
            with open(full, "rb") as stream:
                entry["size"] = status.st_size
                entry["sha256"] = hashlib.sha256(stream.read()).hexdigest()
        elif kind == "symlink":
            entry["target"] = os.fsdecode(os.readlink(full))
        elif kind in ("char", "block"):
            entry["device"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
        name = os.fsdecode(path)
        found[name] = entry
        if kind != "directory" and status.st_nlink > 1:
            groups.setdefault(status.st_ino, []).append(name)
    for names in groups.values():
        for name in names:
            found[name]["links"] = names
    return found


def partition_offset(sif: str) -> int:
    """Return the offset of the squashfs, in bytes, as the engine itself lists it."""
    listing = subprocess.run(["apptainer", "sif", "list", sif], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\|(\d+)-\d+\s*\|FS \(Squashfs/\*System/", listing)
    assert match, listing
    return int(match.group(1))


def main() -> None:
    """Print a JSON list: for each SIF or directory its entries."""
    result = []
    for sif in sys.argv[1:]:
        if os.path.isdir(sif):
            result.append(scan(os.fsencode(sif)))
            continue
        with tempfile.TemporaryDirectory(prefix="scan-") as directory:
            target = os.path.join(directory, "root")
            command = ["unsquashfs", "-q", "-n", "-o", str(partition_offset(sif)), "-d", target, sif]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            result.append(scan(os.fsencode(target)))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
