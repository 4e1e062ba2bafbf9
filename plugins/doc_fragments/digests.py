# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  digests:
    description:
      - What names are pinned to, so that no registry is asked what they mean now. It is what stands below C(images) in
        a lock file, which the playbook C(hpc.sregistry.lock) writes.
      - The keys are names, as in O(name). The values are dictionaries with C(digest), what the name points at, and
        C(platforms), the digest of the manifest for each platform. Without C(platforms), a digest alone will do.
      - A name that is pinned is fetched by its digest, wherever its tag has moved. It keeps its tag in the inventory
        and in the path of its file. A file that is of something else is replaced, also with C(pull=not_present).
      - A name that is not in it is asked about as always, and a name that is only in it does not matter.
      - It is an error if C(platforms) lacks the platform of the host, if what is fetched is not the manifest that
        stands there, or if the key itself has another digest. A name with V(https://) must have its digest in the key.
    type: dict
"""
