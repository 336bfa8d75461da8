# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The input digest: one value for everything that decides on what a build makes.

Two builds with the same input digest make the same image, as far as a Dockerfile lets anybody know: `RUN apt-get
update` is the same input tomorrow. What is known to be unknowable is listed as open, and then there is no digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

from .._passwords import without_passwords
from .._platform import Platform
from .._problem import Problem
from .build import is_git, is_url, split_login
from .context import LARGEST_FILE, digest_tree, read_ignore
from .dockerfile import Needs, needs
from .reference import Reference
from .registry import Access, digests

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .build import Build, Maker

FORMAT = 1  # counts up when the digest of the same inputs changes


@dataclass(frozen=True)
class Inputs:
    """What a build is made from. `open` says why there is no digest, where there is none."""

    digest: str
    open: tuple[str, ...]
    bases: Mapping[str, str]  # the images that the Dockerfile names: reference, digest
    sources: Sources | None = None
    has_all_bases: bool = False  # whether each image that is named is in `bases`


class Unknown(Problem):
    """What a context holds is not known beforehand."""


@dataclass(frozen=True)
class Sources:
    """What a build takes from its contexts, now."""

    context: str
    dockerfile: str
    named: Mapping[str, str]  # the contexts of build_contexts
    more: Needs  # what these need


def read(build: Build, access: Access, maker: Maker | None = None) -> Inputs:
    """Return the build's inputs: the context is read, and each base image is asked for its digest, once.

    A large context may take longer than a registry may: each question to the network has its own deadline.
    """
    try:
        sources = read_sources(build, access)
    except Unknown as problem:
        return Inputs("", (str(problem),), {})
    own = maker.platform if maker and not build.platforms else ""
    platforms = build.platforms or ((Platform.parse(own),) if own else ())
    arguments = dict(build.options["build_args"])
    if os.environ.get("SOURCE_DATE_EPOCH"):
        arguments.setdefault("SOURCE_DATE_EPOCH", os.environ["SOURCE_DATE_EPOCH"])
    contexts, target = build.options["build_contexts"], build.options["target"] or ""
    needed = needs(sources.dockerfile, arguments, platforms, contexts, target)
    bases, unread = _bases([*needed.images, *sources.more.images], access.renewed())
    facts = {
        "format": FORMAT,
        "context": sources.context,
        "dockerfile": hashlib.sha256(sources.dockerfile.encode("utf-8", "surrogateescape")).hexdigest(),
        "bases": bases,
        "build_contexts": sources.named,
        "options": build.decisive(),
        # buildx passes it on, and it dates the image.
        "epoch": os.environ.get("SOURCE_DATE_EPOCH", ""),
    }
    if own:
        facts["own_platform"] = own
    unknown = [*needed.open, *sources.more.open, *unread, *_unknown_of(build, maker)]
    return Inputs("" if unknown else _digest(facts), tuple(unknown), bases, sources, not unread)


def _unknown_of(build: Build, maker: Maker | None) -> Iterator[str]:
    """Yield what a builder leaves unknown."""
    if maker and not build.platforms and not maker.platform:
        yield f"which platform is the own one of the builder {maker.name} is not known: name it in platforms"
    if maker and maker.is_classic:
        yield (
            f"the engine of the builder {maker.name} has no containerd image store, so that what it pushes cannot say what it "
            "was made from"
        )


def read_sources(build: Build, access: Access) -> Sources:
    """Return what the contexts hold; raise Unknown where a context from elsewhere cannot be looked up."""
    if build.is_local:
        dockerfile = _read_text(build.file)
        context = digest_tree(build.context, read_ignore(build.context, build.file)).digest
    else:
        try:
            context, dockerfile = _git(build.context, build.file, access.renewed().deadline)
        except Problem as problem:
            raise Unknown(problem.what, problem.hint) from None
    named, more = _named_contexts(build.options["build_contexts"], access)
    return Sources(context, dockerfile, named, more)


def _digest(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=str)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _bases(references: Iterable[Reference], access: Access) -> tuple[dict[str, str], list[str]]:
    """Return the digest of each base image, and why those are unknown whose registry does not tell."""
    unique = list(dict.fromkeys(references))
    bases: dict[str, str] = {}
    unread = []
    for reference, answer in zip(unique, digests(unique, access)):
        if isinstance(answer, Problem):
            # BuildKit may yet find it: through a mirror, or among the images of its own engine.
            unread.append(f"the base image cannot be looked up: {answer}")
        else:
            bases[str(reference)] = answer
    return bases, unread


def _named_contexts(contexts: Mapping[str, str], access: Access) -> tuple[dict[str, str], Needs]:
    """Return what the named contexts hold, and the images and unknowns among them."""
    held: dict[str, str] = {}
    images: list[Reference] = []
    unknown: list[str] = []
    for name, source in contexts.items():
        kind, separator, rest = source.partition("://")
        if separator and kind == "docker-image":
            images.append(Reference.parse(rest))
            held[name] = f"docker-image://{images[-1]}"
        elif source.startswith("target:"):
            held[name] = source
        elif is_url(source):
            try:
                held[name] = _git(source, None, access.renewed().deadline)[0]
            except Problem as problem:
                unknown.append(str(problem))
        else:
            path = rest.split("@")[0].rsplit(":", 1)[0] if kind == "oci-layout" else source
            held[name] = digest_tree(path, read_ignore(path)).digest
    return held, Needs(tuple(images), tuple(unknown))


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}", "make it readable for the user who builds") from error
    if len(content) > LARGEST_FILE:
        raise Problem(f"{path} is larger than {LARGEST_FILE} bytes, which BuildKit refuses", "is it a Dockerfile?")
    return content.decode("utf-8", "surrogateescape")


def _git(url: str, file: str | None, deadline: float) -> tuple[str, str]:
    """Return the commit that a Git context means now, with its subdirectory, and (unless `file` is None) its Dockerfile."""
    import re

    from .._files import temporary_directory

    unknown = f"what {without_passwords(url)} gives is not known beforehand"
    if not is_git(url):
        raise Problem(unknown, "give a Git repository for builds that know when to stop")
    remote, fragment = (*url.split("#", 1), "")[:2]
    if "?" in remote:
        raise Problem(unknown, "write the ref and directory as #REF:DIRECTORY")
    ref, directory = (*fragment.split(":", 1), "")[:2]
    remote = f"https://{remote}" if remote.startswith("github.com/") else remote
    remote, host, header = split_login(remote)
    login = {}
    if header:  # not as an argument, which every user of the host can read
        scheme = remote.partition("://")[0]
        login = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{scheme}://{host}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: {header}",
        }
    if not re.fullmatch(r"[\w./-]*", ref) or ref.startswith("-"):
        raise Problem(f"{ref!r} in the context's URL is not a Git ref", "give a branch, a tag or a commit")
    with temporary_directory(large=True) as repository:
        _run_git(repository, deadline, login, "init", "--quiet")
        _run_git(repository, deadline, login, "remote", "add", "origin", remote)
        # Only what the Dockerfile needs: a server that filters sends no other file.
        fetch = ("fetch", "--quiet", "--depth=1", "--filter=blob:none", "--no-tags", "origin", ref or "HEAD")
        _run_git(repository, deadline, login, *fetch)
        commit = _run_git(repository, deadline, login, "rev-parse", "FETCH_HEAD^{commit}").strip()
        content = ""
        if file is not None:
            path = os.path.normpath(os.path.join(directory.strip("/"), file or "Dockerfile"))
            if _run_git(repository, deadline, login, "ls-tree", "FETCH_HEAD", "--", path).startswith("120000 "):
                raise Problem(f"{unknown}: its Dockerfile {path} is a link", "name the file that it leads to in file")
            content = _run_git(repository, deadline, login, "show", f"FETCH_HEAD:{path}")
    return f"{remote}#{commit}:{directory.strip('/')}", content


def _run_git(repository: str, deadline: float, login: Mapping[str, str], *args: str) -> str:
    import subprocess

    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
        "GIT_ALLOW_PROTOCOL": "https:http:git:ssh",
        **login,
    }
    try:
        # Not run_command: no module is here, and a deadline is.
        ran = subprocess.run(  # pylint: disable=ansible-bad-function
            ["git", *args],
            cwd=repository,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=max(0.1, deadline - time.monotonic()),
            check=False,
        )
    except FileNotFoundError:
        raise Problem("git is not installed on this host, so a Git context cannot be looked up", "install it") from None
    except subprocess.TimeoutExpired:
        raise Problem(f"git {args[0]} did not end in time", "raise registry_timeout") from None
    if ran.returncode:
        said = without_passwords((ran.stderr.decode(errors="replace").strip().splitlines() or ["nothing"])[-1])
        raise Problem(f"git {args[0]} failed: {said}", "check the URL, the ref and the host's access")
    return ran.stdout.decode("utf-8", "surrogateescape")
