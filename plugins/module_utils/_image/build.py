# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A build as it was asked for: the options of buildx_image, checked, and the command line that they make. No I/O but stat."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

from .._platform import Platform, parse_all
from .._problem import Problem, suggest
from .reference import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

# Where a pushed image says what it was made from.
KEY = "dev.multiarch.drone.input-digest"

CACHES = ("azblob", "gha", "inline", "local", "registry", "s3")
OUTPUTS = ("cacheonly", "docker", "image", "local", "oci", "registry", "tar")

# Option of the module, flag of `buildx build`.
PAIRS = {
    "build_args": "--build-arg",
    "labels": "--label",
    "annotations": "--annotation",
    "build_contexts": "--build-context",
}
LISTS = {
    "allow": "--allow",
    "attests": "--attest",
    "cache_from": "--cache-from",
    "cache_to": "--cache-to",
    "no_cache_filters": "--no-cache-filter",
    "outputs": "--output",
    "ssh": "--ssh",
    "ulimit": "--ulimit",
}
VALUES = {
    "builder": "--builder",
    "cgroup_parent": "--cgroup-parent",
    "network": "--network",
    "provenance": "--provenance",
    "sbom": "--sbom",
    "shm_size": "--shm-size",
    "target": "--target",
}
SWITCHES = {"load": "--load", "no_cache": "--no-cache", "pull": "--pull"}
# What `--push` means, in words that BuildKit alone reads (an empty `push` is true to it): with the driver docker, buildx 0.13 (not
# 0.38) would have the engine push everything again, whose questions for a tag cross its own changes of it.
PUSH = "--output=type=image,push="

# What decides on what the image holds, as BuildKit's own cache has it; build_contexts do so by their content.
DECISIVE = (
    "add_hosts",
    "annotations",
    "attests",
    "build_args",
    "labels",
    "network",
    "outputs",
    "provenance",
    "sbom",
    "shm_size",
    "target",
    "ulimit",
)


@dataclass(frozen=True)
class Secret:
    """A secret of the build: a file, or a variable of the CLI's environment; never an argument."""

    id: str
    src: str
    variable: str
    value: str

    def __repr__(self) -> str:
        return f"Secret({self.id!r})"


@dataclass(frozen=True)
class Build:
    """What is to be built, from what, for whom."""

    context: str  # a directory's absolute path, or a URL
    file: str  # the Dockerfile's absolute path; for a URL as it was given
    tags: tuple[Reference, ...]
    platforms: tuple[Platform, ...]
    secrets: tuple[Secret, ...]
    options: Mapping[str, Any]  # the module's other options, as they are

    @property
    def is_local(self) -> bool:
        return self.context.startswith("/")

    @property
    def makes_index(self) -> bool:
        """Whether BuildKit will push an index: a single platform without attestations is a manifest alone."""
        options = self.options
        attested = options["provenance"] != "false" or options["sbom"] not in ("", "false") or options["attests"]
        return bool(attested) or len(self.platforms) > 1

    def decisive(self) -> dict[str, Any]:
        """Return the options that decide on what the image holds."""
        chosen = {name: self.options[name] for name in DECISIVE if self.options[name]}
        return {**chosen, "platforms": sorted(map(str, self.platforms)), "secrets": [s.id for s in self.secrets]}

    def unwritten(self) -> list[str]:
        """Return the places of the outputs where nothing is on this host."""
        return [place for place in map(_place, self.options["outputs"]) if place and not _is_written(place)]

    def arguments(self, *, input_digest: str, metadata_file: str) -> list[str]:
        """Return the arguments of `docker` for this build; secrets are not among them."""
        options = self.options
        args = ["buildx", "build", "--progress", "plain", "--metadata-file", metadata_file]
        for name, flag in VALUES.items():
            args += [flag, str(options[name])] if options[name] else []
        args += ["--platform", ",".join(map(str, self.platforms))] if self.platforms else []
        args += ["--file", self.file] if self.file else []
        for tag in self.tags:
            args += ["--tag", str(tag)]
        for name, flag in PAIRS.items():
            for key, value in options[name].items():
                args += [flag, f"{key}={as_text(value)}"]
        if input_digest:
            args += ["--annotation", f"{'index' if self.makes_index else 'manifest'}:{KEY}={input_digest}"]
        for name, flag in LISTS.items():
            for value in options[name]:
                args += [flag, str(value)]
        for host, address in options["add_hosts"].items():
            args += ["--add-host", f"{host}={address}" if ":" in str(address) else f"{host}:{address}"]
        for secret in self.secrets:
            args += ["--secret", f"id={secret.id}," + (f"src={secret.src}" if secret.src else f"env={secret.variable}")]
        args += [flag for name, flag in SWITCHES.items() if options[name]]
        if options["push"]:
            args.append("--push" if options["outputs"] or options["load"] else PUSH)
        args += ["--call", "check"] if options["call"] == "check" else []
        return [*args, "--", self.context]


def wish(params: Mapping[str, Any]) -> Build:
    """Return the build that a module's options describe; raise a Problem for what makes no sense."""
    tags = tuple(Reference.parse(tag) for tag in params["tags"])
    for tag in tags:
        if tag.digest:
            raise Problem(f"{tag} names a digest, which no push can choose", "give a tag")
    if params["push"] and not tags and not any("name=" in output for output in params["outputs"]):
        raise Problem("push is set, and tags is empty", "name at least one tag, such as registry.example.com/app:1")
    if not params["timeout"] > 0:
        raise Problem(f"timeout is {params['timeout']}", "give the seconds that a build may take, such as 3600")
    for option in ("cache_from", "cache_to"):
        for text in params[option]:
            _check_type(text, option, "cache backend", CACHES)
    for text in params["outputs"]:
        _check_type(text, "outputs", "kind of output", OUTPUTS)
    if any(key.split(":")[-1] == KEY for key in params["annotations"]):
        raise Problem(f"annotations sets {KEY}, which this module sets itself", "remove it")
    context = _context(params["context"])
    for name, source in params["build_contexts"].items():
        if "://" not in str(source) and not is_url(str(source)) and not os.path.isdir(str(source)):
            hint = "give a directory's absolute path, docker-image://…, oci-layout://…, target:… or a URL"
            if not str(source).startswith("target:"):
                raise Problem(f"build_contexts: {name} is {source}, which is not there on this host", hint)
    return Build(
        context,
        _dockerfile(context, params["file"]),
        tuple(dict.fromkeys(tags)),
        tuple(parse_all(params["platforms"])) if params["platforms"] else (),
        tuple(_secret(number, entry) for number, entry in enumerate(params["secrets"])),
        {**params, "provenance": _provenance(params), "sbom": _switch(params["sbom"])},
    )


def as_text(value: Any) -> str:
    """Return a value as Docker's tools write it: YAML's true is `true`, not `True`."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _provenance(params: Mapping[str, Any]) -> str:
    """Return the value of `--provenance`: in an engine nobody reads it, and its times make each image another."""
    given = _switch(params["provenance"])
    if given or not params["push"]:
        return given or ("false" if params["load"] else "")
    # The default is for what is pushed alone: an archive of one platform would be no index, and refuse the index's annotation.
    return "mode=min" if any(_fields(text).get("type") == "oci" for text in params["outputs"]) else ""


def _switch(text: str | None) -> str:
    # YAML's false arrives as "False".
    return text.lower() if text and text.lower() in ("true", "false") else text or ""


def is_url(text: str) -> bool:
    """Whether Docker takes a context for a Git repository or a file of the web, and not for a directory."""
    return is_git(text) or bool(re.match(r"https?://", text))


def is_git(text: str) -> bool:
    """Whether Docker takes a URL for a Git repository."""
    return bool(
        re.match(r"(git://|ssh://|[\w.-]+@[\w.-]+:|github\.com/)", text)
        or re.match(r"https?://[^#?]+\.git([#?].*)?$", text)
    )


def _context(text: str) -> str:
    path = os.path.expanduser(text)
    if os.path.isdir(path) and os.path.isabs(path):
        return path
    if is_url(text):
        return text
    if not os.path.isabs(path):
        raise Problem(
            f"context is {text!r}", "give the absolute path of a directory on the host, or the URL of a Git repository"
        )
    if os.path.exists(path):
        raise Problem(f"the context {path} is not a directory", "give the directory that holds the Dockerfile")
    hint = "a context is on the host: copy it there first (ansible.builtin.copy, ansible.posix.synchronize), or give a Git URL"
    raise Problem(f"the context {path} is not there on this host", hint)


def _dockerfile(context: str, file: str | None) -> str:
    """Return the Dockerfile's path; for a URL what was given, since it is relative to the repository."""
    if not context.startswith("/"):
        return file or ""
    path = os.path.join(context, os.path.expanduser(file or "Dockerfile"))
    if os.path.isfile(path):
        return path
    lower = os.path.join(os.path.dirname(path), "dockerfile")
    if os.path.basename(path) == "Dockerfile" and os.path.isfile(lower):
        return lower
    try:
        there = [name for name in os.listdir(os.path.dirname(path)) if "dockerfile" in name.lower()]
    except OSError:
        there = []
    raise Problem(
        f"there is no Dockerfile {path}", suggest(os.path.basename(path), there) if there else "give it in file"
    )


def _secret(number: int, entry: Mapping[str, Any]) -> Secret:
    """Return one secret; its value travels in the environment, where only this user can read it."""
    given = [name for name in ("src", "env", "value") if entry.get(name) is not None]
    name = str(entry["id"])
    if len(given) != 1:
        raise Problem(
            f"secrets: {name!r} has {' and '.join(given) or 'no source'}", "give exactly one of src, env, value"
        )
    if not re.fullmatch(r"[\w.-]+", name):
        raise Problem(f"secrets: {name!r} is not a valid id", "use letters, digits, _, . and -")
    src, variable = entry.get("src") or "", entry.get("env") or f"MULTIARCH_SECRET_{number}"
    if src and ("," in src or '"' in src):
        raise Problem(f"secrets: {name!r}: {src} has a comma or a quote in it", "buildx takes none: use another name")
    if src and not os.access(src, os.R_OK):
        raise Problem(f"secrets: {name!r}: {src} cannot be read on this host", "copy it there, or give env or value")
    if entry.get("env") and entry["env"] not in os.environ:
        raise Problem(
            f"secrets: {name!r}: the variable {entry['env']} is not set", "set it with the task's environment"
        )
    return Secret(name, src, variable, str(entry.get("value") or os.environ.get(entry.get("env") or "", "")))


def _check_type(text: str, option: str, what: str, known: Sequence[str]) -> None:
    """Raise a Problem where `type=` names nothing that BuildKit knows."""
    kind = _fields(text).get("type", "")
    if kind and kind not in known:
        raise Problem(f"{option}: {text!r}: {kind!r} is not a {what}", suggest(kind, known))
    if not text.strip():
        raise Problem(f"{option} has an empty entry", f"give type={known[0]},… or remove it")


def _fields(text: str) -> dict[str, str]:
    """Return `type=local,dest=/srv/out` as a table."""
    return {key.strip(): value.strip() for key, _equals, value in (field.partition("=") for field in text.split(","))}


def _place(output: str) -> str:
    """Return where on this host an output is written; "" for an image, and for what goes to the standard output."""
    # A directory alone is short for type=local.
    place = _fields(output).get("dest", "") if "=" in output else output.strip()
    return "" if place == "-" else place


def _is_written(place: str) -> bool:
    # A play may have made the directory, which is then as empty as none.
    return bool(os.listdir(place)) if os.path.isdir(place) else os.path.exists(place)
