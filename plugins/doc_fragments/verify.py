# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  verify:
    description:
      - Whose signatures are accepted. Each entry is one source of keys. A file is accepted if it is signed, and all of
        its signatures are valid with the keys of one entry.
      - An empty entry is the keyring of the user that the task runs as.
    type: list
    elements: dict
    suboptions:
      key:
        description:
          - A file on the managed host with a public key, in PEM or of PGP.
          - PEM keys need Apptainer 1.2 or SingularityCE 3.11, or newer.
        type: path
      key_content:
        description:
          - The text of such a file, for example from a lookup.
        type: str
      keyring:
        description:
          - A directory of PGP keyrings on the managed host, such as C(~/.apptainer/keys), instead of the user's own.
          - The engine looks into the global keyring of the host too. Give O(verify[].fingerprints) where that must not
            count.
        type: path
      fingerprints:
        description:
          - Fingerprints of the PGP keys that are accepted. By default these are all of O(verify[].key), or of the
            keyring.
        type: list
        elements: str
        default: []
      certificate:
        description:
          - A file on the managed host with the X.509 certificate of the signer, in PEM.
        type: path
      intermediates:
        description:
          - A file with certificates between O(verify[].certificate) and an authority, in PEM.
        type: path
      roots:
        description:
          - A file with the authorities to trust instead of the system's, in PEM.
        type: path
      ocsp:
        description:
          - Ask the authority whether the certificate was revoked.
        type: bool
        default: false
"""
