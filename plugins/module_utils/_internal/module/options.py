# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that modules share, as argument specs, each with the variables of the host that it falls back to."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import env_fallback

from ..oci.reference import DOCKER_HUB
from ..sif.toolchain import AUTO, BUILDERS, COMPRESSIONS


def from_environment(*names: str) -> tuple[Any, list[str]]:
    """Return a fall-back to variables of the managed host, each APPTAINER_ variable before its SINGULARITY_ twin."""
    variables = []
    for name in names:
        if name.startswith("SINGULARITY_"):
            variables.append("APPTAINER_" + name[len("SINGULARITY_") :])
        variables.append(name)
    return env_fallback, variables


def store_options() -> dict[str, Any]:
    """Return the options for the places of images and inventory."""
    return {
        "storage": {
            "type": "path",
            "default": "~/.singularity/shub",
            "fallback": from_environment("SREGISTRY_STORAGE"),
        },
        "database": {"type": "path", "fallback": from_environment("SREGISTRY_DATABASE")},
    }


def gather_options() -> dict[str, Any]:
    """Return the option for how much of the inventory a module that changes it returns."""
    return {"gather": {"type": "str", "choices": ["auto", "all", "task"], "default": "auto"}}


def platform_options() -> dict[str, Any]:
    """Return the options for the platform of an image."""
    return {
        "platform": {"type": "str"},
        "os": {"type": "str", "fallback": from_environment("SREGISTRY_DOCKER_OS")},
        "architecture": {
            "type": "str",
            "aliases": ["arch"],
            "fallback": from_environment("SREGISTRY_DOCKER_ARCHITECTURE"),
        },
    }


def default_registry_options() -> dict[str, Any]:
    """Return the option for the registry of a name without one."""
    return {
        "registry": {
            "type": "str",
            "default": DOCKER_HUB,
            "fallback": from_environment("SREGISTRY_DOCKERHUB_BASE"),
        }
    }


def cache_options() -> dict[str, Any]:
    """Return the options for the place of the engine's cache."""
    return {"cachedir": {"type": "path", "fallback": from_environment("SINGULARITY_CACHEDIR")}}


def name_options(required: bool = True) -> dict[str, Any]:
    """Return the options for names of images, and for the registry of a name without one."""
    return {
        "name": {"type": "list", "elements": "str", "required": required, "aliases": ["uri", "image"]},
        **default_registry_options(),
        "client": {
            "type": "str",
            "choices": ["dockerhub", "docker"],
            "default": "dockerhub",
            "fallback": from_environment("SREGISTRY_CLIENT"),
        },
    }


def digests_options() -> dict[str, Any]:
    """Return the option for the digests that names are pinned to."""
    return {"digests": {"type": "dict"}}


def registry_options() -> dict[str, Any]:
    """Return the options to reach and enter a registry."""
    return {
        "username": {
            "type": "str",
            "fallback": from_environment("SREGISTRY_DOCKERHUB_USERNAME", "SINGULARITY_DOCKER_USERNAME"),
        },
        "password": {
            "type": "str",
            "no_log": True,
            "fallback": from_environment("SREGISTRY_DOCKERHUB_PASSWORD", "SINGULARITY_DOCKER_PASSWORD"),
        },
        "authfile": {"type": "path", "fallback": from_environment("SREGISTRY_DOCKERHUB_SECRETS")},
        "no_https": {
            "type": "bool",
            "default": False,
            "fallback": from_environment("SREGISTRY_DOCKERHUB_NOHTTPS", "SINGULARITY_NOHTTPS"),
        },
        "api_version": {
            "type": "str",
            "choices": ["v2"],
            "default": "v2",
            "fallback": from_environment("SREGISTRY_DOCKERHUB_VERSION"),
        },
        "mirrors": {"type": "dict"},
        "validate_certs": {"type": "bool", "default": True, "aliases": ["tls_verify"]},
        "insecure_registries": {"type": "list", "elements": "str", "default": []},
        "ca_path": {"type": "path"},
        "timeout": {"type": "float", "default": 30.0},
        "retries": {"type": "int", "default": 3},
        "threads": {"type": "int", "default": 9, "fallback": from_environment("SREGISTRY_PYTHON_THREADS")},
        **cache_options(),
        "disable_cache": {"type": "bool", "default": False, "fallback": from_environment("SINGULARITY_DISABLE_CACHE")},
        "tmpdir": {"type": "path", "fallback": from_environment("SINGULARITY_TMPDIR", "TMPDIR")},
    }


def engine_options() -> dict[str, Any]:
    """Return the option that names the engine."""
    return {"engine": {"type": "path"}}


def verify_options() -> dict[str, Any]:
    """Return the options for the signatures that are accepted."""
    source = {
        "key": {"type": "path", "no_log": False},
        "key_content": {"type": "str", "no_log": False},
        "keyring": {"type": "path", "no_log": False},
        "fingerprints": {"type": "list", "elements": "str", "default": []},
        "certificate": {"type": "path"},
        "intermediates": {"type": "path"},
        "roots": {"type": "path"},
        "ocsp": {"type": "bool", "default": False},
    }
    return {
        "verify": {
            "type": "list",
            "elements": "dict",
            "options": source,
            "mutually_exclusive": [("key", "key_content", "keyring", "certificate"), ("fingerprints", "certificate")],
            "required_by": {"intermediates": "certificate", "roots": "certificate"},
        }
    }


def signing_options() -> dict[str, Any]:
    """Return the options to sign with."""
    return {
        "key": {"type": "path", "no_log": False},
        "key_content": {"type": "str", "no_log": True},
        "passphrase": {"type": "str", "no_log": True},
        "keyring": {"type": "path", "no_log": False},
        "fingerprint": {"type": "str"},
    }


def build_options() -> dict[str, Any]:
    """Return the options for the build of a file."""
    return {
        **engine_options(),
        "use_cmd": {"type": "bool", "default": False, "fallback": from_environment("SREGISTRY_DOCKER_CMD")},
        "builder": {"type": "str", "choices": list(BUILDERS), "default": AUTO},
        "compression": {"type": "str", "choices": [AUTO, *COMPRESSIONS], "default": AUTO},
        "compression_level": {"type": "int"},
        "reproducible": {"type": "bool", "default": True},
        "packer_processors": {"type": "int"},
        "packer_memory": {"type": "bytes"},
        "niceness": {"type": "int", "default": 0},
    }
