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
  - It is one C(HEAD) request for each name, which Docker Hub does not count against its pull rate limit. With
    O(platform) the manifests and the config are fetched as well.
options:
  _terms:
    description:
      - Images, as V([docker://][REGISTRY/]REPOSITORY[:TAG][@DIGEST]).
    type: list
    elements: str
    required: true
  platform:
    description:
      - Give the digest of the manifest for this platform, for example V(linux/arm64).
      - By default it is the digest of what the name points at, which is that of an index if there is one. That is what
        to give to hosts of different platforms.
    type: str
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
      - Speak plain HTTP to the registry.
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
"""

RETURN = r"""
_raw:
  description: The digests, in the order of the names.
  type: list
  elements: str
  sample: [sha256:c4570d2f4665d5d118ae29fb494dee4f8db8fcfaee0e37a2e19b827f399070d3]
"""

import os
import tempfile
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.hpc.sregistry.plugins.module_utils.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils.credentials import Keychain, Login
from ansible_collections.hpc.sregistry.plugins.module_utils.errors import CredentialsError, SregistryError
from ansible_collections.hpc.sregistry.plugins.module_utils.image import resolve
from ansible_collections.hpc.sregistry.plugins.module_utils.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils.reach import Transport
from ansible_collections.hpc.sregistry.plugins.module_utils.reference import Reference, parse_registry
from ansible_collections.hpc.sregistry.plugins.module_utils.registries import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils.scratch import temporary_directory
from ansible_collections.hpc.sregistry.plugins.module_utils.transport import HAS_REQUESTS


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible is untyped here
    """What Ansible loads."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """The digest of each name.

        :raises AnsibleLookupError: naming an option that there is not, or with the words of the library.
        """
        self.set_options(var_options=variables, direct=kwargs)
        # Ansible lets them pass, and gives with_… loops a wantlist
        unknown = sorted(set(kwargs) - set(self._options) - {"wantlist"})
        if unknown:
            known = ", ".join(sorted(name for name in self._options if not name.startswith("_")))
            raise AnsibleLookupError(f"hpc.sregistry.digest has no option {', '.join(unknown)}; it has {known}")
        if not HAS_REQUESTS:
            raise AnsibleLookupError("the Python library requests is missing on the controller; install it")
        try:
            return self._digests([str(term) for term in terms])
        except SregistryError as error:
            # Ansible would show a cause once more, in the words of the Python libraries
            raise AnsibleLookupError(f"hpc.sregistry.digest, on the controller: {error}") from None

    def _digests(self, names: list[str]) -> list[str]:
        registry = parse_registry(self.get_option("registry"))
        references = [Reference.parse(name, registry) for name in names]
        login = self._login(references)
        platform = self.get_option("platform")
        wanted = Platform.parse(platform) if platform else None
        registries = Registries(Keychain(login, self.get_option("authfile")), self._transport())
        try:
            return [self._digest(registries, reference, wanted) for reference in references]
        finally:
            registries.close()

    def _digest(self, registries: Registries, reference: Reference, wanted: Platform | None) -> str:
        registry = registries.of(reference)
        if wanted is None:
            return registry.find(reference).digest
        with temporary_directory(tempfile.gettempdir()) as directory:
            return resolve(registry, BlobCache(directory), reference, wanted).manifest_digest

    def _login(self, references: list[Reference]) -> Login | None:
        """The login that is given, which no other registry may see.

        :raises CredentialsError: if it is none, or there are several registries.
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
        )
