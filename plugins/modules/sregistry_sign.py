#!/usr/bin/python

# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sregistry_sign
short_description: Sign SIF files
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Makes sure that SIF files on the managed host are signed with a key, in PEM or of PGP.
  - The inventory follows. A signed file is not a modified one, and M(hpc.sregistry.sregistry_pull) leaves it as it is
    until its name points at something else.
  - It answers to C(singularity sign) and C(apptainer sign).
extends_documentation_fragment:
  - hpc.sregistry.attributes
  - hpc.sregistry.targets
  - hpc.sregistry.client
  - hpc.sregistry.platform
  - hpc.sregistry.store
  - hpc.sregistry.gather
  - hpc.sregistry.engine
attributes:
  check_mode:
    details:
      - Nothing but a scratch file in O(tmpdir) is signed, which shows that the key can be used.
  diff_mode:
    details:
      - Shows the keys of the signatures before and after.
  idempotent:
    details:
      - A file that has a signature of this very key for all that is in it is left as it is. Whether that signature is
        valid, M(hpc.sregistry.sregistry_verify) tells. Signing again would not mend one that is not.
options:
  key:
    description:
      - A file on the managed host with a private key, in PEM or of PGP.
      - PEM keys need Apptainer 1.2 or SingularityCE 3.11, or newer.
      - Without this and O(key_content), a key of O(keyring) is used.
    type: path
  key_content:
    description:
      - The text of such a file, for example from a vault. On the managed host it is in a temporary file, which only the
        user that the task runs as can read, while the task runs. It is removed afterwards.
    type: str
  passphrase:
    description:
      - The passphrase of the key.
    type: str
  keyring:
    description:
      - A directory of PGP keyrings on the managed host. The default is the user's own, such as C(~/.apptainer/keys).
    type: path
  fingerprint:
    description:
      - Which PGP key to use. It is needed if there are several.
    type: str
  cachedir:
    description:
      - Root of the cache, which keeps a finished file, as with M(hpc.sregistry.sregistry_pull). It then keeps the
        signed one instead.
      - If the option is not given, the first of E(APPTAINER_CACHEDIR) and E(SINGULARITY_CACHEDIR) that is set on the
        managed host is used. Without any, it is C(~/.apptainer) where the engine is Apptainer, else
        C(~/.singularity).
    type: path
  tmpdir:
    description:
      - A directory on the managed host for temporary files, which hold the key for a while.
      - If the option is not given, the first of E(APPTAINER_TMPDIR), E(SINGULARITY_TMPDIR) and E(TMPDIR) that is set
        on the managed host is used, then the system's own, mostly C(/tmp).
    type: path
requirements:
  - python >= 3.9
  - apptainer or singularity-ce
notes:
  - A copy of the file is signed, beside it, and then gets its name. So the file is whole at any time, a container that
    runs is not disturbed, and there has to be room for the copy. File systems that share blocks, such as XFS and Btrfs,
    need no time and no room for it.
  - A file that is in the inventory, but was changed since, is not signed.
  - Whoever signs an image vouches for it. Of an image from Docker Hub that can only be that it is the one that was
    pulled.
seealso:
  - module: hpc.sregistry.sregistry_verify
  - module: hpc.sregistry.sregistry_pull
"""

EXAMPLES = r"""
- name: Sign an image that was pulled, with a key from the vault
  hpc.sregistry.sregistry_sign:
    name: docker://ubuntu:24.04
    key_content: "{{ signing_key }}"
    passphrase: "{{ signing_key_passphrase }}"

- name: Sign a file with a PEM key of the host
  hpc.sregistry.sregistry_sign:
    path: /opt/images/solver.sif
    key: /root/site.key.pem

- name: Sign a file with a PGP key of the user's keyring
  hpc.sregistry.sregistry_sign:
    path: /opt/images/solver.sif
    fingerprint: 8883491F4268F173C6E5DC49EDECE4F3F38D871E
    passphrase: "{{ pgp_passphrase }}"
"""

RETURN = r"""
images:
  description: What became of each file, those of O(name) first.
  returned: always, unless the task fails before any file is looked at
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
      sample: /opt/images/solver.sif
    changed:
      description: Whether it was signed, or would be in check mode.
      type: bool
      sample: true
    action:
      description: V(signed), V(present) if it had a signature of this key, or V(failed).
      type: str
      sample: signed
    signers:
      description:
        - The keys that the file's signatures name afterwards. Of a PGP key this is the fingerprint, of a PEM key a hash
          of the public key.
      type: list
      elements: str
      sample: [8883491F4268F173C6E5DC49EDECE4F3F38D871E]
    error:
      description: Why it failed.
      returned: when RV(images[].action=failed)
      type: str
      sample: there is no file /opt/images/solver.sif to sign; pull or build it first
diff:
  description: For each file that changes, the keys of its signatures before and after.
  returned: in diff mode
  type: list
  elements: dict
  sample:
    - before_header: /opt/images/solver.sif
      before: {signers: []}
      after_header: /opt/images/solver.sif
      after: {signers: [8883491F4268F173C6E5DC49EDECE4F3F38D871E]}
ansible_facts:
  description: The inventory after the task, in short form, as M(hpc.sregistry.sregistry_facts) describes it.
  returned: success
  type: dict
  contains:
    sregistry:
      description: The inventory of this store.
      type: dict
      sample: {storage: /var/lib/sregistry, database: /var/lib/sregistry/.sregistry, complete: true, images: []}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._internal.engine import cli
from ..module_utils._internal.manage.sign import SigningTools, sign_files
from ..module_utils._internal.module.base import blob_directory, facts_after, failing, inventory_of
from ..module_utils._internal.module.keys import scratch_directory
from ..module_utils._internal.module.options import (
    engine_options,
    gather_options,
    name_options,
    platform_options,
    registry_options,
    signing_options,
    store_options,
)
from ..module_utils._internal.module.signing_key import signing_key
from ..module_utils._internal.module.targets import targets_of
from ..module_utils._internal.oci.blobs import BlobCache


def main() -> None:
    """Sign files."""
    shared = registry_options()
    module = AnsibleModule(
        {
            **name_options(required=False),
            **platform_options(),
            **store_options(),
            **gather_options(),
            **engine_options(),
            **signing_options(),
            "path": {"type": "list", "elements": "path"},
            "cachedir": shared["cachedir"],
            "tmpdir": shared["tmpdir"],
        },
        required_one_of=[("name", "path")],
        mutually_exclusive=[("key", "key_content", "keyring")],
        supports_check_mode=True,
    )
    with failing(module):
        inventory = inventory_of(module)
        paths = targets_of(module, inventory, changing=True)
        cache = BlobCache(blob_directory(module))
        with signing_key(module) as key:
            tools = SigningTools(cli.find_engine(module.params["engine"]), key, scratch_directory(module))
            images = sign_files(inventory, cache, tools, paths, module.check_mode)
        changed = [image for image in images if image.changed]
        result: dict[str, Any] = {"changed": bool(changed), "images": [image.to_result("") for image in images]}
        if module._diff:
            result["diff"] = [image.to_diff() for image in changed]
        errors = [str(image.error) for image in images if image.error]
        if errors:
            others = f"{len(errors)} of {len(images)} files failed. " if len(images) > 1 else ""
            module.fail_json(msg=others + "; ".join(errors), **result)
        documents = [document for path in paths for document in inventory.owners(path)]
        module.exit_json(ansible_facts=facts_after(module, inventory, documents), **result)


if __name__ == "__main__":
    main()
