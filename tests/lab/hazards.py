# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers with everything a layer may legally hold, and what the finished tree must show.

Rules: OCI image specification 1.1, layer.md (changesets, whiteouts, opaque whiteouts, hard links).
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.lab import commands, oci
from tests.lab.tree import MTIME, Tree

LARGE_ID = 3_000_000_000
# vfs_cap_data, revision 2 (capability.h): effective, permitted = 1 << CAP_NET_RAW (13)
NET_RAW = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".decode("ascii")
LONG_NAME = "long-" + 115 * "n"
LONGEST_NAME = 255 * "m"
LONG_PATH = "/".join(letter * 90 for letter in "pqrs")
LATIN1_NAME = b"caf\xe9".decode("utf-8", "surrogateescape")
ODD_NAMES = (
    "with space",
    "it's",
    'say "hi"',
    "back\\slash",
    "new\nline",
    "tab\there",
    "-dash",
    "star*",
    "dollar$HOME",
    "`tick`",
    "trailing ",
    "..dots",
    "#hash",
    "grün",
    "gru\u0308n",
    "日本",
)


def layers() -> tuple[oci.Layer, ...]:
    """Return the layers above the base, oldest first."""
    return (
        oci.layer(_old().tar(), "old layer, GNU format"),
        oci.layer(_pax().tar(), "PAX format"),
        oci.layer(_new().tar(), "new layer, GNU format"),
        oci.layer(Tree().tar(), "empty layer"),
        oci.layer(_newest().tar(), "newest layer"),
        oci.layer(_sparse().tar(), "sparse file, PAX format 1.0"),
    )


def gnu_sparse_layers() -> tuple[oci.Layer, ...]:
    """Return a layer with a sparse file of GNU's own type ``S``; Apptainer 1.4 refuses it (``unknown typeflag``)."""
    return (oci.layer(_gnu_sparse(), "sparse file, GNU format"),)


def _old() -> Tree:
    tree = Tree()
    tree.directory("whiteout").file("whiteout/file", "old").directory("whiteout/dir").file("whiteout/dir/a", "old")
    tree.directory("whiteout/dir/b").file("whiteout/dir/b/c", "old")
    tree.file("whiteout/again", "old").file("whiteout/again-before", "old").file("whiteout/stays", "old")
    tree.directory("opaque").file("opaque/old", "old").directory("opaque/sub").file("opaque/sub/old", "old")
    tree.file("opaque/both", "old")
    tree.directory("hard").file("hard/first", "shared", 0o640, 1234, 1234).hardlink("hard/second", "hard/first")
    tree.file("hard/kept", "kept").file("hard/late", "late")
    tree.file("hard/target", "outlives its target").hardlink("hard/survivor", "hard/target")
    tree.file("hard/replaced", "before").hardlink("hard/not-replaced", "hard/replaced")
    tree.directory("modes").file("modes/setuid", "s", 0o4755).file("modes/setgid", "s", 0o2755, 0, 1234)
    tree.directory("modes/sticky", 0o1777).directory("modes/setgid-dir", 0o2775, 0, 1234)
    tree.file("modes/none", "unreadable", 0o000).directory("modes/private", 0o700, 1234, 1234)
    tree.file("modes/private/file", "private", 0o600, 1234, 1234).directory("modes/nobody", 0o700, 65534, 65534)
    tree.directory("modes/changes", 0o755).file("modes/changes/child", "child")
    tree.fifo("modes/fifo", 0o600)
    tree.directory("devices").device("devices/char", False, 1, 3, 0o666).device("devices/block", True, 7, 0)
    tree.directory("replace").file("replace/file-to-dir", "old").directory("replace/dir-to-file")
    tree.file("replace/dir-to-file/child", "old").symlink("replace/link-to-dir", "../etc")
    tree.directory("replace/dir-to-link").file("replace/dir-to-link/child", "old")
    tree.symlink("replace/link-to-file", "../etc/passwd").file("replace/file-to-link", "old")
    tree.directory("usr/lib").file("usr/lib/old", "old").symlink("lib", "usr/lib")
    tree.directory("links").symlink("links/dangling", "/nowhere").symlink("links/absolute", "/etc/passwd")
    tree.symlink("links/loop-a", "loop-b").symlink("links/loop-b", "loop-a").symlink("links/self", "self")
    tree.symlink("links/up", "../../../../etc/group").symlink("links/dot", ".")
    tree.directory("empty").file("empty/file").directory("empty/dir")
    return tree


def _pax() -> Tree:
    tree = Tree(tarfile.PAX_FORMAT)
    tree.directory("pax").file("pax/large-id", "large", 0o644, LARGE_ID, LARGE_ID)
    tree.file("pax/note", "noted", xattrs={"user.note": "a note with ünicode"})
    tree.file("pax/capable", "capable", 0o755, xattrs={"security.capability": NET_RAW})
    tree.file(f"pax/{LONG_NAME}", "long").file(f"pax/{LONGEST_NAME}", "longest")
    tree.file(f"pax/{LONG_PATH}/end", "deep").symlink("pax/long-link", f"/{LONG_PATH}")
    tree.hardlink("pax/long-hard", f"pax/{LONG_PATH}/end")
    tree.file("pax/日本", "utf-8").directory("pax/grün")
    return tree


def _new() -> Tree:
    tree = Tree()
    tree.whiteout("whiteout/file").whiteout("whiteout/dir").whiteout("whiteout/never-was")
    tree.whiteout("whiteout/again").file("whiteout/again", "new")
    tree.file("whiteout/again-before", "new").whiteout("whiteout/again-before")
    tree.directory("opaque").file("opaque/before", "new").file("opaque/both", "new").opaque("opaque")
    tree.file("opaque/after", "new").directory("opaque/sub").file("opaque/sub/new", "new")
    tree.hardlink("hard/newer", "hard/kept").whiteout("hard/target").file("hard/replaced", "after")
    tree.hardlink("hard/late-link", "hard/late")
    tree.directory("modes/changes", 0o711, 1234, 1234)
    tree.directory("replace/file-to-dir").file("replace/file-to-dir/child", "new").file("replace/dir-to-file", "new")
    tree.directory("replace/link-to-dir").file("replace/link-to-dir/child", "new")
    tree.symlink("replace/dir-to-link", "../etc").file("replace/link-to-file", "new")
    tree.symlink("replace/file-to-link", "../etc/passwd")
    tree.file("lib/new", "through the link")
    tree.file("twice/file", "first").file("twice/file", "last")
    tree.file("./dotted/file", "dotted").file("/absolute/file", "absolute").file("implicit/a/b/c", "implicit")
    tree.directory("gnu").file(f"gnu/{LONG_NAME}", "long").file(f"gnu/{LONGEST_NAME}", "longest")
    tree.file(f"gnu/{LONG_PATH}/end", "deep").symlink("gnu/long-link", f"/{LONG_PATH}")
    tree.hardlink("gnu/long-hard", f"gnu/{LONG_PATH}/end").file("gnu/large-id", "large", 0o644, LARGE_ID, LARGE_ID)
    tree.directory("names").file(f"names/{LATIN1_NAME}", "latin-1")
    for name in ODD_NAMES:
        tree.file(f"names/{name}", name)
    tree.directory("./", 0o755)
    return tree


def _newest() -> Tree:
    return Tree().whiteout("hard/late").file("whiteout/newest", "newest")


_SPARSE_SIZE = 3 << 20
_SPARSE_PIECES = {
    0: b"data".ljust(512, b"\0"),
    1 << 20: b"data".ljust(512, b"\0"),
    _SPARSE_SIZE - 512: b"data".rjust(512, b"\0"),
}


def _sparse() -> Tree:
    return Tree(tarfile.PAX_FORMAT).sparse("sparse-posix", _SPARSE_SIZE, _SPARSE_PIECES)


def _gnu_sparse() -> bytes:
    """Return the archive that GNU tar itself makes of a file with holes."""
    with tempfile.TemporaryDirectory() as scratch:
        with Path(scratch, "sparse-gnu").open("wb") as file:
            for offset, data in _SPARSE_PIECES.items():
                file.seek(offset)
                file.write(data)
        attributes = [f"--mtime=@{MTIME}", "--owner=root:0", "--group=root:0", "--mode=644"]
        command = ["tar", "--sparse", "--format=gnu", *attributes, "-C", scratch, "-cf", "-", "sparse-gnu"]
        return commands.output_of(command)


EXPECTED: Mapping[str, str] = {
    "whiteout/file": "absent",
    "whiteout/dir": "absent",
    "whiteout/again": "file new",
    "whiteout/again-before": "file new",
    "whiteout/stays": "file old",
    "whiteout/newest": "file newest",
    "whiteout/.wh.file": "absent",
    "opaque/old": "absent",
    "opaque/sub/old": "absent",
    "opaque/sub/new": "file new",
    "opaque/both": "file new",
    "opaque/before": "file new",
    "opaque/after": "file new",
    "opaque/.wh..wh..opq": "absent",
    "hard/first": "file shared",
    "hard/second": "same as hard/first",
    "hard/newer": "same as hard/kept",
    "hard/target": "absent",
    "hard/survivor": "file outlives its target",
    "hard/replaced": "file after",
    "hard/not-replaced": "file before",
    "hard/late": "absent",
    "hard/late-link": "file late",
    "modes/setuid": "mode 4755",
    "modes/setgid": "mode 2755",
    "modes/sticky": "mode 1777",
    "modes/setgid-dir": "mode 2775",
    "modes/none": "mode 0",
    "modes/private": "mode 700",
    "modes/private/file": "mode 600",
    "modes/changes": "mode 711",
    "modes/changes/child": "file child",
    "modes/fifo": "fifo",
    "devices/char": "device",
    "devices/block": "device",
    "replace/file-to-dir/child": "file new",
    "replace/dir-to-file": "file new",
    "replace/link-to-dir/child": "file new",
    "etc/child": "absent",
    "replace/dir-to-link": "link ../etc",
    "replace/link-to-file": "file new",
    "replace/file-to-link": "link ../etc/passwd",
    "lib": "link usr/lib",
    "usr/lib/old": "file old",
    "usr/lib/new": "file through the link",
    "links/dangling": "link /nowhere",
    "links/absolute": "link /etc/passwd",
    "links/loop-a": "link loop-b",
    "links/loop-b": "link loop-a",
    "links/self": "link self",
    "links/up": "link ../../../../etc/group",
    "links/dot": "link .",
    "empty/file": "file ",
    "empty/dir": "directory",
    "pax/large-id": "file large",
    "pax/note": "file noted",
    "pax/capable": "file capable",
    f"pax/{LONG_NAME}": "file long",
    f"pax/{LONGEST_NAME}": "file longest",
    f"pax/{LONG_PATH}/end": "file deep",
    "pax/long-link": f"link /{LONG_PATH}",
    "pax/long-hard": f"same as pax/{LONG_PATH}/end",
    "pax/日本": "file utf-8",
    "pax/grün": "directory",
    "twice/file": "file last",
    "dotted/file": "file dotted",
    "absolute/file": "file absolute",
    "implicit/a/b/c": "file implicit",
    f"gnu/{LONG_NAME}": "file long",
    f"gnu/{LONGEST_NAME}": "file longest",
    f"gnu/{LONG_PATH}/end": "file deep",
    "gnu/long-link": f"link /{LONG_PATH}",
    "gnu/long-hard": f"same as gnu/{LONG_PATH}/end",
    "gnu/large-id": "file large",
    f"names/{LATIN1_NAME}": "file latin-1",
    **{f"names/{name}": f"file {name}" for name in ODD_NAMES},
    "sparse-posix": "file " + "data".ljust(1 << 20, "\0") + "data".ljust((2 << 20) - 4, "\0") + "data",
}
"""The state of each path of ``lab/hazards``: ``absent``, ``directory``, ``fifo``, ``link TARGET``, ``file CONTENT``,
``mode OCTAL`` (also of a directory), ``device`` (an empty file when an ordinary user builds), ``same as PATH``."""
