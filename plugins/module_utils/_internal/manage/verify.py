# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case of ``sregistry_verify``: whether files are signed with trusted keys."""

from __future__ import annotations

import os
from typing import Any

from ..errors import BadSignature, InvalidSif, SregistryError, StorageError, UnknownSigner, Unsigned
from ..fs import permit
from ..sif.trust import Trust

SIGNED, UNSIGNED, UNKNOWN, DAMAGED = "signed", "unsigned", "unknown_signer", "damaged"
MISSING, NO_SIF, FAILED = "missing", "no_sif", "failed"

_KINDS: tuple[tuple[type[SregistryError], str], ...] = (
    (Unsigned, UNSIGNED),
    (UnknownSigner, UNKNOWN),
    (BadSignature, DAMAGED),
    (InvalidSif, NO_SIF),
    (StorageError, MISSING),
)


def verification_report(trust: Trust, path: str) -> dict[str, Any]:
    """Return what a module tells of one file: whether trusted keys have signed it, whose these are, and if not, why."""
    report: dict[str, Any] = {"path": path, "verified": False, "state": FAILED, "signers": [], "error": None}
    try:
        if not os.path.exists(path):
            raise StorageError(f"verification failed: there is no file {path}")
        with permit.reading(path, out=False):
            found = trust.verify(path, path)
    except SregistryError as error:
        state = next((name for kind, name in _KINDS if isinstance(error, kind)), FAILED)
        return {**report, "state": state, "error": str(error)}
    signers = [
        {
            "fingerprint": signer.fingerprint or None,
            "name": signer.name if signer.fingerprint else None,
            "objects": list(signer.objects),
        }
        for signer in found.signers
    ]
    return {**report, "verified": True, "state": SIGNED, "signers": signers}
