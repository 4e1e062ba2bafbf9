#!/usr/bin/python

# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sregistry_add
short_description: Add image files of the host to the inventory, or take over what sregistry has
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Enters image files that are on the managed host already into the inventory, under names of your choice, and copies
    or moves them into the store.
  - Or it takes over a whole store of C(sregistry), its directory of images and its database, in one task.
  - Each file is looked at before anything is done. SIF images and those of Singularity 2 (squashfs and ext3) are
    accepted, if all of the file is there. Anything else is refused.
  - It answers to C(sregistry add). No registry is asked for anything.
extends_documentation_fragment:
  - hpc.sregistry.naming
  - hpc.sregistry.gather
  - hpc.sregistry.attributes
  - hpc.sregistry.store
  - ansible.builtin.files
attributes:
  check_mode:
    details:
      - Files are read and compared, and nothing is written. The changed status and the difference are those of the
        real run.
  diff_mode:
    details:
      - Shows the name, and path and SHA-256 of each file that it has.
  idempotent:
    details:
      - A name that has a file with the same content already stays as it is, wherever that file lies by now.
      - With O(method=move) a file that is gone counts as moved, if the name has a file in the store.
options:
  name:
    description:
      - The name that the image must have, as V([REGISTRY/]COLLECTION/NAME[:TAG]). Without a tag, V(latest) is meant,
        and V(ubuntu) is V(library/ubuntu), as everywhere.
      - It must not be the name of an image that was pulled or recorded from a registry.
    type: str
    aliases: [uri]
  path:
    description:
      - The file to add, an absolute path on the managed host.
    type: path
    aliases: [image, src]
  images:
    description:
      - Several files, each with its name.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The name of the image, as O(name).
        type: str
        required: true
        aliases: [uri]
      path:
        description:
          - The file, as O(path).
        type: path
        required: true
        aliases: [image, src]
  takeover:
    description:
      - Take over what C(sregistry) has on the managed host. C({}) stands for where it has it by default.
      - Each container of its database becomes an entry of the inventory, with its name, client, URL, time, and all
        that the database says of it. Several versions of one name become one entry with several files, and the entry
        of a name that is in the inventory already gets the files in addition.
      - The files stay where they are. A container whose file is missing becomes an entry without a file.
      - The database is opened for reading only. Nothing of C(sregistry) is changed.
    type: dict
    suboptions:
      database:
        description:
          - The database, or the directory with C(sregistry.db). V("") means none.
          - If the option is not given, E(SREGISTRY_DATABASE) of the managed host is used, then the default.
        type: path
        default: ~/.singularity
      directory:
        description:
          - The directory of images. Files in it that the database does not know are entered too, if their paths tell
            their names, as C(library-ubuntu:latest.simg) and C(library/ubuntu/latest@3f0a….sif) do. The others are
            listed in RV(left).
          - A directory in it with a C(.sregistry) of its own is another store, and is not entered.
          - V("") means none.
          - If the option is not given, E(SREGISTRY_STORAGE) of the managed host is used, then the default.
        type: path
        default: ~/.singularity/shub
  method:
    description:
      - What becomes of O(path).
      - V(copy) copies it into the store.
      - V(move) moves it there, as C(sregistry add) does without C(--copy). On one file system, no byte is copied.
      - V(in_place) leaves it where it is and enters it there.
    type: str
    choices: [copy, move, in_place]
    default: copy
  force:
    description:
      - Replace the file that the name has, if it has another one, and a file in the store that the inventory does not
        know. A warning names what was replaced.
      - It does not replace the files of other names, and no images from registries.
      - With O(method=move), take also a file that another name of the inventory has, maybe by a symlink. A warning
        names that one, which has no file any more.
    type: bool
    default: false
  backup:
    description:
      - Keep another file that is replaced in the store, under another name beside it, as RV(images[].backup_file)
        tells. No byte is copied where the file system has hard links.
      - Backups are in no inventory, and nothing removes them.
    type: bool
    default: false
  checksum:
    description:
      - Read also the whole file in the store, and compare its SHA-256 to find out whether it was modified.
      - Otherwise its size and modification time are compared. The file at O(path) is always read.
    type: bool
    default: false
  platform:
    description:
      - The platform of the image. A SIF tells its own, so that another one is an error. For images of Singularity 2,
        which do not tell, the default is the platform of the managed host.
    type: str
  os:
    description:
      - The operating system, if O(platform) is not given.
      - If the option is not given, E(SREGISTRY_DOCKER_OS) of the managed host is used, then what the file tells.
    type: str
  architecture:
    description:
      - The architecture, if O(platform) is not given.
      - If the option is not given, E(SREGISTRY_DOCKER_ARCHITECTURE) of the managed host is used, then what the file
        tells.
    type: str
    aliases: [arch]
notes:
  - The file in the store is C(<registry>/<collection>/<name>-<tag>), with C(.sif), C(.simg) (squashfs) or C(.img)
    (ext3).
  - M(hpc.sregistry.sregistry_pull) replaces an image that was added only with C(force=true).
seealso:
  - module: hpc.sregistry.sregistry_facts
  - module: hpc.sregistry.sregistry_remove
  - module: hpc.sregistry.sregistry_rename
"""

EXAMPLES = r"""
- name: An image that was built elsewhere is in the store
  hpc.sregistry.sregistry_add:
    name: tools/mesher:1.9
    path: /root/mesher.sif

- name: Images for all users, moved from where a job of CI left them
  hpc.sregistry.sregistry_add:
    storage: /var/lib/sregistry
    method: move
    owner: root
    mode: "0755"
    images:
      - name: tools/mesher:1.9
        path: /incoming/mesher.sif
      - name: tools/solver:2.4
        path: /incoming/solver.sif
  become: true

- name: What lies on a shared file system stays there
  hpc.sregistry.sregistry_add:
    name: vendor/fluids:2024
    path: /shared/vendor/fluids.sif
    method: in_place

- name: Take over what the user's sregistry has
  hpc.sregistry.sregistry_add:
    takeover: {}
  register: taken

- name: Show what could not be taken over
  ansible.builtin.debug:
    msg: "{{ item.what }}: {{ item.reason }}"
  loop: "{{ taken.left }}"
  loop_control:
    label: "{{ item.what }}"

- name: Take over a store of a group, into an inventory of its own
  hpc.sregistry.sregistry_add:
    storage: /data/images
    takeover:
      database: /data/sregistry/sregistry.db
      directory: /data/sregistry/shub
"""

RETURN = r"""
images:
  description:
    - What became of each image, in the order of O(images). With O(takeover), one entry for each name and platform.
  returned: always, unless the task fails before any image is looked at
  type: list
  elements: dict
  contains:
    name:
      description: The name as it was given.
      type: str
      sample: tools/mesher:1.9
    reference:
      description: The name in its canonical form.
      type: str
      sample: tools/mesher:1.9
    platform:
      description: The platform of the image. Null if the file could not be read.
      type: str
      sample: linux/amd64
    changed:
      description: Whether something was done for this image, or would be in check mode.
      type: bool
      sample: true
    action:
      description:
        - V(present) means that nothing had to be done.
        - V(added) means that the file is new.
        - V(replaced) means that another file was there.
        - V(repaired) means that the same file was known, and was missing or modified.
        - V(recorded) means that an image without a file was taken over.
        - V(attributes) means that owner, group or mode changed, and nothing else.
        - V(failed) means that there is an RV(images[].error).
      type: str
      sample: added
    path:
      description: Path of the file. Null if there is none.
      type: str
      sample: /var/lib/sregistry/tools/mesher-1.9.sif
    size:
      description: Size of the file in bytes. Null if there is none.
      type: int
      sample: 29454336
    sha256:
      description: The SHA-256 of the file. Null if there is none.
      type: str
      sample: aa6713067a527f1de25341c8d783d193b09cbaffe108a77dc5f08ef412f33a56
    backup_file:
      description: Where the file lies that was replaced.
      returned: with O(backup=true), if another file was replaced, and not in check mode
      type: str
      sample: /var/lib/sregistry/tools/mesher-1.9.sif.4711.2026-11-22@00:20:43~
    error:
      description: Why it failed.
      returned: if it failed
      type: str
      sample: /root/mesher.sif is truncated; it has 100 of 29454336 bytes
left:
  description: What could not be taken over, and why.
  returned: with O(takeover)
  type: list
  elements: dict
  contains:
    what:
      description: The path of a file, or the name of a container without one.
      type: str
      sample: /home/vanessa/.singularity/shub/old.img
    reason:
      description: Why it was left.
      type: str
      sample: its name cannot be told from its path; add it with images, which gives it one
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
from ..module_utils._internal.manage.add import COPY, METHODS, AddRequest, NamedFile, add
from ..module_utils._internal.manage.import_sregistry import Estate, take_over
from ..module_utils._internal.module.attributes import check_owner, prepare, set_attributes
from ..module_utils._internal.module.base import failing, inventory_of, platform_of
from ..module_utils._internal.module.local_images import BesideImages, finish_changes
from ..module_utils._internal.module.options import (
    default_registry_options,
    from_environment,
    gather_options,
    platform_options,
    store_options,
)
from ..module_utils._internal.oci.reference import Reference, parse_registry

_NAME = {"type": "str", "aliases": ["uri"]}
_PATH = {"type": "path", "aliases": ["image", "src"]}


def main() -> None:
    """Add images."""
    module = AnsibleModule(
        {
            **default_registry_options(),
            **platform_options(),
            **store_options(),
            **gather_options(),
            "name": _NAME,
            "path": _PATH,
            "images": {
                "type": "list",
                "elements": "dict",
                "options": {"name": {**_NAME, "required": True}, "path": {**_PATH, "required": True}},
            },
            "takeover": {
                "type": "dict",
                "options": {
                    "database": {
                        "type": "path",
                        "default": "~/.singularity",
                        "fallback": from_environment("SREGISTRY_DATABASE"),
                    },
                    "directory": {
                        "type": "path",
                        "default": "~/.singularity/shub",
                        "fallback": from_environment("SREGISTRY_STORAGE"),
                    },
                },
            },
            "method": {"type": "str", "choices": list(METHODS), "default": COPY},
            "force": {"type": "bool", "default": False},
            "checksum": {"type": "bool", "default": False},
            "backup": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("path", "images", "takeover"), ("name", "images", "takeover")],
        required_one_of=[("path", "images", "takeover")],
        required_together=[("name", "path")],
        add_file_common_args=True,
        supports_check_mode=True,
    )
    with failing(module):
        check_owner(module)
        inventory = inventory_of(module)
        beside = BesideImages()
        if module.params["takeover"] is not None:
            outcomes, left = take_over(inventory, _estate(module))
            beside.values["left"] = [item.to_result() for item in left]
        else:
            outcomes = add(inventory, _request(module), _items(module))
        for outcome in outcomes:
            if outcome.action == PRESENT:  # a new file got them before it got its name
                set_attributes(module, outcome)
        finish_changes(module, inventory, outcomes, beside)


def _items(module: AnsibleModule) -> list[NamedFile]:
    registry = parse_registry(module.params["registry"])
    given = module.params["images"]
    if given is None:
        given = [{"name": module.params["name"], "path": module.params["path"]}]
    return [NamedFile(item["name"], Reference.parse(item["name"], registry), item["path"]) for item in given]


def _request(module: AnsibleModule) -> AddRequest:
    return AddRequest(
        storage=module.params["storage"],
        method=module.params["method"],
        force=module.params["force"],
        checksum=module.params["checksum"],
        check=module.check_mode,
        prepare=lambda path: prepare(module, path),
        platform=platform_of(module),
        backup=module.params["backup"],
    )


def _estate(module: AnsibleModule) -> Estate:
    takeover = module.params["takeover"]
    return Estate(
        database=takeover["database"] or None,
        directory=takeover["directory"] or None,
        platform=platform_of(module),
        check=module.check_mode,
        prepare=lambda path: prepare(module, path),
    )


if __name__ == "__main__":
    main()
