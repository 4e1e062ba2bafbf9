#!/usr/bin/python

# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sregistry_facts
short_description: Get the inventory of container images as facts
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Returns the whole inventory of a managed host as facts, and for each file whether it is still there and unchanged.
  - It answers to C(sregistry images) without a query.
  - It only reads, and asks no registry. M(hpc.sregistry.sregistry_info) answers questions about some images,
    and M(hpc.sregistry.sregistry_record) finds out whether names point at something else by now.
extends_documentation_fragment:
  - hpc.sregistry.attributes
  - hpc.sregistry.store
attributes:
  check_mode:
    details:
      - It only reads, so it does the same in check mode.
  diff_mode:
    support: N/A
    details:
      - It changes nothing.
options:
  checksum:
    description:
      - Read each whole file and compare its SHA-256 to find out whether it was modified.
      - Otherwise its size and modification time are compared.
    type: bool
    default: false
requirements:
  - python >= 3.9
notes:
  - An option wins over the environment variable of the managed host that stands in its description, and this wins
    over its default.
seealso:
  - module: hpc.sregistry.sregistry_info
  - module: hpc.sregistry.sregistry_pull
  - module: hpc.sregistry.sregistry_record
"""

EXAMPLES = r"""
- name: Read the inventory
  hpc.sregistry.sregistry_facts:

- name: List the files
  ansible.builtin.debug:
    msg: "{{ ansible_facts.sregistry.images | selectattr('path') | map(attribute='path') }}"

- name: Read every file
  hpc.sregistry.sregistry_facts:
    storage: /var/lib/sregistry
    checksum: true
  register: store

- name: Make sure that all of them are what was pulled
  ansible.builtin.assert:
    that: damaged | length == 0
    fail_msg: "Damaged or missing: {{ damaged | map(attribute='path') | join(', ') }}"
  vars:
    damaged: "{{ store.images | selectattr('state', 'in', ['missing', 'modified']) }}"
"""

RETURN = r"""
images:
  description:
    - The entries of RV(ansible_facts.sregistry.images). Beside what is described there, each has the following.
  returned: success
  type: list
  elements: dict
  contains:
    state:
      description:
        - V(present) means that the file is there and unchanged.
        - V(modified) means that it is there, but is not what was pulled.
        - V(missing) means that it is not there.
        - V(remote) means that the image is recorded and has no file.
      type: str
      sample: present
ansible_facts:
  description: The inventory after the task, in short form.
  returned: success
  type: dict
  contains:
    sregistry:
      description: The inventory of this store.
      type: dict
      contains:
        storage:
          description: The store, as O(storage).
          type: str
          sample: /var/lib/sregistry
        database:
          description: The directory of the inventory.
          type: str
          sample: /var/lib/sregistry/.sregistry
        complete:
          description: Whether RV(ansible_facts.sregistry.images) is the whole inventory.
          type: bool
          sample: true
        images:
          description:
            - One entry for each file of each image, or one without a file for an image that is only recorded.
              They are sorted by C(reference), C(platform) and C(path).
          type: list
          elements: dict
          contains:
            reference:
              description: The name in its canonical form.
              type: str
              sample: library/ubuntu:24.04
            registry:
              description: Host of the registry, with its port if it has one.
              type: str
              sample: docker.io
            collection:
              description: The repository without its last part.
              type: str
              sample: library
            name:
              description: The last part of the repository.
              type: str
              sample: ubuntu
            tag:
              description: The tag. Empty for an image that is named by digest.
              type: str
              sample: "24.04"
            platform:
              description: The platform of the image.
              type: str
              sample: linux/amd64
            client:
              description:
                - The client of sregistry that serves such images. V(local) for files that were added or built here.
              type: str
              sample: dockerhub
            digest:
              description:
                - Digest of what the name pointed at when the registry was last asked, an index or a manifest. Null for
                  an image that is from no registry.
              type: str
              sample: sha256:c4570d2f4665d5d118ae29fb494dee4f8db8fcfaee0e37a2e19b827f399070d3
            manifest_digest:
              description: Digest of the manifest for the platform. Null for an image that is from no registry.
              type: str
              sample: sha256:35f3a8badf2f74c1b320a643b343536f5132f245cbefc40ef802b6203a166d04
            updated_at:
              description: When the entry was last written, in UTC.
              type: str
              sample: "2026-11-22T00:20:43Z"
            path:
              description: Path of the file. Null for an image that is only recorded.
              type: str
              sample: /var/lib/sregistry/library/ubuntu-24.04.sif
            sha256:
              description: The SHA-256 of the file. Empty for an image that is only recorded.
              type: str
              sample: aa6713067a527f1de25341c8d783d193b09cbaffe108a77dc5f08ef412f33a56
            size:
              description: Size of the file in bytes. Null for an image that is only recorded.
              type: int
              sample: 29454336
            mtime_ns:
              description: When the file was written, in nanoseconds since the epoch. Null without a file.
              type: int
              sample: 1795306843120394857
            created_at:
              description: When the file was built, or the image was first recorded, in UTC.
              type: str
              sample: "2026-11-22T00:20:43Z"
            built_from:
              description: Digest of the manifest that the file was built from. Null where there is none.
              type: str
              sample: sha256:35f3a8badf2f74c1b320a643b343536f5132f245cbefc40ef802b6203a166d04
            outdated:
              description:
                - Whether the name points at another image by now than the one that the file was built from.
                  Null where that is not known.
              type: bool
              sample: false
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._internal.manage.facts import Query, find_images
from ..module_utils._internal.module.base import facts_of, failing, inventory_of, warn_without_inventory
from ..module_utils._internal.module.options import store_options


def main() -> None:
    """Read the inventory."""
    module = AnsibleModule(
        {**store_options(), "checksum": {"type": "bool", "default": False}},
        supports_check_mode=True,
    )
    with failing(module):
        inventory = inventory_of(module)
        rows = inventory.rows()
        images = find_images(inventory, rows, Query(checksum=module.params["checksum"]), module.warn)
        warn_without_inventory(module, inventory)
        module.exit_json(changed=False, images=images, ansible_facts=facts_of(module, inventory, rows, True))


if __name__ == "__main__":
    main()
