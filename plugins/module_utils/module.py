# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""What the modules share of Ansible: argument specs, environment fall-backs, results, and errors as failures."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils.basic import AnsibleModule, env_fallback

from . import engine
from .blobs import BlobCache
from .credentials import Keychain, Login
from .errors import CredentialsError, SregistryError
from .facts import Question, query
from .files import make_directory, temporary_directory
from .inventory import Inventory
from .means import AUTO, BUILDERS, COMPRESSIONS
from .platform import Platform
from .pull import ALWAYS, NOT_PRESENT, Wanted, pull
from .record import PRESENT, RECORDED, record
from .reference import Reference
from .registry import HAS_REQUESTS, Registries, Transport
from .session import Outcome, Session

if TYPE_CHECKING:
    from .squashfs import Packer

_MANY_DOCUMENTS = 1000
_MAX_THREADS = 256
_MAX_TIMEOUT = 86400
_MAX_NICENESS = 19


def _from_environment(*names: str) -> tuple[Any, list[str]]:
    """A fall-back to variables of the managed host; for each SINGULARITY_ variable its APPTAINER_ twin comes first."""
    variables = []
    for name in names:
        if name.startswith("SINGULARITY_"):
            variables.append("APPTAINER_" + name[len("SINGULARITY_") :])
        variables.append(name)
    return env_fallback, variables


def store_options() -> dict[str, Any]:
    """Where images and inventory lie."""
    return {
        "storage": {
            "type": "path",
            "default": "~/.singularity/shub",
            "fallback": _from_environment("SREGISTRY_STORAGE"),
        },
        "database": {"type": "path", "fallback": _from_environment("SREGISTRY_DATABASE")},
    }


def registry_options() -> dict[str, Any]:
    """Which images, and how to reach and enter their registries."""
    return {
        "name": {"type": "list", "elements": "str", "required": True, "aliases": ["uri", "image"]},
        "platform": {"type": "str"},
        "username": {
            "type": "str",
            "fallback": _from_environment("SREGISTRY_DOCKERHUB_USERNAME", "SINGULARITY_DOCKER_USERNAME"),
        },
        "password": {
            "type": "str",
            "no_log": True,
            "fallback": _from_environment("SREGISTRY_DOCKERHUB_PASSWORD", "SINGULARITY_DOCKER_PASSWORD"),
        },
        "authfile": {"type": "path", "fallback": _from_environment("SREGISTRY_DOCKERHUB_SECRETS")},
        "no_https": {
            "type": "bool",
            "default": False,
            "fallback": _from_environment("SREGISTRY_DOCKERHUB_NOHTTPS", "SINGULARITY_NOHTTPS"),
        },
        "validate_certs": {"type": "bool", "default": True},
        "ca_path": {"type": "path"},
        "timeout": {"type": "float", "default": 30.0},
        "retries": {"type": "int", "default": 3},
        "threads": {"type": "int", "default": 9, "fallback": _from_environment("SREGISTRY_PYTHON_THREADS")},
        "cachedir": {"type": "path", "fallback": _from_environment("SINGULARITY_CACHEDIR")},
        "disable_cache": {"type": "bool", "default": False, "fallback": _from_environment("SINGULARITY_DISABLE_CACHE")},
        "tmpdir": {"type": "path", "fallback": _from_environment("SINGULARITY_TMPDIR", "TMPDIR")},
        "gather": {"type": "str", "choices": ["auto", "all", "task"], "default": "auto"},
    }


def record_main() -> None:
    """The module ``sregistry_record``."""
    module = AnsibleModule({**registry_options(), **store_options()}, supports_check_mode=True)
    with _failing(module):
        references = _references(module)
        with _session(module) as session:
            outcomes = record(session, [reference for _name, reference in references])
            _exit(module, session, references, outcomes)


def pull_main() -> None:
    """The module ``sregistry_pull``."""
    module = AnsibleModule(
        {
            **registry_options(),
            **store_options(),
            "dest": {"type": "path"},
            "pull": {"type": "str", "choices": [ALWAYS, NOT_PRESENT], "default": ALWAYS},
            "checksum": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "engine": {"type": "path"},
            **_build_options(),
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    with _failing(module):
        _check_owner(module)
        _be_nice(module)
        references = _references(module)
        wanted = Wanted(
            storage=module.params["storage"],
            dest=module.params["dest"],
            policy=module.params["pull"],
            checksum=module.params["checksum"],
            force=module.params["force"],
            tmpdir=module.params["tmpdir"] or tempfile.gettempdir(),
            engine=functools.lru_cache(maxsize=None)(lambda: engine.find(module.params["engine"])),
            engine_kind=functools.lru_cache(maxsize=None)(lambda: engine.kind_of(module.params["engine"])),
            packer=functools.lru_cache(maxsize=None)(lambda: _packer(module)),
            builder=module.params["builder"],
            reproducible=module.params["reproducible"],
            inputs=_inputs(module),
            prepare=lambda path: _prepare(module, path),
        )
        with _session(module) as session:
            outcomes = pull(session, wanted, [reference for _name, reference in references])
            for outcome in outcomes.values():
                if outcome.action in (PRESENT, RECORDED):  # a new file got them before it got its name
                    _set_attributes(module, outcome)
            _exit(module, session, references, outcomes)


def _build_options() -> dict[str, Any]:
    """How a file is built."""
    return {
        "builder": {"type": "str", "choices": list(BUILDERS), "default": AUTO},
        "compression": {"type": "str", "choices": [AUTO, *COMPRESSIONS], "default": AUTO},
        "compression_level": {"type": "int"},
        "reproducible": {"type": "bool", "default": True},
        "packer_processors": {"type": "int"},
        "packer_memory": {"type": "bytes"},
        "niceness": {"type": "int", "default": 0},
    }


def _packer(module: AnsibleModule) -> Packer:
    from . import squashfs  # only a build needs it

    parameters = module.params
    memory = parameters["packer_memory"]
    return squashfs.find(
        parameters["compression"],
        parameters["compression_level"],
        parameters["packer_processors"],
        memory // 2**20 if memory else None,
    )


def _inputs(module: AnsibleModule) -> dict[str, str]:
    """The inputs of a build that were asked for; what was not, stays as it was built."""
    compression, level = module.params["compression"], module.params["compression_level"]
    inputs = {"compression": compression} if compression != AUTO else {}
    if level is not None:
        inputs["level"] = str(level)
    if module.params["reproducible"]:
        inputs["reproducible"] = "yes"
    return inputs


def _be_nice(module: AnsibleModule) -> None:
    """Lower the priority of this process, and so of all that it starts."""
    niceness = module.params["niceness"]
    if not 0 <= niceness <= _MAX_NICENESS:
        module.fail_json(msg=f"niceness is {niceness}; it goes from 0 to {_MAX_NICENESS}, the lowest priority")
    os.nice(niceness)


def facts_main() -> None:
    """The module ``sregistry_facts``."""
    module = AnsibleModule(
        {
            **store_options(),
            "name": {"type": "list", "elements": "str", "aliases": ["uri", "image"]},
            "platform": {"type": "str"},
            "manifests": {"type": "bool", "default": False},
            "inspect": {"type": "bool", "default": False},
            "checksum": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    with _failing(module):
        names = module.params["name"]
        references = [Reference.parse(name) for name in names] if names is not None else None
        platform = module.params["platform"]
        inventory = _inventory(module)
        question = Question(
            references,
            Platform.parse(platform) if platform else None,
            manifests=module.params["manifests"],
            checksum=module.params["checksum"],
            inspect=module.params["inspect"],
        )
        rows = inventory.rows()
        images = query(inventory, rows, question, module.warn)
        known = {row["uri"] for row in rows}
        unknown = [name for name, reference in zip(names or (), references or ()) if reference.uri not in known]
        if not os.path.isdir(inventory.directory):
            module.warn(f"there is no inventory in {inventory.directory}; nothing was pulled or recorded there")
        facts = _facts(module, inventory, rows, True)
        module.exit_json(changed=False, images=images, unknown=unknown, ansible_facts=facts)


@contextmanager
def _failing(module: AnsibleModule) -> Iterator[None]:
    """An error of this library is the failure of the task, in its own words. Who is told to end cleans up first."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        yield
    except SregistryError as error:
        module.fail_json(msg=str(error))


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _references(module: AnsibleModule) -> list[tuple[str, Reference]]:
    """All names parsed, before anything is asked of the network."""
    if not HAS_REQUESTS:
        _fail_without_requests(module)
    references = [(name, Reference.parse(name)) for name in module.params["name"]]
    hosts = sorted({reference.registry for _name, reference in references})
    if module.params["username"] and len(hosts) > 1:
        raise CredentialsError(
            f"one login for {len(hosts)} registries ({', '.join(hosts)}): it would be shown to all of them; "
            "pull from one registry in a task, or use an authfile"
        )
    return references


def _fail_without_requests(module: AnsibleModule) -> NoReturn:
    module.fail_json(
        msg=f"the Python library requests is missing for {sys.executable} on this host; "
        "install the package python3-requests"
    )
    raise AssertionError("fail_json returns never")


@contextmanager
def _session(module: AnsibleModule) -> Iterator[Session]:
    params = module.params
    if not 1 <= params["threads"] <= _MAX_THREADS:
        module.fail_json(msg=f"threads is {params['threads']}; give 1 to {_MAX_THREADS}")
    if not 0 < params["timeout"] <= _MAX_TIMEOUT:
        module.fail_json(msg=f"timeout is {params['timeout']}; give a number of seconds up to {_MAX_TIMEOUT}")
    keychain = Keychain(_login(module), params["authfile"])
    transport = Transport(
        http=params["no_https"],
        verify=(params["ca_path"] or True) if params["validate_certs"] else False,
        timeout=params["timeout"],
        retries=max(0, params["retries"]),
        connections=params["threads"],
    )
    if isinstance(transport.verify, str) and not os.path.exists(transport.verify):
        module.fail_json(msg=f"ca_path {transport.verify} does not exist on this host")
    registries = Registries(keychain, transport)
    platform = Platform.parse(params["platform"]) if params["platform"] else Platform.host()
    try:
        with _cache_directory(module) as directory:
            yield Session(
                registries, BlobCache(directory), _inventory(module), platform, params["threads"], module.check_mode
            )
    finally:
        registries.close()


@contextmanager
def _cache_directory(module: AnsibleModule) -> Iterator[str]:
    """The engine's own cache of blobs; a temporary one where it is disabled, or nothing may be written."""
    params = module.params
    if params["disable_cache"] or module.check_mode:
        parent = params["tmpdir"]
        if module.check_mode:  # a tmpdir that a real run would make must not be made
            parent = parent if parent and os.path.isdir(parent) else None
        elif parent:
            make_directory(parent)
        with temporary_directory(parent or tempfile.gettempdir()) as directory:
            yield directory
        return
    root = params["cachedir"]
    if not root:
        kind = engine.kind_of(params.get("engine"))
        root = os.path.expanduser(f"~/{engine.home_of(kind)}")
    yield os.path.join(root, "cache", "blob")


def _login(module: AnsibleModule) -> Login | None:
    username, password = module.params["username"], module.params["password"]
    if bool(username) != bool(password):
        missing = "password" if username else "username"
        raise CredentialsError(f"there is no {missing} for the login; give both username and password, or neither")
    return Login(username, password) if username else None


def _inventory(module: AnsibleModule) -> Inventory:
    return Inventory(module.params["database"] or os.path.join(module.params["storage"], ".sregistry"))


def _check_owner(module: AnsibleModule) -> None:
    """Find out before anything is built that owner or group do not exist."""
    for key, known in (("owner", pwd.getpwnam), ("group", grp.getgrnam)):
        name = module.params[key]
        try:
            if name and not str(name).isdigit():
                known(name)
        except KeyError:
            module.fail_json(msg=f"there is no {'user' if key == 'owner' else 'group'} {name!r} on this host ({key})")


def _prepare(module: AnsibleModule, path: str) -> None:
    module.set_fs_attributes_if_different(module.load_file_common_arguments(module.params, path=path), False)


def _set_attributes(module: AnsibleModule, outcome: Outcome) -> None:
    """Owner, group and mode as the user wants them; in check mode also of a file that is there already."""
    if outcome.error or not outcome.path or not os.path.exists(outcome.path):
        return
    arguments = module.load_file_common_arguments(module.params, path=outcome.path)
    difference: dict[str, dict[str, Any]] = {}
    if module.set_fs_attributes_if_different(arguments, False, diff=difference):
        if not outcome.changed:
            outcome.changed, outcome.action = True, "attributes"
        outcome.attributes = {"before": difference.get("before", {}), "after": difference.get("after", {})}


def _facts(module: AnsibleModule, inventory: Inventory, rows: list[dict[str, Any]], complete: bool) -> dict[str, Any]:
    return {
        "sregistry": {
            "storage": module.params["storage"],
            "database": inventory.directory,
            "images": rows,
            "complete": complete,
        }
    }


def _facts_after(module: AnsibleModule, inventory: Inventory, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The whole inventory, or, where it is so large that each task would burden the controller, this task's images."""
    gather = module.params["gather"]
    try:
        if gather == "all" or (gather == "auto" and inventory.count() <= _MANY_DOCUMENTS):
            return _facts(module, inventory, inventory.rows(), True)
    except SregistryError as error:  # the work is done, and its result must not be lost
        module.warn(str(error))
    documents = [outcome.after or outcome.before for outcome in outcomes]
    return _facts(module, inventory, [row for document in documents if document for row in document.rows()], False)


def _exit(
    module: AnsibleModule, session: Session, references: list[tuple[str, Reference]], outcomes: dict[Reference, Outcome]
) -> None:
    images = [outcomes[reference].to_result(name) for name, reference in references]
    changed = [outcome for outcome in outcomes.values() if outcome.changed]
    for outcome in outcomes.values():
        for warning in outcome.warnings:
            module.warn(f"{outcome.reference}: {warning}")
    result: dict[str, Any] = {"changed": bool(changed), "images": images}
    if module._diff:
        result["diff"] = [outcome.to_diff() for outcome in changed]
    errors = [outcome for outcome in outcomes.values() if outcome.error]
    if errors:
        module.fail_json(msg=_failure(errors, len(outcomes), module.check_mode), **result)
    module.exit_json(ansible_facts=_facts_after(module, session.inventory, list(outcomes.values())), **result)


def _failure(failed: Sequence[Outcome], total: int, check: bool) -> str:
    if total == 1:
        return str(failed[0].error)
    words = "; ".join(f"{outcome.reference}: {outcome.error}" for outcome in failed)
    others = "" if len(failed) == total else ", the others would be done" if check else ", the others are done"
    return f"{len(failed)} of {total} images failed{others}. {words}"
