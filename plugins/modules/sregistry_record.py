#!/usr/bin/python

# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sregistry_record
short_description: Record container images of a registry in the inventory
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Asks the registry what names point at, and writes manifests and configuration of the images into the inventory.
    No layer is fetched and no file is built.
  - A later M(hpc.sregistry.sregistry_pull) of the same name adds its file to the same entry.
  - If an image has a file already, recording it tells, as C(outdated) in the facts, whether its name points at
    something else by now.
  - It answers to C(sregistry record). Neither Singularity nor Apptainer is needed.
extends_documentation_fragment:
  - hpc.sregistry.names
  - hpc.sregistry.digests
  - hpc.sregistry.platform
  - hpc.sregistry.registry
  - hpc.sregistry.gather
  - hpc.sregistry.attributes
  - hpc.sregistry.store
attributes:
  check_mode:
    details:
      - Digests are resolved and compared, and nothing outside of a temporary directory is written.
        The changed status and the difference are those of the real run.
  idempotent:
    details:
      - The entry is written only if the digest that the name points at is another than the recorded one. One C(HEAD)
        request tells, and a C(GET) where that is refused or tells another digest. A name by digest that is recorded
        needs no request.
seealso:
  - module: hpc.sregistry.sregistry_pull
  - module: hpc.sregistry.sregistry_facts
"""

EXAMPLES = r"""
- name: Know what an image is, without its layers
  hpc.sregistry.sregistry_record:
    name: docker://continuumio/anaconda3

- name: Read the inventory
  hpc.sregistry.sregistry_facts:

- name: Find out which files are behind their tags
  hpc.sregistry.sregistry_record:
    name: "{{ known }}"
  vars:
    known: >-
      {{ ansible_facts.sregistry.images | selectattr('path') | selectattr('manifest_digest')
         | map(attribute='reference') | unique }}
  when: known | length > 0

- name: Show them
  ansible.builtin.debug:
    msg: "{{ ansible_facts.sregistry.images | selectattr('outdated', 'true') | map(attribute='path') }}"

- name: Fail early if an image of the next play does not exist for the nodes' platform
  hpc.sregistry.sregistry_record:
    name: registry.example.org/team/solver:2.4
    platform: linux/arm64
    authfile: ~/.docker/config.json
  check_mode: true
  changed_when: false
"""

RETURN = r"""
images:
  description: What became of each image, in the order of O(name).
  returned: always, unless the task fails before any image is looked at
  type: list
  elements: dict
  contains:
    name:
      description: The name as it was given.
      type: str
      sample: docker://ubuntu:24.04
    reference:
      description: The name in its canonical form.
      type: str
      sample: library/ubuntu:24.04
    changed:
      description: Whether something was done for this image, or would be in check mode.
      type: bool
      sample: true
    action:
      description:
        - V(present) means that the inventory knew already what the name points at.
        - V(recorded) means that it was written.
        - V(failed) means that RV(images[].error) tells what went wrong.
      type: str
      sample: recorded
    platform:
      description: The platform that was looked for.
      type: str
      sample: linux/amd64
    digest:
      description: Digest of what the name points at, an index or a manifest. Null if that is not known.
      type: str
      sample: sha256:c4570d2f4665d5d118ae29fb494dee4f8db8fcfaee0e37a2e19b827f399070d3
    manifest_digest:
      description: Digest of the manifest for the platform. Null if that is not known.
      type: str
      sample: sha256:35f3a8badf2f74c1b320a643b343536f5132f245cbefc40ef802b6203a166d04
    path:
      description: Always null. M(hpc.sregistry.sregistry_pull) returns a path here.
      type: str
      sample: null
    size:
      description: Always null.
      type: int
      sample: null
    sha256:
      description: Always null.
      type: str
      sample: null
    fetched:
      description: How much came over the network, without manifests. A layer that images share is counted once.
      type: dict
      sample: {blobs: 2, bytes: 29727061}
    cached:
      description: How much the cache had already.
      type: dict
      sample: {blobs: 0, bytes: 0}
    seconds:
      description:
        - How long each step took. These are C(resolve) and C(total).
      type: dict
      sample: {resolve: 0.4, total: 0.4}
    error:
      description: Why it failed.
      returned: when RV(images[].action=failed)
      type: str
      sample: "manifest unknown: library/ubuntu has no tag '24.40' (status 404 from docker.io); it has 22.04, 24.04"
diff:
  description:
    - For each image that changes, its digests, its path, and the size of its layers in bytes, before and after.
  returned: in diff mode
  type: list
  elements: dict
  sample:
    - before_header: library/ubuntu:24.04
      before: {}
      after_header: library/ubuntu:24.04
      after:
        digest: sha256:c4570d2f4665d5d118ae29fb494dee4f8db8fcfaee0e37a2e19b827f399070d3
        manifest_digest: sha256:35f3a8badf2f74c1b320a643b343536f5132f245cbefc40ef802b6203a166d04
        path: null
        size: 29724688
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

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._internal.module.base import failing
from ..module_utils._internal.module.options import (
    digests_options,
    gather_options,
    name_options,
    platform_options,
    registry_options,
    store_options,
)
from ..module_utils._internal.module.remote_images import finish, open_session, references_of
from ..module_utils._internal.pull.record import record


def main() -> None:
    """Bring the inventory up to date."""
    module = AnsibleModule(
        {
            **name_options(),
            **digests_options(),
            **platform_options(),
            **registry_options(),
            **store_options(),
            **gather_options(),
        },
        supports_check_mode=True,
    )
    with failing(module):
        references = references_of(module)
        with open_session(module) as session:
            finish(module, session, references, record(session, [reference for _name, reference in references]))


if __name__ == "__main__":
    main()
