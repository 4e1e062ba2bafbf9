# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples of all documents are right as far as that can be told without a host, and what tells so finds faults."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.examples.blocks import DATA, INI, Block, blocks, fenced, titled
from tests.examples.book import book, syntax_book
from tests.examples.check import faults
from tests.examples.page import PAGE, page
from tests.examples.table import Treatment, table

WRONG = {
    "an option that is not there": (
        "- name: Pull\n  hpc.sregistry.sregistry_pull:\n    name: ubuntu\n    storrage: /images\n",
        "Pull: hpc.sregistry.sregistry_pull: storrage. Supported parameters include: ",
    ),
    "a required option is missing": (
        "- name: Push\n  hpc.sregistry.sregistry_push:\n    name: ubuntu\n",
        "missing required arguments: to",
    ),
    "a choice that is none": (
        "- name: Pull\n  hpc.sregistry.sregistry_pull:\n    name: ubuntu\n    pull: sometimes\n",
        "value of pull must be one of",
    ),
    "options that exclude each other": (
        "- name: Build\n  hpc.sregistry.sregistry_build:\n    source: a.def\n    definition: b\n    path: /c.sif\n",
        "parameters are mutually exclusive: source|definition",
    ),
    "a wrong type": (
        "- name: Pull\n  hpc.sregistry.sregistry_pull:\n    name: ubuntu\n    threads: many\n",
        "threads",
    ),
    "a suboption that is not there": (
        "- name: Verify\n  hpc.sregistry.sregistry_verify:\n    path: /a.sif\n    verify:\n      - keys: /b.pem\n",
        "verify.keys",
    ),
    "a module that is not there": ("- name: Get\n  hpc.sregistry.sregistry_get:\n    name: ubuntu\n", "no such module"),
    "a module without its collection": ("- name: Pull\n  sregistry_pull:\n    name: ubuntu\n", "must name one module"),
    "an option of Ansible's own module": (
        "- name: Copy\n  ansible.builtin.copy:\n    content: a\n    to: /b\n",
        "missing required arguments: dest",
    ),
    "deep in a block": (
        "- block:\n    - name: B\n      always:\n        - name: C\n          hpc.sregistry.sregistry_pull: {}\n",
        "C: hpc.sregistry.sregistry_pull: missing required arguments: name",
    ),
    "module_defaults of a group": (
        "- hosts: all\n  module_defaults:\n    group/hpc.sregistry.registry:\n      mirors: {}\n",
        "group/hpc.sregistry.registry has no option mirors",
    ),
    "a group that is not there": (
        "- hosts: all\n  module_defaults:\n    group/hpc.sregistry.registries: {}\n",
        "there is no group/hpc.sregistry.registries",
    ),
    "a variable of a role": (
        "- hosts: all\n  roles:\n    - role: hpc.sregistry.prestage\n      prestage_tempdir: /b\n",
        "there is no variable prestage_tempdir; there is prestage_tmpdir",
    ),
    "a variable that a role needs": (
        "- hosts: all\n  roles:\n    - role: hpc.sregistry.report\n",
        "missing required arguments: report_path",
    ),
    "a variable of a role that is included": (
        "- ansible.builtin.include_role:\n    name: hpc.sregistry.mirror\n  vars:\n    mirror_mode: both\n",
        "value of mirror_mode must be one of",
    ),
    "a role that is not there": ("- hosts: all\n  roles: [hpc.sregistry.proxy]\n", "no role hpc.sregistry.proxy"),
    "a variable of the plugin": ("ansible_singularity_imgae: /a.sif\n", "there is ansible_singularity_image"),
    "a variable of a playbook": ("lock_image: [ubuntu]\n", "there is lock_images"),
    "the type of a variable": ("prestage_compression_level: high\n", "prestage_compression_level"),
    "a lock": ("images:\n  ubuntu:24.04:\n    digest: 0123\n", "a lock: "),
    "a filter that is not there": (
        '- name: Show\n  ansible.builtin.debug:\n    msg: "{{ store | hpc.sregistry.image_table }}"\n',
        "there is no filter hpc.sregistry.image_table",
    ),
    "an argument of a filter": (
        "- name: Show\n  ansible.builtin.debug:\n    msg: \"{{ store | hpc.sregistry.image_path(image='a') }}\"\n",
        "filter hpc.sregistry.image_path: ",
    ),
    "a filter in a condition": (
        "- name: Show\n  ansible.builtin.debug:\n  when: a | lenght > 0\n",
        "there is no filter lenght",
    ),
    "a test that is not there": ("- name: Show\n  ansible.builtin.debug:\n  when: a is chnaged\n", "no test chnaged"),
    "a lookup that is not there": (
        "- name: Show\n  ansible.builtin.debug:\n    msg: \"{{ lookup('hpc.sregistry.digests', 'a') }}\"\n",
        "there is no lookup 'hpc.sregistry.digests'",
    ),
    "an option of a lookup": (
        "- name: Show\n  ansible.builtin.debug:\n    msg: \"{{ lookup('hpc.sregistry.digest', 'a', arch='b') }}\"\n",
        "lookup hpc.sregistry.digest has no option arch",
    ),
    "a template that ends too early": ("- name: Show\n  ansible.builtin.debug:\n    msg: '{{ a'\n", "'{{ a'"),
    "no YAML": ("- name: a: b\n", "no YAML"),
}
ALSO_RIGHT = {
    "a template for a number": "- name: A\n  hpc.sregistry.sregistry_pull:\n    name: a\n    threads: '{{ b }}'\n",
    "a template in a list": "- name: A\n  hpc.sregistry.sregistry_verify:\n    path: a\n    verify: ['{{ b }}']\n",
    "a command as text": "- name: A\n  ansible.builtin.command: apptainer --version\n",
    "names of one's own": "- name: A\n  ansible.builtin.set_fact:\n    anything: 1\n",
    "a variable of another's": "rack_mirror: a\n",
}


def name_of(block: Block) -> str:
    return f"{block.document}: {block.title}"


def example(text: str, language: str = "yaml") -> Block:
    return Block("docs/none.md", 1, "An example", language, text)


@pytest.mark.parametrize("block", blocks(), ids=name_of)
def test_an_example_names_only_what_there_is(block: Block) -> None:
    assert faults(block) == []


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_example_is_found(text: str, words: str) -> None:
    assert words in "\n".join(faults(example(text)))


@pytest.mark.parametrize("text", ALSO_RIGHT.values(), ids=ALSO_RIGHT)
def test_a_right_example_has_no_fault(text: str) -> None:
    assert faults(example(text)) == []


def test_a_wrong_ini_file_is_found() -> None:
    assert faults(example("forks = 200\n", "ini"))
    assert not faults(example("[defaults]\nforks = 200\n", "ini"))


def test_ansible_reads_all_examples(tmp_path: Path) -> None:
    plays = syntax_book(block for block in blocks() if block.language != INI and block.kind != DATA)
    assert len(plays) > 60
    done = syntax_check(tmp_path, plays)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ansible_does_not_read_what_is_not_its_language(tmp_path: Path) -> None:
    wrong = example("- name: A\n  ansible.builtin.debug:\n  register_as: b\n")
    assert not faults(wrong), "it is for Ansible to find"
    done = syntax_check(tmp_path, syntax_book([wrong]))
    assert done.returncode != 0
    assert "register_as" in done.stdout + done.stderr


def syntax_check(directory: Path, plays: list[dict[str, object]]) -> subprocess.CompletedProcess[str]:
    (directory / "book.yml").write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
    command = ["ansible-playbook", "--syntax-check", "-i", "localhost,", str(directory / "book.yml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_each_entry_of_the_table_is_about_an_example() -> None:
    there = {(block.document, block.title) for block in blocks()}
    assert set(table().treatments) - there == set()


@pytest.mark.parametrize("block", blocks(), ids=name_of)
def test_the_treatment_of_an_example_fits(block: Block) -> None:
    treatment = table().of(block)
    if block.kind in (DATA, INI):
        assert treatment.check, "it is nothing that could run: the table must say what it is"
    if treatment.check:
        assert treatment == Treatment(check=treatment.check), "nothing else counts for what does not run"
        return
    names = {str(task.get("name")) for play in book([block], table()) for task in tasks_of(play)}
    assert not set(treatment.without) & names
    assert set(treatment.without) <= {str(task.get("name")) for task in block.data}


def tasks_of(play: dict[str, list[dict[str, object]]]) -> list[dict[str, object]]:
    found: list[object] = [*play.get("tasks", [])]
    for each in found:
        if isinstance(each, dict) and isinstance(each.get("block"), list):
            found += each["block"]  # it grows while it is read, until the deepest block is there
    return [each for each in found if isinstance(each, dict)]


def test_the_page_says_which_examples_run() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it again: python -m tests.examples"


def test_blocks_are_found_wherever_they_stand() -> None:
    text = "a\n```yaml\nb: 1\n```\n- c\n\n  ~~~yml\n  d:\n    e: 2\n  ~~~\n```text\n```\n````yaml\nf: |\n  ```\n````\n"
    found = list(fenced(text))
    assert found == [
        (2, "yaml", "b: 1\n"),
        (7, "yml", "d:\n  e: 2\n"),
        (11, "text", "\n"),
        (13, "yaml", "f: |\n  ```\n"),
    ]
    assert [block.title for block in titled("docs/a.md", [*found[:1], *found[:1]])] == ["b: 1", "b: 1 (2)"]
    with pytest.raises(ValueError, match="line 1 does not end"):
        list(fenced("```yaml\na: 1\n"))
