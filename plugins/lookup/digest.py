# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: digest
short_description: The digest that an image's name points at
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Asks the registry, from the controller, which digest a name points at now. All hosts of a play can then be given the
    same image, whenever each of them pulls.
  - It is one request for each name. Docker Hub is asked with C(HEAD), which it does not count against its pull rate
    limit. Other registries are asked with C(GET), since some of them tell another digest in their answer to C(HEAD).
    With O(platform) or O(platforms) the index is fetched, or the manifest and the config of an image without one.
options:
  _terms:
    description:
      - Images, as V([docker://][REGISTRY/]REPOSITORY[:TAG][@DIGEST]), and finished SIF files in registries, with
        V(oras://).
      - The digest of a file on a web server is only known when it was fetched, so V(https://) is refused without
        V(@DIGEST).
    type: list
    elements: str
    required: true
  platform:
    description:
      - Give the digest of the manifest for this platform, for example V(linux/arm64).
      - By default it is the digest that the name points at, which is that of an index if there is one. Give this one to
        hosts of different platforms.
    type: str
  platforms:
    description:
      - Give a dictionary for each name, with C(digest), that the name points at, and C(platforms), the digest of the
        manifest for each of these platforms. It is what O(hpc.sregistry.sregistry_pull#module:digests) takes.
      - An image that is not there for one of them is an error. A lone SIF file does not tell its platform, and its
        dictionary has no C(platforms).
    type: list
    elements: str
  known:
    description:
      - The earlier results with O(platforms), as a dictionary of names, such as C(images) of a lock file. For a
        name that still points at the same digest, one C(HEAD) request is then enough.
    type: dict
    default: {}
  registry:
    description:
      - The registry of names that name none, as V(HOST[:PORT]).
    type: str
    default: docker.io
    env:
      - name: SREGISTRY_DOCKERHUB_BASE
  username:
    description:
      - User name for the registry. It needs O(password) too, and wins over O(authfile).
    type: str
    env:
      - name: SREGISTRY_DOCKERHUB_USERNAME
      - name: APPTAINER_DOCKER_USERNAME
      - name: SINGULARITY_DOCKER_USERNAME
  password:
    description:
      - Password or access token for the registry.
    type: str
    env:
      - name: SREGISTRY_DOCKERHUB_PASSWORD
      - name: APPTAINER_DOCKER_PASSWORD
      - name: SINGULARITY_DOCKER_PASSWORD
  authfile:
    description:
      - A file on the controller with logins, in the format of Docker's C(config.json).
    type: path
    env:
      - name: SREGISTRY_DOCKERHUB_SECRETS
  no_https:
    description:
      - Speak plain HTTP to the registries of all names.
    type: bool
    default: false
    env:
      - name: SREGISTRY_DOCKERHUB_NOHTTPS
      - name: APPTAINER_NOHTTPS
      - name: SINGULARITY_NOHTTPS
  validate_certs:
    description:
      - Whether the TLS certificate of the registry must be valid.
    type: bool
    default: true
    aliases: [tls_verify]
  insecure_registries:
    description:
      - Registries that are reached in another way than the others, each as V([http://]HOST[:PORT]).
      - With V(http://), plain HTTP is spoken to it. Without it, the certificate of the registry is not verified.
      - It counts also for mirrors and caches of SIF files, but not for web servers.
    type: list
    elements: str
    default: []
  ca_path:
    description:
      - A file or directory on the controller with the certificate authorities to trust instead of the system's.
    type: path
  timeout:
    description:
      - Seconds to wait for a connection, and for each next piece of data.
    type: float
    default: 30.0
  retries:
    description:
      - How often a request is tried again after a failure that may pass.
    type: int
    default: 3
requirements:
  - requests (on the controller)
notes:
  - Lookups run on the controller, with its network, its environment variables and its files. An option wins over the
    variables that stand with it, and these win over its default.
  - It asks each time that it is evaluated. Put the result into a fact, or into a variable of a play with
    C(run_once), if many hosts need it.
  - The playbook C(hpc.sregistry.lock) writes what it finds into a lock file.
seealso:
  - module: hpc.sregistry.sregistry_pull
"""

EXAMPLES = r"""
- name: Ask once what the tag means now
  ansible.builtin.set_fact:
    solver: "quay.io/org/solver@{{ lookup('hpc.sregistry.digest', 'quay.io/org/solver:2.4') }}"
  run_once: true

- name: Pull that on every node
  hpc.sregistry.sregistry_pull:
    name: "{{ solver }}"

- name: From a private registry, for one platform
  ansible.builtin.debug:
    msg: >-
      {{ lookup('hpc.sregistry.digest', 'registry.example.org/team/app:1', platform='linux/arm64',
                username=registry_user, password=registry_password) }}

- name: Both kinds of nodes get what the tag means now
  hpc.sregistry.sregistry_pull:
    name: quay.io/org/solver:2.4
    digests:
      quay.io/org/solver:2.4: "{{ locked }}"
  vars:
    locked: "{{ lookup('hpc.sregistry.digest', 'quay.io/org/solver:2.4', platforms=['linux/amd64', 'linux/arm64']) }}"
"""

RETURN = r"""
_raw:
  description: The digests, in the order of the names. With O(platforms), a dictionary for each.
  type: list
  elements: raw
  sample: [sha256:c4570d2f4665d5d118ae29fb494dee4f8db8fcfaee0e37a2e19b827f399070d3]
"""

import os
import sys
import tempfile
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..module_utils._internal.errors import CredentialsError, SregistryError
from ..module_utils._internal.fs.tempdir import temporary_directory
from ..module_utils._internal.oci.blobs import BlobCache
from ..module_utils._internal.oci.pins import Pins
from ..module_utils._internal.oci.platform import Platform
from ..module_utils._internal.oci.reference import Reference, parse_registry
from ..module_utils._internal.registry.location import insecure_hosts
from ..module_utils._internal.registry.pool import Registries
from ..module_utils._internal.registry.resolve_digest import pin
from ..module_utils._internal.transport.http import HAS_REQUESTS
from ..module_utils._internal.transport.keychain import Keychain, Login
from ..module_utils._internal.transport.options import Transport


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible is untyped here
    """Ansible asks this class for the values."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return the digest of each name, or a dictionary for each.

        :raises AnsibleLookupError: naming an unknown option, or with the message of the library.
        """
        self.set_options(var_options=variables, direct=kwargs)
        # Ansible lets them pass, and gives with_… loops a wantlist
        unknown = sorted(set(kwargs) - set(self._options) - {"wantlist"})
        if unknown:
            known = ", ".join(sorted(name for name in self._options if not name.startswith("_")))
            raise AnsibleLookupError(f"hpc.sregistry.digest has no option {', '.join(unknown)}; it has {known}")
        if not HAS_REQUESTS:
            raise AnsibleLookupError(
                f"the Python library requests is missing for {sys.executable} on the controller: "
                f"{sys.executable} -m pip install requests"
            )
        try:
            return self._answers([str(term) for term in terms])
        except SregistryError as error:
            # Ansible would show a cause once more, in the words of the Python libraries
            raise AnsibleLookupError(f"hpc.sregistry.digest, on the controller: {error}") from None

    def _answers(self, names: list[str]) -> list[Any]:
        registry = parse_registry(self.get_option("registry"))
        references = [Reference.parse(name, registry) for name in names]
        login = self._login(references)
        registries = Registries(Keychain(login, self.get_option("authfile")), self._transport())
        try:
            with temporary_directory(tempfile.gettempdir()) as directory:
                return self._asked(registries, BlobCache(directory), references, registry)
        finally:
            registries.close()

    def _asked(self, registries: Registries, cache: BlobCache, references: list[Reference], registry: str) -> list[Any]:
        platform, platforms = self.get_option("platform"), self.get_option("platforms")
        if platform and platforms:
            raise SregistryError("there are both platform and platforms; give one of them")
        wanted = [Platform.parse(name) for name in ([platform] if platform else platforms or [])]
        known = Pins.parse(self.get_option("known"), registry).pins if platforms else {}
        found = [pin(registries, cache, reference, wanted, known.get(reference)) for reference in references]
        if platforms:
            return [one.to_entry() for one in found]
        return [one.platforms.get(wanted[0], one.digest) if wanted else one.digest for one in found]

    def _login(self, references: list[Reference]) -> Login | None:
        """Return the login that is given, which no other registry may see.

        :raises CredentialsError: if it is not complete, or there are several registries.
        """
        login = Login.given(self.get_option("username"), self.get_option("password"))
        hosts = sorted({reference.registry for reference in references})
        if login and len(hosts) > 1:
            raise CredentialsError(
                f"one login for {len(hosts)} registries ({', '.join(hosts)}): it would be shown to all of them; "
                "look up names of one registry at a time, or use an authfile"
            )
        return login

    def _transport(self) -> Transport:
        ca_path = self.get_option("ca_path")
        if ca_path and not os.path.exists(ca_path):
            raise SregistryError(f"ca_path {ca_path} does not exist on the controller")
        return Transport(
            http=self.get_option("no_https"),
            verify=(ca_path or True) if self.get_option("validate_certs") else False,
            timeout=self.get_option("timeout"),
            retries=max(0, self.get_option("retries")),
            connections=1,
            insecure=insecure_hosts(self.get_option("insecure_registries")),
        )
