# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An image that is built only when it has to be: compare the input digest, build, read back what the registry has."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Mapping

from .._change import Plan, Step, carry_out
from .._docker.cli import Docker, Output, last_words
from .._files import temporary_directory, write_atomically
from .._passwords import without_passwords
from .._problem import Problem
from .._progress import tell, wanted
from . import inputs as _inputs
from .build import KEY, Build, Maker
from .plain import Vertices
from .registry import Absent, Access, Denied, Image, missing, read_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .inputs import Inputs
    from .manifest import Document

LINES = 2000  # of the build's log that a result carries

HINTS = (
    ("exec format error", "no node of the builder executes that platform: multiarch.drone.binfmt_qemu registers an emulator"),
    ("no builder", "multiarch.drone.buildx_builder declares one; it belongs to the user who made it"),
    ("unknown flag", "this buildx is too old for that option: upgrade the plugin"),
    ("does not currently support exporting manifest lists", "load takes one platform, and provenance: false"),
    ("index annotations not supported", "this builder makes no index for one platform: set provenance: false"),
    ("Multi-platform build is not supported for the docker driver", "turn on the containerd image store, or name a builder"),
    ("401 Unauthorized", "log in: docker login, as the user who builds"),
    ("403 Forbidden", "log in as a user who may push there: docker login, as the user who builds"),
    ("insufficient_scope", "log in: docker login, as the user who builds"),
    ("server gave HTTP response to HTTPS client", "buildkitd.toml must name it: [registry.\"HOST:PORT\"] http = true"),
    ("authorization failed", "log in: docker login, as the user who builds"),
)  # fmt: skip


# The variable that names the policy by which BuildKit takes the digests that we name (docker/buildx: build.ReadSourcePolicy).
POLICY = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"
# How the log names an image that a build takes: `#5 [linux/arm64 1/2] FROM docker.io/library/alpine:3.20@sha256:…`, or the frontend.
_TAKEN = re.compile(
    r"^#\d+ (?:(?:\[[^\]\n]*\] )?FROM |docker-image://)(?P<name>[^\s@]+)(?:@(?P<digest>sha256:[0-9a-f]{64}))?$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Built:
    """What a build left behind."""

    log: tuple[str, ...]
    metadata: Mapping[str, Any]
    taken: frozenset[tuple[str, str]] = (
        frozenset()
    )  # images and their digests ("" for an engine's own), as the log names them


class Unpinned(Problem):
    """The builder cannot get an image by the digest that its registry has now."""


def pushed(
    build: Build, docker: Docker, options: Mapping[str, Any], maker: Maker | None = None, *, check_mode: bool
) -> dict[str, Any]:
    """Return the result of having this image in its registries: built and pushed, unless it is there already."""
    if maker and maker.is_classic and len(build.platforms) > 1:
        hint = "switch it to containerd's (docker_engine_containerd_store), or name a builder of the driver docker-container"
        raise Problem(f"the engine of the builder {maker.name} keeps one platform an image, in its classic store", hint)
    access = Access.of(
        timeout=options["registry_timeout"],
        insecure_registries=options["insecure_registries"],
        ca_path=options["ca_path"],
    )
    inputs = _inputs.read(build, access, maker)

    def told(document: Document) -> str:
        """Return the platform of a manifest that says what it was made from: this platform is among the inputs."""
        ours = inputs.digest and document.annotations.get(KEY) == inputs.digest
        return str(build.platforms[0]) if ours and len(build.platforms) == 1 else ""

    before = _present(build, read_all(build.tags, access.renewed(), told))
    reasons = _reasons(build, inputs, before)
    stale = bool(reasons)
    unwritten = build.unwritten()
    reasons += [f"nothing is at {place}" for place in unwritten]
    if options["rebuild"] == "always":
        reasons = reasons or ["rebuild is always"]
    result: dict[str, Any] = {"reasons": reasons, "warnings": []}
    after = before
    changed = stale
    if reasons and not check_mode:
        built, inputs, doubts = _proven(build, docker, inputs, access, maker)
        result["warnings"] = [f"{doubt}: so the image does not say what it was made from" for doubt in doubts]
        after = _present(build, read_all(build.tags, access.renewed()))
        _prove(build, built, before, after, inputs.digest)
        changed = any(runnable(after[tag]) != runnable(before[tag]) for tag in after)
        result.update(log=list(built.log), metadata=dict(built.metadata))
    result.update(input_digest=inputs.digest, base_images=dict(inputs.bases))
    plan = _plan(build, before, inputs, changed, unwritten)
    known = not check_mode or not (stale or unwritten)
    images = [image.facts(tag) for tag, image in after.items() if image and known]
    result.update(built=bool(reasons) and not check_mode, images=images, digest=images[0]["digest"] if images else "")
    return {**result, **carry_out(plan, check_mode=True)}  # its steps are taken: only one build makes all the tags


def unpushed(build: Build, docker: Docker, *, check_mode: bool) -> dict[str, Any]:
    """Return the result of a build for this host alone: into the engine, into files, or only into the cache."""
    if build.options["call"] == "check":
        checked = run(build, docker, "")
        return {"changed": False, "steps": [], "built": False, "log": list(checked.log)}
    tags = [str(tag) for tag in build.tags]
    before = _loaded(docker, tags) if build.options["load"] else {}
    outputs = {f"output {number}": text for number, text in enumerate(build.options["outputs"], 1)}
    result: dict[str, Any] = {"built": not check_mode}
    if check_mode:
        after = dict.fromkeys(before, "built")
    else:
        built = run(build, docker, "")
        result.update(log=list(built.log), metadata=dict(built.metadata))
        result["digest"] = str(built.metadata.get("containerimage.digest") or "")
        after = _loaded(docker, tags) if build.options["load"] else {}
    steps = [f"load {tag}" for tag in after if after[tag] != before.get(tag)] + [f"write {o}" for o in outputs.values()]
    plan = Plan(before, {**after, **outputs}, [_taken(step) for step in steps])
    return {**result, **carry_out(plan, check_mode=True)}


def _proven(
    build: Build, docker: Docker, inputs: Inputs, access: Access, maker: Maker | None
) -> tuple[Built, Inputs, list[str]]:
    """Build and push; return the build, the inputs that it was really made from, and why these have no digest where they lost it.

    The digest is on the image before anybody knows whether BuildKit took what we looked up: where it did not, or where a
    context became another meanwhile, the image is pushed again with what is true of it. BuildKit's cache makes that cheap.
    """
    is_classic = bool(maker and maker.is_classic)
    if maker and maker.is_engine and inputs.has_all_bases:
        # An engine takes its own old image in spite of the pins (measured: Docker 20.10 and 26.1).
        build = replace(build, options={**build.options, "pull": True})
    doubt = ""
    for last in (False, True):
        try:
            built = run(build, docker, inputs.digest, pins=inputs.bases, is_classic=is_classic)
        except Unpinned as problem:
            doubt = str(problem)
            break
        doubt = _other_base(inputs.bases, built.taken)
        if not inputs.digest:
            return built, _taken_by(inputs, built), [doubt] if doubt else []
        if doubt:
            break
        try:
            if _inputs.read_sources(build, access) == inputs.sources:
                return built, inputs, []
        except _inputs.Unknown as problem:
            doubt = str(problem)
            break
        doubt = "the context changed while it was built"
        if not last:
            inputs = _inputs.read(build, access.renewed(), maker)
    built = run(build, docker, "", is_classic=is_classic)
    return built, _taken_by(replace(inputs, digest=""), built), [doubt]


def _other_base(bases: Mapping[str, str], taken: Iterable[tuple[str, str]]) -> str:
    """Say which image a build took by another digest than its registry has; "" where it took none."""
    allowed = {(name.partition("@")[0], digest) for name, digest in bases.items()}
    for name, digest in sorted(taken):
        if name in bases and (name, digest) not in allowed:
            return f"the builder has {name} as {digest or 'an image of its engine'}, and its registry as {bases[name]}"
    return ""


def _taken_by(inputs: Inputs, built: Built) -> Inputs:
    """Return inputs with the digests of the base images that a build took."""
    taken = dict(sorted(built.taken))
    bases = {name: taken.get(name, digest) for name, digest in inputs.bases.items()}
    return replace(inputs, bases={name: digest for name, digest in bases.items() if digest})


def run(
    build: Build, docker: Docker, input_digest: str, *, pins: Mapping[str, str] | None = None, is_classic: bool = False
) -> Built:
    """Build, and return its log and metadata; raise a Problem with the log where the build fails.

    `pins` are the digests by which BuildKit shall take images, whatever a mirror or the engine has under their names.
    """
    with temporary_directory() as directory:
        metadata_file = os.path.join(directory, "metadata.json")
        environment = {
            # Whether there are attestations is said by the options, or the input digest would not know of them.
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "false",
            "BUILDX_METADATA_PROVENANCE": "disabled",
            **build.environment(),
        }
        # A policy of the user's own may mean other images by these names.
        pins = (
            {} if os.environ.get(POLICY) else {name: digest for name, digest in (pins or {}).items() if "@" not in name}
        )
        if pins:
            environment[POLICY] = os.path.join(directory, "policy.json")
            write_atomically(environment[POLICY], json.dumps(_policy(pins)).encode(), mode=0o600)
        arguments = build.arguments(
            input_digest=input_digest, metadata_file=metadata_file, pins=pins, is_classic=is_classic
        )
        tell(f"building {', '.join(map(str, build.tags)) or without_passwords(build.context)}")
        heard = Vertices().hear if wanted() else None
        output = docker.run(*arguments, env=environment, timeout=build.options["timeout"], check=False, heard=heard)
        log = _log(build, output)
        if output.rc:
            said = last_words("\n".join(log))
            lacking = [name for name, digest in pins.items() if digest in said]
            if lacking:
                raise Unpinned(f"the builder cannot get {lacking[0]}@{pins[lacking[0]]}, which its registry has now")
            raise _failure(build, output, log)
        try:
            with open(metadata_file, encoding="utf-8") as file:
                read = json.load(file)
            metadata = read if isinstance(read, dict) else {}
        except (FileNotFoundError, ValueError):  # `--call check` writes none, and a full disk a part
            metadata = {}
    taken = frozenset((match["name"], match["digest"] or "") for match in _TAKEN.finditer(output.err))
    return Built(log, metadata, taken)


def _policy(pins: Mapping[str, str]) -> dict[str, Any]:
    """Return BuildKit's source policy that gives each image its digest (moby/buildkit: sourcepolicy/pb/policy.proto)."""
    rules = [
        {
            "action": "CONVERT",
            "selector": {"identifier": f"docker-image://{name}", "match_type": "EXACT"},
            "updates": {"identifier": f"docker-image://{name}@{digest}"},
        }
        for name, digest in pins.items()
    ]
    return {"version": 1, "rules": rules}


def runnable(image: Image | None) -> dict[str, str]:
    """Return what each platform executes, by digest; attestations, which carry times, are left aside."""
    if image is None:
        return {}
    if image.document.is_index:
        return {f"{entry.platform} {entry.os_version}".strip(): entry.digest for entry in image.platforms}
    # A single manifest carries our annotation itself: what it executes is the rest of it.
    content = json.loads(json.dumps(image.document.content))
    if isinstance(content.get("annotations"), dict):
        content["annotations"].pop(KEY, None)
        if not content["annotations"]:
            del content["annotations"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {entry.platform: f"sha256:{digest}" for entry in image.platforms}


def _present(build: Build, answers: Sequence[Image | Problem]) -> dict[str, Image | None]:
    """Return what each tag is now; raise the Problem of a registry that cannot be asked."""
    present: dict[str, Image | None] = {}
    for tag, answer in zip(build.tags, answers):
        # Many registries say "denied" of a repository that the first push will make.
        if isinstance(answer, Problem) and not isinstance(answer, (Absent, Denied)):
            raise answer
        present[str(tag)] = None if isinstance(answer, Problem) else answer
    return present


def _reasons(build: Build, inputs: Inputs, images: Mapping[str, Image | None]) -> list[str]:
    """Return why the image has to be built; nothing where every tag holds it already."""
    reasons = list(inputs.open)
    for tag, image in images.items():
        if image is None:
            reasons.append(f"{tag} is not there")
        elif missing(image, build.platforms):
            reasons.append(f"{tag} lacks {', '.join(missing(image, build.platforms))}")
        elif not image.document.annotations.get(KEY):
            reasons.append(f"{tag} does not say what it was made from")
        elif inputs.digest and image.document.annotations[KEY] != inputs.digest:
            reasons.append(f"{tag} was made from other inputs")
    return reasons


def _plan(
    build: Build, before: Mapping[str, Image | None], inputs: Inputs, changed: bool, unwritten: Sequence[str]
) -> Plan:
    """Return before and after of each tag, in words that check mode knows as well as the run; and the files that were not there."""
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for tag, image in before.items():
        if image:
            digest = image.document.annotations.get(KEY, "unknown")
            old[tag] = {"inputs": digest, "platforms": sorted(entry.platform for entry in image.platforms)}
        platforms = sorted(map(str, build.platforms)) or old.get(tag, {}).get("platforms", [])
        new[tag] = {"inputs": inputs.digest or "unknown", "platforms": platforms}
        if changed and new[tag] == old.get(tag):
            new[tag]["built"] = "again"
    steps = [f"build and push {tag}" for tag in new] if changed else []
    steps += [f"write {place}" for place in unwritten]
    after = {**(new if changed else old), **dict.fromkeys(unwritten, "written")}
    return Plan(old, after, [_taken(step) for step in steps])


def _taken(summary: str) -> Step:
    return Step(summary, lambda: None)


def _prove(
    build: Build,
    built: Built,
    before: Mapping[str, Image | None],
    images: Mapping[str, Image | None],
    input_digest: str,
) -> None:
    """Raise a Problem where a registry has neither what was pushed nor what another play made from the same inputs."""
    digest = built.metadata.get("containerimage.digest")
    for tag, image in images.items():
        same = image and input_digest and image.document.annotations.get(KEY) == input_digest
        old = before[tag]
        # What was there before, and is not what was built: that push did nothing, whatever its inputs are.
        kept = bool(digest and image and old and image.digest == old.digest)
        if image is None or (image.digest != digest and (kept or not same) and (digest or input_digest)):
            has = image.digest if image else "nothing that we may read"
            hint = "is it the same registry for the builder and for this host, and did nobody else push?"
            pushed = digest or "an image whose digest buildx does not tell"
            raise Problem(f"{tag}: the build pushed {pushed}, and the registry has {has}", hint, log=list(built.log))
        lacks = missing(image, build.platforms)
        if lacks:
            raise Problem(f"{tag} was pushed and lacks {', '.join(lacks)}", "see the log", log=list(built.log))


def _loaded(docker: Docker, tags: Sequence[str]) -> dict[str, str]:
    """Return the ID of each image that the engine has."""
    if not tags:
        return {}
    output = docker.run("image", "inspect", "--format", "{{json .}}", *tags, check=False)
    ids = {}
    for entry in output.lines():
        for tag in tags:
            short = tag.replace("docker.io/library/", "").replace("docker.io/", "")
            if tag in entry["RepoTags"] or short in entry["RepoTags"]:
                ids[tag] = entry["Id"]
    return {tag: ids.get(tag, "") for tag in tags}


def _log(build: Build, output: Output) -> tuple[str, ...]:
    """Return the last lines of the build's log, without the secrets that a careless step may have printed."""
    text = output.err + output.out
    for secret in build.secrets:
        for value in _secret_lines(secret.src, secret.value):
            text = text.replace(value, "********")
    return tuple(text.splitlines()[-LINES:])


def _secret_lines(path: str, value: str) -> list[str]:
    """Return what of a secret to look for: its lines, as a log splits them; very short ones would hide half the log."""
    if path:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                value = file.read(1 << 16)
        except OSError:
            return []
    lines = [line.strip() for line in value.splitlines()]
    return sorted((line for line in lines if len(line) > 3), key=len, reverse=True)


def _failure(build: Build, output: Output, log: tuple[str, ...]) -> Problem:
    said = last_words("\n".join(log)) or f"exit status {output.rc}"
    text = "\n".join(log)
    hint = next((hint for words, hint in HINTS if words in text), "") or output.problem().hint
    what = ", ".join(map(str, build.tags)) or without_passwords(build.context)
    return Problem(f"building {what} failed: {said}", hint or "its last lines are in log", rc=output.rc, log=list(log))
