# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an index, a manifest list or a manifest says: platforms, attestations, annotations. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Mapping

from .._platform import Platform
from .._problem import Problem
from .._schema import Damaged, Field, Fields, parse_json, record, records

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
ACCEPTED = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)
# What moby takes for an image's configuration (moby: distribution/registry.go, ImageTypes): old clients and registries
# wrote the guessed ones (https://github.com/docker/distribution/issues/1621).
GUESSED_CONFIGS = ("application/octet-stream", "application/json", "text/html", "")
CONFIGS = (
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
    *GUESSED_CONFIGS,
)

DESCRIPTOR: Fields = {
    "digest": Field(str, required=True),
    "size": Field(int, required=True),
    "mediaType": Field(str, default=""),
    "artifactType": Field(str, default=""),
    "platform": Field(dict, default={}),
    "annotations": Field(dict, default={}),
}
BLOB: Fields = {"digest": Field(str, required=True), "size": Field(int, required=True)}
PLATFORM: Fields = {name: Field(str, default="") for name in ("os", "architecture", "variant", "os.version")}
ANNOTATION = Field(str, most=1 << 16, lines=True)
_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-zA-Z=_-]+")


@dataclass(frozen=True)
class Entry:
    """A descriptor: what an index says about one of its manifests."""

    digest: str
    size: int
    media_type: str
    platform: str = ""  # "linux/arm64"; empty where the index does not say
    os_version: str = ""
    artifact_type: str = ""
    attests: str = ""  # of an attestation: the digest of the manifest that it is about
    annotations: Mapping[str, str] = field(default_factory=dict)
    image_bytes: int | None = None  # what a pull of it transfers; None where nobody asked, or nobody knows


@dataclass(frozen=True)
class Document:
    """One manifest or index, as a registry gave it."""

    digest: str
    size: int
    media_type: str
    annotations: Mapping[str, str]
    entries: tuple[Entry, ...] = ()  # of an index
    config: Entry | None = None  # of a manifest
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_index(self) -> bool:
        return self.config is None


def parse(body: bytes, digest: str, content_type: str, where: str) -> Document:
    """Return what `body` says; raise a Problem that names `where` for anything that is no index or manifest of today."""
    try:
        content = parse_json(body)
    except Damaged as damaged:
        page = "a web page" if body.lstrip()[:1] == b"<" or "html" in content_type else f"not valid JSON: {damaged}"
        raise Problem(
            f"{where}: the answer is {page}, and not a manifest", "is it a registry, or a proxy's page?"
        ) from None
    if not isinstance(content, dict):
        raise Problem(f"{where}: the answer is not a manifest, but JSON of another kind", "is it a registry?")
    media_type = str(content.get("mediaType") or content_type.split(";")[0].strip())
    if content.get("schemaVersion") == 1:
        hint = "push it again with a Docker of this decade"
        raise Problem(f"{where} is an image of Docker's schema 1, which names no platforms and is no longer read", hint)
    has_list, has_config = isinstance(content.get("manifests"), list), isinstance(content.get("config"), dict)
    if has_list == has_config:
        # Both at once is an attack on readers that choose differently: CVE-2021-41190.
        both = "an index and a manifest at once" if has_list else "neither an index nor a manifest"
        raise Problem(f"{where} is {both} ({media_type or 'no media type'})", "push it again")
    if media_type not in ACCEPTED or (media_type in INDEXES) != has_list:
        media_type = OCI_INDEX if has_list else OCI_MANIFEST
    try:
        return Document(
            digest,
            len(body),
            media_type,
            _strings(content.get("annotations"), "annotations"),
            tuple(_entry(entry, f"manifests[{number}]") for number, entry in enumerate(content["manifests"]))
            if has_list
            else (),
            _entry(content["config"], "config") if has_config else None,
            content,
        )
    except Damaged as damaged:
        raise Problem(f"{where}: its manifest is damaged: {damaged}", "push it again") from None


def image_bytes(document: Document) -> int | None:
    """Return the bytes of a manifest's configuration and layers, compressed as they are; None for an index, or raise Damaged.

    A layer that is listed twice counts once: it is transferred once.
    """
    if document.is_index:
        return None
    blobs = [
        record(document.content["config"], BLOB, "config"),
        *records(document.content.get("layers"), BLOB, "layers"),
    ]
    for number, blob in enumerate(blobs):
        if blob["size"] < 0:
            raise Damaged(f"the size of {f'layers[{number - 1}]' if number else 'config'} is negative")
    return sum({blob["digest"]: int(blob["size"]) for blob in blobs}.values())


def platform_name(content: Mapping[str, Any]) -> str:
    """Return the OCI name of the platform that a descriptor or an image's configuration says, "" where it says none.

    A name that the table does not know (windows/amd64) stays as it is: an image may have it.
    """
    parts = [str(content.get(key) or "") for key in ("os", "architecture", "variant")]
    if not parts[0] or not parts[1] or parts[:2] == ["unknown", "unknown"]:
        return ""
    try:
        return str(Platform.of(*parts))
    except Problem:
        return "/".join(part for part in parts if part)


def platform_of(config: object) -> tuple[str, str]:
    """Return the platform, "" for none, and the system's version that an image's configuration says, or raise Damaged."""
    platform = record(config, PLATFORM, "it")
    return platform_name(platform), platform["os.version"]


def _entry(content: object, where: str) -> Entry:
    found = record(content, DESCRIPTOR, where)
    if not _DIGEST.fullmatch(found["digest"]):
        raise Damaged(f"{where}.digest is not a digest")
    annotations = _strings(found["annotations"], f"{where}.annotations")
    platform = record(found["platform"], PLATFORM, f"{where}.platform")
    attestation = annotations.get("vnd.docker.reference.type") == "attestation-manifest"
    return Entry(
        found["digest"],
        found["size"],
        found["mediaType"],
        platform_name(platform),
        platform["os.version"],
        found["artifactType"],
        annotations.get("vnd.docker.reference.digest", "unknown") if attestation else "",
        annotations,
    )


def _strings(content: object, where: str) -> dict[str, str]:
    fields = dict.fromkeys(content, ANNOTATION) if isinstance(content, dict) else {}
    return record(content or {}, fields, where)
