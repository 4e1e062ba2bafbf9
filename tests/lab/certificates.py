# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's certificate authority and the certificates it signs, made once with ``openssl``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.lab import commands, paths

DAYS = "3650"
NAMES = "IP:127.0.0.1,DNS:localhost"


def ensure() -> None:
    """Make ``ca.pem``, ``server.pem`` (for the TLS servers) and ``signer.pem`` (for tokens) where missing."""
    if not _made(paths.tls(), "ca"):
        _make_authority(paths.tls())
        for stale in ("server", "signer"):
            (paths.tls() / f"{stale}.pem").unlink(missing_ok=True)
    if not _made(paths.tls(), "server"):
        _make_certificate(paths.tls(), "server", f"subjectAltName={NAMES}\nextendedKeyUsage=serverAuth\n")
    if not _made(paths.tls(), "signer"):
        _make_certificate(paths.tls(), "signer", "keyUsage=digitalSignature\n")


def _made(directory: Path, name: str) -> bool:
    return (directory / f"{name}.pem").exists() and (directory / f"{name}.key").exists()


def _make_authority(directory: Path) -> None:
    commands.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", DAYS,
            "-subj", "/CN=hpc.sregistry lab CA",
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", directory / "ca.key", "-out", directory / "ca.new",
        ],
        "tls",
    )  # fmt: skip
    (directory / "ca.new").rename(directory / "ca.pem")


def _make_certificate(directory: Path, name: str, extensions: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        request, extension_file = Path(scratch, "request"), Path(scratch, "extensions")
        extension_file.write_text(extensions, encoding="utf-8")
        commands.run(
            [
                "openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes",
                "-subj", f"/CN=hpc.sregistry lab {name}",
                "-keyout", directory / f"{name}.key", "-out", request,
            ],
            "tls",
        )  # fmt: skip
        commands.run(
            [
                "openssl", "x509", "-req", "-in", request, "-days", DAYS, "-extfile", extension_file,
                "-CA", directory / "ca.pem", "-CAkey", directory / "ca.key", "-CAcreateserial",
                "-out", directory / f"{name}.new",
            ],
            "tls",
        )  # fmt: skip
    (directory / f"{name}.new").rename(directory / f"{name}.pem")
