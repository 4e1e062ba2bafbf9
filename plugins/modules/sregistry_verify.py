#!/usr/bin/python

# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sregistry_verify
short_description: Verify the signatures of SIF files
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Checks that SIF files on the managed host are signed, that they are what was signed, and that the signer is one of
    those that are accepted. The task fails if that is not so for one of them.
  - It only reads, and tells apart why a file cannot be trusted.
  - It answers to C(singularity verify) and C(apptainer verify).
extends_documentation_fragment:
  - hpc.sregistry.attributes
  - hpc.sregistry.targets
  - hpc.sregistry.client
  - hpc.sregistry.platform
  - hpc.sregistry.store
  - hpc.sregistry.engine
  - hpc.sregistry.verify
attributes:
  check_mode:
    details:
      - It only reads, so it does the same in check mode.
  diff_mode:
    support: N/A
    details:
      - It changes nothing.
options:
  strict:
    description:
      - Whether the task fails if a file is not accepted.
      - V(false) only reports it, in RV(images[].verified) and RV(images[].state).
    type: bool
    default: true
  tmpdir:
    description:
      - A directory on the managed host for temporary files.
      - If the option is not given, the first of E(APPTAINER_TMPDIR), E(SINGULARITY_TMPDIR) and E(TMPDIR) that is set
        on the managed host is used, then the system's own, mostly C(/tmp).
    type: path
requirements:
  - python >= 3.9
  - apptainer or singularity-ce
notes:
  - Without O(verify), the keyring of the user that the task runs as is asked. No key server is asked.
  - Files that were built from container images are not signed, unless M(hpc.sregistry.sregistry_sign) signed them.
seealso:
  - module: hpc.sregistry.sregistry_sign
  - module: hpc.sregistry.sregistry_pull
"""

EXAMPLES = r"""
- name: A file is signed with the key of the site
  hpc.sregistry.sregistry_verify:
    path: /opt/images/solver.sif
    verify:
      - key: /etc/pki/containers/site.pem

- name: An image of the inventory is signed by one of two people
  hpc.sregistry.sregistry_verify:
    name: oras://registry.example.org/sifs/solver:2.4
    verify:
      - key_content: "{{ lookup('ansible.builtin.file', 'alice.asc') }}"
      - key_content: "{{ lookup('ansible.builtin.file', 'bob.asc') }}"

- name: By a key of the user's own keyring, told by its fingerprint
  hpc.sregistry.sregistry_verify:
    path: /opt/images/solver.sif
    verify:
      - fingerprints: 8883491F4268F173C6E5DC49EDECE4F3F38D871E

- name: Look at all files of the store
  hpc.sregistry.sregistry_facts:
  register: store

- name: Find those that nobody of us has signed
  hpc.sregistry.sregistry_verify:
    path: "{{ store.images | selectattr('state', 'eq', 'present') | map(attribute='path') }}"
    verify:
      - key: /etc/pki/containers/site.pem
    strict: false
  register: signatures

- name: Name them
  ansible.builtin.debug:
    msg: "{{ signatures.images | rejectattr('verified') | items2dict(key_name='path', value_name='state') }}"
"""

RETURN = r"""
images:
  description: What is known of each file, those of O(name) first.
  returned: always, unless the task fails before any file is looked at
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
      sample: /opt/images/solver.sif
    verified:
      description: Whether it is signed by who is accepted.
      type: bool
      sample: true
    state:
      description:
        - V(signed) means that all signatures are valid and accepted.
        - V(unsigned) means that it has none.
        - V(unknown_signer) means that it is signed, but with a key that is not accepted. A damaged signature may look
          the same.
        - V(damaged) means that it was changed after it was signed.
        - V(no_sif) means that it is not a SIF file, such as a sandbox, or that it is cut off.
        - V(missing) means that it is not there, or cannot be read.
        - V(failed) means that the engine could not verify it, as RV(images[].error) tells.
      type: str
      sample: signed
    signers:
      description: Who signed it, if it is accepted.
      type: list
      elements: dict
      contains:
        fingerprint:
          description: Fingerprint of the PGP key. Null for a PEM key or a certificate.
          type: str
          sample: 8883491F4268F173C6E5DC49EDECE4F3F38D871E
        name:
          description: The name that the PGP key has. Null for a PEM key or a certificate.
          type: str
          sample: Alice <alice@example.org>
        objects:
          description: The types of the objects that were signed, in the engine's words.
          type: list
          elements: str
          sample: [Def.FILE, FS]
    error:
      description: Why it is not accepted. Null if it is.
      type: str
      sample: "verification failed: /opt/images/solver.sif: no signatures found"
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._internal.manage.verify import verification_report
from ..module_utils._internal.module.base import failing, inventory_of
from ..module_utils._internal.module.keys import trust_of
from ..module_utils._internal.module.options import (
    engine_options,
    name_options,
    platform_options,
    registry_options,
    store_options,
    verify_options,
)
from ..module_utils._internal.module.targets import targets_of


def main() -> None:
    """Verify files."""
    module = AnsibleModule(
        {
            **name_options(required=False),
            **platform_options(),
            **store_options(),
            **engine_options(),
            **verify_options(),
            "path": {"type": "list", "elements": "path"},
            "strict": {"type": "bool", "default": True},
            "tmpdir": registry_options()["tmpdir"],
        },
        required_one_of=[("name", "path")],
        supports_check_mode=True,
    )
    with failing(module):
        paths = targets_of(module, inventory_of(module))
        with trust_of(module) as trust:
            images = [verification_report(trust, path) for path in paths]
        errors = [image["error"] for image in images if image["error"]]
        if errors and module.params["strict"]:
            more = f"{len(errors)} of {len(images)} files are not accepted. " if len(images) > 1 else ""
            module.fail_json(msg=more + "; ".join(errors), changed=False, images=images)
        module.exit_json(changed=False, images=images)


if __name__ == "__main__":
    main()
