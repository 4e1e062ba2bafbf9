# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's certificate authority and the certificates it signs, each made once."""

from __future__ import annotations

from pathlib import Path

import trustme

from tests.lab import paths


def ensure() -> None:
    """Make ``ca.pem``, ``server.pem`` (for the TLS servers) and ``signer.pem`` (for tokens) where missing."""
    if not _made("ca"):
        authority = trustme.CA(organization_unit_name="hpc.sregistry lab")
        _write(paths.tls(), "ca", authority.private_key_pem, authority.cert_pem)
        for stale in ("server", "signer"):
            (paths.tls() / f"{stale}.pem").unlink(missing_ok=True)
    if not _made("server"):
        issue(paths.tls(), "server", "127.0.0.1", "localhost")
    if not _made("signer"):
        issue(paths.tls(), "signer", "signer.lab.example")


def issue(directory: Path, name: str, *identities: str) -> None:
    """Write ``NAME.pem`` and ``NAME.key`` below a directory: signed by the authority, for host names and addresses.

    The key is one of RSA, since the token server signs by RS256.
    """
    authority = trustme.CA.from_pem(paths.ca_certificate().read_bytes(), (paths.tls() / "ca.key").read_bytes())
    made = authority.issue_cert(*identities, key_type=trustme.KeyType.RSA)
    _write(directory, name, made.private_key_pem, made.cert_chain_pems[0])


def _made(name: str) -> bool:
    return (paths.tls() / f"{name}.pem").exists() and (paths.tls() / f"{name}.key").exists()


def _write(directory: Path, name: str, key: trustme.Blob, certificate: trustme.Blob) -> None:
    """Write the certificate last: where it is, the key is."""
    (directory / f"{name}.key").touch(mode=0o600)
    key.write_to_path(directory / f"{name}.key")
    certificate.write_to_path(directory / f"{name}.new")
    (directory / f"{name}.new").rename(directory / f"{name}.pem")
