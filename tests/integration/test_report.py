# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ``report``: hosts in different states, and the page in a real browser."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.inventories.fleet import compare
from playwright.sync_api import Browser, Page

from tests import lab
from tests.lab import catalogue, oci, tree
from tests.report import rendering, synthetic
from tests.report.browser import chromium, view

from .conftest import LAB, REGISTRY, Host
from .playbooks import run_playbook

MOVED, KEPT, LOST, NOTED = (f"lab/report-{name}" for name in ("moved", "kept", "lost", "noted"))
SHOWN = """new Promise(done => {
    const look = () => {
        const [mark] = performance.getEntriesByName("shown");
        if (mark) done(mark.startTime); else setTimeout(look, 5);
    };
    setTimeout(() => done(null), 240000);
    look();
})"""


def push(name: str, version: int) -> None:
    """Let a name point at a version of an image."""
    own = oci.layer(tree.Tree().file("version", f"{name} {version}\n").tar())
    lab.push(f"{name}:latest", catalogue.tiny_with(own, Cmd=["/bin/busybox", "cat", "/version"]))


def report(hosts: list[Host], page: Path, check: bool = False, ask: bool = False, **variables: Any) -> dict[str, Any]:
    """Run the role on hosts and on one that does not answer, which is the first; the result is what Ansible said."""
    done = run_role(hosts, page, check, ask, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return {"changed": done.stdout.count("changed: ["), "output": done.stdout}


def run_role(
    hosts: list[Host],
    page: Path,
    check: bool = False,
    ask: bool = False,
    strategy: str = "linear",
    when: str = "true",
    **variables: Any,
) -> subprocess.CompletedProcess[str]:
    """Run the role all the same, whatever the result; ``when`` is a condition on the role."""
    names = [host.name for host in hosts]
    inventory = {"all": {"hosts": {"gone": {"ansible_host": "127.0.1.250", "ansible_port": 9}}}}
    second = page.parents[1] / f"{page.parent.name}-gone.yml"
    second.write_text(json.dumps(inventory), encoding="utf-8")
    asked = {
        "hpc.sregistry.sregistry_record": {"name": [f"{REGISTRY}/{MOVED}", f"{REGISTRY}/{KEPT}"], "no_https": True},
        "register": "asked",
        "check_mode": True,
        "run_once": True,
        "delegate_to": "localhost",
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
    }
    role: dict[str, Any] = {"name": "hpc.sregistry.report"}
    digests = (
        {"report_digests": "{{ asked.images | items2dict(key_name='reference', value_name='digest') }}"} if ask else {}
    )
    play = {
        "hosts": ["gone", *names],
        "gather_facts": False,
        "strategy": strategy,
        "tasks": [
            *([asked] if ask else []),
            {
                "ansible.builtin.import_role": role,
                "vars": {"report_path": str(page), **digests, **variables},
                "when": when,
            },
        ],
    }
    arguments = ["-i", str(LAB / "inventory.yml"), "-i", str(second), *["--check"] * check, "/dev/stdin"]
    return run_playbook(arguments, json.dumps([play]), 120)


@pytest.fixture(scope="module")
def unlike(hosts: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    """Yield two hosts: the first has an outdated image and a recorded one, the second has lost a file."""
    first, second = hosts
    clean = "rm -rf ~/.singularity ~/.apptainer"
    for host in hosts:
        host.shell(clean)
    for name in (MOVED, KEPT, LOST, NOTED):
        push(name, 1)
    first.sregistry("pull", MOVED, KEPT, LOST)
    first.sregistry("record", NOTED)
    push(MOVED, 2)
    lost = second.sregistry("pull", MOVED, KEPT, LOST)["images"][2]["path"]
    second.shell(f"rm {lost}")
    yield hosts
    for host in hosts:
        host.shell(clean)


def states(document: dict[str, Any]) -> dict[str, list[str]]:
    """Return the state of each image on each host, in the order of the hosts."""
    return {
        image["label"]: [document["letters"][host["states"][at]] for host in document["hosts"]]
        for at, image in enumerate(document["images"])
    }


def test_hosts_in_different_states(unlike: tuple[Host, Host], tmp_path: Path, browser: Browser) -> None:
    page = tmp_path / "fleet.html"
    twins = [page, page.with_suffix(".txt"), page.with_suffix(".json")]
    variables: dict[str, Any] = {
        "report_time": synthetic.NOW,
        "report_images": [f"{REGISTRY}/{name}" for name in (MOVED, KEPT, LOST)],
    }
    report(list(unlike), page, check=True, **variables)
    assert not any(twin.exists() for twin in twins), "check mode wrote something"
    assert report(list(unlike), page, **variables)["changed"] == 3
    document = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert [host["name"] for host in document["hosts"]] == ["gone", *(host.name for host in unlike)]
    assert document["hosts"][0]["status"] == "unreachable"
    assert "127.0.1.250" in document["hosts"][0]["message"]
    assert states(document) == {
        "report-kept:latest": ["unknown", "current", "current"],
        "report-lost:latest": ["unknown", "current", "missing"],
        "report-moved:latest": ["unknown", "outdated", "current"],
        "report-noted:latest": ["unknown", "recorded", "absent"],
    }
    assert [image["expected"] for image in document["images"]] == [True, True, True, False]
    used = unlike[1].shell("find ~/.singularity -name '*.sif' -printf '%s\\n'").stdout.split()
    assert document["hosts"][2]["space"] == sum(map(int, used)) > 0
    text = page.with_suffix(".txt").read_text(encoding="utf-8")
    assert f"{REGISTRY}/{LOST}:latest" in text
    assert f"missing        1  {unlike[1].name}\n" in text
    assert "gone  unreachable: " in text
    with view(browser, page) as seen:
        assert seen.page.evaluate(SHOWN) is not None
        assert seen.page.locator("td.s-missing").count() == 1
        seen.page.locator("td.s-outdated").click()
        assert f"{REGISTRY}/{MOVED}:latest" in seen.page.inner_text("#detail")
        assert seen.complaints == []
    again = report(list(unlike), page, **variables)
    assert again["changed"] == 0, again["output"]


def test_the_registry_decides_if_it_was_asked(unlike: tuple[Host, Host], tmp_path: Path) -> None:
    push(MOVED, 3)
    report(list(unlike), tmp_path / "fleet.html", ask=True)
    document = json.loads((tmp_path / "fleet.json").read_text(encoding="utf-8"))
    assert states(document)["report-moved:latest"] == ["unknown", "outdated", "outdated"]
    assert states(document)["report-kept:latest"] == ["unknown", "current", "current"]


@pytest.mark.parametrize("strategy", ["linear", "free"])
def test_a_first_host_that_is_left_out_does_not_keep_the_page_from_being_written(
    hosts: tuple[Host, Host], tmp_path: Path, strategy: str
) -> None:
    done = run_role(list(hosts), tmp_path / "fleet.html", strategy=strategy, when="inventory_hostname != 'gone'")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "fleet.json").read_text(encoding="utf-8"))
    found = {host["name"]: host["status"] for host in document["hosts"]}
    assert found == {"gone": "silent", hosts[0].name: "ok", hosts[1].name: "ok"}
    assert (tmp_path / "fleet.html").exists()


@pytest.mark.parametrize(("strategy", "check"), [("linear", False), ("free", True)])
def test_a_missing_directory_is_found_before_any_host_is_asked(
    hosts: tuple[Host, Host], tmp_path: Path, strategy: str, check: bool
) -> None:
    done = run_role(list(hosts), tmp_path / "missing" / "fleet.html", check=check, strategy=strategy)
    assert done.returncode != 0
    assert f"there is no directory {tmp_path}/missing on the controller" in done.stdout + done.stderr
    assert "Read the inventory" not in done.stdout


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium; each test opens pages of its own."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of 500 hosts with 100 images."""
    document = compare(synthetic.facts(500, 100), synthetic.NOW)
    return rendering.render_compared(document, tmp_path_factory.mktemp("large"))


def visible(page: Page) -> list[str]:
    """Return the names in the first column of the matrix."""
    return page.locator(".matrix tbody th .name span").all_text_contents()


def test_a_large_fleet_is_shown_at_once_and_can_be_searched(large: Path, browser: Browser) -> None:
    document = json.loads(large.with_suffix(".json").read_text(encoding="utf-8"))
    with view(browser, large) as seen:
        page = seen.page
        milliseconds = page.evaluate(SHOWN)
        assert milliseconds is not None, seen.complaints
        print(f"500 hosts x 100 images: {large.stat().st_size / 1e6:.1f} MB, shown after {milliseconds:.0f} ms")
        assert large.stat().st_size < 10e6
        # hosts that are alike are one row, the worst first
        assert visible(page)[:4] == ["node[077-078,311]", "node205", "node[040-044]", "node[120-139]"]
        assert page.text_content("#shown") == "500 hosts in 8 rows, 100 images"
        assert page.locator(".matrix thead .image").count() == 100
        chips = page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('.chip')].map(e => [e.dataset.state, "
            "Number(e.querySelector('b').textContent.replace(',', ''))]))"
        )
        assert chips == {state: count for state, count in document["counts"]["cells"].items() if count}
        # and so are the images
        counts = [int(text or 0) for text in page.locator(".matrix thead .image span").all_text_contents()]
        assert counts == sorted(counts, reverse=True)
        # a row is unfolded, and folded again
        page.click(".matrix tbody tr:nth-child(4) th")
        assert visible(page)[3:6] == ["node[120-139]", "node120", "node121"]
        page.click(".matrix tbody tr:nth-child(4) th")
        assert visible(page)[3:5] == ["node[120-139]", "node[300-309]"]
        # filters
        page.fill("#host-filter", "NODE12 node045")
        assert visible(page) == ["node[120-139]", "node045"]
        page.fill("#image-filter", "gmsh")
        assert page.locator(".matrix thead .image").count() == 2
        page.fill("#host-filter", "")
        page.fill("#image-filter", "")
        page.click(".chip[data-state=different]")
        assert visible(page) == ["node[300-309]"]
        assert page.locator(".matrix td:not(.s-different)").count() == 0
        page.click(".chip[data-state=different]")
        # details, by mouse and by keyboard
        page.click("td.s-modified")
        shown = page.inner_text("#detail")
        (image,) = [image for image in document["images"] if image["counts"]["modified"]]
        assert shown.startswith(f"✕\n{image['reference']}\n")
        assert "node045" in shown
        assert image["current"][0]["manifest_digest"] in shown
        assert f"/local/images/{image['paths'][0]}" in shown
        page.keyboard.press("Escape")
        assert page.locator("#detail").is_hidden()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        assert "node[300-309]" in page.inner_text("#detail")
        page.keyboard.press("Escape")
        # one row for each host: only those that can be seen are there, and the last can be reached
        page.click("#grouped")
        assert page.text_content("#shown") == "500 hosts, 100 images"
        assert 40 < len(visible(page)) < 100
        page.select_option("#sort", "name")
        assert visible(page)[:2] == ["node001", "node002"]
        page.evaluate("(m => { m.scrollTop = m.scrollHeight; })(document.querySelector('#matrix'))")
        page.locator(".matrix tbody th .name span", has_text="node500").wait_for()
        assert visible(page)[-1] == "node500"
        # the table of images
        page.click("#images thead th:nth-last-child(3) button")
        sizes = page.locator("#images td:nth-last-child(3)").evaluate_all("all => all.map(e => +e.dataset.value)")
        assert sizes == sorted((image["size"] for image in document["images"]), reverse=True)
        # on paper all rows are there
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert len(visible(page)) == 500
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert len(visible(page)) < 100
        assert seen.complaints == []
        assert seen.requests == [large.as_uri()]


def test_the_most_that_a_report_may_have_to_tell_stays_small() -> None:
    document = compare(synthetic.facts(500, 100, alike=False), synthetic.NOW)
    size = len(json.dumps(document, separators=(",", ":")))
    print(f"500 hosts x 100 images, each file another one: {size / 1e6:.1f} MB")
    assert size < 9e6


HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "<!--<script>",
    "{{ 7 * 6 }}{% raw %}",
    "'; alert(3); '",
    "&lt;b&gt;",
    "\u202eback\x1b[2J\n",
)


def test_hostile_names_are_text(tmp_path: Path, browser: Browser) -> None:
    facts: dict[str, Any] = {
        f"host{name}": synthetic.result([synthetic.row(f"lab/{name}:1", path=f"/{name}"), synthetic.row(f"{name}/x:1")])
        for name in HOSTILE
    }
    facts.update({f"silent{name}": {"unreachable": True, "msg": name} for name in HOSTILE})
    facts["odd"] = "what is no result"
    facts["long"] = synthetic.result([synthetic.row(f"lab/{'long' * 75}:1"), synthetic.row("lab/short:1")])
    facts["talks"] = {"unreachable": True, "msg": "ssh: " + "debug1: " * 400}
    page = rendering.render(facts, tmp_path, report_title=HOSTILE[0], report_time=synthetic.NOW)
    document = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert "host{{ 7 * 6 }}{% raw %}" in [host["name"] for host in document["hosts"]]
    text = page.with_suffix(".txt").read_text(encoding="utf-8")
    assert text.replace("\n", "").isprintable()
    assert "odd  failed: its result cannot be read: 'what is no result'" in text
    long = [line for line in text.partition("Hosts that are alike")[0].splitlines() if len(line) > 200]
    assert long, "the long name is told"
    assert all(line.endswith(f"{'long' * 75}:1") for line in long)
    with view(browser, page) as seen:
        assert seen.page.evaluate(SHOWN) is not None, seen.complaints
        width = (
            "document.querySelector('#images').offsetWidth <= document.querySelector('#images').parentNode.clientWidth"
        )
        assert seen.page.evaluate(width), "the figures beside a long name are out of sight"
        for selector in (".matrix thead th.image", ".matrix tbody th", ".matrix td.s-current"):
            seen.page.click(selector)
        assert seen.page.title() == HOSTILE[0]
        assert seen.page.locator("img, script").count() == 3
        shown = seen.page.inner_text("#images")
        assert all(image["reference"] in shown for image in document["images"])
        assert seen.complaints == []
        assert seen.requests == [page.as_uri()]


def test_without_scripts_there_are_tables(tmp_path: Path, browser: Browser) -> None:
    page = rendering.render(synthetic.facts(50, 5), tmp_path, report_time=synthetic.NOW)
    with view(browser, page, scripts=False) as seen:
        assert seen.page.locator("#fleet").is_hidden()
        assert not (seen.page.text_content("noscript") or "<p").startswith("<p")
        assert seen.page.locator("#images tbody tr").count() == 5
        assert "node[040-044]" in seen.page.inner_text("body")
