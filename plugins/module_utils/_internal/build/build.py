# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``build``: SIF files and sandboxes from images in registries, definitions, and images on this host."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

from ..errors import InvalidDefinition, InvalidReference, StorageError
from ..inventory import storage
from ..inventory.document import Document, File
from ..oci.reference import Reference
from ..pull.destination import claimed
from ..pull.plan import ALWAYS, Wanted
from ..pull.pull import pull
from ..pull.session import PRESENT, RECORDED, Outcome, Session
from ..sif.formats import SANDBOX
from .engine_build import build
from .outcome import BUILT, Creation
from .request import Order, reference_of
from .sandbox import unpack
from .source import Recipe, agree, inputs_of, login_for, recipe_of
from .target import definition_in


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
    _refuse_useless(order)
    if order.format == SANDBOX:
        return _attempt(session, order, image, unpack)
    return _pull(session, order, image)


def _refuse_useless(order: Order) -> None:
    """Refuse what means nothing for an image in a registry."""
    if order.name:
        raise InvalidReference(
            f"{order.source} is in the inventory by its own name, as each image in a registry; leave name out, and "
            "give path if it shall not lie where that name puts it"
        )
    if order.arguments or order.sections or order.fakeroot:
        raise InvalidDefinition(
            f"{order.source} is no definition, and is not run: build_args, sections and fakeroot mean nothing for it"
        )


def _pull(session: Session, order: Order, image: Reference) -> Outcome:
    if os.path.isdir(order.path):
        raise StorageError(f"{order.path} is a directory; remove it, or give another path for the file")
    wanted = Wanted(
        storage=order.store or os.path.dirname(order.path),
        dest=None if order.store else order.path,
        policy=ALWAYS,
        checksum=order.checksum,
        force=order.force,
        choice=order.choice,
        prepare=order.prepare,
        backup=order.backup,
    )
    return pull(session, wanted, [image])[image]


def _attempt(
    session: Session, order: Order, reference: Reference, work: Callable[[Session, Order, Creation], None]
) -> Creation:
    outcome = Creation(reference, session.platform, path=order.path, target=order.path)
    with outcome.clock("total"), outcome.catching():
        work(session, order, outcome)
    return outcome


def _create(session: Session, order: Order, outcome: Creation) -> None:
    """Let the engine build, if what is there has other inputs."""
    with outcome.clock("resolve"):
        recipe = _recipe(session, order, outcome)
        if recipe is None:
            return
        login = login_for(session, order, recipe)
        inputs = outcome.inputs = inputs_of(session, order, recipe)
        own, other = outcome.look_up(session)
        _decide(session, order, recipe, own, other, outcome)
    if outcome.action == PRESENT:
        return
    outcome.after = outcome.before or Document.local(outcome.reference, outcome.platform, url=order.source or "")
    if session.check:
        return
    with claimed(session, outcome, order.path):
        latest = session.inventory.get(*outcome.key)
        found = latest.file(order.path) if latest else None
        if found and found != own and not order.force and _serves(order, found, inputs):
            outcome.leave(session)
        elif outcome.action == RECORDED and other:
            outcome.enter(session, other)
        else:
            outcome.enter(session, build(session, order, recipe, login, outcome))


def _recipe(session: Session, order: Order, outcome: Creation) -> Recipe | None:
    """What is to be built; None if that cannot be told in check mode, since something is not there yet.

    :raises StorageError: if something is not there, and nothing will bring it.
    """
    recipe = recipe_of(order)
    if recipe:
        outcome.warnings.extend(recipe.check())
    missing = ", ".join(recipe.missing()) if recipe else str(order.source)
    if recipe and not missing:
        return recipe
    if not session.check:
        raise StorageError(f"there is no {missing} on this host; put it there in a task before, or correct the name")
    outcome.warnings.append(f"there is no {missing} on this host yet")  # a task before may be what brings it
    outcome.action, outcome.changed = BUILT, True
    return None


def _decide(
    session: Session, order: Order, recipe: Recipe, own: File | None, other: File | None, outcome: Creation
) -> None:
    """Name what is to be done.

    :param own, other: what is recorded at the path, under this name or another one.
    """
    file = own or other
    outcome.inputs_before = dict(file.inputs) if file else {}
    if file and not order.force and _serves(order, file, outcome.inputs):
        outcome.path_before, outcome.inputs = order.path, {}
        outcome.action, outcome.changed = (PRESENT, False) if own else (RECORDED, True)
        return
    outcome.decide(session, order, file, file.state(order.checksum) if file else storage.MISSING)
    outcome.text = None if recipe.text is None else recipe.definition.text
    outcome.text_before = definition_in(order.path) if outcome.path_before else None


def _serves(order: Order, file: File, inputs: dict[str, str]) -> bool:
    """Whether a file is there, and what a build would give."""
    return agree(file.inputs, inputs) and file.state(order.checksum) == storage.PRESENT
