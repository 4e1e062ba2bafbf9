# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store on real hosts: what is there, what comes in, what gets another name, what goes."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests import lab
from tests.lab import catalogue, oci, shelf, tree

from .conftest import LAB, REGISTRY, Host

STORE = "/root/.singularity/shub"


def push(words: str) -> tuple[str, str]:
    """Push an image of its own that says some words; return its name, and its digest."""
    name = f"test/{uuid.uuid4().hex}:1"
    layer = oci.layer(tree.Tree().file("words", f"{words}\n").tar())
    return name, lab.push(name, catalogue.tiny_with(layer, Cmd=["/bin/busybox", "cat", "/words"]))


def twice(host: Host, action: str, **arguments: Any) -> dict[str, Any]:
    """Check mode, the real run, check mode again, the real run again; the result of the first real run."""
    module = f"hpc.sregistry.sregistry_{action}"
    foretold = host.module(module, check=True, diff=True, **arguments)
    done = host.module(module, diff=True, **arguments)
    assert "msg" not in done, done
    assert (foretold["changed"], foretold["diff"]) == (done["changed"], done["diff"])
    assert done["changed"]
    for check in (True, False):
        again = host.module(module, check=check, diff=True, **arguments)
        assert (again["changed"], again["diff"]) == (False, []), again
    return done


def template(text: str, env: dict[str, str] | None = None, **variables: Any) -> Any:
    """Render a template as a playbook has it, on the controller."""
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": variables,
        "tasks": [{"ansible.builtin.debug": {"msg": f"RESULT{{{{ ({text}) | to_json | b64encode }}}}RESULT"}}],
    }
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "-c", "local", "/dev/stdin"],
        input=json.dumps([play]),
        capture_output=True,
        text=True,
        timeout=7200,
        check=False,
        env={**os.environ, **(env or {})},
    )
    found = re.search("RESULT([A-Za-z0-9+/=]+)RESULT", done.stdout)
    if not found:
        raise ValueError(done.stdout + done.stderr)
    return json.loads(base64.b64decode(found.group(1)))


def test_the_life_of_an_image_that_was_built_elsewhere(node1: Host) -> None:
    name, _digest = push("hello")
    pulled = node1.sregistry("pull", name, dest="/tmp/built.sif")["images"][0]["path"]
    node1.shell("rm -rf ~/.singularity/shub/.sregistry")  # the inventory never knew it

    added = twice(node1, "add", name="tools/hello:1", path=pulled, mode="0755")
    place = f"{STORE}/tools/hello-1.sif"
    assert (added["images"][0]["action"], added["images"][0]["path"]) == ("added", place)
    assert node1.shell(f"apptainer run --userns {place}; stat -c %a {place}").stdout == "hello\n755\n"

    renamed = node1.module("hpc.sregistry.sregistry_rename", name="tools/hello:1", new_name="tools/hello:2")
    place = f"{STORE}/tools/hello-2.sif"
    assert renamed["images"][0]["path"] == place
    assert node1.shell(f"apptainer run --userns {place}; ls {STORE}/tools").stdout == "hello\nhello-2.sif\n"
    moved = twice(node1, "rename", name="tools/hello:2", dest="/tmp/moved.sif")  # another file system
    assert moved["images"][0]["path"] == "/tmp/moved.sif"

    facts = node1.module(
        "hpc.sregistry.sregistry_info",
        name=["nobody", "tools/hello:2"],
        exec={"userns": True, "binds": ["/etc"], "command": ["cat", "/words"]},
        search=["hello"],
    )
    assert (facts["unknown"], facts["missing"], facts["paths"]) == (["nobody"], [], [None, "/tmp/moved.sif"])
    (row,) = facts["images"]
    assert (row["state"], row["client"], row["outdated"]) == ("present", "local", None)
    command = row["command"]
    assert command == ["/usr/bin/apptainer", "exec", "--userns", "--bind", "/etc", "/tmp/moved.sif", "cat", "/words"]
    assert node1.shell(" ".join(command)).stdout == "hello\n"

    removed = twice(node1, "remove", name="tools/*")
    assert removed["images"][0]["files"] == ["/tmp/moved.sif"]
    assert "No such file" in node1.shell("ls /tmp/moved.sif", check=False).stderr
    assert removed["ansible_facts"]["sregistry"]["images"] == []
    required = node1.module("hpc.sregistry.sregistry_info", name="tools/hello:2", required=True)
    assert required["failed"]
    assert required["msg"] == "the inventory does not know tools/hello:2; pull or add them first"


def test_facts_do_without_an_engine(node1: Host) -> None:
    facts = node1.module("hpc.sregistry.sregistry_info", name="nobody", exec={"engine": "/nowhere/apptainer"})
    assert not facts["failed"]
    assert facts["engine_error"] == "the engine /nowhere/apptainer is not an executable file on this host"


def test_only_what_is_kept_stays_in_store_and_cache(node1: Host) -> None:
    kept, gone = push("kept")[0], push("gone")[0]
    paths = [image["path"] for image in node1.sregistry("pull", kept, gone)["images"]]
    node1.shell(
        f"cd {STORE}; touch stray.sif \"$(printf 'bad\\377.sif')\"; echo no image > notes.sif; "
        "mkdir -p team/.sregistry; touch team/theirs.sif"
    )
    before = node1.shell("find ~/.apptainer/cache/blob/blobs -type f").stdout.split()
    done = twice(node1, "remove", keep=[f"{REGISTRY}/{kept}"], sweep=True, cache="prune")
    assert [image["reference"] for image in done["images"]] == [f"{REGISTRY}/{gone}"]
    assert done["swept"] == [f"{STORE}/bad\\xff.sif", f"{STORE}/stray.sif"]
    assert f"sweep leaves what is named as an image and is none, as far as can be told: {STORE}/notes.sif" in str(
        done["warnings"]
    )
    node1.shell(f"rm {STORE}/notes.sif {STORE}/team/theirs.sif")
    after = node1.shell("find ~/.apptainer/cache/blob/blobs -type f").stdout.split()
    assert done["pruned"]["blobs"] > 0
    assert set(after) < set(before)
    assert node1.shell(f"find {STORE} -name '*.sif'").stdout.split() == [paths[0]]
    assert node1.shell(f"apptainer run --userns {paths[0]}").stdout == "kept\n"
    node1.shell(f"rm {paths[0]}")  # what is kept in the cache still brings it back
    again = node1.sregistry("pull", kept)["images"][0]
    assert (again["action"], again["fetched"]["blobs"]) == ("repaired", 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"keep": []}, "keep is empty, which would remove every image; if that is meant, give '*' as name"),
        ({}, "there is nothing to remove; give name, keep, sweep: true or cache: prune"),
    ],
)
def test_nothing_is_removed_by_an_empty_list(node1: Host, arguments: dict[str, Any], words: str) -> None:
    result = node1.module("hpc.sregistry.sregistry_remove", **arguments)
    assert result["failed"]
    assert result["msg"] == words


def test_a_store_of_sregistry_is_taken_over_in_one_task(node1: Host, tmp_path: Path) -> None:
    user = node1.as_user("hpc")
    home = "/home/hpc/.singularity"
    shelf.write(tmp_path / "shub" / "library-ubuntu:latest.simg", shelf.LAUNCH + shelf.squashfs_bytes())
    shelf.write(tmp_path / "shub" / "library-centos:7.simg", shelf.LAUNCH + shelf.squashfs_bytes("centos"))
    shelf.write(tmp_path / "shub" / "a-b-c-d.simg", shelf.LAUNCH + shelf.squashfs_bytes("doubtful"))
    shelf.database(
        tmp_path / "sregistry.db",
        [
            {"image": f"{home}/shub/library-ubuntu:latest.simg", "version": "f8d7d2e9f5da3fa4112aab30105e2fcd"},
            {"collection": "continuumio", "name": "anaconda3", "url": "continuumio/anaconda3:latest"},
        ],
    )
    user.copy_directory(str(tmp_path), home)
    taken = twice(user, "add", takeover={})
    assert [(image["reference"], image["action"]) for image in taken["images"]] == [
        ("library/ubuntu:latest", "added"),
        ("continuumio/anaconda3:latest", "recorded"),
        ("library/centos:7", "added"),
    ]
    assert [one["what"] for one in taken["left"]] == [f"{home}/shub/a-b-c-d.simg"]
    facts = user.module("hpc.sregistry.sregistry_info", name=["ubuntu", "continuumio/anaconda3"], manifests=True)
    assert facts["paths"] == [f"{home}/shub/library-ubuntu:latest.simg", None]
    assert facts["missing"] == ["continuumio/anaconda3"]
    shown = template(
        "[facts | hpc.sregistry.images_table, facts.images | hpc.sregistry.inspect('ubuntu'), "
        "facts | hpc.sregistry.image_path('ubuntu')]",
        facts=facts,
    )
    assert shown[0].splitlines()[1] == "1  January 14, 2018\tremote\t   [dockerhub]\tcontinuumio/anaconda3:latest"
    assert (shown[1]["id"], shown[1]["version"]) == (1, "f8d7d2e9f5da3fa4112aab30105e2fcd")
    assert shown[2] == f"{home}/shub/library-ubuntu:latest.simg"


def test_the_controller_looks_up_digests() -> None:
    name, digest = push("looked up")
    tiny = f"{REGISTRY}/{name}"
    multi = f"{REGISTRY}/test/{uuid.uuid4().hex}:1"
    image = catalogue.tiny_with()
    index = lab.push(
        multi.partition("/")[2], oci.Index(((image, {"platform": {"os": "linux", "architecture": "arm64"}}),))
    )
    found = template(
        f"lookup('hpc.sregistry.digest', '{tiny}', '{multi}', no_https=true, wantlist=true)"
        f" + lookup('hpc.sregistry.digest', '{multi}', no_https=true, platform='linux/arm64', wantlist=true)"
    )
    assert found[:2] == [digest, index]
    assert found[2] == oci.digest_of(image.manifest())
    assert template(f"lookup('hpc.sregistry.digest', '{tiny}')", env={"SREGISTRY_DOCKERHUB_NOHTTPS": "true"}) == digest
    private = f"'localhost:5001/{name}', ca_path='{LAB}/tls/ca.pem'"
    with pytest.raises(ValueError, match=r"hpc\.sregistry\.digest has no option no_http; it has .*no_https"):
        template(f"lookup('hpc.sregistry.digest', '{tiny}', no_http=true)")
    with pytest.raises(ValueError, match=r"on the controller: TLS failure .* with ca_path") as refused:
        template(f"lookup('hpc.sregistry.digest', 'localhost:5001/{name}')")
    assert "Max retries" not in str(refused.value)
    with pytest.raises(ValueError, match=r"hpc\.sregistry\.digest, on the controller: there is no password for the"):
        template(f"lookup('hpc.sregistry.digest', {private}, username='lab')")
