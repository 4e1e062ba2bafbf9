# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that are built: from images in registries, from definitions, from sandboxes and SIF files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .conftest import REGISTRY, Host
from .tags import Tag
from .trees import LABELS, LOST_BY_APPTAINER, differences, scan

DEFINITION = """# Everything that a definition can have.
Bootstrap: docker
From: {image}
Stage: build

%post
    /bin/busybox echo from the first stage > /made

Bootstrap: docker
From: {image}

%arguments
    GREETING=hello

%setup
    echo on the host > "${{APPTAINER_ROOTFS}}/setup"

%files
    /etc/hostname /copied
    notes/* /notes/

%files from build
    /made /made

%environment
    export MOOD={{{{ MOOD }}}}

%post
    /bin/busybox id -u > /builder
    /bin/busybox echo "{{{{ GREETING }}}} in post" > /greeting

%runscript
    /bin/busybox cat /greeting /made /setup /notes/one
    /bin/busybox echo "mood $MOOD, arguments $@"

%startscript
    /bin/busybox sleep 1

%test
    /bin/busybox test "$(/bin/busybox cat /builder)" = 0

%labels
    Maker integration

%help
    It says {{{{ GREETING }}}}.

%appinstall tool
    /bin/busybox echo app > tool

%apprun tool
    /bin/busybox cat "$SCIF_APPROOT/tool"
"""


PRIVATE = "127.0.0.1:5001"
SECRET = "lab-secret"


def full(name: str) -> str:
    """Return a name with its registry."""
    return name if name.startswith(REGISTRY) else f"{REGISTRY}/{name}"


def built(host: Host, **arguments: Any) -> dict[str, Any]:
    """Build, and return the outcome."""
    result = host.sregistry("build", **arguments)
    assert not result.get("failed"), result
    return dict(result["images"][0])


def run(host: Host, sif: str, *arguments: str) -> str:
    """Return the output of an image's runscript."""
    return host.shell(f"apptainer run --userns --cleanenv {sif} {shlex.join(arguments)}").stdout


@pytest.fixture
def user(node1: Host) -> Iterator[Host]:
    """Yield an ordinary user of the first host, with nothing built yet."""
    node1.shell("rm -rf ~hpc/def /tmp/boxes; mkdir -m 1777 /tmp/boxes")
    yield node1.as_user("hpc")
    node1.shell("rm -rf ~hpc/def /tmp/boxes")


def left(host: Host) -> str:
    """List the files in the places where builds work, except those that they made."""
    return host.shell(
        "find /tmp -maxdepth 2 -name '*.tmp' -o -maxdepth 2 -name 'sregistry-*' -o -name 'build-temp*'"
    ).stdout


def test_a_definition_with_everything(user: Host, tag: Tag) -> None:
    text = DEFINITION.format(image=full(tag.name))
    user.shell(f"mkdir -p ~/def/notes; echo note > ~/def/notes/one; cat > ~/def/all.def <<'END'\n{text}END")
    options: dict[str, Any] = {
        "source": "/home/hpc/def/all.def",
        "path": "/tmp/boxes/all.sif",
        "build_args": {"MOOD": "good"},
    }
    foretold = user.sregistry("build", check=True, diff=True, **options)
    done = user.sregistry("build", diff=True, **options)
    assert (foretold["changed"], foretold["diff"]) == (done["changed"], done["diff"]) == (True, done["diff"])
    for check in (True, False):
        again = user.sregistry("build", check=check, diff=True, **options)
        assert (again["changed"], again["images"][0]["action"], again["diff"]) == (False, "present", [])
    said = run(user, "/tmp/boxes/all.sif", "a", "b")
    assert said.splitlines() == [
        "hello in post",
        "from the first stage",
        "on the host",
        "note",
        "mood good, arguments a b",
    ]
    assert user.shell("apptainer run --userns --app tool /tmp/boxes/all.sif").stdout == "app\n"
    assert user.shell("apptainer run-help /tmp/boxes/all.sif").stdout.strip() == "It says hello."
    rendered = text[text.index("Bootstrap") :].replace("{{ MOOD }}", "good").replace("{{ GREETING }}", "hello")
    assert user.shell("apptainer sif dump 1 /tmp/boxes/all.sif").stdout == rendered
    assert done["diff"][0]["after"]["text"] == rendered.splitlines()

    user.shell("echo other > ~/def/notes/one")
    other = user.sregistry("build", check=True, diff=True, **options)
    assert (other["changed"], other["images"][0]["action"]) == (True, "rebuilt")
    assert "text" not in other["diff"][0]["after"]
    user.shell("echo note > ~/def/notes/one")
    moved = built(user, **{**options, "build_args": {"MOOD": "better", "GREETING": "hi"}})
    assert moved["action"] == "rebuilt"
    assert run(user, "/tmp/boxes/all.sif").splitlines()[0::4] == ["hi in post", "mood better, arguments "]
    assert left(user) == ""


TEXT = """
Bootstrap: docker
From: {image}
%post
    /bin/busybox echo {word} > /word
    /bin/busybox echo "{{% raw %}}{{{{ secret }}}}{{% endraw %}}" | /bin/busybox sha256sum > /secret
%runscript
    /bin/busybox cat /words /word
"""


def test_a_base_that_moves_is_followed_and_a_name_is_taken_over(user: Host, tag: Tag) -> None:
    options: dict[str, Any] = {
        "definition": TEXT.format(image=full(tag.name), word="text"),
        "path": "/tmp/boxes/moving.sif",
        "build_args": {"secret": "zebra-stripes"},
    }
    assert built(user, **options)["action"] == "built"
    assert run(user, options["path"]) == "one\ntext\n"
    named = user.sregistry("build", name="team/solver:2.4", **options)
    assert named["images"][0]["action"] == "recorded"
    rows = named["ansible_facts"]["sregistry"]["images"]
    assert [(row["reference"], row["client"]) for row in rows if row["path"]] == [("team/solver:2.4", "local")]
    tag.push("two")
    assert built(user, name="team/solver:2.4", **options)["action"] == "rebuilt"
    assert run(user, options["path"]) == "two\ntext\n"
    assert not built(user, name="team/solver:2.4", **options)["changed"]
    known = user.shell("cat ~/.singularity/shub/.sregistry/images/*").stdout
    assert "zebra" not in known


@pytest.mark.parametrize(
    ("post", "words"),
    [("echo last words; exit 3", "last words"), ("touch /x", "test of the image")],
    ids=["post", "test"],
)
def test_what_fails_leaves_nothing_and_the_old_file(user: Host, tag: Tag, post: str, words: str) -> None:
    test = "exit 0" if "exit" in post else "echo this is a test of the image >&2; exit 1"
    path = "/tmp/boxes/failing.sif"
    base = f"Bootstrap: docker\nFrom: {full(tag.name)}\n"
    first = built(user, definition=base, path=path)
    failed = user.sregistry("build", definition=f"{base}%post\n    {post}\n%test\n    {test}\n", path=path)
    assert failed["failed"]
    assert words in failed["msg"]
    assert user.shell(f"sha256sum {path}").stdout.split()[0] == first["sha256"]
    assert left(user) == ""
    if words != "last words":
        text = f"{base}%post\n    {post}\n%test\n    {test}\n"
        assert built(user, definition=text, path=path, run_tests=False)["action"] == "rebuilt"


def test_a_private_base_is_opened_by_the_login_which_shows_nowhere(user: Host) -> None:
    base = f"Bootstrap: docker\nFrom: {PRIVATE}/secret/tiny\n%runscript\n    /bin/busybox echo it is open\n"
    options: dict[str, Any] = {
        "definition": base,
        "path": "/tmp/boxes/private.sif",
        "no_https": False,
        "ca_path": "/etc/ssl/lab-ca.pem",
    }
    refused = user.sregistry("build", **options)
    assert refused["failed"]
    assert "unauthorized" in refused["msg"].lower()
    result = user.sregistry("build", username="lab", password=SECRET, **options)
    assert result["changed"], result
    assert run(user, options["path"]) == "it is open\n"
    assert SECRET not in json.dumps(result)
    assert user.shell(f"grep -rl {SECRET} ~/.singularity ~/.apptainer /tmp/boxes", check=False).stdout == ""


def test_root_builds_with_fakeroot_where_it_lacks_capabilities(node1: Host, tag: Tag) -> None:
    text = f"Bootstrap: docker\nFrom: {full(tag.name)}\n%post\n    /bin/busybox chown 33:33 /words\n"
    image = built(node1, definition=text, path="/tmp/root.sif", fakeroot=True, mode="0640", group="hpc")
    assert image["inputs"]["fakeroot"] == "yes"
    assert node1.shell("stat -c '%G %a' /tmp/root.sif").stdout == "hpc 640\n"
    (tree,) = scan(node1, "/tmp/root.sif")
    assert tree["words"]["owner"] == [33, 33]


@pytest.mark.parametrize("name", ["root", "hpc"])
def test_a_sandbox_of_an_image_is_that_of_apptainer(node1: Host, user: Host, name: str) -> None:
    host = node1.as_user(name)
    source = f"docker://{REGISTRY}/lab/hazards:latest"
    first = host.sregistry("build", source=source, path="/tmp/boxes/ours", format="sandbox", check=True, diff=True)
    second = host.sregistry("build", source=source, path="/tmp/boxes/ours", format="sandbox", diff=True)
    assert (first["changed"], first["diff"]) == (second["changed"], second["diff"]) == (True, second["diff"])
    host.shell(f"apptainer build --no-https --sandbox /tmp/boxes/theirs {source}")
    ours, theirs = scan(node1, "/tmp/boxes/ours", "/tmp/boxes/theirs")
    for entry in theirs.values():
        entry["xattrs"].pop("user.rootlesscontainers", None)  # its note of the owner that it could not set
    lost = LOST_BY_APPTAINER if name == "hpc" else set()
    assert not differences(ours, theirs, {LABELS, *lost})
    assert not host.sregistry("build", source=source, path="/tmp/boxes/ours", format="sandbox")["changed"]
    assert left(node1) == ""


def test_work_in_a_sandbox_is_kept_until_force_gives_it_up(user: Host, tag: Tag) -> None:
    options: dict[str, Any] = {"source": f"docker://{full(tag.name)}", "path": "/tmp/boxes/box", "format": "sandbox"}
    assert built(user, **options)["action"] == "built"
    user.shell("echo work > /tmp/boxes/box/work")
    assert built(user, **options)["action"] == "present"
    tag.push("two")
    refused = user.sregistry("build", **options)
    assert refused["failed"]
    assert "force: true" in refused["msg"]
    assert user.shell("cat /tmp/boxes/box/work /tmp/boxes/box/words").stdout == "work\none\n"
    assert built(user, force=True, **options)["action"] == "rebuilt"
    assert user.shell("ls /tmp/boxes/box/work; cat /tmp/boxes/box/words", check=False).stdout == "two\n"
    user.shell("mkdir /tmp/boxes/other; touch /tmp/boxes/other/precious")
    refused = user.sregistry("build", force=True, **{**options, "path": "/tmp/boxes/other"})
    assert "no engine has built" in refused["msg"]
    assert left(user) == ""


def test_a_sandbox_becomes_a_file_and_a_file_a_sandbox(user: Host, tag: Tag) -> None:
    sif: dict[str, Any] = {"source": f"docker://{full(tag.name)}", "path": "/tmp/boxes/one.sif"}
    pulled = user.sregistry("pull", tag.name, dest="/tmp/pulled.sif")["images"][0]
    assert (image := built(user, **sif))["action"] == "pulled"
    assert image["sha256"] == pulled["sha256"]
    box: dict[str, Any] = {"source": "/tmp/boxes/one.sif", "path": "/tmp/boxes/box", "format": "sandbox"}
    assert built(user, **box)["action"] == "built"
    user.shell("echo three > /tmp/boxes/box/words")
    back: dict[str, Any] = {"source": "/tmp/boxes/box", "path": "/tmp/boxes/two.sif", "compression": "gzip"}
    assert built(user, **back)["action"] == "built"
    assert run(user, "/tmp/boxes/two.sif") == "three\n"
    user.shell("echo 4 > /tmp/boxes/box/words")
    assert built(user, **back)["action"] == "rebuilt"
    assert run(user, "/tmp/boxes/two.sif") == "4\n"
    assert left(user) == ""


def test_a_base_that_moves_during_the_build_makes_it_build_again(user: Host, tag: Tag) -> None:
    other = Tag()
    other.push("two")
    move = f"skopeo copy -q --src-tls-verify=false --dest-tls-verify=false docker://{full(other.name)} docker://{full(tag.name)}"
    text = f"Bootstrap: docker\nFrom: {full(tag.name)}\n%setup\n    {move}\n"
    options: dict[str, Any] = {"definition": text, "path": "/tmp/boxes/moving.sif"}
    image = built(user, **options)
    assert run(user, options["path"]) == "two\n"
    assert image["inputs"]["from"].startswith(f"docker://{full(tag.name)}@sha256:")


def test_who_is_told_to_end_takes_the_engine_with_it_and_leaves_nothing(user: Host) -> None:
    post = "mkdir /theirs; chown 7:7 /theirs; chmod 700 /theirs; sleep 4711"
    text = f"Bootstrap: docker\nFrom: {REGISTRY}/lab/debian:12\n%post\n    {post}\n"
    with ThreadPoolExecutor(1) as pool:
        build = pool.submit(user.sregistry, "build", definition=text, path="/tmp/boxes/box", format="sandbox")
        script = "for n in $(seq 300); do pgrep -u hpc -f '^sleep 4711' && break; sleep 0.1; done >/dev/null; "
        user.shell(script + "kill $(ps -o ppid= -p $(pgrep -o -u hpc -f '^Apptainer fakeroot'))")
        assert build.result()["failed"]
    assert user.shell("pgrep -u hpc -f '^Apptainer|^sleep 4711'; ls -A /tmp/boxes", check=False).stdout == ""
    assert left(user) == ""
