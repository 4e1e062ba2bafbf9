# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""A task about images in registries: its names, its session, and its result."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

from ..errors import CredentialsError, InvalidReference
from ..fs.files import make_directory
from ..fs.tempdir import remove_stale, temporary_directory
from ..late import importing
from ..oci.blobs import BlobCache
from ..oci.pins import Pins
from ..oci.platform import Platform
from ..oci.reference import Reference, parse_registry
from ..pull.outcome import PullOutcome
from ..pull.session import Session
from ..registry.location import Location
from ..registry.pool import Registries
from ..transport.keychain import Keychain, Login
from ..transport.options import Transport
from .base import SHORTEST_SECRET, blob_directory, facts_after, failure, inventory_of, platform_of

if TYPE_CHECKING:
    from ..pull.sif_cache import SifCache
    from ..registry.mirror import Mirrors

BUILD, FAIL = "build", "fail"
"""The ways to go on without a file that the cache of finished files does not have."""

_MAX_THREADS = 256
_MAX_TIMEOUT = 86400


def references_of(module: AnsibleModule) -> list[tuple[str, Reference]]:
    """Return all names, each as it was written and parsed, before anything is asked of the network.

    :raises InvalidReference, CredentialsError: if the options make no sense.
    """
    need_requests(module)
    registry = parse_registry(module.params["registry"])
    references = [_shown(module, name, Reference.parse(name, registry)) for name in module.params["name"]]
    _refuse_twins([reference for _name, reference in references])
    hosts = sorted({reference.registry for _name, reference in references})
    if module.params["username"] and len(hosts) > 1:
        raise CredentialsError(
            f"one login for {len(hosts)} registries ({', '.join(hosts)}): it would be shown to all of them; "
            "pull from one registry in a task, or use an authfile"
        )
    return references


def need_requests(module: AnsibleModule) -> None:
    """Refuse where the library is missing that speaks to registries."""
    if importlib.util.find_spec("requests") is None:  # which is imported when a registry is asked
        module.fail_json(
            msg=f"the Python library requests is missing for {sys.executable} on this host; "
            "install the package python3-requests"
        )


def _shown(module: AnsibleModule, name: str, reference: Reference) -> tuple[str, Reference]:
    """Return a name as it may be shown: the query of a web address may be a secret."""
    if not reference.query:
        return name, reference
    if len(reference.query) >= SHORTEST_SECRET:
        module.no_log_values.add(reference.query)
    return reference.uri, reference


def _refuse_twins(references: Sequence[Reference]) -> None:
    queries: dict[Reference, str] = {}
    for reference in references:
        if queries.setdefault(reference, reference.query) != reference.query:
            raise InvalidReference(
                f"{reference} is named twice with different queries, which are no part of a name here; give each its "
                "digest, as ADDRESS?QUERY@sha256:…"
            )


@contextmanager
def open_session(module: AnsibleModule) -> Iterator[Session]:
    """Open the session of a run, for a block.

    :raises CredentialsError, InvalidPlatform, InvalidReference: if the options make no sense.
    """
    params = module.params
    if not 1 <= params["threads"] <= _MAX_THREADS:
        module.fail_json(msg=f"threads is {params['threads']}; give 1 to {_MAX_THREADS}")
    if not 0 < params["timeout"] <= _MAX_TIMEOUT:
        module.fail_json(msg=f"timeout is {params['timeout']}; give a number of seconds up to {_MAX_TIMEOUT}")
    keychain = Keychain(Login.given(params["username"], params["password"]), params["authfile"])
    transport = Transport(
        http=params["no_https"],
        verify=(params["ca_path"] or True) if params["validate_certs"] else False,
        timeout=params["timeout"],
        retries=max(0, params["retries"]),
        connections=params["threads"],
        insecure=_insecure(params["insecure_registries"]),
    )
    if isinstance(transport.verify, str) and not os.path.exists(transport.verify):
        module.fail_json(msg=f"ca_path {transport.verify} does not exist on this host")
    registries = Registries(keychain, transport, _mirrors(params["mirrors"]))
    platform = platform_of(module) or Platform.host()
    pins = Pins.parse(params["digests"], parse_registry(params["registry"])) if params.get("digests") else Pins()
    try:
        with _cache(module) as cache:
            yield Session(
                registries,
                cache,
                inventory_of(module),
                platform,
                params["threads"],
                module.check_mode,
                pins,
                _real_cache(module) if module.check_mode else None,
            )
    finally:
        registries.close()


@contextmanager
def _cache(module: AnsibleModule) -> Iterator[BlobCache]:
    """Open the engine's own cache of blobs; a temporary one where it is disabled, or nothing may be written."""
    params = module.params
    if params["disable_cache"] or module.check_mode:
        parent = params["tmpdir"]
        if module.check_mode:  # a tmpdir that a real run would make must not be made
            parent = parent if parent and os.path.isdir(parent) else None
        elif parent:
            make_directory(parent)
        with temporary_directory(parent or tempfile.gettempdir()) as directory:
            yield BlobCache(directory)
        return
    yield BlobCache(blob_directory(module), shared=True)


def _real_cache(module: AnsibleModule) -> BlobCache:
    """Return the cache that check mode may look into, but not write to."""
    if module.params["disable_cache"]:
        return BlobCache(module.params["tmpdir"] or tempfile.gettempdir())
    return BlobCache(blob_directory(module))


def sif_cache_of(module: AnsibleModule, session: Session, references: Sequence[Reference]) -> SifCache | None:
    """Return the cache of finished files that a task names.

    :raises InvalidReference: if it is none.
    """
    given, fills, miss = (module.params[name] for name in ("sif_cache", "sif_cache_push", "sif_cache_miss"))
    if not given:
        if fills or miss == FAIL:
            module.fail_json(msg="sif_cache_push and sif_cache_miss need sif_cache, the registry that they are about")
        return None
    with importing:
        from ..pull.sif_cache import SifCache  # Ansible compiles a module's code each time it runs

    location = Location.parse(given, "sif_cache")
    registry = session.registries.at(location, {reference.registry for reference in references})
    return SifCache(location, registry, session.slots, fills, required=miss == FAIL)


def _insecure(given: Sequence[str]) -> dict[str, bool]:
    """Return by host whether a registry of ``insecure_registries`` speaks plain HTTP.

    :raises InvalidReference: if one is not ``[http://]HOST[:PORT]``.
    """
    if not given:
        return {}
    with importing:
        from ..registry.location import insecure_hosts  # few tasks name one

    return insecure_hosts(given)


def _mirrors(given: dict[str, Any] | None) -> Mirrors:
    """Return the mirrors of each registry, from one address or a list of them."""
    mirrors = {}
    for host, addresses in (given or {}).items():
        listed = [addresses] if isinstance(addresses, str) else addresses
        if not isinstance(listed, list) or not all(isinstance(address, str) for address in listed):
            raise InvalidReference(f"the mirrors of {host} are no address and no list of addresses")
        mirrors[parse_registry(str(host))] = [Location.parse(address, "mirror") for address in listed]
    return mirrors


def finish(
    module: AnsibleModule,
    session: Session,
    references: list[tuple[str, Reference]],
    outcomes: dict[Reference, PullOutcome],
) -> None:
    """End the task with the outcome of each image; it fails if one did, with the results of all."""
    if not module.check_mode:
        # Also where nothing was made: what a killed run left may have been too young for the run that made it up.
        for directory in sorted({os.path.dirname(outcome.path) for outcome in outcomes.values() if outcome.path}):
            remove_stale(directory)
    images = [outcomes[reference].to_result(name) for name, reference in references]
    changed = [outcome for outcome in outcomes.values() if outcome.changed]
    for warning in warnings_of(session, outcomes):
        module.warn(warning)
    result: dict[str, Any] = {"changed": bool(changed), "images": images}
    if module._diff:
        result["diff"] = [outcome.to_diff() for outcome in changed]
    errors = [outcome for outcome in outcomes.values() if outcome.error]
    if errors:
        reasons = [(outcome.reference, outcome.error) for outcome in errors]
        module.fail_json(msg=failure(reasons, len(outcomes), module.check_mode), **result)
    documents = [outcome.document for outcome in outcomes.values()]
    known = [document for document in documents if document]
    module.exit_json(ansible_facts=facts_after(module, session.inventory, known), **result)


def warnings_of(session: Session, outcomes: dict[Reference, PullOutcome]) -> list[str]:
    """Return the warnings about images whose work went on: the same words once, for all images."""
    concerned: dict[str, list[Reference]] = {}
    for reference, outcome in outcomes.items():
        for warning in [*outcome.warnings, *session.registries.warnings(reference)]:
            concerned.setdefault(warning, []).append(reference)
    return [
        f"{images[0]}{f' and {len(images) - 1} more' if len(images) > 1 else ''}: {warning}"
        for warning, images in concerned.items()
    ]
