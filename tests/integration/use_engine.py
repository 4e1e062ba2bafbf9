# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run on a host, in a directory that holds the collection: use the engine, and print what came of it as JSON.

An outcome is a value, or the name of an error with its words.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

sys.path.insert(0, os.getcwd())

from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine import dialect, keyring, signature, signing
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.cli import (
    BuildOptions,
    find_engine,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.run import RunOptions, exec_command
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.signature import (
    Certificate,
    KeySource,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine.signing import SigningKey
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import SregistryError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Login

PLAIN, PRIVATE = "127.0.0.1:5000", "127.0.0.1:5001"
PHRASE = "two words"
Outcomes = dict[str, Any]

engine = find_engine()


def outcome(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return the result of a piece of work, or the error that it raises."""
    try:
        value = work(*arguments, **named)
    except SregistryError as error:
        return [type(error).__name__, str(error)]
    return dataclasses.asdict(value) if isinstance(value, signature.Verification) else value


def program(*command: str) -> None:
    """Run a program that makes a key."""
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)


def options_of_the_table_that_help_lacks() -> list[str]:
    """List the options that the table promises of this version, and the engine does not know."""
    lacking = []
    for command, row in dialect.OPTIONS.items():
        text = subprocess.run(
            [engine.path, *command.split(), "--help"], capture_output=True, text=True, check=True
        ).stdout
        known = set(re.findall(r"--[a-z][a-z-]*", text))
        lacking += [
            f"{command} {option}" for option in row if engine.dialect.knows(command, option) and option not in known
        ]
    return lacking


def build() -> Outcomes:
    """Build from a registry, with and without login, and from a definition with arguments."""
    secure = BuildOptions(ca_path="/etc/ssl/lab-ca.pem", login=Login("lab", "lab-secret"))
    with open("definition", "w") as stream:
        stream.write("Bootstrap: localimage\nFrom: plain.sif\n\n%environment\n    export WORD='{{ word }}'\n")
    return {
        "plain": outcome(engine.build, "plain.sif", f"docker://{PLAIN}/lab/tiny:1.0", BuildOptions(no_https=True)),
        "private": outcome(
            engine.build, "private", f"docker://{PRIVATE}/lab/tiny:1.0", dataclasses.replace(secure, sandbox=True)
        ),
        "wrong password": outcome(
            engine.build,
            "no",
            f"docker://{PRIVATE}/lab/tiny:1.0",
            dataclasses.replace(secure, login=Login("lab", "wr0ng")),
        ),
        "definition": outcome(
            engine.build,
            "defined.sif",
            "definition",
            BuildOptions(arguments={"word": 'a, "b" = c'}, packer_arguments="-comp zstd", sections=("environment",)),
        ),
        "unused argument": outcome(
            engine.build, "no", "definition", BuildOptions(arguments={"word": "w", "spare": "s3cret"})
        ),
    }


def run() -> Outcomes:
    """Run commands in images, with variables that a shell or CSV would take apart."""
    awkward = {
        "PLAIN": "one",
        "COMMAS": "a,b",
        "QUOTES": 'say "x"',
        "EQUALS": "a=b,c=d",
        "LINES": "a\nb",
        "SPACE": " x $HOME `id` \\\\ ",
    }

    def ask(command: Sequence[str], options: RunOptions, image: str = "plain.sif") -> str:
        vector = exec_command(engine, image, command, options)
        return subprocess.run(vector, check=True, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL).stdout

    options = RunOptions(
        userns=True, no_home=True, contain=True, pwd="/given", binds=(f"{os.getcwd()}:/given:ro",), env=awkward
    )
    script = "pwd; " + " ".join(f'printf "%s|" "${name}";' for name in awkward)
    said = ask(["/bin/busybox", "sh", "-c", script], options)
    variables = {**os.environ, **engine.inside(awkward)}
    vector = exec_command(
        engine, "plain.sif", ["/bin/busybox", "sh", "-c", script], dataclasses.replace(options, env={})
    )
    return {
        "said by variables": subprocess.run(
            vector, check=True, stdout=subprocess.PIPE, text=True, env=variables
        ).stdout,
        "said without evaluation": ask(
            ["/bin/busybox", "sh", "-c", script], dataclasses.replace(options, no_eval=True)
        ),
        "wanted": "/given\n" + "".join(f"{value}|" for value in awkward.values()),
        "said": said,
        "definition": ask(["/bin/busybox", "sh", "-c", 'printf %s "$WORD"'], RunOptions(userns=True), "defined.sif"),
    }


def make_keys() -> tuple[str, str]:
    """Make two pairs of PEM keys, a certificate, and two PGP keys, one with a passphrase; return the fingerprints."""
    for name in ("ours", "theirs"):
        program("openssl", "genpkey", "-algorithm", "ed25519", "-out", f"{name}.pem")
        program("openssl", "pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub")
    usage = ("-addext", "extendedKeyUsage=codeSigning", "-addext", "basicConstraints=CA:FALSE")
    program(
        "openssl", "req", "-x509", "-key", "ours.pem", "-subj", "/CN=signer", "-days", "2", "-out", "ours.crt", *usage
    )
    os.mkdir("keys", 0o700)
    os.environ["APPTAINER_KEYSDIR"] = "keys"
    for name, phrase in (("Alice", ""), ("Bob", PHRASE)):
        program(
            engine.path,
            "key",
            "newpair",
            "-b",
            "2048",
            "-N",
            name,
            "-E",
            f"{name}@example.org",
            "-C",
            "",
            "-P",
            phrase,
            "-U=false",
        )
    del os.environ["APPTAINER_KEYSDIR"]
    alice, bob = (key.fingerprint for key in keyring.keys(engine, "keys", secret=True))
    return alice, bob


def copy(source: str, target: str, damage: bool = False) -> str:
    """Make a copy of an image; a damaged one differs in a byte of the file system."""
    shutil.copy(source, target)
    if damage:
        with open(target, "r+b") as stream:
            stream.seek(200_000)
            byte = stream.read(1)
            stream.seek(200_000)
            stream.write(bytes([byte[0] ^ 1]))
    return target


def sign() -> Outcomes:
    """Sign with every kind of key, and verify with right and wrong ones."""
    alice, bob = make_keys()
    verify = signature.verify
    made: Outcomes = {"alice": alice, "bob": bob}
    for name, key in (
        ("pem.sif", SigningKey("ours.pem")),
        ("alice.sif", SigningKey(keyring="keys", fingerprint=alice)),
        ("bob.sif", SigningKey(keyring="keys", fingerprint=bob.lower(), passphrase=PHRASE)),
    ):
        made[f"sign {name}"] = outcome(signing.sign, engine, copy("plain.sif", name), key)
    shutil.copy("bob.sif", "both.sif")
    made["sign both.sif"] = outcome(signing.sign, engine, "both.sif", SigningKey(keyring="keys", fingerprint=alice))
    os.mkdir("public", 0o700)
    shutil.copy("keys/pgp-public", "all.pgp")
    made["wrong passphrase"] = outcome(
        signing.sign,
        engine,
        copy("plain.sif", "no.sif"),
        SigningKey(keyring="keys", fingerprint=bob, passphrase="s3cret"),
    )
    made["secret key in a file"] = outcome(
        signing.sign,
        engine,
        copy("plain.sif", "file.sif"),
        SigningKey("keys/pgp-secret", fingerprint=bob, passphrase=PHRASE),
    )
    for name, image, named in (
        ("pem", "pem.sif", {"key": "ours.pub"}),
        ("certificate", "pem.sif", {"certificate": Certificate("ours.crt", roots="ours.crt")}),
        ("keyring", "alice.sif", {"keyring": "keys"}),
        ("accepted", "bob.sif", {"keyring": "keys", "fingerprints": (bob,)}),
        ("two signatures", "both.sif", {"keyring": "keys", "fingerprints": (alice, bob)}),
        ("key in a file", "file.sif", {"key": "all.pgp"}),
        ("unsigned", "plain.sif", {"keyring": "keys"}),
        ("unsigned, by pem", "plain.sif", {"key": "ours.pub"}),
        ("wrong pem", "pem.sif", {"key": "theirs.pub"}),
        ("pem by keyring", "pem.sif", {"keyring": "keys"}),
        ("empty keyring", "alice.sif", {"keyring": "public"}),
        ("not accepted", "both.sif", {"keyring": "keys", "fingerprints": (alice,)}),
        ("damaged", copy("alice.sif", "damaged.sif", damage=True), {"keyring": "keys"}),
        ("damaged, by pem", copy("pem.sif", "damaged-pem.sif", damage=True), {"key": "ours.pub"}),
        ("no image", "all.pgp", {"keyring": "keys"}),
    ):
        made[f"verify: {name}"] = outcome(verify, engine, image, KeySource(**named))
    made["import"] = [outcome(keyring.import_key, engine, "all.pgp", "public") for _time in range(2)]
    made["import of no key"] = outcome(keyring.import_key, engine, "ours.pub", "public")
    return made


if __name__ == "__main__":
    print(
        json.dumps({"lacking": options_of_the_table_that_help_lacks(), "build": build(), "run": run(), "sign": sign()})
    )
