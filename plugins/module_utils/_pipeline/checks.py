# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a pipeline needs outside its file, looked at before it is deployed: a platform's host, trust, secrets, a signature."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Collection, Iterable, Mapping

from .._drone.client import Refused, repo_route, route, safe_to_repeat
from .._problem import Problem, suggest
from .pipeline import from_secrets
from .plugins import is_privileged
from .yaml_patch import sign
from .yaml_read import read

if TYPE_CHECKING:
    from .._drone.client import Drone
    from .._platform import Platform
    from .pipeline import Pipeline

# What the runner's linter refuses in a repository that is not trusted (drone-runner-docker, engine/linter).
NEEDS_TRUST = ("privileged", "devices", "dns", "dns_search", "extra_hosts", "network_mode", "shm_size")


# The strategies that execute each platform on a runner host: cross executes only the host's own, remote a daemon's.
NEED_HOSTS = ("emulated", "native")


def check_hosts(pipeline: Pipeline, platforms: Collection[Platform]) -> None:
    """Raise a Problem for a platform that no runner host executes."""
    for platform in pipeline.platforms:
        if platform not in platforms:
            raise Problem(
                f"pipeline {pipeline.name}: no host builds {platform}; they build {', '.join(map(str, sorted(platforms)))}",
                "add a host, give its hosts the platform (multiarch.drone.binfmt_qemu), or leave the platform out",
            )


def secrets_taken(documents: Iterable[Mapping[str, Any]], text: str, where: str) -> set[str]:
    """Return the names of the secrets that documents take and their file does not have itself."""
    taken = {name for document in documents for name in from_secrets(document)}
    if not taken:
        return taken
    return taken - {document.name for document in read(text, where) if document.kind == "secret"}


@dataclass
class Server:
    """What a Drone server says of the repositories: one listing, and the secrets of those that change."""

    drone: Drone
    privileged_images: Collection[str] = ()
    known_trusted: Collection[str] = ()
    known_secrets: Collection[str] = ()
    _rows: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _of_namespace: dict[str, set[str] | None] = field(default_factory=dict)

    def load(self) -> None:
        """Read the listing, before several threads ask for its rows."""
        self._rows = {row["slug"]: row for row in self.drone.repos()}

    def row(self, slug: str) -> Mapping[str, Any]:
        """Return a repository as the server lists it; raise a Problem where it does not."""
        if not self._rows:
            self.load()
        if slug not in self._rows:
            raise Problem(
                f"{self.drone.url} knows no repository {slug}",
                f"{suggest(slug, self._rows) if self._rows else 'synchronize it'}",
            )
        return self._rows[slug]

    def check_trust(self, slug: str, documents: Iterable[Mapping[str, Any]]) -> None:
        """Raise a Problem where the runner would refuse a step, or run it without the privilege that it needs."""
        if self.row(slug).get("trusted") or slug in self.known_trusted:
            return
        trust = f"trust it (multiarch.drone.drone_repo_trust: repos: [{slug}]), or build with strategy remote"
        for document in documents:
            for step in (*document.get("services", ()), *document.get("steps", ())):
                key = next((key for key in NEEDS_TRUST if step.get(key)), None)
                if key is None:
                    continue
                hint = trust
                if key == "privileged" and is_privileged(step.get("image", ""), self.privileged_images):
                    hint = "the runners privilege its image without trust: set privileged to false"
                raise Problem(
                    f"{slug} is not trusted, and step {step.get('name')} has {key}, which Drone refuses there", hint
                )
            for volume in document.get("volumes", ()):
                if "host" in volume or (volume.get("temp") or {}).get("medium") == "memory":
                    raise Problem(
                        f"{slug} is not trusted, and volume {volume.get('name')} is the host's, which Drone refuses there",
                        trust,
                    )

    def check_secrets(self, slug: str, documents: Iterable[Mapping[str, Any]], text: str) -> bool:
        """Raise a Problem for a secret that a document names and nobody has; return whether that could be told."""
        wanted = secrets_taken(documents, text, slug) - set(self.known_secrets)
        if not wanted:
            return True
        have = {row["name"] for row in self.drone.get(repo_route(slug, "secrets")) or ()}
        if wanted <= have:
            return True
        shared = self._shared(slug.split("/")[0])
        missing = sorted(wanted - have - (shared or set()))
        if missing and shared is not None:
            hint = suggest(missing[0], have | shared) if have | shared else f"{slug} has none"
            raise Problem(
                f"{slug} has no secret {', '.join(missing)} ({hint})",
                "make it with multiarch.drone.drone_secret, or name it in known_secrets if another source provides it",
            )
        return not missing

    def _shared(self, namespace: str) -> set[str] | None:
        """Return an organisation's secrets; None where the token's owner may not see them."""
        if namespace not in self._of_namespace:
            try:
                rows = self.drone.get(route("secrets", namespace)) or ()
                self._of_namespace[namespace] = {row["name"] for row in rows}
            except Refused as refused:
                if refused.status not in (401, 403, 404):
                    raise
                self._of_namespace[namespace] = None
        return self._of_namespace[namespace]

    def signed(self, slug: str, text: str) -> str:
        """Return a file's text as a protected repository wants it: with the server's signature."""
        if not self.row(slug).get("protected"):
            return text
        answer = self.drone.post(repo_route(slug, "sign"), {"data": text}, look=safe_to_repeat)
        return sign(text, str(answer["data"]), slug)
