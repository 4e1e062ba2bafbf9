# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of images: their meaning, and those that are refused."""

from __future__ import annotations

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidReference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.storage import file_name
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import (
    Reference,
    check_digest,
    parse_registry,
)
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.strategies import references
from hypothesis import given
from hypothesis import strategies as st

HEX = "0123456789abcdef" * 4
SHA256 = f"sha256:{HEX}"
SHA512 = f"sha512:{HEX}{HEX}"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("ubuntu:22.04", "docker.io", "library/ubuntu", "22.04"),
        ("  ubuntu:22.04\n", "docker.io", "library/ubuntu", "22.04"),
        ("docker://ubuntu:22.04", "docker.io", "library/ubuntu", "22.04"),
        ("DOCKER://ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("org/app", "docker.io", "org/app", "latest"),
        ("org/team/app:1", "docker.io", "org/team/app", "1"),
        ("docker.io/ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("docker.io/library/ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("index.docker.io/org/app", "docker.io", "org/app", "latest"),
        ("registry-1.docker.io/org/app", "docker.io", "org/app", "latest"),
        ("registry.hub.docker.com/org/app", "docker.io", "org/app", "latest"),
        ("Docker.IO/org/app", "docker.io", "org/app", "latest"),
        ("docker.io/my.org/app", "docker.io", "my.org/app", "latest"),
        ("quay.io/org/app:1.0", "quay.io", "org/app", "1.0"),
        ("Quay.IO/org/app:1.0", "quay.io", "org/app", "1.0"),
        ("quay.io/app", "quay.io", "app", "latest"),
        ("ghcr.io/a/b/c/d:x", "ghcr.io", "a/b/c/d", "x"),
        ("localhost/app", "localhost", "app", "latest"),
        ("localhost:5000", "docker.io", "library/localhost", "5000"),
        ("localhost:5000/app", "localhost:5000", "app", "latest"),
        ("host:5000/a/b:t", "host:5000", "a/b", "t"),
        ("192.0.2.7:5000/app", "192.0.2.7:5000", "app", "latest"),
        ("[2001:db8::1]:5000/app:t", "[2001:db8::1]:5000", "app", "t"),
        ("[::1]/app", "[::1]", "app", "latest"),
        ("[::ffff:192.0.2.1]:5000/app", "[::ffff:192.0.2.1]:5000", "app", "latest"),  # RFC 4291, section 2.2
        ("nvcr.io/nvidia/cuda:12.4.1-Base-UBI9", "nvcr.io", "nvidia/cuda", "12.4.1-Base-UBI9"),
        ("ubuntu:_", "docker.io", "library/ubuntu", "_"),
        ("ubuntu:" + "t" * 128, "docker.io", "library/ubuntu", "t" * 128),
        ("org/a__b.c-d---e/f_g", "docker.io", "org/a__b.c-d---e/f_g", "latest"),
        ("image.img", "docker.io", "library/image.img", "latest"),
        ("org/my.simg.tool", "docker.io", "org/my.simg.tool", "latest"),
    ],
)
def test_a_tag_is_read_with_dockers_defaults(text: str, registry: str, repository: str, tag: str) -> None:
    assert Reference.parse(text) == Reference(registry, repository, tag=tag)


@pytest.mark.parametrize("digest", [SHA256, SHA512])
@pytest.mark.parametrize("text", ["ubuntu@{}", "ubuntu:22.04@{}", "docker://docker.io/library/ubuntu:22.04@{}"])
def test_a_digest_wins_over_a_tag(text: str, digest: str) -> None:
    assert Reference.parse(text.format(digest)) == Reference("docker.io", "library/ubuntu", digest=digest)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        (
            "library://lolcow",
            "the scheme 'library' is not served here; use docker:// or oras://REGISTRY/REPOSITORY[:TAG|@DIGEST], or",
        ),
        ("oras://", "there is no repository name"),
        ("oras://Org/app", "the repository component 'Org' must be lower case ('org')"),
        ("https://", "the host '' is not HOST or HOST:PORT"),
        ("https://host", "it must name a file"),
        ("https://host/", "it must name a file"),
        ("https://host/a//b", "it must name a file"),
        ("https://host/a/", "it must name a file"),
        ("https://host/a/../b", "its path has a part '.' or '..'"),
        ("https://host/a/%2E%2e/b", "its path has a part '.' or '..'"),
        ("https://host/100%", "a '%' in its path is not followed by two hexadecimal digits"),
        ("https://host/a%0Ab", "its path has a character that does not print"),
        ("https://a_b/c", "the host 'a_b' is not HOST or HOST:PORT"),
        ("https://host:70000/c", "the host 'host:70000' is not HOST or HOST:PORT"),
        ("docker://", "there is no repository name"),
        (":tag", "there is no repository name"),
        (f"@{SHA256}", "there is no repository name"),
        ("host:5000/", "there is no repository name"),
        ("docker:///app", "the repository has an empty component ('//' or a '/' at an end)"),
        ("/app", "the repository has an empty component"),
        ("app/", "the repository has an empty component"),
        ("quay.io//app", "the repository has an empty component"),
        ("org//app", "the repository has an empty component"),
        ("ubuntu:", "the tag '' must be 1 to 128 letters, digits, '_', '.' or '-', and not begin with '.' or '-'"),
        ("ubuntu:-x", "the tag '-x' must be"),
        ("ubuntu:.x", "the tag '.x' must be"),
        ("ubuntu:a b", "the tag 'a b' must be"),
        ("ubuntu:a:b", "the tag 'a:b' must be"),
        ("ubuntu:ü", "the tag 'ü' must be"),
        ("ubuntu:" + "t" * 129, "must be 1 to 128 letters"),
        ("ubuntu:bad!@" + SHA256, "the tag 'bad!' must be"),
        ("Ubuntu", "the repository component 'Ubuntu' must be lower case ('ubuntu')"),
        ("quay.io/Org/app", "the repository component 'Org' must be lower case ('org')"),
        ("org/-app", "the repository component '-app' must be lower-case letters and digits, separated by"),
        ("org/app_", "the repository component 'app_' must be lower-case letters and digits"),
        ("a___b", "the repository component 'a___b' must be"),
        ("a..b", "the repository component 'a..b' must be"),
        ("../../etc/passwd", "the registry '..' is not HOST or HOST:PORT"),
        ("org/../app", "the repository component '..' must be"),
        ("naïve", "the repository component 'naïve' must be"),
        ("a\nb", "the repository component 'a\\nb' must be"),
        ("-bad.io/app", "the registry '-bad.io' is not HOST or HOST:PORT"),
        ("a_b.io/app", "the registry 'a_b.io' is not HOST or HOST:PORT"),
        ("host:/app", "the registry 'host:' is not HOST or HOST:PORT"),
        ("host:port/app", "the registry 'host:port' is not HOST or HOST:PORT"),
        ("host:65536/app", "the registry 'host:65536' is not HOST or HOST:PORT"),
        ("[::1/app", "the registry '[::1' is not HOST or HOST:PORT"),
        ("ubuntu@latest", "the digest 'latest' must begin with 'sha256:' or 'sha512:'"),
        ("ubuntu@", "the digest '' must begin with 'sha256:' or 'sha512:'"),
        (f"ubuntu@md5:{HEX}", "must begin with 'sha256:' or 'sha512:'"),
        (f"ubuntu@sha256:{HEX[1:]}", "must have 64 lower-case hexadecimal digits after 'sha256'"),
        (f"ubuntu@sha256:{HEX.upper()}", "must have 64 lower-case hexadecimal digits after 'sha256'"),
        (f"ubuntu@sha512:{HEX}", "must have 128 lower-case hexadecimal digits after 'sha512'"),
        (f"ubuntu@{SHA256}@{SHA256}", "must have 64 lower-case hexadecimal digits"),
        ("quay.io/" + "a" * 256, "the repository is longer than 255 characters"),
        ("docker-archive:/tmp/app.tar", "docker-archive: names something on a host, which no registry has"),
        ("docker-archive:/tmp/app.tar", "to make a SIF file of it, give this name to sregistry_build as source"),
        ("docker-archive:app.tar:app:1", "docker-archive: names something on a host"),
        ("docker-archive:///tmp/app.tar", "docker-archive: names something on a host"),
        ("oci-archive:/tmp/app.tar", "oci-archive: names something on a host"),
        ("docker-daemon:ubuntu:22.04", "docker-daemon: names something on a host"),
        ("oci:/tmp/layout", "oci: names something on a host"),
        ("oci:layout:tag", "oci: names something on a host"),
        ("library://org/app", "the scheme 'library' is not served here"),
        ("library://org/app", "sregistry_build takes this name as its source"),
        ("docker://nvcr.io#nvidia/pytorch:24.01-py3", "write nvcr.io/nvidia/pytorch:24.01-py3"),
        ("nvcr.io#nvidia/pytorch", "after the registry comes a '/', and not a '#' as enroot writes it"),
        ("nvcr.io/nvidia#pytorch", "the repository component"),
        ("b" * 249, "the repository is longer than 255 characters"),
    ],
)
def test_a_malformed_name_is_refused_with_the_part_that_is_wrong(text: str, why: str) -> None:
    with pytest.raises(InvalidReference) as refusal:
        Reference.parse(text)
    assert str(refusal.value).startswith(f"invalid image name {text!r}: ")
    assert why in str(refusal.value)


def test_the_longest_name_is_accepted() -> None:
    assert Reference.parse("registry.example.org/" + "a" * 255).repository == "a" * 255


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("oras://ghcr.io/org/app:1.0", "ghcr.io", "org/app", "1.0"),
        ("ORAS://ghcr.io/org/app", "ghcr.io", "org/app", "latest"),
        ("oras://app", "docker.io", "library/app", "latest"),
    ],
)
def test_a_finished_file_in_a_registry_is_named_as_an_image_is(
    text: str, registry: str, repository: str, tag: str
) -> None:
    reference = Reference.parse(text)
    assert reference == Reference(registry, repository, tag=tag, scheme="oras")
    assert reference != Reference.parse(f"docker://{registry}/{repository}:{tag}")
    assert reference.is_sif
    assert not reference.from_web
    assert Reference.parse(reference.uri) == Reference.parse(reference.url) == reference
    assert reference.at(SHA256).url == f"oras://{registry}/{repository}@{SHA256}"


@pytest.mark.parametrize(
    ("text", "uri", "query", "below"),
    [
        ("https://host/app.sif", "https://host/app.sif", "", "host/app.sif"),
        ("HTTPS://Host:443/a/App.sif", "https://host/a/App.sif", "", "host/a/App.sif"),
        ("http://host:80/app", "http://host/app", "", "host/app.sif"),
        ("http://host:443/app", "http://host:443/app", "", "host_443/app.sif"),
        ("https://[::1]:8443/a.sif", "https://[::1]:8443/a.sif", "", "__1_8443/a.sif"),
        ("https://host/a.sif?download=1", "https://host/a.sif", "download=1", "host/a.sif"),
        ("https://host/a.sif?x=/b?c#top", "https://host/a.sif", "x=/b?c", "host/a.sif"),
        ("https://host/~me/my app.sif", "https://host/~me/my%20app.sif", "", "host/~me/my_app.sif"),
        ("https://host/%2fa%3b.sif", "https://host/%2Fa%3B.sif", "", "host/_a_.sif"),
        ("https://host/@me/a:b.sif", "https://host/%40me/a:b.sif", "", "host/_me/a_b.sif"),
        ("https://host/.hidden/-x/.sif", "https://host/.hidden/-x/.sif", "", "host/_hidden/_x/_sif.sif"),
        (f"https://host/a.sif@{SHA256}", f"https://host/a.sif@{SHA256}", "", f"host/a-sha256-{HEX}.sif"),
        (f"https://host/a?b=c@{SHA256}", f"https://host/a@{SHA256}", "b=c", f"host/a-sha256-{HEX}.sif"),
    ],
)
def test_a_web_address_is_a_name_without_its_query(text: str, uri: str, query: str, below: str) -> None:
    reference = Reference.parse(text)
    assert (reference.uri, reference.url, str(reference)) == (uri, uri, uri)
    assert reference.query == query
    assert file_name(reference) == below
    assert reference.from_web
    assert reference.is_sif
    assert Reference.parse(uri) == reference
    assert not query or query not in repr(reference)


@pytest.mark.parametrize(
    "text",
    [
        "https://me:secret@host/a.sif",
        "https://secret@host/a.sif",
        "https://me:se/secret@host/a.sif",
        "https://me:secret?x@host/a.sif",
        "oras://me:secret@host/a",
    ],
)
def test_a_login_in_an_address_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidReference) as refusal:
        Reference.parse(text)
    assert "there is no login in a name" in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://host/?signature=secret", "invalid image name 'https://host/': it must name a file"),
        (
            "https://host/a?x=secret@sha256:abc",
            "invalid image name 'https://host/a': the digest 'sha256:abc' must have",
        ),
    ],
)
def test_a_query_is_not_shown_when_its_address_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidReference) as refusal:
        Reference.parse(text)
    assert str(refusal.value).startswith(why)
    assert "secret" not in str(refusal.value)


@given(st.text("aA0.:/@%2eE?#-_ é\n[]", max_size=24))
def test_any_web_address_is_either_refused_or_has_a_stable_uri_and_a_safe_file(text: str) -> None:
    try:
        reference = Reference.parse(f"https://{text}")
    except InvalidReference:
        return
    assert Reference.parse(reference.uri) == reference
    parts = file_name(reference).split("/")
    assert all(part and not part.startswith((".", "-")) for part in parts[1:])
    assert all(character.isalnum() or character in "._+=~-" for part in parts for character in part)
    assert parts[-1].endswith(".sif")


def test_a_long_web_address_still_has_a_file_name() -> None:
    one, two = (Reference.parse(f"https://host/{'a' * 300}/{'b' * 300}{end}.sif") for end in "xy")
    assert max(map(len, file_name(one).split("/"))) <= 255
    assert file_name(one) != file_name(two)


@given(references())
def test_parsing_the_uri_gives_the_reference_back(reference: Reference) -> None:
    assert Reference.parse(reference.uri) == reference
    assert Reference.parse(f"docker://{reference.uri}") == reference
    assert Reference.parse(str(reference)) == reference


@given(references())
def test_parsing_the_full_form_gives_the_reference_back(reference: Reference) -> None:
    selector = f"@{reference.digest}" if reference.digest else f":{reference.tag}"
    assert Reference.parse(f"docker://{reference.registry}/{reference.repository}{selector}") == reference


@given(st.text("abA0.:/@-_[]", max_size=24))
def test_any_text_is_either_refused_or_has_a_stable_uri(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(reference.uri) == reference
    assert (reference.tag is None) != (reference.digest is None)


@pytest.mark.parametrize(
    ("text", "uri", "path", "collection", "name", "selector", "below"),
    [
        (
            "ubuntu:22.04",
            "library/ubuntu:22.04",
            "library/ubuntu",
            "library",
            "ubuntu",
            "22.04",
            "library/ubuntu-22.04.sif",
        ),
        (
            "quay.io/org/team/app",
            "quay.io/org/team/app:latest",
            "quay.io/org/team/app",
            "org/team",
            "app",
            "latest",
            "quay.io/org/team/app-latest.sif",
        ),
        (
            "host:5000/app:A",
            "host:5000/app:A",
            "host:5000/app",
            "",
            "app",
            "A",
            "host_5000/app-A.sif",
        ),
        (
            f"[::1]:5000/app@{SHA256}",
            f"[::1]:5000/app@{SHA256}",
            "[::1]:5000/app",
            "",
            "app",
            SHA256,
            f"__1_5000/app-sha256-{HEX}.sif",
        ),
        (
            "docker.io/my.org/app:1",
            "docker.io/my.org/app:1",
            "docker.io/my.org/app",
            "my.org",
            "app",
            "1",
            "docker.io/my.org/app-1.sif",
        ),
        (
            "docker.io/localhost/app:1",
            "docker.io/localhost/app:1",
            "docker.io/localhost/app",
            "localhost",
            "app",
            "1",
            "docker.io/localhost/app-1.sif",
        ),
    ],
)
def test_the_parts_of_a_reference(
    text: str, uri: str, path: str, collection: str, name: str, selector: str, below: str
) -> None:
    reference = Reference.parse(text)
    assert reference.uri == str(reference) == uri
    assert reference.path == path
    assert reference.collection == collection
    assert reference.name == name
    assert reference.selector == selector
    assert file_name(reference) == below


@given(references())
def test_the_file_name_is_relative_portable_and_stays_below_the_store(reference: Reference) -> None:
    parts = file_name(reference).split("/")
    assert ":" not in file_name(reference)
    assert file_name(reference).endswith(".sif")
    assert all(0 < len(part) <= 255 and part not in (".", "..") for part in parts)


def test_long_names_that_differ_only_at_their_end_have_different_files() -> None:
    names = [f"host.example/{'a' * 240}:{'t' * 120}{end}" for end in ("1", "2")]
    first, second = (file_name(Reference.parse(name)) for name in names)
    assert first != second
    assert len(first.rpartition("/")[2]) <= 255


def test_at_gives_the_same_repository_by_digest() -> None:
    reference = Reference.parse("quay.io/org/app:1").at(SHA256)
    assert reference == Reference.parse(f"quay.io/org/app@{SHA256}")


@pytest.mark.parametrize("digest", [SHA256, SHA512])
def test_a_valid_digest_is_returned(digest: str) -> None:
    assert check_digest(digest) == digest


@pytest.mark.parametrize(
    ("digest", "why"),
    [
        ("", "the digest '' must begin with 'sha256:' or 'sha512:'"),
        (HEX, "must begin with 'sha256:' or 'sha512:'"),
        (f"sha1:{HEX}", "must begin with 'sha256:' or 'sha512:'"),
        (f"SHA256:{HEX}", "must begin with 'sha256:' or 'sha512:'"),
        ("sha256:", "must have 64 lower-case hexadecimal digits after 'sha256'"),
        (f"sha256:{HEX}\n", "must have 64 lower-case hexadecimal digits after 'sha256'"),
        (f"sha256:{'../' * 21}a", "must have 64 lower-case hexadecimal digits after 'sha256'"),
    ],
)
def test_a_malformed_digest_is_refused(digest: str, why: str) -> None:
    with pytest.raises(InvalidReference) as refusal:
        check_digest(digest)
    assert str(refusal.value).startswith(f"invalid digest {digest!r}: ")
    assert why in str(refusal.value)


@pytest.mark.parametrize("scheme", ["", "docker://", "https://"])
@pytest.mark.parametrize(
    "name", ["user:pa55@host/app", "user:pa55@host:5000/a/b:1", "user@host/app", "u:pa55@w@host/app", "user:pa55@host"]
)
def test_a_login_in_a_name_is_refused_and_not_shown(name: str, scheme: str) -> None:
    with pytest.raises(InvalidReference, match="no login in a name; give username and password") as refusal:
        Reference.parse(scheme + name)
    assert "pa55" not in str(refusal.value)


def test_the_message_for_a_long_text_is_short() -> None:
    with pytest.raises(InvalidReference) as refusal:
        check_digest("sha256:" + "0" * 100_000)
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize(
    ("text", "registry"),
    [
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("https://index.docker.io/v2/", "docker.io"),
        ("https://registry-1.docker.io", "docker.io"),
        ("Registry.Example.org", "registry.example.org"),
        ("localhost:5000", "localhost:5000"),
        ("http://127.0.0.1:5000/", "127.0.0.1:5000"),
        ("HTTPS://quay.io/v2", "quay.io"),
        ("registry", "registry"),
    ],
)
def test_a_registry_is_a_host_or_the_address_of_its_api(text: str, registry: str) -> None:
    assert parse_registry(text) == registry


@pytest.mark.parametrize(
    "text", ["", " ", "https://", "a b", "quay.io/org", "host:99999", "ftp://host", "user:pa55@host"]
)
def test_what_is_no_registry_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference, match=r"invalid registry .*: write it as HOST or HOST:PORT") as refusal:
        parse_registry(text)
    assert "pa55" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("ubuntu", "registry.example.org:5000/ubuntu:latest"),
        ("org/app:1", "registry.example.org:5000/org/app:1"),
        ("docker://org/app:1", "registry.example.org:5000/org/app:1"),
        ("docker.io/ubuntu", "library/ubuntu:latest"),
        ("quay.io/org/app", "quay.io/org/app:latest"),
    ],
)
def test_a_name_without_a_registry_belongs_to_the_default_one(name: str, uri: str) -> None:
    assert Reference.parse(name, "registry.example.org:5000").uri == uri


def test_an_image_may_be_called_as_a_source_of_an_engine() -> None:
    assert Reference.parse("oci:1.0").uri == "library/oci:1.0"
    assert Reference.parse("docker://docker-archive:1.0").uri == "library/docker-archive:1.0"
