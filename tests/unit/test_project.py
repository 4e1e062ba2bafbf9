# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents for newcomers hold together: links lead somewhere, and the files about the project agree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.hpc.sregistry.tests.unit.engines import standin
from ansible_collections.hpc.sregistry.tests.unit.named_tests import problems, rows

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "roles/*/*.md", "tests/*/*.md", ".github/*.md")
    for path in ROOT.glob(pattern)
)
_LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> Iterator[str]:
    """Give the name that GitHub gives to each heading."""
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def dead_links(path: Path) -> Iterator[str]:
    for link in _LINK.findall(_FENCE.sub("", path.read_text(encoding="utf-8"))):
        name, _hash, anchor = link.partition("#")
        if ":" in name or name.startswith("../blob/"):  # of the web; GitHub resolves the latter in a pull request
            continue
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_the_links_of_a_document_lead_somewhere(document: Path) -> None:
    assert list(dead_links(document)) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# What's `new`, and old\n[a](#whats-new-and-old) [b](#new) [c](b.md)\n")
    assert list(dead_links(tmp_path / "a.md")) == ["#new", "b.md"]


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 140


def test_the_page_about_support_names_each_version_that_a_test_knows() -> None:
    page = (ROOT / "docs/support.md").read_text(encoding="utf-8")
    told = set()
    for words, versions in re.findall(r"^\| (Apptainer|SingularityCE|Singularity) ([\d., ]+) \|", page, re.MULTILINE):
        told |= {f"{words.lower().replace('ce', '-ce')}-{version}" for version in versions.split(", ")}
    assert told == set(standin.NAMES)


@pytest.mark.parametrize("row", rows("support.md"), ids=lambda row: str(row[0])[:60])
def test_the_state_of_a_version_stands_beside_its_test(row: list[str]) -> None:
    _version, state, tests = row
    assert re.match(r"(not )?run\b", state)
    assert problems(tests) == []


def test_an_execution_environment_gets_what_the_controller_needs() -> None:
    described = yaml.safe_load((ROOT / "meta/execution-environment.yml").read_text(encoding="utf-8"))["dependencies"]
    needed = {line for line in lines("requirements.txt") if not line.startswith(("ansible-core", "jinja2"))}
    assert set(lines(described["python"])) == needed, "ansible-builder brings ansible-core, and Jinja2 with it"
    assert lines(described["system"])
    for line in lines(described["system"]):
        assert re.fullmatch(r"[\w.+-]+ \[platform:(dpkg|rpm)\]", line)


def lines(name: str) -> list[str]:
    found = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in found if line and not line.startswith("#")]
