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
  - Returns what the inventory of a managed host knows, and for each file whether it is still there and unchanged.
  - It answers to C(sregistry images), C(sregistry get) and C(sregistry inspect), and with O(inspect=true) to
    C(singularity inspect).
  - It only reads, and asks no registry. M(hpc.sregistry.sregistry_record) finds out whether names point at something
    else by now.
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
  registry:
    description:
      - The registry of names that name none, as V(HOST[:PORT]).
      - If the option is not given, E(SREGISTRY_DOCKERHUB_BASE) of the managed host is used, then the default.
    type: str
    default: docker.io
  client:
    description:
      - The client of sregistry that a task is meant for, as with M(hpc.sregistry.sregistry_pull).
    type: str
    choices: [dockerhub, docker]
    default: dockerhub
  name:
    description:
      - Return RV(images) of these names only. Names that the inventory does not know are in RV(unknown).
      - The default is all images.
      - It does not limit RV(ansible_facts).
    type: list
    elements: str
    aliases: [uri, image]
  platform:
    description:
      - Return RV(images) of this platform only, for example V(linux/arm64).
      - The default is every platform.
    type: str
  manifests:
    description:
      - Add RV(images[].metrics) and RV(images[].layers).
    type: bool
    default: false
  inspect:
    description:
      - Add RV(images[].inspect), which is read from each file.
    type: bool
    default: false
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
  - module: hpc.sregistry.sregistry_pull
  - module: hpc.sregistry.sregistry_record
"""

EXAMPLES = r"""
- name: Read the inventory
  hpc.sregistry.sregistry_facts:

- name: List the files
  ansible.builtin.debug:
    msg: "{{ ansible_facts.sregistry.images | selectattr('image') | map(attribute='image') }}"

- name: Get the path of one image, as "sregistry get" does
  hpc.sregistry.sregistry_facts:
    name: docker://ubuntu:24.04
  register: ubuntu

- name: Run it
  ansible.builtin.command:
    argv: [apptainer, exec, "{{ ubuntu.images[0].image }}", cat, /etc/os-release]
  changed_when: false

- name: Look at everything that is known of an image
  hpc.sregistry.sregistry_facts:
    name: docker://ubuntu:24.04
    manifests: true
    inspect: true

- name: Read every file
  hpc.sregistry.sregistry_facts:
    storage: /var/lib/sregistry
    checksum: true
  register: store

- name: Make sure that all of them are what was pulled
  ansible.builtin.assert:
    that: damaged | length == 0
    fail_msg: "Damaged or missing: {{ damaged | map(attribute='image') | join(', ') }}"
  vars:
    damaged: "{{ store.images | selectattr('state', 'in', ['missing', 'modified']) }}"
"""

RETURN = r"""
images:
  description:
    - The entries of RV(ansible_facts.sregistry.images) that O(name) and O(platform) ask for. Beside what is described
      there, each has the following.
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
    metrics:
      description:
        - The documents of the registry as they were received, C(index) (if there is one), C(manifest) and C(config)
          (if there is one).
      returned: with O(manifests=true)
      type: dict
      sample: {manifest: {schemaVersion: 2}, config: {architecture: amd64, os: linux}}
    layers:
      description: Digest, size in bytes as compressed, and media type of each layer, from the oldest to the newest.
      returned: with O(manifests=true)
      type: list
      elements: dict
      sample:
        - digest: sha256:31e907dcc94a592a57796786399eb004dcbba714389fa615f5efa05a91316356
          size: 29724688
          media_type: application/vnd.oci.image.layer.v1.tar+gzip
    inspect:
      description:
        - What C(singularity inspect --all) tells of the file, such as C(labels), C(environment), C(runscript) and
          C(deffile). Null if the file is missing.
      returned: with O(inspect=true), for images with a file
      type: dict
      sample: {deffile: "bootstrap: docker\nfrom: library/ubuntu:24.04"}
unknown:
  description: Those of O(name) that the inventory does not know.
  returned: success
  type: list
  elements: str
  sample: []
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
              They are sorted by C(uri), C(platform) and C(image).
          type: list
          elements: dict
          contains:
            uri:
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
              description: The client of sregistry that serves such images.
              type: str
              sample: dockerhub
            digest:
              description: Digest of what the name pointed at when the registry was last asked, an index or a manifest.
              type: str
              sample: sha256:c4570d2f4665d5d118ae29fb494dee4f8db8fcfaee0e37a2e19b827f399070d3
            manifest_digest:
              description: Digest of the manifest for the platform.
              type: str
              sample: sha256:35f3a8badf2f74c1b320a643b343536f5132f245cbefc40ef802b6203a166d04
            updated_at:
              description: When the entry was last written, in UTC.
              type: str
              sample: "2026-11-22T00:20:43Z"
            image:
              description: Path of the file. Null for an image that is only recorded.
              type: str
              sample: /var/lib/sregistry/library/ubuntu-24.04.sif
            version:
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
              description: Digest of the manifest that the file was built from. Null for an image that is only recorded.
              type: str
              sample: sha256:35f3a8badf2f74c1b320a643b343536f5132f245cbefc40ef802b6203a166d04
            outdated:
              description:
                - Whether the name points at another image by now than the one that the file was built from.
                  Null for an image that is only recorded.
              type: bool
              sample: false
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hpc.sregistry.plugins.module_utils.facts import Question, query
from ansible_collections.hpc.sregistry.plugins.module_utils.module import facts_of, failing, inventory_of
from ansible_collections.hpc.sregistry.plugins.module_utils.options import name_options, store_options
from ansible_collections.hpc.sregistry.plugins.module_utils.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils.reference import Reference, parse_registry


def main() -> None:
    """Read the inventory."""
    module = AnsibleModule(
        {
            **store_options(),
            **name_options(required=False),
            "platform": {"type": "str"},
            "manifests": {"type": "bool", "default": False},
            "inspect": {"type": "bool", "default": False},
            "checksum": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    with failing(module):
        names, registry = module.params["name"], parse_registry(module.params["registry"])
        references = [Reference.parse(name, registry) for name in names] if names is not None else None
        platform = module.params["platform"]
        inventory = inventory_of(module)
        question = Question(
            references,
            Platform.parse(platform) if platform else None,
            manifests=module.params["manifests"],
            checksum=module.params["checksum"],
            inspect=module.params["inspect"],
        )
        rows = inventory.rows()
        images = query(inventory, rows, question, module.warn)
        known = {row["uri"] for row in rows}
        unknown = [name for name, reference in zip(names or (), references or ()) if reference.uri not in known]
        if not os.path.isdir(inventory.directory):
            module.warn(f"there is no inventory in {inventory.directory}; nothing was pulled or recorded there")
        facts = facts_of(module, inventory, rows, True)
        module.exit_json(changed=False, images=images, unknown=unknown, ansible_facts=facts)


if __name__ == "__main__":
    main()
