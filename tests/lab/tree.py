# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing layer tars member by member, so that every byte is chosen and the same at each build."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

MTIME = 1735689600
BUSYBOX = Path("/usr/bin/busybox")


class Tree:
    """A tar being written: ``format`` is ``tarfile.GNU_FORMAT`` or ``tarfile.PAX_FORMAT``.

    Names may hold surrogate escapes for bytes that are no UTF-8. Each method returns the tree, to be chained.
    """

    def __init__(self, format: int = tarfile.GNU_FORMAT) -> None:  # pylint: disable=redefined-builtin
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(  # noqa: SIM115 (closed by tar()); pylint: disable=consider-using-with
            fileobj=self._buffer, mode="w", format=format, encoding="utf-8", errors="surrogateescape"
        )

    def tar(self) -> bytes:
        """End the tar and return it."""
        self._tar.close()
        return self._buffer.getvalue()

    def directory(self, name: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Tree:
        """Add a directory."""
        return self._add(name, tarfile.DIRTYPE, mode, uid, gid)

    def file(
        self,
        name: str,
        content: bytes | str = b"",
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        xattrs: Mapping[str, str] | None = None,
    ) -> Tree:
        """Add a regular file; ``xattrs`` need the PAX format."""
        data = content.encode() if isinstance(content, str) else content
        pax = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
        return self._add(name, tarfile.REGTYPE, mode, uid, gid, data=data, pax=pax)

    def sparse(self, name: str, size: int, pieces: Mapping[int, bytes]) -> Tree:
        """Add a sparse file as GNU tar's PAX format 1.0 does: ``pieces`` of whole blocks of 512 bytes by offset."""
        numbers = [len(pieces), *(number for offset, data in pieces.items() for number in (offset, len(data)))]
        plan = "".join(f"{number}\n" for number in numbers).encode()
        plan = plan.ljust(-(-len(plan) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, b"\0")
        pax = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": name,
            "GNU.sparse.realsize": str(size),
        }
        return self._add(
            f"GNUSparseFile.0/{name}", tarfile.REGTYPE, 0o644, data=plan + b"".join(pieces.values()), pax=pax
        )

    def symlink(self, name: str, target: str) -> Tree:
        """Add a symbolic link."""
        return self._add(name, tarfile.SYMTYPE, 0o777, link=target)

    def hardlink(self, name: str, target: str) -> Tree:
        """Add a hard link to the member ``target``."""
        return self._add(name, tarfile.LNKTYPE, 0o644, link=target)

    def fifo(self, name: str, mode: int = 0o644) -> Tree:
        """Add a named pipe."""
        return self._add(name, tarfile.FIFOTYPE, mode)

    def device(self, name: str, block: bool, major: int, minor: int, mode: int = 0o600) -> Tree:
        """Add a device node."""
        return self._add(name, tarfile.BLKTYPE if block else tarfile.CHRTYPE, mode, device=(major, minor))

    def whiteout(self, name: str) -> Tree:
        """Remove what older layers have at ``name``."""
        parent, _separator, last = name.rpartition("/")
        return self.file(f"{parent}/.wh.{last}" if parent else f".wh.{last}")

    def opaque(self, name: str) -> Tree:
        """Remove what older layers have in directory ``name``."""
        return self.file(f"{name}/.wh..wh..opq")

    def _add(
        self,
        name: str,
        kind: bytes,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        *,
        data: bytes = b"",
        link: str = "",
        device: tuple[int, int] = (0, 0),
        pax: Mapping[str, str] | None = None,
    ) -> Tree:
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.uid, member.gid = kind, mode, uid, gid
        member.mtime, member.size, member.linkname = MTIME, len(data), link
        member.devmajor, member.devminor = device
        member.pax_headers = dict(pax or {})
        self._tar.addfile(member, io.BytesIO(data))
        return self


def tiny_tar() -> bytes:
    """Return a static busybox with some of its applets as links: the smallest tree in which things run."""
    tree = Tree()
    for name, mode in {"bin": 0o755, "etc": 0o755, "home": 0o755, "root": 0o700, "tmp": 0o1777, "usr": 0o755}.items():
        tree.directory(name, mode)
    tree.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
    for applet in _APPLETS.split():
        tree.symlink(f"bin/{applet}", "busybox")
    tree.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    tree.file("etc/group", "root:x:0:\nnogroup:x:65534:\n")
    return tree.tar()


_APPLETS = (
    "[ ash awk basename cat chmod chown cp cut date dd df dirname du echo env expr false find grep gunzip gzip head "
    "hexdump hostname id ln ls md5sum mkdir mknod mktemp mount mv od printf ps pwd readlink realpath rm "
    "rmdir sed seq sh sha256sum sleep sort stat tail tar tee test touch tr true uname uniq wc which whoami xargs"
)
