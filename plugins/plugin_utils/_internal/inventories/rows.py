# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows of an inventory, as the modules return them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ....module_utils._internal.errors import SregistryError
from ....module_utils._internal.oci.reference import DOCKER_HUB, Reference, parse_registry

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

_SHA256 = 64  # digits

Row = Mapping[str, Any]


def rows_of(value: object) -> list[Row]:
    """Return the rows of what a playbook has: a list of them, one, the facts, or what ``sregistry_facts`` returned.

    :raises AnsibleFilterError: if it is something else.
    """
    if isinstance(value, Mapping):
        if "ansible_facts" in value and "images" not in value:
            return rows_of(value["ansible_facts"])
        for key in ("sregistry", "images"):
            if key in value:
                return rows_of(value[key])
        value = [value]
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        rows = [row for row in value if isinstance(row, Mapping) and "reference" in row and "path" in row]
        if len(rows) == len(value):
            return rows
    raise AnsibleFilterError(
        "this is not an inventory of images; give ansible_facts.sregistry, or the images that sregistry_facts returned"
    )


def uri_of(name: object, registry: str = DOCKER_HUB) -> str:
    """Return a name in its canonical form.

    :raises AnsibleFilterError: if it is not a name.
    """
    try:
        return Reference.parse_known(str(name), parse_registry(registry)).uri
    except SregistryError as error:
        raise AnsibleFilterError(str(error)) from error


def by_age(rows: Sequence[Row]) -> list[Row]:
    """Return rows in the order in which their images came, which is that of sregistry's table."""
    return sorted(rows, key=lambda row: (str(row["created_at"]), row["reference"], str(row["path"])))


def long_date(time: str) -> str:
    """Return the day of a time in RFC 3339 as people read it: ``January 14, 2018``, in English everywhere."""
    year, month, day = time[:10].split("-")
    return f"{_MONTHS[int(month) - 1]} {day}, {year}"


def digest_of(row: Row) -> str | None:
    """Return the digest of the image that a file was made of, or that is only recorded; None if there is none."""
    found = row.get("built_from") or row.get("manifest_digest")
    return str(found) if found else None


def versioned(row: Row) -> str:
    """Return the name with its version, as sregistry shows it; a name by digest has one already.

    The version is the digest of the image: behind a name, the digest of the file would be taken for it. The version
    that sregistry itself gave to a file, an MD5, is shown as it is.
    """
    version = str(row.get("sha256") or "")
    if len(version) == _SHA256:
        version = digest_of(row) or ""
    return f"{row['reference']}@{version}" if version and "@" not in row["reference"] else str(row["reference"])
