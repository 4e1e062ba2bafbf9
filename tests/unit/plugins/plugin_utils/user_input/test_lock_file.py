# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lock file that was edited by hand, or merged, is taken as it is meant, or refused by path and line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.hpc.sregistry.plugins.filter.lock_pins import lock_pins

ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
PATH = "playbooks/images.lock.yml"


def read(text: str) -> dict[str, object]:
    return lock_pins(text, path=PATH)


@pytest.mark.parametrize(
    "text",
    [
        f"images:\n  a: {ONE}\n  b:\n    digest: {TWO}\n    platforms: {{linux/amd64: {ONE}}}\n",
        f"---\n# a comment\nimages: {{a: '{ONE}', b: {{digest: '{TWO}', platforms: {{linux/amd64: '{ONE}'}}}}}}\n...\n",
        f"images:\n  a: &one {ONE}\n  b: {{digest: {TWO}, platforms: {{linux/amd64: *one}}}}\n",
    ],
    ids=["as it is written", "in one line", "with an anchor"],
)
def test_a_sound_lock_is_read(text: str) -> None:
    assert read(text) == {"a": ONE, "b": {"digest": TWO, "platforms": {"linux/amd64": ONE}}}


class Marked(str):
    """A text as lookups give it before ansible-core 2.19: whatever is made of it is one again."""

    def __str__(self) -> str:  # pylint: disable=invalid-str-returned
        return self


def test_the_text_may_be_one_that_ansible_has_marked() -> None:
    assert read(Marked(f"images: {{a: '{ONE}'}}")) == {"a": ONE}


def test_two_spellings_of_a_name_may_agree() -> None:
    agreed = {"docker.io/library/a": ONE}
    assert read(f"images:\n  a: {ONE}\n  docker.io/library/a: {ONE}\n") == agreed


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "it is empty; restore it, or remove it"),
        ("---\n# nothing but a comment\n", None, "it is empty; restore it"),
        ("images: {}\n", 1, "images names no image, so that nothing is locked"),
        ("---\nimages:\n", 2, "images names no image, so that nothing is locked"),
        ("images: []\n", 1, "images names no image"),
        ("{}\n", 1, "images names no image"),
        (f"---\nimages:\n  - a@{ONE}\n", 3, "images is not a dictionary of names and their digests"),
        ("images: a\n", 1, "images is not a dictionary of names and their digests"),
        ("- a\n", 1, "it is not a dictionary with the key images"),
        ("text\n", 1, "it is not a dictionary with the key images"),
        (f"images:\n  a: {ONE}\nprecious: true\n", 3, "'precious' is not a key of a lock file"),
        (f"images:\n  a: {ONE}\n  b: {ONE}\n  a: {TWO}\n", 4, "'a' stands in line 2 already; keep one"),
        (f"images:\n  a: {ONE}\n  a: {ONE}\n", 3, "'a' stands in line 2 already; keep one"),
        (f"images:\n  a: {ONE}\nimages:\n  b: {ONE}\n", 3, "'images' stands in line 1 already; keep one"),
        (f"images:\n  a:\n    digest: {ONE}\n    digest: {TWO}\n", 4, "'digest' stands in line 3 already"),
        (
            f"images:\n  a:\n    digest: {ONE}\n    platforms:\n      linux/amd64: {ONE}\n      linux/amd64: {TWO}\n",
            6,
            "'linux/amd64' stands in line 5 already",
        ),
        (
            f"images:\n<<<<<<< ours\n  a: {ONE}\n=======\n  a: {TWO}\n>>>>>>> theirs\n",
            2,
            "a merge left its conflict marks; keep one side, or write it again with the playbook hpc.sregistry.lock",
        ),
        (f"images:\n\ta: {ONE}\n", 2, "it is not YAML, "),
        (f"images:\n  a: '{ONE}\n", 3, "it is not YAML, "),
        (f"images:\n  a: {ONE}\n---\nimages: {{}}\n", 3, "it is not YAML, "),
        ("images:\n  a: \0\n", None, "it is not YAML, [a-z ]+; mend or restore it"),
        (f"images:\n  a: {ONE}\n  b: *none\n", 3, "it is not YAML, "),
        (f"images:\n  a: !thing {ONE}\n", 2, "could not determine a constructor"),
        (f"images:\n  a: {ONE[:-1]}\n", 2, "library/a:latest: .*digest"),
        (f"images:\n  b: {ONE}\n  a:\n", 3, "library/a:latest: .* is not a pin"),
        (f"images:\n  b: {ONE}\n  a: 5\n", 3, "library/a:latest: 5 is not a pin"),
        (f"images:\n  a: {{digest: {ONE}, tag: x}}\n", 2, "it has the unknown key tag"),
        (f"images:\n  a: {{platforms: {{linux/amd64: {ONE}}}}}\n", 2, "it has no digest"),
        (f"images:\n  a: {ONE}\n  b:\n    digest: {ONE}\n    platforms: {{not a one: {ONE}}}\n", 3, "not a one"),
        (f"images:\n  a b: {ONE}\n", 2, "invalid image name 'a b'"),
        (f"images:\n  a: {ONE}\n  library/a: {TWO}\n", 3, "library/a:latest is pinned to something else in line 2"),
        ("images: &all\n  a: *all\n", None, f"{PATH}"),
    ],
)
def test_what_is_wrong_with_a_lock_is_named_by_path_and_line(text: str, line: int | None, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message) as caught:
        read(text)
    assert str(caught.value).startswith(f"{PATH}, line {line}: " if line else PATH)


def test_the_playbook_looks_up_its_file_only_where_there_is_one() -> None:
    """Before ansible-core 2.19, a variable that is named is evaluated, also in the branch that is not taken."""
    (play,) = yaml.safe_load((Path(__file__).parents[5] / "playbooks/lock.yml").read_text(encoding="utf-8"))
    of_their_own = [value for part in (play, *play["tasks"]) for value in part.get("vars", {}).values()]
    assert of_their_own
    assert [value for value in of_their_own if "ansible.builtin.file" in str(value)] == []
