# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wished of one place: the pipeline in its file, from the module's options, and the text that this makes of a file."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterable, Mapping

from .._drone.client import Drone
from .._platform import Platform, parse_all
from .._problem import Problem
from .checks import NEED_HOSTS, Server, check_hosts, secrets_taken
from .pipeline import Pipeline
from .strategies import check_cross, documents
from .yaml_patch import left_as_is, put, take
from .yaml_read import oddities, read

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


@dataclass
class Wish:
    """What a file shall hold, or with `absent` no longer, and what is looked at before."""

    pipeline: Pipeline
    scope: str
    absent: bool
    path: str  # of the file, below its root
    platforms: frozenset[Platform] | None = None  # what the hosts build; None: not known
    server: Server | None = None
    slug: str = ""
    skipped: set[str] = field(default_factory=set)
    warnings: set[str] = field(default_factory=set)
    secrets: frozenset[str] = frozenset()  # that its documents take from the server, once `text` was asked for

    def __post_init__(self) -> None:
        self.documents = documents(self.pipeline)

    @property
    def paths(self) -> list[str]:
        """The files that it must see: the configuration, and for strategy cross the Dockerfile."""
        return [self.path, self.dockerfile] if self.pipeline.strategy == "cross" and not self.absent else [self.path]

    @property
    def dockerfile(self) -> str:
        """Where the Dockerfile is, below the root."""
        settings = {name.lower(): value for name, value in self.pipeline.settings.items()}
        return posixpath.normpath(self.pipeline.dockerfile or settings.get("dockerfile") or "Dockerfile")

    def text(self, files: Mapping[str, bytes | None], where: str) -> tuple[str, str]:
        """Return the file's text as it is and as it shall be; raise a Problem where a check fails."""
        before = decoded(files.get(self.path) or b"", f"{where}: {self.path}")
        pipeline, here = self.pipeline, f"{where}: {self.path}"
        if self.absent:
            after = take(before, self.documents, scope=self.scope, step=pipeline.step, where=here)
            return before, self._signed(before, after, here)
        if pipeline.strategy == "cross":
            dockerfile = files.get(self.dockerfile)
            if dockerfile is None:
                raise Problem(
                    f"{where}: there is no {self.dockerfile}", "set dockerfile, for strategy cross looks at it"
                )
            check_cross(decoded(dockerfile, self.dockerfile), f"{where}: {self.dockerfile}", pipeline.target)
        if self.platforms is None:
            self.skipped.add("platforms")
        elif pipeline.strategy in NEED_HOSTS:
            check_hosts(pipeline, self.platforms)
        if self.scope == "step" and before.strip():
            left = left_as_is(before, self.documents, here)
            if left and pipeline.strategy == "native":
                raise Problem(f"{here}: strategy native needs {', '.join(left)}", "set scope to pipeline")
            self.warnings.update(f"{here}: scope step leaves {one} as it is" for one in left)
        after = put(before, self.documents, scope=self.scope, step=pipeline.step, where=here)
        self.warnings.update(oddities(after, here))
        known = self.server.known_secrets if self.server is not None else ()
        self.secrets = frozenset(secrets_taken(self.documents, after, here)) - frozenset(known)
        return before, self._checked(before, after, here)

    def _checked(self, before: str, after: str, here: str) -> str:
        """Return the text with its signature, once the server was asked for trust and secrets."""
        if self.server is None or not self.slug:
            self.skipped.update(("trust", "secrets"))
        else:
            self.server.check_trust(self.slug, self.documents)
            if after != before and not self.server.check_secrets(self.slug, self.documents, after):
                self.skipped.add("secrets")
        return self._signed(before, after, here)

    def _signed(self, before: str, after: str, here: str) -> str:
        """Return the text with the signature that a protected repository wants, as far as the server is known."""
        if self.server is not None and self.slug:
            return self.server.signed(self.slug, after) if after else after
        if after != before and any(document.kind == "signature" for document in read(after, here)):
            self.skipped.add("signature")
            self.warnings.add(f"{here}: its signature is not renewed, for drone_url is not set")
        return after


def server_of(module: AnsibleModule) -> Server | None:
    options = module.params
    if not options["drone_url"]:
        return None
    if not options["drone_token"]:
        raise Problem("drone_url is set and drone_token is not", "set it, or DRONE_TOKEN; or leave both out")
    return Server(
        Drone.of(module),
        options["privileged_images"] or (),
        options["known_trusted"] or (),
        options["known_secrets"] or (),
    )


def wish_of(module: AnsibleModule, server: Server | None, entry: Mapping[str, Any], slug: str) -> Wish:
    """Return the wish for one place: the pipeline that all have, and what this one has otherwise."""
    options = module.params
    given = {name: value for name, value in (options["pipeline"] or {}).items() if value is not None}
    description = {**given, **(entry.get("pipeline") or {})}
    path = entry.get("config_path") or options["config_path"]
    check_path("config_path", path)
    if re.search(r"\.(star|starlark|script|jsonnet|libsonnet)$", path, re.IGNORECASE):
        raise Problem(
            f"config_path {path} is a program that makes a pipeline, and no YAML",
            "set it to the YAML file that Drone reads, or write the pipeline into the program yourself",
        )
    pipeline = Pipeline.parse(
        description, allow_plaintext=options["allow_plaintext"], privileged_images=options["privileged_images"] or ()
    )
    if not options["template"] and "{{ .input" in json.dumps([description, path]):
        raise Problem(
            f"pipeline {pipeline.name} has {{{{ .input… }}}}, which Drone puts in for templates alone",
            "deploy it as a template, or write the value",
        )
    platforms = options["runner_platforms"]
    wish = Wish(
        pipeline,
        options["scope"],
        options["state"] == "absent",
        path,
        None if platforms is None else frozenset(parse_all(platforms)),
        server,
        slug,
    )
    if pipeline.strategy == "cross":
        check_path("dockerfile", wish.dockerfile)
    return wish


# What Mac file systems leave out of a name (git, utf8.c), and what is `.git` or `.gitmodules` to Windows.
_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_RESERVED = re.compile(r"\.git|git~\d+|\.gitmodules|gitmod~\d+|gi7eba~\d+|gi7d29~\d+", re.IGNORECASE)


def check_path(option: str, path: str) -> None:
    """Raise a Problem for a path that git refuses (`git fsck`), on this file system or on another one."""
    why = ""
    if path != posixpath.normpath(path) or path.startswith("/") or set(path.split("/")) & {".", "..", ""}:
        why = "it is not a normalized path below the repository's root"
    elif re.search(r"[\x00-\x1f\x7f\\\ud800-\udfff]", path):
        why = "control characters and backslashes are not allowed"
    elif len(path.encode()) > 4000 or any(len(part.encode()) > 255 for part in path.split("/")):
        why = "it is too long"
    else:
        for part in path.split("/"):
            name = _IGNORED.sub("", part).split(":")[0].rstrip(". ")
            if _RESERVED.fullmatch(name):
                why = f"git refuses {part!r}, which is {name.lower()} on some file system"
            elif part != part.rstrip(". "):
                why = f"{part!r} ends in a dot or a blank, which Windows cannot have"
    if why:
        raise Problem(f"{option} {path!r} is not a valid path in a repository: {why}", "write it as .drone.yml")


def as_result(
    module: AnsibleModule, facts: Mapping[str, Any], wishes: Iterable[Wish], diffs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the result: what was not looked at, warnings, and the difference as the texts that it is in."""
    every = list(wishes)
    for warning in sorted({warning for wish in every for warning in wish.warnings}):
        module.warn(warning)
    diff = [
        {
            "before_header": name,
            "after_header": name,
            "before": sides["before"].get("text") or "",
            "after": sides["after"].get("text") or "",
        }
        for name, sides in diffs.items()
    ]
    return {**facts, "skipped_checks": sorted({check for wish in every for check in wish.skipped}), "diff": diff}


def decoded(content: bytes, where: str) -> str:
    """Return a file's text; raise a Problem where it is none."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem(f"{where} is not text in UTF-8", "mend the file; it was left alone") from error
