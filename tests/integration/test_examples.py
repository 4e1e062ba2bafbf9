# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every example of the documents that can run in the lab runs there twice, and changes something once."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from tests.examples import book
from tests.examples.blocks import ROOT, Block, blocks, fenced
from tests.examples.table import table
from tests.examples.world import world

from .conftest import Host

RUN = [block for block in blocks() if not table().of(block).check]
README = "README.md"


def name_of(block: Block) -> str:
    return f"{block.document}: {block.title}"


@pytest.fixture(scope="session")
def run(
    request: pytest.FixtureRequest, hosts: tuple[Host, Host], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Mapping[str, book.Played], str]:
    """Play all examples that this session wants, in one run of one playbook, and return what that printed."""
    items = (getattr(item, "callspec", None) for item in request.session.items)
    wanted = {spec.params["block"].place for spec in items if spec and "block" in spec.params}
    first, second = (int(host.name.removeprefix("node")) for host in hosts)
    with world(tmp_path_factory.mktemp("examples"), first, second) as made:
        done = made.play(book.book([block for block in RUN if block.place in wanted], table()))
        results = book.read(made.results)
    assert results, done.stdout + done.stderr
    return results, done.stdout


@pytest.fixture(scope="session")
def played(run: tuple[Mapping[str, book.Played], str]) -> Mapping[str, book.Played]:
    """Run the tasks of all examples, and return their results."""
    return run[0]


@pytest.mark.parametrize("block", RUN, ids=name_of)
def test_an_example_works_and_then_has_nothing_left_to_do(block: Block, played: Mapping[str, book.Played]) -> None:
    example = played.get(block.place)
    assert example, "it was not played, since no host was left; see the failures of other examples"
    assert not example.failures, "\n".join(example.failures)
    assert example.of(book.FIRST) and example.of(book.SECOND), "no task ran"
    changed = {each.task for each in example.of(book.SECOND) if each.changed}
    assert changed == set(table().of(block).again)


def printed(output: str, block: Block, part: str) -> list[str]:
    """Return what Ansible printed of the tasks of one play of the playbook."""
    plays = re.split(r"^PLAY .*\n\n", output, flags=re.MULTILINE)[1:]
    titles = re.findall(r"^PLAY \[(.*)\] \**$", output, re.MULTILINE)
    begin = f"{block.place} | {part} | "
    return lines(next(play for title, play in zip(titles, plays, strict=False) if title.startswith(begin)))


def lines(text: str) -> list[str]:
    """Return the lines of an output, with the same word for all digests, which the host's engine decides, and sizes."""
    return re.sub(r"[0-9a-f]{64}|(?<=\"size\": )\d+", "…", text).strip().splitlines()


@pytest.mark.parametrize("block", [next(block for block in RUN if block.document == README)], ids=name_of)
def test_the_readme_shows_what_its_first_example_prints(
    block: Block, run: tuple[Mapping[str, book.Played], str]
) -> None:
    fences = fenced((ROOT / README).read_text(encoding="utf-8"))
    shown = next(text for _line, language, text in fences if language == "text")
    command, *outputs = re.split(r"^\$ (.*)\n", shown, flags=re.MULTILINE)[1:]
    assert outputs[1] == command, "the same command twice"
    assert [lines(outputs[0]), lines(outputs[2])] == [
        printed(run[1], block, part) for part in (book.FIRST, book.SECOND)
    ]
