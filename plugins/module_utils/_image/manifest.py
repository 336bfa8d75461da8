# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an index, a manifest list or a manifest says: platforms, attestations, annotations. No I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Mapping

from .._platform import Platform
from .._problem import Problem

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
ACCEPTED = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)


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
        content = json.loads(body)
    except (ValueError, RecursionError):
        page = "a web page" if body.lstrip()[:1] == b"<" or "html" in content_type else "no complete JSON"
        raise Problem(
            f"{where}: the answer is {page}, and no manifest", "is it a registry, or a proxy's page?"
        ) from None
    if not isinstance(content, dict):
        raise Problem(f"{where}: the answer is no manifest, but JSON of another kind", "is it a registry?")
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
            _strings(content.get("annotations")),
            tuple(_entry(descriptor) for descriptor in content["manifests"]) if has_list else (),
            _entry(content["config"]) if has_config else None,
            content,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Problem(f"{where}: its manifest is damaged: {error!r}", "push it again") from error


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


def _entry(descriptor: Mapping[str, Any]) -> Entry:
    annotations = _strings(descriptor.get("annotations"))
    platform = descriptor.get("platform") or {}
    attestation = annotations.get("vnd.docker.reference.type") == "attestation-manifest"
    return Entry(
        str(descriptor["digest"]),
        int(descriptor["size"]),
        str(descriptor.get("mediaType") or ""),
        platform_name(platform),
        str(platform.get("os.version") or ""),
        str(descriptor.get("artifactType") or ""),
        annotations.get("vnd.docker.reference.digest", "unknown") if attestation else "",
        annotations,
    )


def _strings(table: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in (table or {}).items()}
