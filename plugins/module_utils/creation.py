# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``build``: SIF files and sandboxes from images in registries, definitions, and images on this host."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from . import material, sif, storage
from .credentials import Login
from .definition import DOCKER, LOCAL_IMAGE, Base, Definition, of_uri, parse
from .delivery import Delivery, threads_for
from .document import Document, File
from .engine import BuildOptions
from .errors import (
    CertificateError,
    CredentialsError,
    EngineError,
    InvalidDefinition,
    InvalidReference,
    InvalidSif,
    PackerError,
    RegistryError,
    StorageError,
)
from .files import beside, make_directory, need_writable, read_regular, replacing, swap_in, temporary_directory
from .format import SANDBOX, SIF, is_image, is_sandbox
from .image import ResolvedImage
from .means import Choice
from .platform import Platform
from .pull import ALWAYS, REBUILT, REPAIRED, Wanted, forget_others, pull
from .record import PRESENT, RECORDED, is_current, resolve_image, timestamp, to_document, to_merged
from .reference import DEFAULT_TAG, Reference
from .session import Outcome, Session

BUILT = "built"
CLIENT = "local"  # sregistry's name for what comes from no registry
_SCHEME, _HOST = "build", "localhost"  # of the name in the inventory that a file without one has from its path

_ATTEMPTS = 3  # builds of one run, where a base is moved while they go on
_LOCK_TIMEOUT = 6 * 3600.0  # seconds that one run waits for another that builds the same
_PACKER_OPTION = ("build", "--mksquashfs-args")
_CHUNK = 1024 * 1024  # bytes
_MAX_DEFINITION = 16 * 1024 * 1024  # bytes
_REMOTE = (DOCKER, "oras")
_ARCHIVES = ("oci-archive", "docker-archive")
_AGENTS = (*_REMOTE, *_ARCHIVES, LOCAL_IMAGE, "oci", "library", "shub", "docker-daemon")
_FREE = frozenset(("compression", "level"))  # inputs that may be anything where nothing is asked for


@dataclass(frozen=True)
class Order:
    """What shall be built, and how.

    :ivar path: where it shall be, absolute.
    :ivar format: ``sif`` or ``sandbox``.
    :ivar source: a URI, or the path of a definition, a SIF or a sandbox; None if there is a ``definition``, a text.
    :ivar directory: that relative names in a definition start from; None for the one of the definition's file.
    :ivar arguments: values of the definition's build arguments.
    :ivar fakeroot: None for what suits: an ordinary user needs it to run a definition.
    :ivar sections: of the definition that shall run, all if there are none.
    :ivar name: of the result in the inventory.
    :ivar checksum: read a whole file to find out whether it was modified.
    :ivar cachedir: of the engine; None means that nothing is cached.
    :ivar plain: whether the engine may speak HTTP to registries.
    :ivar verify: whether certificates of registries must be valid.
    :ivar prepare: sets owner and mode of a finished file before it gets its name.
    :ivar timeout: of the engine, in seconds.
    """

    path: str
    format: str
    source: str | None
    definition: str | None
    directory: str | None
    arguments: Mapping[str, str] = field(repr=False)
    fakeroot: bool | None
    sections: tuple[str, ...]
    tests: bool
    name: Reference | None
    force: bool
    checksum: bool
    choice: Choice
    cachedir: str | None
    plain: bool
    verify: bool
    ca_path: str | None
    prepare: Callable[[str], None]
    timeout: float

    @property
    def image(self) -> Reference | None:
        """The image of a registry to build from, which needs no engine to be read."""
        return Reference.parse(self.source) if self.source and self.source.startswith(f"{DOCKER}://") else None


@dataclass(frozen=True)
class Recipe:
    """What the engine is to build: its definition, and that text or else the source to hand to the engine."""

    definition: Definition
    text: str | None
    source: str
    directory: str

    @property
    def files(self) -> tuple[str, ...]:
        """What is copied from the host, as it is written."""
        return tuple(name for stage in self.definition.stages for name in stage.files)

    @property
    def may_make_files(self) -> bool:
        """Whether a script of it runs on the host before files are copied."""
        return any(stage.runs_on_host for stage in self.definition.stages)


@dataclass
class Creation(Outcome):
    """What became of a build. Its difference is that of its inputs, and of the definition in the image."""

    target: str = ""
    inputs_before: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    text_before: str | None = None
    text: str | None = None

    def to_result(self, name: str) -> dict[str, Any]:
        """As for any image, and the inputs."""
        return {**super().to_result(name), "inputs": self.inputs or self.inputs_before}

    def to_diff(self) -> dict[str, Any]:
        """The inputs and the definition before and after; definitions with line for line of their own."""
        there = {"path": self.path_before} if self.path_before else {}
        inputs = self.inputs or self.inputs_before
        known = {name: value for name, value in self.inputs_before.items() if name in inputs or name not in _FREE}
        before: dict[str, Any] = {**there, **known}
        after: dict[str, Any] = {"path": self.target, **inputs}
        if self.text is not None and self.text_before != self.text:
            after["text"] = self.text.splitlines()
            if self.text_before is not None:
                before["text"] = self.text_before.splitlines()
        return {
            "before_header": self.target,
            "after_header": self.target,
            "before": {**before, **self.attributes["before"]},
            "after": {**after, **self.attributes["after"]},
        }


def create(session: Session, order: Order) -> Outcome:
    """Make sure that an image is at a path, and that it is what its source gives now.

    :raises SregistryError: if the order makes no sense; what goes wrong later is in the outcome.
    """
    path = order.path
    if not os.path.isabs(path):
        raise StorageError(f"{path!r} is no absolute path; write path with a leading '/'")
    order = dataclasses.replace(order, path=os.path.normpath(path))
    image = order.image
    if image is None:
        return _attempt(session, order, order.name or reference_of(order.path), _create)
    if order.name:
        raise InvalidReference(
            f"{order.source} has a name in the inventory, its own; leave name out, or pull it with dest"
        )
    if order.arguments or order.sections or order.fakeroot:
        raise InvalidDefinition(
            f"{order.source} is no definition, and is not run: build_args, sections and fakeroot mean nothing for it"
        )
    if order.format == SANDBOX:
        return _attempt(session, order, image, _unpack)
    if os.path.isdir(order.path):
        raise StorageError(f"{order.path} is a directory; remove it, or give another path for the file")
    wanted = Wanted(
        storage=os.path.dirname(order.path),
        dest=order.path,
        policy=ALWAYS,
        checksum=order.checksum,
        force=order.force,
        choice=order.choice,
        prepare=order.prepare,
    )
    return pull(session, wanted, [image])[image]


def reference_of(path: str) -> Reference:
    """The name in the inventory of what has none, from where it is: ``build://localhost/opt/app.sif:latest``."""
    quoted = urllib.parse.quote(os.fsencode(path.lstrip("/")), safe="/")
    if len(quoted) > 1000:  # a name that everybody can still read
        quoted = hashlib.sha256(os.fsencode(path)).hexdigest()
    return Reference(_HOST, quoted, DEFAULT_TAG, scheme=_SCHEME)


def _attempt(
    session: Session, order: Order, reference: Reference, work: Callable[[Session, Order, Creation], None]
) -> Creation:
    outcome = Creation(reference, session.platform, path=order.path, target=order.path)
    with outcome.clock("total"), outcome.catching():
        work(session, order, outcome)
    return outcome


# -- with the engine -------------------------------------------------------------------------------------------------


def _create(session: Session, order: Order, outcome: Creation) -> None:
    with outcome.clock("resolve"):
        recipe = _recipe(order)
        if recipe:
            _check(recipe, outcome)
        missing = _missing(recipe, order)
        if missing and not session.check:
            raise StorageError(
                f"there is no {missing} on this host; put it there in a task before, or correct the name"
            )
        if missing or recipe is None:
            outcome.warnings.append(f"there is no {missing} on this host yet")  # a task before may be what brings it
            outcome.action, outcome.changed = BUILT, True
            return
        login = _login(session, order, recipe)
        inputs = _inputs(session, order, recipe)
        own, other = _known(session, outcome)
        file = own or other
        outcome.inputs_before, outcome.inputs = dict(file.inputs) if file else {}, inputs
        state = _state(order, file)
        if file and state == storage.PRESENT and not order.force and _agree(file.inputs, inputs):
            outcome.path_before, outcome.inputs = order.path, {}
            if own:
                outcome.action = PRESENT
                return
            outcome.action, outcome.changed = RECORDED, True
        else:
            _decide(session, order, outcome, file, state)
            outcome.text = None if recipe.text is None else recipe.definition.text
            outcome.text_before = _definition_in(order.path) if outcome.path_before else None
    outcome.after = _document(session, order, outcome)
    if session.check:
        return
    with _held(session, outcome):
        latest = session.inventory.get(outcome.reference, session.platform)
        found = latest.file(order.path) if latest else None
        if found and found != own and not order.force and _serves(order, found, inputs):
            # Another run did the work while this one waited for the lock.
            outcome.after, outcome.changed, outcome.action = latest, False, PRESENT
            return
        if outcome.action == RECORDED and other:
            new = other
        else:
            new = _run_engine(session, order, recipe, login, outcome)
        _enter(session, outcome, new)


def _recipe(order: Order) -> Recipe | None:
    """What is to be built; None if its source is not there."""
    if order.directory and not os.path.isabs(order.directory):
        raise StorageError(f"{order.directory!r} is no absolute path; write chdir with a leading '/'")
    if order.definition is not None:
        what = "the definition"
        text = order.definition.replace("\r\n", "\n")
        return Recipe(parse(text, order.arguments, what), text, what, order.directory or "")
    source = order.source or ""
    agent, colon, _rest = source.partition(":")
    if colon and agent in _AGENTS and not os.path.lexists(source):
        _refuse_useless(order)
        return Recipe(of_uri(source), None, source, order.directory or "")
    if not os.path.isabs(source):
        raise InvalidDefinition(
            f"the source {source!r} is neither a URI that begins with {', '.join(f'{name}:' for name in _AGENTS)}, "
            "nor an absolute path; correct it, or give a definition's text with definition"
        )
    if not os.path.exists(source):
        return None
    if os.path.realpath(source) == os.path.realpath(order.path):
        raise StorageError(f"source and path are the same, {source}; give another path")
    directory = order.directory or os.path.dirname(source)
    if os.path.isdir(source) or is_image(source):
        _refuse_useless(order)
        return Recipe(of_uri(f"{LOCAL_IMAGE}:{source}"), None, source, directory)
    try:
        text = read_regular(os.path.realpath(source), _MAX_DEFINITION).decode("utf-8").replace("\r\n", "\n")
    except OSError as error:
        raise StorageError(f"cannot read the definition {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidDefinition(
            f"{source} is neither a definition in UTF-8 nor an image of a format that is known"
        ) from error
    return Recipe(parse(text, order.arguments, f"the definition {source}"), text, source, directory)


def _missing(recipe: Recipe | None, order: Order) -> str:
    """What of the host is not there, but needed; empty if nothing is missing."""
    if recipe is None:
        return str(order.source)
    paths = (_local(recipe, base) for base in recipe.definition.bases)
    missing = [path for path in paths if path and not os.path.exists(path)]
    if not recipe.may_make_files:
        missing += material.missing(recipe.files, recipe.directory)
    return ", ".join(missing)


def _refuse_useless(order: Order) -> None:
    if order.arguments or order.sections:
        raise InvalidDefinition(
            f"{order.source} is an image and no definition: build_args and sections mean nothing for it"
        )


def _check(recipe: Recipe, outcome: Creation) -> None:
    """Refuse names that start nowhere, and say what nobody will notice."""
    local = [base.source for base in recipe.definition.bases if _local(recipe, base)]
    relative = [name for name in (*local, *recipe.files) if not os.path.isabs(name) and material.is_plain(name)]
    if relative and not recipe.directory:
        raise InvalidDefinition(
            f"the name {relative[0]!r} in {recipe.source} is relative, and it is not said to what; give chdir, or "
            "write it with a leading '/'"
        )
    for name in recipe.files:
        if not material.is_plain(name):
            outcome.warnings.append(
                f"%files copies {name!r}, which only the engine's shell can read: nobody notices when that changes"
            )


def _inputs(session: Session, order: Order, recipe: Recipe) -> dict[str, str]:
    """What decides the result. The values of build arguments are part of the definition's digest alone."""
    inputs = {"format": order.format, "definition": material.digest_of_text(recipe.definition.text)}
    found = [f"{base.uri}@{digest}" for base, digest in _bases(session, recipe) if digest]
    if found:
        inputs["from"] = " ".join(found)
    if recipe.files:
        inputs["files"] = material.digest_of_files(recipe.files, recipe.directory)
    if order.sections:
        inputs["sections"] = ",".join(sorted(order.sections))
    inputs["fakeroot"] = "yes" if _fakeroot(order, recipe) else "no"
    kind = order.choice.engine_kind()
    if kind:
        inputs["engine"] = kind
    if order.format == SIF:
        inputs.update({name: value for name, value in order.choice.inputs.items() if name in _FREE})
    return inputs


def _agree(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether a build now would have the inputs of one before. Where there is no engine now, any was right."""
    free = {name for name in (*_FREE, "engine") if name not in now}
    return {k: v for k, v in before.items() if k not in free} == dict(now)


def _bases(session: Session, recipe: Recipe) -> Iterator[tuple[Base, str | None]]:
    """What the stages start from, with its digest; None where nobody can tell it."""
    for base in recipe.definition.bases:
        if base.agent in _REMOTE:
            reference = _remote(base)
            yield base, reference.digest or session.registries.of(reference).find(reference).digest
        elif _local(recipe, base):
            yield base, material.digest_of_image(_local(recipe, base))
        else:
            yield base, None


def _local(recipe: Recipe, base: Base) -> str:
    """The path of what tells a base on this host from another; empty if it is none. An OCI layout's index tells all."""
    if base.agent == LOCAL_IMAGE:
        return os.path.join(recipe.directory, base.source)
    if base.agent in (*_ARCHIVES, "oci"):
        path = os.path.join(recipe.directory, base.source.partition(":")[0])
        return os.path.join(path, "index.json") if base.agent == "oci" else path
    return ""


def _remote(base: Base) -> Reference:
    return Reference.parse(f"{DOCKER}://{base.source}")


def _login(session: Session, order: Order, recipe: Recipe) -> Login | None:
    """The login for the engine, which shows the one that it has to all registries.

    :raises CredentialsError: if it would be shown to one that it is not for.
    :raises CertificateError: if certificates need not be valid: no engine leaves them unverified.
    """
    registries = {
        reference.registry: reference
        for reference in (_remote(base) for base in recipe.definition.bases if base.agent in _REMOTE)
    }
    if registries and not order.verify and not order.plain:
        raise CertificateError(
            f"the engine verifies the certificate of {', '.join(sorted(registries))}, whatever validate_certs says; "
            "give its certificate authority with ca_path"
        )
    logins = {registry: session.registries.login(reference) for registry, reference in registries.items()}
    if len(logins) > 1 and any(logins.values()):
        raise CredentialsError(
            f"the definition starts from images of {len(logins)} registries ({', '.join(sorted(logins))}), and the "
            "engine would show one login to all of them; pull the private image in a task before, and start from its "
            "file with Bootstrap: localimage"
        )
    return next(iter(logins.values()), None)


def _fakeroot(order: Order, recipe: Recipe) -> bool:
    if order.fakeroot is None:
        return recipe.text is not None and os.geteuid() != 0
    return order.fakeroot


def _run_engine(session: Session, order: Order, recipe: Recipe, login: Login | None, outcome: Creation) -> File:
    """Build until no base was moved meanwhile, and put the result into its place."""
    engine = order.choice.engine()
    make_directory(os.path.dirname(order.path))
    make_directory(order.choice.tmpdir)
    platform = session.platform
    with temporary_directory(order.choice.tmpdir) as work, _place(order, outcome, work) as place:
        packer = _packer_words(order) if order.format == SIF and engine.dialect.knows(*_PACKER_OPTION) else None
        options = BuildOptions(
            sandbox=order.format == SANDBOX,
            fakeroot=_fakeroot(order, recipe),
            no_test=not order.tests,
            sections=order.sections,
            arguments=order.arguments,
            packer_arguments=packer,
            architecture=None if platform.architecture == Platform.host().architecture else platform.architecture,
            login=login,
            no_https=order.plain,
            ca_path=order.ca_path,
            cachedir=order.cachedir,
            tmpdir=work,
            directory=recipe.directory or "/",
            timeout=order.timeout,
        )
        if order.format == SIF and "compression" in order.choice.inputs and packer is None:
            engine.dialect.option(*_PACKER_OPTION)  # says which version can
        source = recipe.source
        if recipe.text is not None:
            source = os.path.join(work, "definition")
            with open(source, "x", encoding="utf-8", newline="") as stream:
                stream.write(recipe.text)
        for number in range(_ATTEMPTS):
            target = os.path.join(place, str(number))
            with outcome.clock("build"):
                outcome.warnings.extend(engine.build(target, source, options))
            inputs = {**outcome.inputs, **_moved(session, recipe)}
            if inputs == outcome.inputs:
                break
            outcome.inputs = inputs
        else:
            raise RegistryError(
                f"what {recipe.source} starts from was moved {_ATTEMPTS} times while it was built; build it when that "
                "is over, or start from a digest"
            )
        with outcome.clock("assemble"):
            packed = _packed(order) if packer else {}
            return _put(order, outcome, target, {**outcome.inputs, **packed}, engine.version)


def _packer_words(order: Order) -> str | None:
    """What the engine tells its packer; None for the engine's own choice, where ours is not needed and not there."""
    try:
        return order.choice.packer().words
    except PackerError:
        if "compression" in order.choice.inputs:
            raise
        return None


def _packed(order: Order) -> dict[str, str]:
    packer = order.choice.packer()
    level = {} if packer.level is None else {"level": str(packer.level)}
    return {"compression": packer.compression, **level}


def _moved(session: Session, recipe: Recipe) -> dict[str, str]:
    """The input ``from``, as it is after a build."""
    found = [f"{base.uri}@{digest}" for base, digest in _bases(session, recipe) if digest]
    return {"from": " ".join(found)} if found else {}


# -- without -----------------------------------------------------------------------------------------------------------


def _unpack(session: Session, order: Order, outcome: Creation) -> None:
    """A sandbox of an image in a registry: nothing of it is run, so it needs the engine for its own part alone."""
    reference, choice = outcome.reference, order.choice
    document = outcome.before = session.inventory.get(reference, session.platform)
    file = document.file(order.path) if document else None
    outcome.inputs_before = _told(file)
    state = _state(order, file)
    fresh = file is not None and state == storage.PRESENT and not order.force
    fresh = fresh and file is not None and file.inputs.get("format") == SANDBOX and choice.agrees(file.inputs)
    with outcome.clock("resolve"):
        known = fresh and document and file and file.manifest_digest == document.manifest_digest
        if document and known and is_current(session, reference, document):
            outcome.action, outcome.path_before = PRESENT, order.path
            return
        image = resolve_image(session, reference, outcome)
        if not isinstance(image, ResolvedImage):
            raise InvalidReference(
                f"{reference} is a finished file and has no layers; pull it, and build the directory from that file"
            )
    outcome.after = to_document(image, session, document)
    kind = choice.engine_kind()
    wished = {name: value for name, value in choice.inputs.items() if name in ("command", "reproducible")}
    outcome.inputs = {"format": SANDBOX, **wished, **({"engine": kind} if kind else {})}
    outcome.inputs["from"] = f"{reference.url}@{image.manifest_digest}"
    if fresh and file and file.manifest_digest == image.manifest_digest:
        outcome.action, outcome.changed, outcome.path_before = RECORDED, True, order.path
    else:
        _decide(session, order, outcome, file or _known(session, outcome)[1], state)
    if session.check:
        return
    with threads_for(session) as pool:
        delivery = Delivery(session, image, outcome)
        if outcome.action != RECORDED:
            delivery.begin(pool)
        with _held(session, outcome):
            latest = session.inventory.get(reference, session.platform)
            found = latest.file(order.path) if latest else None
            outcome.after = to_merged(outcome.after, latest)
            if outcome.action == RECORDED:
                session.inventory.put(outcome.after)
                return
            if found and found != file and not order.force and found.manifest_digest == image.manifest_digest:
                # Another run did the work while this one waited for the lock.
                outcome.after, outcome.changed, outcome.action = latest, False, PRESENT
                return
            _enter(session, outcome, _written(session, order, delivery, outcome, image.manifest_digest))


def _written(session: Session, order: Order, delivery: Delivery, outcome: Creation, digest: str) -> File:
    from .build import unpack  # only a build needs it

    means = order.choice.tree_means(session.threads)
    make_directory(os.path.dirname(order.path))
    with _place(order, outcome, "") as place:
        roots = (os.path.join(place, str(number)) for number in range(1000))

        def build(arrival: Callable[[Any], object]) -> tuple[str, list[str]]:
            root = next(roots)
            os.mkdir(root)
            return root, unpack(delivery.image, session.cache, means, root, arrival, outcome.clock)

        root, warnings = delivery.serve(build)
        outcome.warnings.extend(warnings)
        file = _put(order, outcome, root, means.inputs, means.engine.version)
    return dataclasses.replace(file, builder="sandbox", manifest_digest=digest)


def _told(file: File | None) -> dict[str, str]:
    if file is None:
        return {}
    return {**file.inputs, **({"from": file.manifest_digest} if file.manifest_digest else {})}


# -- for both ----------------------------------------------------------------------------------------------------------


def _known(session: Session, outcome: Creation) -> tuple[File | None, File | None]:
    """The file that is recorded at the path under the name of the build; or else that of another name."""
    document = outcome.before = session.inventory.get(outcome.reference, session.platform)
    own = document.file(outcome.target) if document else None
    if own:
        return own, None
    for owner in session.inventory.owners(outcome.target):
        outcome.displaced = owner
        return None, owner.file(outcome.target)
    return None, None


def _state(order: Order, file: File | None) -> str:
    """Whether what is recorded is there. A directory is there to be changed."""
    if file is None:
        return storage.MISSING
    if file.inputs.get("format") == SANDBOX:
        return storage.PRESENT if os.path.isdir(order.path) else storage.MISSING
    if os.path.isdir(order.path):
        return storage.MODIFIED
    return storage.state(file.path, file.size, file.mtime_ns, file.sha256, order.checksum)


def _serves(order: Order, file: File, inputs: Mapping[str, str]) -> bool:
    return _agree(file.inputs, inputs) and _state(order, file) == storage.PRESENT


def _decide(session: Session, order: Order, outcome: Creation, file: File | None, state: str) -> None:
    """Name what a build would do, and refuse what could not end well."""
    outcome.changed = True
    outcome.action = BUILT if file is None else REBUILT if state == storage.PRESENT else REPAIRED
    if os.path.lexists(order.path):
        outcome.path_before = order.path
        _refuse_loss(order, file is not None, file is not None and state == storage.PRESENT)
    need_writable(os.path.dirname(order.path))
    need_writable(order.choice.tmpdir)
    try:
        order.choice.engine()
    except EngineError as error:
        if not session.check:
            raise
        outcome.warnings.append(str(error))


def _refuse_loss(order: Order, known: bool, ours: bool) -> None:
    """Refuse to replace what is no image; and a directory, with what was changed in it, unless that is asked for."""
    path = order.path
    if os.path.islink(path) and (order.format == SANDBOX or os.path.isdir(path)):
        raise StorageError(f"{path} is a symlink; give the path that it leads to, or remove it")
    if os.path.isdir(path):
        if not os.listdir(path):
            return
        if not (known or is_sandbox(path)):
            raise StorageError(
                f"{path} is a directory that no engine has built, and it is not empty; remove it, or give another path"
            )
        if not order.force:
            why = "built from other inputs" if ours else "not built here, as far as the inventory knows"
            raise StorageError(
                f"{path} is a directory that was {why}, and what was changed in it would be lost; give force: true to "
                "replace it, or another path"
            )
    elif not os.path.isfile(path):
        if not os.path.islink(path):
            raise StorageError(f"{path} is there and is no regular file; remove it, or give another path")
    elif not known and not is_image(path):
        raise StorageError(f"{path} is a file, and no image; remove it, or give another path")
    elif order.format == SANDBOX and not order.force:
        raise StorageError(
            f"{path} is an image file where a directory shall be; give force: true to replace it, or another path"
        )


def _definition_in(path: str) -> str | None:
    """The definition that an image says it was built from; None if it tells none."""
    try:
        if os.path.isdir(path):
            content: bytes | None = read_regular(os.path.join(path, ".singularity.d", "Singularity"), _MAX_DEFINITION)
        else:
            content = sif.read_object(path, "", _MAX_DEFINITION, sif.DEFINITION)
    except (OSError, InvalidSif):
        return None
    return None if content is None else content.decode("utf-8", "replace")


@contextmanager
def _place(order: Order, outcome: Creation, work: str) -> Iterator[str]:
    """A directory to build in: for a file any, for a directory one from where it can be renamed to its path."""
    if order.format == SIF:
        yield work
        return
    with beside(order.path) as place:
        yield place
    if os.path.lexists(place):
        outcome.warnings.append(f"not all of {place} could be removed; remove it as root")


def _put(order: Order, outcome: Creation, target: str, inputs: Mapping[str, str], version: str) -> File:
    """Put what was built into its place; returns what the inventory keeps of it."""
    path = order.path
    if outcome.path_before is None and os.path.lexists(path):
        raise StorageError(f"{path} appeared while it was built; look what it is, and run this again")
    if order.format == SANDBOX:
        size, sha256 = material.size_of_tree(target), ""
        swap_in(target, path, f"{target}.before")
    elif os.path.isdir(path):
        with beside(path) as place:
            new = os.path.join(place, "new")
            size, sha256 = _copied(order, target, new)
            swap_in(new, path, os.path.join(place, "before"))
    else:
        size, sha256 = _copied(order, target, path)
    return File(
        path=path,
        size=size,
        mtime_ns=os.stat(path).st_mtime_ns,
        sha256=sha256,
        manifest_digest=None,
        inputs=dict(inputs),
        engine_version=version,
        packer=None,
        builder="engine",
        created_at=timestamp(),
    )


def _copied(order: Order, source: str, path: str) -> tuple[int, str]:
    """Copy a finished file to where it appears whole; returns its size in bytes and its sha256."""
    hasher = hashlib.sha256()
    with open(source, "rb") as finished, replacing(path, mode=0o777, prepare=order.prepare) as stream:
        for chunk in iter(lambda: finished.read(_CHUNK), b""):
            hasher.update(chunk)
            stream.write(chunk)
        return stream.tell(), hasher.hexdigest()


@contextmanager
def _held(session: Session, outcome: Creation) -> Iterator[None]:
    """Hold the path and the document, for a block; what other names had at the path is theirs no longer after it."""
    inventory = session.inventory
    with inventory.locked_path(outcome.target, _LOCK_TIMEOUT):
        with inventory.locked(outcome.reference, session.platform, _LOCK_TIMEOUT):
            yield
        if outcome.changed:
            forget_others(session, outcome, outcome.target)


def _document(session: Session, order: Order, outcome: Creation) -> Document:
    """The document of a build under its name, with the files that it has already."""
    now = timestamp()
    if outcome.before:
        return outcome.before
    return Document(
        reference=outcome.reference,
        platform=session.platform,
        digest=None,
        manifest_digest=None,
        media_type=None,
        layers=(),
        size=None,
        metrics={},
        created_at=now,
        updated_at=now,
        client=CLIENT,
        url=order.source or "",
    )


def _enter(session: Session, outcome: Creation, file: File) -> None:
    latest = session.inventory.get(outcome.reference, session.platform)
    if outcome.after:
        document = to_merged(outcome.after, latest).with_file(file)
        outcome.after = dataclasses.replace(document, updated_at=timestamp())
        session.inventory.put(outcome.after)
