# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A build as it was asked for: the options of buildx_image, checked, and the command line that they make. No I/O but stat."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Mapping

from .._passwords import NAME_OF_SECRET, secrets_in, url_secrets, without_passwords
from .._platform import Platform, parse_all
from .._problem import Problem, suggest
from .options import (
    check_contexts,
    check_length,
    check_line,
    check_variable,
    is_attested,
    normalised,
    place,
    table,
    twice,
)
from .reference import Reference

# Where a pushed image says what it was made from.
KEY = "dev.multiarch.drone.input-digest"

LONGEST_BUILD = 7 * 86400  # seconds

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
# Attribute of an S3 cache, variable that buildx takes it from where it is not there.
AWS = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}
# What `--push` means, in words that BuildKit alone reads (an empty `push` is true to it): with the driver docker, buildx 0.13 (not
# 0.38) would have the engine push everything again, whose questions for a tag cross its own changes of it. An engine's classic
# store has no BuildKit that pushes, so that there buildx has to read it: an empty `push` pushes nothing.
PUSH = "--output=type=image,push="
PUSH_BY_ENGINE = "--output=type=image,push=true"

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
class Maker:
    """The builder that makes an image, as far as it decides on what is asked of it."""

    name: str
    is_classic: bool = False  # an engine's own, without the containerd image store: one platform, and no annotations
    is_engine: bool = False  # an engine's own, which prefers the images that it has
    platform: str = ""  # its own, which it builds for where nobody names one; "" where it is not known


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
        return is_attested(self.options) or len(self.platforms) > 1

    def decisive(self) -> dict[str, Any]:
        """Return the options that decide on what the image holds."""
        chosen = {name: self.options[name] for name in DECISIVE if self.options[name]}
        return {**chosen, "platforms": sorted(map(str, self.platforms)), "secrets": [s.id for s in self.secrets]}

    def unwritten(self) -> list[str]:
        """Return the places of the outputs where nothing is on this host."""
        return [path for path in map(place, self.options["outputs"]) if path and not _is_written(path)]

    def environment(self) -> dict[str, str]:
        """Return the variables in which secrets travel: every user of the host sees a process's arguments."""
        found = {secret.variable: secret.value for secret in self.secrets if not secret.src}
        for name, value in self.options["build_args"].items():
            is_secret = NAME_OF_SECRET.search(name) or any(True for _one in secrets_in(value))
            if is_secret and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name not in found:
                found[name] = value
        proxies = [name for name in found if name.lower().endswith("_proxy")]
        if proxies and any(name.lower().endswith("_proxy") for name in os.environ):
            return {name: value for name, value in found.items() if name not in proxies}
        if proxies:  # those of the build, and not of the CLI itself
            found.update(NO_PROXY="*", no_proxy="*")
        return {**_aws(self.options), **found, **{variable: header for _id, variable, header in self._logins()}}

    def _logins(self) -> list[tuple[str, str, str]]:
        """Return the logins of Git contexts: the secret's name for BuildKit, the variable that it travels in, the header."""
        urls = (self.context, *self.options["build_contexts"].values())
        headers = {host: header for _url, host, header in map(split_login, urls) if header}
        return [
            (f"GIT_AUTH_HEADER.{host}", f"MULTIARCH_GIT_AUTH_{number}", header)
            for number, (host, header) in enumerate(headers.items())
        ]

    def arguments(
        self, *, input_digest: str, metadata_file: str, pins: Mapping[str, str] | None = None, is_classic: bool = False
    ) -> list[str]:
        """Return the arguments of `docker` for this build; what `environment` has is not among them.

        `pins` has the digest for images that build_contexts names.
        """
        options = self.options
        hidden = self.environment()
        args = ["buildx", "build", "--progress", "plain", "--metadata-file", metadata_file]
        for name, flag in VALUES.items():
            args += [flag, str(options[name])] if options[name] else []
        args += ["--platform", ",".join(map(str, self.platforms))] if self.platforms else []
        args += ["--file", self.file] if self.file else []
        for tag in self.tags:
            args += ["--tag", str(tag)]
        for name, flag in PAIRS.items():
            for key, value in options[name].items():
                if name == "build_contexts":
                    value = _pinned(split_login(value)[0], pins or {})
                # Of an argument without a value, buildx takes that of its environment.
                args += [flag, key if name == "build_args" and key in hidden else f"{key}={value}"]
        if input_digest:
            args += ["--annotation", f"{'index' if self.makes_index else 'manifest'}:{KEY}={input_digest}"]
        for name, flag in LISTS.items():
            for value in options[name]:
                args += [flag, _without_keys(value) if "AWS_SECRET_ACCESS_KEY" in hidden else str(value)]
        for host, address in options["add_hosts"].items():
            args += ["--add-host", f"{host}={address}" if ":" in address else f"{host}:{address}"]
        for secret in self.secrets:
            args += ["--secret", f"id={secret.id}," + (f"src={secret.src}" if secret.src else f"env={secret.variable}")]
        for name, variable, _header in self._logins():
            args += ["--secret", f"id={name},env={variable}"]
        args += [flag for name, flag in SWITCHES.items() if options[name]]
        if options["push"]:
            alone = PUSH_BY_ENGINE if is_classic else PUSH
            args.append("--push" if options["outputs"] or options["load"] else alone)
        args += ["--call", "check"] if options["call"] == "check" else []
        return [*args, "--", split_login(self.context)[0]]


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
    if params["timeout"] > LONGEST_BUILD:
        raise Problem(f"timeout is {params['timeout']}", f"give at most {LONGEST_BUILD} seconds, which is a week")
    options = normalised(params)
    if any(key.split(":")[-1] == KEY for key in params["annotations"]):
        raise Problem(f"annotations sets {KEY}, which this module sets itself", "remove it")
    context = _context(params["context"])
    check_contexts(options["build_contexts"], is_url)
    secrets = tuple(_secret(number, entry) for number, entry in enumerate(params["secrets"]))
    again = twice(secret.id for secret in secrets)
    if again:
        raise Problem(f"secrets: {again!r} is there twice", "give each an id of its own")
    return Build(
        context,
        _dockerfile(context, params["file"]),
        tuple(dict.fromkeys(tags)),
        tuple(parse_all(params["platforms"])) if params["platforms"] else (),
        secrets,
        {**options, "provenance": _provenance(options)},
    )


def _pinned(source: str, pins: Mapping[str, str]) -> str:
    """Return a named context with its image's digest, where that is known."""
    scheme = "docker-image://"
    if not source.startswith(scheme):
        return source
    name = str(Reference.parse(source[len(scheme) :]))
    return f"{scheme}{name}@{pins[name]}" if name in pins and "@" not in name else source


def _provenance(options: Mapping[str, Any]) -> str:
    """Return the value of `--provenance`: in an engine nobody reads it, and its times make each image another."""
    given: str = options["provenance"]
    if given or any(table(text, "attests").get("type") == "provenance" for text in options["attests"]):
        return given
    if not options["push"]:
        return "false" if options["load"] else ""
    # The default is for what is pushed alone: an archive of one platform would be no index, and refuse the index's annotation.
    return "mode=min" if any(table(text, "outputs").get("type") == "oci" for text in options["outputs"]) else ""


def is_url(text: str) -> bool:
    """Whether Docker takes a context for a Git repository or a file of the web, and not for a directory."""
    return is_git(text) or bool(re.match(r"https?://", text))


def split_login(url: str) -> tuple[str, str, str]:
    """Return a URL without user and password, its host, and the header that logs in there ("" where nothing was to log in with)."""
    match = re.fullmatch(r"(https?://)(?:([^/?#]*)@)?([^/@?#]+)(.*)", url, re.DOTALL | re.IGNORECASE)
    if not match or not match[2] or not any(_is_login(match[2], one) for one in url_secrets(url)):
        return url, "", ""
    from base64 import b64encode
    from urllib.parse import unquote

    user, _colon, password = match[2].partition(":")
    login = f"{unquote(user)}:{unquote(password)}".encode("utf-8", "surrogateescape")
    return f"{match[1]}{match[3]}{match[4]}", match[3], f"basic {b64encode(login).decode()}"


def _is_login(userinfo: str, secret: str) -> bool:
    """Tell a token from a name, with which alone nobody logs in."""
    return ":" in userinfo or len(secret) >= 20 or (len(secret) >= 8 and any(letter.isdigit() for letter in secret))


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
        if split_login(text)[2] and not is_git(text):
            raise Problem(
                f"the context {without_passwords(text)} has a password, which every user of the host could read while it builds",
                "download it first (ansible.builtin.get_url), and give the directory",
            )
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
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise Problem(f"secrets: {name!r} is not a valid id", "use letters, digits, _, . and -")
    src, variable = entry.get("src") or "", entry.get("env") or f"MULTIARCH_SECRET_{number}"
    if src and ("," in src or '"' in src):
        raise Problem(f"secrets: {name!r}: {src} has a comma or a quote in it", "buildx takes none: use another name")
    if src:
        check_line(src, f"secrets: {name!r}: src")
    if entry.get("env"):
        check_variable(entry["env"], f"secrets: {name!r}: env")
    check_length(str(entry.get("value") or ""), f"secrets: {name!r}: value")
    if src and os.path.exists(src) and not os.path.isfile(src):
        raise Problem(f"secrets: {name!r}: {src} is not a regular file", "name the file that holds the secret")
    if src and not os.access(src, os.R_OK):
        raise Problem(f"secrets: {name!r}: {src} cannot be read on this host", "copy it there, or give env or value")
    if entry.get("env") and entry["env"] not in os.environ:
        raise Problem(
            f"secrets: {name!r}: the variable {entry['env']} is not set", "set it with the task's environment"
        )
    return Secret(name, src, variable, str(entry.get("value") or os.environ.get(entry.get("env") or "", "")))


def _aws(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the login of S3 caches as variables, which buildx reads where an entry has none; {} where entries differ in it."""
    texts = [
        text for name in ("cache_from", "cache_to") for text in options[name] if table(text, name).get("type") == "s3"
    ]
    logins = [{key: table(text, "cache_from").get(key, "") for key in AWS} for text in texts]
    if not logins or any(login != logins[0] for login in logins) or any('"' in text for text in texts):
        return {}
    given = all(logins[0][key] for key in ("access_key_id", "secret_access_key"))
    return {variable: logins[0][key] for key, variable in AWS.items()} if given else {}


def _without_keys(text: Any) -> str:
    """Return a cache's entry without the login that travels in the environment."""
    if table(str(text), "cache_from").get("type") != "s3":
        return str(text)
    return ",".join(field for field in str(text).split(",") if field.partition("=")[0].strip() not in AWS)


def _is_written(path: str) -> bool:
    # A play may have made the directory, which is then as empty as none.
    return bool(os.listdir(path)) if os.path.isdir(path) else os.path.exists(path)
