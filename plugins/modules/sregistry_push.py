#!/usr/bin/python

# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sregistry_push
short_description: Push SIF files to registries
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Makes sure that a name in a Docker or OCI registry means a SIF file of the managed host. The file is stored there as
    it is, as C(singularity push) and C(apptainer push) store it, and can be pulled by them, by ORAS, and by
    M(hpc.sregistry.sregistry_pull) with C(oras://).
  - What the inventory knows of the file goes with it, as annotations of its manifest.
  - A tag that names another SIF file is moved to this one.
  - It answers to C(singularity push) and C(apptainer push) with C(oras://).
extends_documentation_fragment:
  - hpc.sregistry.attributes
  - hpc.sregistry.platform
  - hpc.sregistry.registry
  - hpc.sregistry.store
  - hpc.sregistry.gather
attributes:
  check_mode:
    details:
      - Nothing is sent. Whether the registry would take it is not known before it is sent.
  diff_mode:
    details:
      - Shows what the name means before and after, by the digests of manifest and file, size, and annotations.
  idempotent:
    details:
      - The registry is asked with one request what the name means. If that is this file with these annotations, nothing
        else is asked. A file that the inventory knows, and whose size and time are the same, is not read for this.
options:
  name:
    description:
      - An image that the inventory knows, of which a file is pushed.
      - Give this, O(path), or both.
    type: str
    aliases: [uri, image]
  path:
    description:
      - Absolute path of a SIF file on the managed host, whether the inventory knows it or not.
      - With O(name), which of the image's files to push, if there are several that differ.
    type: path
    aliases: [src]
  to:
    description:
      - Where to push it, as V([oras://][REGISTRY/]REPOSITORY[:TAG]). Without a tag, V(latest) is meant.
    type: str
    required: true
    aliases: [dest]
  registry:
    description:
      - The registry of names that name none, in O(name) and O(to), as V(HOST[:PORT]).
      - If the option is not given, E(SREGISTRY_DOCKERHUB_BASE) of the managed host is used, then the default.
    type: str
    default: docker.io
  annotations:
    description:
      - More annotations for the manifest, such as V(org.opencontainers.image.source). Keys and values are texts.
      - Those whose keys begin with C(hpc.sregistry.) are written by this module, from the inventory. They say the name
        and digests of the image that the file was built from, its platform, the inputs of the build, and the versions
        of engine and packer. The standard ones C(org.opencontainers.image.base.name) and
        C(org.opencontainers.image.base.digest) are written too, unless they are given here.
    type: dict
    default: {}
  force:
    description:
      - Push the file though it was changed since the inventory learnt of it. What the inventory knows is then not said,
        since it is not true of this file.
      - Take the name also from what is no single SIF file, such as a container image. Nothing can be pulled by this
        name then but the file.
    type: bool
    default: false
notes:
  - A large file is sent in pieces. When a connection breaks, the registry is asked how far it came, and only the rest
    is sent. If the registry does not know, it begins anew, three times at most. The name is given to the file when all
    of it is there, and means what it meant until then.
  - If the file was pulled from another repository of the same registry, with C(oras://), the registry is asked to take
    it from there, and nothing is sent.
  - What is pushed goes to the registry itself. O(mirrors) are not asked, and O(cachedir), O(disable_cache), O(tmpdir)
    and O(threads) mean nothing here. They are there so that C(module_defaults) can be the same for all modules that
    talk to registries.
seealso:
  - module: hpc.sregistry.sregistry_pull
  - module: hpc.sregistry.sregistry_sign
  - module: hpc.sregistry.sregistry_build
"""

EXAMPLES = r"""
- name: What was built on this host, for all others
  hpc.sregistry.sregistry_push:
    name: tools/solver:2.4
    to: oras://registry.example.org/sifs/solver:2.4
    username: ci
    password: "{{ registry_password }}"

- name: A file that the inventory does not know, with where its source is
  hpc.sregistry.sregistry_push:
    path: /opt/images/mesher.sif
    to: registry.example.org/sifs/mesher:1.9
    annotations:
      org.opencontainers.image.source: https://git.example.org/mesher
      org.opencontainers.image.revision: "{{ commit }}"
    authfile: /root/.docker/config.json

- name: The tag that production pulls now means the release that was tested
  hpc.sregistry.sregistry_push:
    name: oras://registry.example.org/staging/solver:2.4
    to: oras://registry.example.org/production/solver:current
    authfile: /root/.docker/config.json
"""

RETURN = r"""
images:
  description: What became of the file. There is one entry.
  returned: always, unless the task fails before any file is looked at
  type: list
  elements: dict
  contains:
    name:
      description: The image in its canonical form, or the path, if only that was given.
      type: str
      sample: tools/solver:2.4
    reference:
      description: The name in the registry, in its canonical form.
      type: str
      sample: oras://registry.example.org/sifs/solver:2.4
    platform:
      description: The platform of the image. Null if the inventory does not know the file.
      type: str
      sample: linux/amd64
    changed:
      description: Whether the name means something else than before, or would do so after a run without check mode.
      type: bool
      sample: true
    action:
      description:
        - V(present) means that the name means this file already.
        - V(pushed) means that the name is new in the registry.
        - V(moved) means that the name meant something else before.
        - V(failed) means that there is an RV(images[].error).
      type: str
      sample: pushed
    path:
      description: Path of the file.
      type: str
      sample: /var/lib/sregistry/tools/solver-2.4.sif
    size:
      description: Size of the file in bytes. Null if there is none that can be pushed.
      type: int
      sample: 29454336
    sha256:
      description: The SHA-256 of the file. Null if there is none that can be pushed.
      type: str
      sample: aa6713067a527f1de25341c8d783d193b09cbaffe108a77dc5f08ef412f33a56
    digest:
      description:
        - The digest of the manifest in the registry. With V(@) and this digest instead of a tag, the name always means
          this file. Null if it failed before the registry was asked.
      type: str
      sample: sha256:2dd8a02b696b9f3fd3b3d8d1c9ed1a4d7f3d3cc0a1cbd6f5a4e5f3a0d8e9b7c6
    pushed:
      description:
        - How much was sent. Nothing, if the registry had the file already, and in check mode.
      type: dict
      contains:
        blobs:
          description: Number of files.
          type: int
          sample: 1
        bytes:
          description: Their size in bytes.
          type: int
          sample: 29454336
    mounted:
      description: Whether the registry took the file from another of its repositories.
      type: bool
      sample: false
    error:
      description: Why it failed.
      returned: if it failed
      type: str
      sample: there is no file /opt/images/solver.sif to push; pull or build it first
diff:
  description: What the name means before and after.
  returned: in diff mode, if something changes
  type: list
  elements: dict
  sample:
    - before_header: oras://registry.example.org/sifs/solver:2.4
      before: {}
      after_header: oras://registry.example.org/sifs/solver:2.4
      after:
        digest: sha256:2dd8a02b696b9f3fd3b3d8d1c9ed1a4d7f3d3cc0a1cbd6f5a4e5f3a0d8e9b7c6
        sha256: aa6713067a527f1de25341c8d783d193b09cbaffe108a77dc5f08ef412f33a56
        size: 29454336
        annotations: {hpc.sregistry.platform: linux/amd64}
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

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._internal.manage.push import PushRequest, check_annotations, parse_destination, push_file
from ..module_utils._internal.module.base import failing
from ..module_utils._internal.module.local_images import finish_changes
from ..module_utils._internal.module.options import (
    default_registry_options,
    gather_options,
    platform_options,
    registry_options,
    store_options,
)
from ..module_utils._internal.module.remote_images import need_requests, open_session
from ..module_utils._internal.oci.reference import Reference, parse_registry


def main() -> None:
    """Push a file."""
    module = AnsibleModule(
        {
            **default_registry_options(),
            **platform_options(),
            **registry_options(),
            **store_options(),
            **gather_options(),
            "name": {"type": "str", "aliases": ["uri", "image"]},
            "path": {"type": "path", "aliases": ["src"]},
            "to": {"type": "str", "required": True, "aliases": ["dest"]},
            "annotations": {"type": "dict", "default": {}},
            "force": {"type": "bool", "default": False},
        },
        required_one_of=[("name", "path")],
        supports_check_mode=True,
    )
    with failing(module):
        need_requests(module)
        params = module.params
        registry = parse_registry(params["registry"])
        to = parse_destination(params["to"], registry)
        annotations = check_annotations(params["annotations"])
        reference = Reference.parse_known(params["name"], registry) if params["name"] is not None else None
        with open_session(module) as session:
            request = PushRequest(
                reference, session.platform, params["path"], to, annotations, params["force"], module.check_mode
            )
            outcome = push_file(session.inventory, session.registries, request)
        finish_changes(module, session.inventory, [outcome])


if __name__ == "__main__":
    main()
