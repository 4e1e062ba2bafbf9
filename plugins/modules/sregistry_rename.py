#!/usr/bin/python

# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sregistry_rename
short_description: Rename container images, or move their files
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Gives an image of the inventory another name, its file another path, or both. The inventory follows.
  - Nothing is overwritten, whether the inventory knows it or not. A symlink to the file itself is in the way too.
  - A file that another image has as well, maybe by a symlink, is not taken from that one.
  - It answers to C(sregistry rename) and C(sregistry mv). No registry is asked for anything.
extends_documentation_fragment:
  - hpc.sregistry.naming
  - hpc.sregistry.gather
  - hpc.sregistry.attributes
  - hpc.sregistry.store
  - ansible.builtin.files
attributes:
  check_mode:
    details:
      - Nothing is written. The changed status and the difference are those of the real run.
  diff_mode:
    details:
      - Shows the name, and path and SHA-256 of each file.
  idempotent:
    details:
      - If there is no image of the old name, and one of the new name, it was renamed. If both are there, or neither,
        the task fails.
options:
  name:
    description:
      - The image, as M(hpc.sregistry.sregistry_facts) knows it.
    type: str
    required: true
    aliases: [uri, image]
  new_name:
    description:
      - The new name, by tag.
      - A file at the path in O(storage) that follows from the old name moves to the one that follows from the new name.
        Other files of the image stay where they are.
      - What the inventory says of the image's origin stays. M(hpc.sregistry.sregistry_pull) and
        M(hpc.sregistry.sregistry_record) would ask a registry for the new name.
    type: str
    aliases: [new_uri]
  dest:
    description:
      - A new path for the file, absolute. It is taken for a directory if it ends with a slash or is one, and the file
        then keeps its own name.
      - Missing directories are created. To another file system the file is copied, and appears there as a whole.
      - A copy of the file that is there already is taken for what a killed task left, and used. The SHA-256 tells.
        Where the inventory cannot be written, no copy stays behind.
    type: path
  path:
    description:
      - Which file to move to O(dest), if the image has several.
    type: path
    aliases: [src]
  platform:
    description:
      - The platform of the image, for example V(linux/arm64). The default is each that there is. With O(dest) it must
        be one.
    type: str
seealso:
  - module: hpc.sregistry.sregistry_add
  - module: hpc.sregistry.sregistry_facts
  - module: hpc.sregistry.sregistry_remove
"""

EXAMPLES = r"""
- name: A release candidate becomes the release
  hpc.sregistry.sregistry_rename:
    name: tools/solver:2.4-rc3
    new_name: tools/solver:2.4

- name: The file moves to the shared file system
  hpc.sregistry.sregistry_rename:
    name: tools/solver:2.4
    dest: /shared/images/
    mode: "0755"
"""

RETURN = r"""
images:
  description: What became of the image, one entry for each platform.
  returned: always, unless the task fails before any image is looked at
  type: list
  elements: dict
  contains:
    name:
      description: The name before, in its canonical form.
      type: str
      sample: tools/solver:2.4-rc3
    reference:
      description: The name after, in its canonical form.
      type: str
      sample: tools/solver:2.4
    platform:
      description: The platform of the image.
      type: str
      sample: linux/amd64
    changed:
      description: Whether something was done, or would be in check mode.
      type: bool
      sample: true
    action:
      description:
        - V(present) means that nothing had to be done.
        - V(renamed) means that the name is new, and the path of a file in the store with it.
        - V(moved) means that the path of a file is new.
        - V(attributes) means that owner, group or mode changed, and nothing else.
        - V(failed) means that there is an RV(images[].error).
      type: str
      sample: renamed
    path:
      description: Path of the file after the task. Null if there is none.
      type: str
      sample: /var/lib/sregistry/tools/solver-2.4.sif
    size:
      description: Size of the file in bytes. Null if there is none.
      type: int
      sample: 29454336
    sha256:
      description: The SHA-256 of the file. Null if there is none.
      type: str
      sample: aa6713067a527f1de25341c8d783d193b09cbaffe108a77dc5f08ef412f33a56
    error:
      description: Why it failed.
      returned: if it failed
      type: str
      sample: /shared/images/solver-2.4.sif is there already; remove it, or choose another name or dest
ansible_facts:
  description: The inventory after the task, in short form, as M(hpc.sregistry.sregistry_facts) returns it.
  returned: success
  type: dict
  contains:
    sregistry:
      description: The inventory of this store.
      type: dict
      sample: {storage: /var/lib/sregistry, database: /var/lib/sregistry/.sregistry, complete: true, images: []}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._internal.inventory.outcome import PRESENT
from ..module_utils._internal.manage.move import RenameRequest
from ..module_utils._internal.manage.rename import rename
from ..module_utils._internal.module.attributes import check_owner, prepare, set_attributes
from ..module_utils._internal.module.base import failing, inventory_of
from ..module_utils._internal.module.local_images import finish_changes
from ..module_utils._internal.module.options import default_registry_options, gather_options, store_options
from ..module_utils._internal.oci.platform import Platform
from ..module_utils._internal.oci.reference import Reference, parse_registry


def main() -> None:
    """Rename an image."""
    module = AnsibleModule(
        {
            **default_registry_options(),
            **store_options(),
            **gather_options(),
            "name": {"type": "str", "required": True, "aliases": ["uri", "image"]},
            "new_name": {"type": "str", "aliases": ["new_uri"]},
            "dest": {"type": "path"},
            "path": {"type": "path", "aliases": ["src"]},
            "platform": {"type": "str"},
        },
        required_one_of=[("new_name", "dest")],
        required_by={"path": "dest"},
        add_file_common_args=True,
        supports_check_mode=True,
    )
    with failing(module):
        check_owner(module)
        params = module.params
        registry = parse_registry(params["registry"])
        reference = Reference.parse_known(params["name"], registry)
        request = RenameRequest(
            reference=reference,
            platform=Platform.parse(params["platform"]) if params["platform"] else None,
            new=Reference.parse(params["new_name"], registry) if params["new_name"] is not None else reference,
            dest=params["dest"],
            source=params["path"],
            storage=params["storage"],
            check=module.check_mode,
            prepare=lambda path: prepare(module, path),
        )
        inventory = inventory_of(module)
        outcomes = rename(inventory, request)
        for outcome in outcomes:
            if outcome.action == PRESENT:  # a file that was moved has them
                set_attributes(module, outcome)
        finish_changes(module, inventory, outcomes)


if __name__ == "__main__":
    main()
