# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every example of the documents that can run in the lab runs there twice, and changes something once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.examples import book
from tests.examples.blocks import Block, blocks
from tests.examples.table import table
from tests.examples.world import world

from .conftest import Host

RUN = [block for block in blocks() if not table().of(block).check]


def name_of(block: Block) -> str:
    return f"{block.document}: {block.title}"


@pytest.fixture(scope="session")
def played(
    request: pytest.FixtureRequest, hosts: tuple[Host, Host], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, book.Played]:
    """All examples that this session wants, played in one run of one playbook."""
    items = (getattr(item, "callspec", None) for item in request.session.items)
    wanted = {spec.params["block"].place for spec in items if spec and "block" in spec.params}
    first, second = (int(host.name.removeprefix("node")) for host in hosts)
    with world(tmp_path_factory.mktemp("examples"), first, second) as made:
        done = made.play(book.book([block for block in RUN if block.place in wanted], table()))
        results = book.read(made.results)
    assert results, done.stdout + done.stderr
    return results


@pytest.mark.parametrize("block", RUN, ids=name_of)
def test_an_example_works_and_then_has_nothing_left_to_do(block: Block, played: Mapping[str, book.Played]) -> None:
    example = played.get(block.place)
    assert example, "it was not played, since no host was left; see the failures of other examples"
    assert not example.failures, "\n".join(example.failures)
    assert example.of(book.FIRST) and example.of(book.SECOND), "no task ran"
    changed = {each.task for each in example.of(book.SECOND) if each.changed}
    assert changed == set(table().of(block).again)
