#!/usr/bin/python

# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sregistry_build
short_description: Build SIF files and sandboxes
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Makes sure that a SIF file, or a sandbox (a writable directory), is at a path on the managed host, and that it is
    what its source gives now.
  - It is built from an image in a registry, from a definition, or from another image on the host. A definition may be
    a file on the managed host, or a text that Ansible has templated on the controller.
  - It answers to C(apptainer build) and C(singularity build).
extends_documentation_fragment:
  - hpc.sregistry.platform
  - hpc.sregistry.registry
  - hpc.sregistry.gather
  - hpc.sregistry.attributes
  - hpc.sregistry.store
  - hpc.sregistry.engine
  - hpc.sregistry.packer
  - ansible.builtin.files
attributes:
  check_mode:
    details:
      - The definition is read, its build arguments are put in, digests are resolved and compared. Nothing is built.
      - A source, or a file that a definition copies, that is not there is a warning in check mode, since an earlier
        task of the play may be what brings it. So is a missing engine.
  diff_mode:
    details:
      - Shows the inputs of the build, and the definition, as it is in the image, before and after. The values of build
        arguments stand in it.
  idempotent:
    details:
      - An image is built again only if its inputs are others than before, if a SIF file is missing or was modified, if
        a sandbox is missing, or with O(force=true).
      - Inputs are the definition with its build arguments put in, the digests that its C(From) resolve to, the content
        and the permissions of what C(%files) copies from the host, O(format), O(sections), O(fakeroot), the engine, and
        a O(compression) or O(compression_level) that is asked for.
      - What a script downloads, and what the agents C(library), C(shub), C(docker-daemon), C(debootstrap), C(yum) and
        the like start from, nobody can know before. Changes of that are found with O(force=true) alone.
options:
  source:
    description:
      - What to build from.
      - V(docker://[REGISTRY/]REPOSITORY[:TAG][@DIGEST]) is an image in a registry. V(docker://) must be there; a
        name alone, such as V(lab/tiny:1.0), is refused. A SIF file of it is the one that
        M(hpc.sregistry.sregistry_pull) gives, built in the same way, and in the inventory under the same name.
      - An absolute path is a definition file, a SIF file, or a sandbox, on the managed host.
      - V(oci:PATH), V(oci-archive:PATH), V(docker-archive:PATH), V(oras://…), V(library://…) and the like are given to
        the engine as they are.
      - It starts to count as another one if what it names changes. Of a sandbox, the path, mode, owner, size and time
        of every file are compared, which takes one look at each. Of a SIF file, all of it is read.
    type: str
  definition:
    description:
      - The text of a definition, instead of O(source).
      - Ansible templates it on the controller. The lookup P(ansible.builtin.template#lookup) gives that of a file.
        Where the double braces of build arguments are to reach the engine, put them between C({% raw %}) and
        C({% endraw %}).
    type: str
  path:
    description:
      - The file or directory to make, with an absolute path. Missing parents are created.
      - Without it, it follows from O(name), or from the name of an image in a registry as O(source). It is where
        M(hpc.sregistry.sregistry_pull) would put an image of that name, below O(storage), and has no ending C(.sif) for
        a sandbox. There, nothing of another image, and nothing that was pulled, is replaced without O(force=true).
      - A SIF file that is there is replaced, any other file is not.
      - A directory is replaced only with O(force=true), and only by what is complete, and only if an engine has built
        it. What was changed in it is lost.
    type: path
    aliases: [dest]
  format:
    description:
      - V(sif) is a file that nobody can change, V(sandbox) a directory that may be worked in.
      - A sandbox is not built again because it was worked in.
    type: str
    choices: [sif, sandbox]
    default: sif
  name:
    description:
      - A name for the result in the inventory, such as V(team/solver:2.4). Without it, the name is made from O(path).
      - It is not for an image in a registry, which has its own name in the inventory.
    type: str
  build_args:
    description:
      - Values for the build arguments of a definition, which stand there as C({{ NAME }}). They win over those of its
        section C(%arguments).
      - It needs Apptainer 1.2 or SingularityCE 4.0. A value is one line, not empty, and without spaces around it.
      - The engine writes the definition into the image with the values in it, for everybody to read. This is no place
        for secrets.
    type: dict
    default: {}
  chdir:
    description:
      - The directory on the managed host that relative names in a definition start from. Normally the one of the
        definition file.
    type: path
  fakeroot:
    description:
      - Let the build look like one of root, with C(--fakeroot).
      - Normally that is done where an ordinary user builds from a definition. For its scripts to see more than one
        user, this user needs a range in C(/etc/subuid) and C(/etc/subgid), and the program C(newuidmap).
      - For root it is of use where root lacks capabilities, as in a container.
    type: bool
  sections:
    description:
      - Only run these sections of the definition. V(none) runs none.
    type: list
    elements: str
    choices: [setup, post, files, environment, test, labels, none]
    default: []
  run_tests:
    description:
      - Run the section C(%test) at the end. If it fails, the task fails, and what was there stays.
    type: bool
    default: true
  force:
    description:
      - Build again, even if nothing has changed, and replace a sandbox with all that was changed in it, or
        an image file that was added.
    type: bool
    default: false
  backup:
    description:
      - Keep what is replaced, under another name beside it, as RV(images[].backup_file) tells. A sandbox is renamed,
        and no byte of a file is copied where the file system has hard links.
      - Backups are in no inventory, and nothing removes them.
    type: bool
    default: false
  checksum:
    description:
      - Read the whole file and compare its SHA-256 to find out whether it was modified.
      - Otherwise its size and modification time are compared.
    type: bool
    default: false
  build_timeout:
    description:
      - Seconds that the engine may take.
    type: float
    default: 21600.0
  use_cmd:
    description:
      - Let the container run the image's C(CMD) instead of its C(ENTRYPOINT), for an image in a registry as O(source).
      - If the option is not given, E(SREGISTRY_DOCKER_CMD) of the managed host is used.
    type: bool
    default: false
  builder:
    description:
      - How the layers become a SIF file, for an image in a registry as O(source), as with
        M(hpc.sregistry.sregistry_pull).
    type: str
    choices: [auto, stream, sandbox]
    default: auto
  compression:
    description:
      - How the file system in a SIF file is compressed, as with M(hpc.sregistry.sregistry_pull).
      - For anything but V(auto), a build by the engine needs Apptainer 1.4. Other engines decide for themselves.
    type: str
    choices: [auto, zstd, gzip, lz4, xz]
    default: auto
  compression_level:
    description:
      - Level of the compression, 1 to 22 for V(zstd) (normally 3) and 1 to 9 for V(gzip) (normally 1).
    type: int
  reproducible:
    description:
      - Build the same file, byte for byte, wherever the same image in a registry is the O(source), as with
        M(hpc.sregistry.sregistry_pull). What an engine builds from a definition has times and identifiers of its own.
    type: bool
    default: true
  mode:
    description:
      - Permissions of a SIF file, as M(ansible.builtin.file) understands them. A sandbox has those of the image.
      - By default a new file is readable and executable as far as the umask allows.
    type: raw
requirements:
  - apptainer or singularity-ce
  - squashfs-tools
notes:
  - What is built appears whole or not at all. It is made beside O(path), and renamed.
  - If a tag that a definition starts from is moved during the build, it is built again, at most three times in all.
  - The engine gets one login for all registries that a definition starts from, in its environment. Where they are
    several, and one needs a login, pull that image before, and start from its file, with the agent C(localimage).
  - The engine verifies the certificate of a registry, even with O(validate_certs=false). Give O(ca_path).
  - The scripts of a definition run as whoever builds, C(%setup) and C(%pre) even outside of the container, with the
    environment of the engine. The login to the registry is in it while the build runs. Build only definitions that you
    trust, with the login too.
  - A sandbox that root builds holds the set-user-ID programs and device nodes of its image, which every user who can go
    there can use on the host. Build those of images that you do not trust as an ordinary user, below a directory of
    mode 0700, or on a file system that is mounted with C(nosuid,nodev).
seealso:
  - module: hpc.sregistry.sregistry_pull
  - module: hpc.sregistry.sregistry_facts
"""

EXAMPLES = r"""
- name: A SIF file of an image, as singularity build lolcow.sif docker://godlovedc/lolcow
  hpc.sregistry.sregistry_build:
    source: docker://godlovedc/lolcow
    path: /opt/images/lolcow.sif

- name: A writable sandbox, as singularity build --sandbox
  hpc.sregistry.sregistry_build:
    source: docker://godlovedc/lolcow
    path: /scratch/lolcow
    format: sandbox

- name: From a definition file on the host, as sudo singularity build lolcow-own.sif lolcow.def
  hpc.sregistry.sregistry_build:
    source: /srv/definitions/lolcow.def
    path: /opt/images/lolcow-own.sif
  become: true

- name: From a template on the controller
  hpc.sregistry.sregistry_build:
    definition: "{{ lookup('ansible.builtin.template', 'solver.def.j2') }}"
    path: /opt/images/solver-{{ solver_version }}.sif
    name: team/solver:{{ solver_version }}

- name: In the store, at the path that follows from the name
  hpc.sregistry.sregistry_build:
    source: /srv/definitions/solver.def
    name: team/solver:2.4
    storage: /shared/images

- name: From a text with build arguments
  hpc.sregistry.sregistry_build:
    definition: |
      Bootstrap: docker
      From: docker.io/library/debian:{% raw %}{{ RELEASE }}{% endraw %}

      %arguments
          RELEASE=bookworm

      %post
          apt-get update && apt-get install -y --no-install-recommends openmpi-bin

      %runscript
          exec mpirun "$@"
    build_args:
      RELEASE: trixie
    path: /opt/images/mpi.sif

- name: From a private image, as sudo singularity build --docker-login
  hpc.sregistry.sregistry_build:
    definition: |
      Bootstrap: docker
      From: ilumb/mylolcow
    path: /opt/images/mylolcow.sif
    username: "{{ registry_user }}"
    password: "{{ registry_password }}"

- name: A sandbox that was worked in becomes a SIF file for production
  hpc.sregistry.sregistry_build:
    source: /scratch/lolcow
    path: /opt/images/lolcow-mine.sif

- name: A SIF file becomes a sandbox
  hpc.sregistry.sregistry_build:
    source: /opt/images/lolcow.sif
    path: /scratch/lolcow-again
    format: sandbox
"""

RETURN = r"""
images:
  description: What became of the build, one entry.
  returned: always, unless the task fails before anything is looked at
  type: list
  elements: dict
  contains:
    name:
      description: O(name), or else O(source), or else O(path).
      type: str
      sample: docker://godlovedc/lolcow
    reference:
      description: The name in the inventory, in its canonical form.
      type: str
      sample: build://localhost/opt/images/lolcow.sif:latest
    changed:
      description: Whether something was done, or would be in check mode.
      type: bool
      sample: true
    action:
      description:
        - V(present) means that it was there, of the same inputs.
        - V(attributes) means the same, but that O(owner), O(group), O(mode) or the like had to be set.
        - V(recorded) means that only the inventory changed.
        - V(built), or V(pulled) for a SIF file of an image in a registry, means that it was not known at this path.
        - V(rebuilt) means that it had other inputs, or that O(force=true) asked for a new one.
        - V(repaired) means that it was missing or modified.
        - V(failed) means that RV(images[].error) tells what went wrong.
      type: str
      sample: built
    platform:
      description: The platform.
      type: str
      sample: linux/amd64
    digest:
      description: Digest of what a name in a registry points at. Null for any other source.
      type: str
      sample: sha256:c4570d2f4665d5d118ae29fb494dee4f8db8fcfaee0e37a2e19b827f399070d3
    manifest_digest:
      description: Digest of the manifest for the platform, of an image in a registry. Null for any other source.
      type: str
      sample: sha256:35f3a8badf2f74c1b320a643b343536f5132f245cbefc40ef802b6203a166d04
    path:
      description: The file or directory, where it is or would be.
      type: str
      sample: /opt/images/lolcow.sif
    size:
      description: Size of the file, or of all files in the sandbox when it was built, in bytes. Null if there is none.
      type: int
      sample: 29454336
    sha256:
      description: The SHA-256 of the file. Empty for a sandbox, null if there is none.
      type: str
      sample: aa6713067a527f1de25341c8d783d193b09cbaffe108a77dc5f08ef412f33a56
    inputs:
      description: What decides what is built, each input as a word or a digest.
      returned: unless it is a SIF file of an image in a registry
      type: dict
      sample:
        definition: sha256:5f5d1f5b9c3d3e3f2e7c5b6a0f0f7d8c4d9a3b1e6c2f8a7b5d4e3c2b1a0f9e8d
        engine: apptainer
        fakeroot: "no"
        format: sif
        from: docker://godlovedc/lolcow@sha256:c4570d2f4665d5d118ae29fb494dee4f8db8fcfaee0e37a2e19b827f399070d3
    fetched:
      description: How much this collection fetched over the network, without manifests. The engine's part is unknown.
      type: dict
      sample: {blobs: 2, bytes: 29727061}
    cached:
      description: How much the cache had already.
      type: dict
      sample: {blobs: 0, bytes: 0}
    seconds:
      description: How long each step took. C(build) is the engine's, C(wait) is until other runs let go of the file.
      type: dict
      sample: {resolve: 0.4, wait: 0.0, build: 41.1, assemble: 0.2, total: 41.8}
    builder:
      description: The builder that made the file, why that one, and what decompressed the layers for it.
      returned: when a SIF file of an image in a registry was built
      type: dict
      contains:
        name:
          description: V(stream) or V(sandbox).
          type: str
          sample: stream
        reason:
          description: Why this one.
          type: str
          sample: mksquashfs reads tar archives
        decoders:
          description:
            - What decompressed the layers, the one that gave most first, how many bytes each gave, and how long it
              was waited for. A layer that is read twice counts twice, one that is not compressed does not count.
            - For gzip it is V(rapidgzip), V(isal), V(igzip) or V(zlib), for zstd V(compression.zstd), V(zstandard),
              or V(zstd).
          type: list
          elements: dict
          contains:
            name:
              description: The library or program.
              type: str
              sample: isal
            bytes:
              description: How much it gave, decompressed.
              type: int
              sample: 77850112
            seconds:
              description: How long it was waited for, in all threads together.
              type: float
              sample: 0.18
    backup_file:
      description: Where that lies which was replaced.
      returned: with O(backup=true), if something was replaced, and not in check mode
      type: str
      sample: /opt/images/lolcow.sif.4711.2026-11-22@00:20:43~
    error:
      description: Why it failed; where the engine did, its last words.
      returned: when RV(images[].action=failed)
      type: str
      sample: "the definition has 'Bootstrap: docker', but no From; name the image in 'From: IMAGE'"
diff:
  description:
    - The inputs and the definition, before and after, if something changes. For a SIF file of an image in a registry,
      what M(hpc.sregistry.sregistry_pull) shows.
  returned: in diff mode
  type: list
  elements: dict
  sample:
    - before_header: /opt/images/lolcow.sif
      before: {}
      after_header: /opt/images/lolcow.sif
      after:
        path: /opt/images/lolcow.sif
        format: sif
        text: ["Bootstrap: docker", "From: godlovedc/lolcow"]
ansible_facts:
  description: The inventory after the task, in short form, as M(hpc.sregistry.sregistry_facts) returns it.
  returned: success
  type: dict
  contains:
    sregistry:
      description: The inventory of this store.
      type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._internal.build.build import create
from ..module_utils._internal.build.request import BuildRequest, path_in_store
from ..module_utils._internal.engine.definition import values_of
from ..module_utils._internal.inventory.outcome import PRESENT, RECORDED
from ..module_utils._internal.module.attributes import check_owner, prepare, set_attributes
from ..module_utils._internal.module.base import failing
from ..module_utils._internal.module.build_options import be_nice, toolchain_of
from ..module_utils._internal.module.options import (
    build_options,
    gather_options,
    platform_options,
    registry_options,
    store_options,
)
from ..module_utils._internal.module.remote_images import finish, need_requests, open_session
from ..module_utils._internal.oci.reference import Reference
from ..module_utils._internal.pull.session import Session
from ..module_utils._internal.sif.formats import SANDBOX, SIF
from ..module_utils._internal.sif.toolchain import AUTO

SECTIONS = ("setup", "post", "files", "environment", "test", "labels", "none")
FILE_OPTIONS = ("owner", "group", "mode", "attributes", "selevel", "serole", "setype", "seuser")


def main() -> None:
    """Build an image."""
    module = AnsibleModule(
        {
            **platform_options(),
            **registry_options(),
            **store_options(),
            **gather_options(),
            **build_options(),
            "source": {"type": "str"},
            "definition": {"type": "str"},
            "path": {"type": "path", "aliases": ["dest"]},
            "format": {"type": "str", "choices": [SIF, SANDBOX], "default": SIF},
            "name": {"type": "str"},
            "build_args": {"type": "dict", "default": {}},
            "chdir": {"type": "path"},
            "fakeroot": {"type": "bool"},
            "sections": {"type": "list", "elements": "str", "choices": list(SECTIONS), "default": []},
            "run_tests": {"type": "bool", "default": True},
            "force": {"type": "bool", "default": False},
            "checksum": {"type": "bool", "default": False},
            "backup": {"type": "bool", "default": False},
            "build_timeout": {"type": "float", "default": 21600.0},
        },
        add_file_common_args=True,
        supports_check_mode=True,
        mutually_exclusive=[("source", "definition")],
        required_one_of=[("source", "definition")],
    )
    with failing(module):
        check_owner(module)
        check_format(module)
        be_nice(module)
        need_requests(module)
        with open_session(module) as session:
            request = request_of(module, session)
            outcome = create(session, request)
            if outcome.action in (PRESENT, RECORDED) and request.format == SIF:
                set_attributes(module, outcome, session.kept(outcome))  # a new file got them before its name
            name = module.params["name"] or module.params["source"] or request.path
            finish(module, session, [(name, outcome.reference)], {outcome.reference: outcome})


def request_of(module: AnsibleModule, session: Session) -> BuildRequest:
    """Make a request of the options."""
    params = module.params
    uncached = params["disable_cache"] or module.check_mode
    name = Reference.parse(params["name"]) if params["name"] else None
    return BuildRequest(
        path=params["path"] or path_in_store(params["storage"], name, params["source"], params["format"]),
        format=params["format"],
        source=params["source"],
        definition=params["definition"],
        directory=params["chdir"],
        arguments=values_of(params["build_args"]),
        fakeroot=params["fakeroot"],
        sections=tuple(params["sections"]),
        tests=params["run_tests"],
        name=name,
        force=params["force"],
        checksum=params["checksum"],
        toolchain=toolchain_of(module),
        cachedir=None
        if uncached
        else os.path.dirname(os.path.dirname(session.cache.directory)),  # of <root>/cache/blob
        ca_path=params["ca_path"],
        prepare=lambda path: prepare(module, path),
        timeout=params["build_timeout"],
        store=None if params["path"] else params["storage"],
        backup=params["backup"],
    )


def check_format(module: AnsibleModule) -> None:
    """Refuse what makes no sense for a directory."""
    if module.params["format"] == SIF:
        return
    given = [name for name in FILE_OPTIONS if module.params.get(name) is not None]
    given += ["compression"] if module.params["compression"] != AUTO else []
    given += ["compression_level"] if module.params["compression_level"] is not None else []
    if given:
        module.fail_json(msg=f"{', '.join(given)} is for SIF files; a sandbox has the permissions of its image")


if __name__ == "__main__":
    main()
