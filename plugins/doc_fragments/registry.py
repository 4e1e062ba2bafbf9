# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  username:
    description:
      - User name for the registry. It needs O(password) too, and wins over O(authfile).
      - One login belongs to one registry, so with it all images of the task must be in the same registry.
      - If the option is not given, the first of E(SREGISTRY_DOCKERHUB_USERNAME), E(APPTAINER_DOCKER_USERNAME) and
        E(SINGULARITY_DOCKER_USERNAME) that is set on the managed host is used, for whatever registry the task names.
    type: str
  password:
    description:
      - Password or access token for the registry. It is never stored, shown, or sent to another host.
      - If the option is not given, the first of E(SREGISTRY_DOCKERHUB_PASSWORD), E(APPTAINER_DOCKER_PASSWORD) and
        E(SINGULARITY_DOCKER_PASSWORD) that is set on the managed host is used. Do not set it with the keyword
        C(environment), which Ansible writes onto a command line on the host, for everybody there to see.
    type: str
  authfile:
    description:
      - A file on the managed host with logins to any number of registries, in the format of Docker's C(config.json).
        C(docker login), C(podman login) and C(apptainer registry login) write it.
      - Its C(credHelpers) come first, then its C(credsStore), then its C(auths), where the key of a namespace or
        repository wins over that of its registry. Credential helpers are programs that run on the managed host.
      - A login of this file that the registry does not accept gives way to an anonymous try, with a warning.
      - If the option is not given, E(SREGISTRY_DOCKERHUB_SECRETS) of the managed host is used. Without either, no
        file is read.
    type: path
  no_https:
    description:
      - Speak plain HTTP to the registry. Logins and images then travel unencrypted.
      - It counts for all registries that the names of the task are from, and for no mirror or cache of SIF files, where
        V(http://) before the name says the same.
      - For some registries only, use O(insecure_registries).
      - If the option is not given, the first of E(SREGISTRY_DOCKERHUB_NOHTTPS), E(APPTAINER_NOHTTPS) and
        E(SINGULARITY_NOHTTPS) that is set on the managed host is used.
    type: bool
    default: false
  api_version:
    description:
      - Version of the registry's API. There is only one that registries still speak; both manifest schema versions and
        all of OCI's are part of it.
      - If the option is not given, E(SREGISTRY_DOCKERHUB_VERSION) of the managed host is used.
    type: str
    choices: [v2]
    default: v2
  mirrors:
    description:
      - Other registries that serve the content of a registry, such as a pull-through cache. The keys are registries as
        they stand in names, such as V(docker.io). The values are one address or a list of them, each
        V([http://]HOST[:PORT][/PREFIX]), where V(PREFIX) stands in front of the repositories there.
      - They are asked in their order, and the registry itself only for what none of them gives. A mirror that does not
        answer is not asked again in the same task, with a warning.
      - A mirror decides what a tag points at. What it sends is verified by digest.
      - It never gets O(username) and O(password). Its own login belongs in O(authfile).
    type: dict
  validate_certs:
    description:
      - Whether the TLS certificate of the registry must be valid.
      - Rather than turning this off, give the certificate authority with O(ca_path).
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
      - A file or directory on the managed host with the certificate authorities to trust instead of the system's.
    type: path
  timeout:
    description:
      - Seconds to wait for a connection, and for each next piece of data. It does not limit a whole transfer.
      - The headers of an answer must all be there after four times as long. A layer or file that comes with less than
        64 KiB in 120 seconds is asked for again from where it was, and given up after three times.
    type: float
    default: 30.0
  retries:
    description:
      - How often a request is tried again after a failure that may pass, such as status 429 or 503 or a broken
        connection. What stays so is not tried again, such as a name that does not exist, or a certificate that is not
        valid.
      - The pause between two tries is what the registry asks for, up to one minute, or else doubles each time.
    type: int
    default: 3
  threads:
    description:
      - How many images are resolved, and how many layers are fetched, at the same time.
      - Where some of these connections are free, a large layer or file that comes slowly is fetched in several ranges
        at once, by up to four connections.
      - If the option is not given, E(SREGISTRY_PYTHON_THREADS) of the managed host is used, then the default.
    type: int
    default: 9
  cachedir:
    description:
      - Root of the cache of layers. They lie in C(cache/blob) below it, which is the cache that C(apptainer pull) and
        C(singularity pull) use as well, so that either finds what the other has fetched.
      - If the option is not given, the first of E(APPTAINER_CACHEDIR) and E(SINGULARITY_CACHEDIR) that is set on the
        managed host is used. Without any, it is C(~/.apptainer) where the engine is Apptainer, else
        C(~/.singularity).
    type: path
  disable_cache:
    description:
      - Keep no layers. They are fetched into a temporary directory that is removed at the end.
      - If the option is not given, the first of E(APPTAINER_DISABLE_CACHE) and E(SINGULARITY_DISABLE_CACHE) that is
        set on the managed host is used.
    type: bool
    default: false
  tmpdir:
    description:
      - A directory on the managed host for temporary files. Where layers cannot be streamed into the packer, it has to
        hold the unpacked image.
      - If the option is not given, the first of E(APPTAINER_TMPDIR), E(SINGULARITY_TMPDIR) and E(TMPDIR) that is set
        on the managed host is used, then the system's own, mostly C(/tmp).
    type: path
attributes:
  action_group:
    description:
      - Use C(group/hpc.sregistry.registry) in C(module_defaults) for options of the registry, and
        C(group/hpc.sregistry.sregistry) for O(storage), O(database) and O(platform), which all modules have.
    membership:
      - hpc.sregistry.registry
      - hpc.sregistry.sregistry
    support: full
requirements:
  - python >= 3.9
  - requests
notes:
  - An option wins over the environment variables of the managed host that stand in its description, and these win
    over its default. These are the variables that the task itself sees there. Set them with the keyword
    C(environment) of a play or task. A login shell's C(~/.bashrc) is not read.
  - Proxies are taken from the usual variables of the managed host, E(HTTPS_PROXY), E(HTTP_PROXY) and E(NO_PROXY).
"""
