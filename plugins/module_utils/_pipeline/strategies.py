# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The four ways to build for several platforms, each as documents of `.drone.yml`, and what cross asks of a Dockerfile.

Commands are for `sh` in an image of the Docker CLI (busybox). Drone replaces `${…}` and shortens `$$` in the whole file
before a shell sees it, so no command here has either: `$name` alone, and sed in place of `${name#v}`. Then the runner pipes
the commands into `sh` with an `echo` that in some images (dash) reads `\\1` and `\\\\` as escapes: no command has one that
matters. What a person gives with a `$` or a backslash in it goes through the step's environment, where Drone puts in the
value and no shell ever reads it as code.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterable, Mapping

from .._problem import Problem
from .pipeline import DOCKER_CLI, Pipeline
from .plugins import has_substitution
from .spec import listed

if TYPE_CHECKING:
    from .._platform import Platform

Document = Mapping[str, Any]


def documents(pipeline: Pipeline) -> list[Document]:
    """Return the documents that a pipeline comes to, in the order in which they are written."""
    if pipeline.strategy == "native":
        return _native(pipeline)
    step = _remote_step(pipeline) if pipeline.strategy == "remote" else _plugin_step(pipeline, pipeline.platforms)
    return [_document(pipeline, [*pipeline.steps, step, *pipeline.steps_after])]


def _document(pipeline: Pipeline, steps: Iterable[Any], **changes: Any) -> Document:
    """Return a document in the order in which people write one."""
    document = {"kind": "pipeline", "name": pipeline.name, **pipeline.extra}
    document.update(
        {"trigger": pipeline.trigger, "depends_on": list(pipeline.depends_on), **changes, "steps": list(steps)}
    )
    order = ["kind", "type", "name", "platform", "node", "clone", "trigger", "depends_on"]
    names = [name for name in order if name in document] + [name for name in document if name not in order]
    return {name: document[name] for name in names if document[name] not in ({}, [])}


def _step(pipeline: Pipeline, **keys: Any) -> dict[str, Any]:
    """Return a step without the keys that say nothing, in the order in which people write one."""
    step = {
        "name": pipeline.step,
        "pull": pipeline.pull,
        "image": pipeline.image,
        "privileged": pipeline.privileged,
        "environment": {},
        "settings": {},
        "commands": [],
        "when": dict(pipeline.when),
        **pipeline.step_extra,
    }
    step.update(keys)
    return {name: value for name, value in step.items() if value not in ("", False, None, {}, [])}


def _plugin_step(pipeline: Pipeline, platforms: Iterable[Platform], **changes: Any) -> dict[str, Any]:
    """Return the step of a plugin: the article's way."""
    return _step(pipeline, environment=pipeline.as_environment(), settings=pipeline.as_settings(platforms, **changes))


# native: a pipeline for each platform on a runner of that platform, and one that joins what they pushed


def _native(pipeline: Pipeline) -> list[Document]:
    """Return a pipeline for each platform, each pushing its own tags, and the one that joins their manifests."""
    result = []
    names = []
    for platform in pipeline.platforms:
        if pipeline.plugin.runs_on and platform.architecture not in pipeline.plugin.runs_on:
            raise Problem(
                f"pipeline {pipeline.name}: {pipeline.image} does not exist for {platform}", "name another plugin"
            )
        suffix = _suffix(pipeline, platform)
        changes: dict[str, Any] = {"auto_tag_suffix": suffix}
        if not pipeline.auto_tag:
            changes = {"tags": [f"{tag}-{suffix}" for tag in pipeline.tags or ("latest",)]}
        runner = {"os": platform.os, "arch": platform.architecture, "variant": platform.variant}
        if not platform.variant or platform.architecture != "arm":
            del runner["variant"]  # runners say a variant for arm alone
        names.append(f"{pipeline.name}-{_slug(platform)}")
        steps = [*pipeline.steps, _plugin_step(pipeline, [platform], **changes)]
        result.append(_document(pipeline, steps, type="docker", name=names[-1], platform=runner))
    joins = _document(
        pipeline,
        [_join_step(pipeline), *pipeline.steps_after],
        type="docker",
        clone={"disable": True},
        depends_on=names,
    )
    return [*result, joins]


def _join_step(pipeline: Pipeline) -> dict[str, Any]:
    """Return the step that makes one manifest list of what the platforms' pipelines pushed."""
    shell = Shell()
    script = Script(pipeline, shell)
    commands = [script.tags(), *script.login()]
    repo = shell.word(pipeline.repo)
    sources = " ".join(f"{repo}:{_named(pipeline, _suffix(pipeline, platform))}" for platform in pipeline.platforms)
    final = _named(pipeline, pipeline.auto_tag_suffix)
    body = ['for tag in $tags; do case "$tag" in']
    if pipeline.auto_tag:  # a plugin gives `latest` no suffix but makes it the suffix
        latest = " ".join(f"{repo}:{shlex.quote(_suffix(pipeline, platform))}" for platform in pipeline.platforms)
        body.append(
            f"  latest) docker buildx imagetools create --tag {repo}:{shlex.quote(pipeline.auto_tag_suffix or 'latest')} {latest} ;;"
        )
    body += [f"  *) docker buildx imagetools create --tag {repo}:{final} {sources} ;;", "esac; done"]
    commands.append("\n".join(body))
    return _step(
        pipeline,
        image=DOCKER_CLI,
        privileged=False,
        pull="",
        environment={**shell.environment, **script.secrets},
        commands=commands,
    )


def _named(pipeline: Pipeline, suffix: str) -> str:
    return f'"$tag"{shlex.quote("-" + suffix)}' if suffix else '"$tag"'


def _suffix(pipeline: Pipeline, platform: Platform) -> str:
    """Return what a platform's own tags end in: linux-arm-v7."""
    return "-".join(part for part in (pipeline.auto_tag_suffix, str(platform).replace("/", "-")) if part)


def _slug(platform: Platform) -> str:
    return "-".join(part for part in (platform.architecture, platform.variant) if part)


# remote: an ordinary step in an untrusted repository; the daemon elsewhere does what takes privilege


def _remote_step(pipeline: Pipeline) -> dict[str, Any]:
    """Return the step that builds on a BuildKit daemon over mutual TLS; it needs no privilege and no trust."""
    shell = Shell()
    script = Script(pipeline, shell)
    commands = [
        script.tags(suffixed=True),
        *script.certificates(),
        *script.login(),
        *script.builders(),
        *script.build(),
    ]
    return _step(
        pipeline,
        privileged=False,
        environment={**pipeline.environment, **shell.environment, **script.secrets},
        commands=commands,
        when=_without_pull_requests(pipeline.when),
    )


def _without_pull_requests(when: Mapping[str, Any]) -> dict[str, Any]:
    """Return conditions under which no pull request runs: a fork's could read the daemon's key."""
    event = when.get("event")
    if event and not isinstance(event, Mapping):
        include = listed(event)
        if not any(re.search(r"[*?\[{]", one) for one in include):
            return dict(when)  # a list of what it runs for, and the check found no pull_request in it
        event = {"include": include}
    event = dict(event or {})
    event["exclude"] = list(dict.fromkeys([*listed(event.get("exclude")), "pull_request"]))
    return {**when, "event": event}


# What a step's environment must keep for itself.
_TAKEN = ("PATH", "HOME", "TMPDIR", "DOCKER_CONFIG", "DOCKER_HOST", "DOCKER_CONTEXT", "BUILDX_CONFIG", "BUILDX_BUILDER")


@dataclass
class Shell:
    """The words of a script: quoted, or where they hold a `$` or a backslash, handed over through the environment."""

    environment: dict[str, str] = field(default_factory=dict)

    def word(self, text: str) -> str:
        """Return a text as one word of a command."""
        if not has_substitution(text) and "\\" not in text:
            return shlex.quote(text)
        for name, value in self.environment.items():
            if value == text:
                return f'"${name}"'
        name = f"VALUE_{len(self.environment) + 1}"
        self.environment[name] = text
        return f'"${name}"'


@dataclass
class Script:
    """The commands of one step; `secrets` is the environment that they need."""

    pipeline: Pipeline
    shell: Shell
    secrets: dict[str, Any] = field(default_factory=dict)

    def tags(self, *, suffixed: bool = False) -> str:
        """Return the command that sets `tags`; what auto_tag means is what drone-docker's tags.go does."""
        if not self.pipeline.auto_tag:
            return "tags=" + '" "'.join(self.shell.word(tag) for tag in self.pipeline.tags or ("latest",))
        suffix = self.pipeline.auto_tag_suffix if suffixed else ""
        return AUTO_TAG + (SUFFIX.replace("SUFFIX", shlex.quote(suffix)) if suffix else "")

    def certificates(self) -> list[str]:
        """Return the commands that write the client's certificates where only this step can read them."""
        given = (
            ("BUILDKIT_CA", self.pipeline.ca),
            ("BUILDKIT_CERT", self.pipeline.cert),
            ("BUILDKIT_KEY", self.pipeline.key),
        )
        self.secrets.update({name: {"from_secret": secret} for name, secret in given})
        return [
            self._demand([name for name, secret in given]),
            # Not below the workspace, which other steps share.
            'umask 077; certs="$(mktemp -d)"; export DOCKER_CONFIG="$certs"',
            'printf \'%s\\n\' "$BUILDKIT_CA" > "$certs/ca.pem"',
            'printf \'%s\\n\' "$BUILDKIT_CERT" > "$certs/cert.pem"',
            'printf \'%s\\n\' "$BUILDKIT_KEY" > "$certs/key.pem"',
        ]

    def login(self) -> list[str]:
        """Return the command that logs in to the registry: the password neither in an argument nor in the log."""
        if self.pipeline.password is None:
            return []
        self.secrets.update(REGISTRY_USERNAME=self.pipeline.username or "", REGISTRY_PASSWORD=self.pipeline.password)
        registry = self.pipeline.registry or _registry(self.pipeline.repo)
        where = f" {self.shell.word(registry)}" if registry else ""
        return [
            self._demand(["REGISTRY_USERNAME", "REGISTRY_PASSWORD"]),
            'printf \'%s\' "$REGISTRY_PASSWORD" | docker login --username "$REGISTRY_USERNAME" --password-stdin'
            + where,
        ]

    def builders(self) -> list[str]:
        """Return the commands that name the daemons as one builder, and ask each for an answer."""
        commands = []
        for number, builder in enumerate(self.pipeline.builders):
            options = "cacert=$certs/ca.pem,cert=$certs/cert.pem,key=$certs/key.pem"
            name = f"servername={builder.servername}" if builder.servername else ""
            words = ["docker buildx create --name multiarch --driver remote", f'--driver-opt "{options}"']
            words += [f"--driver-opt {shlex.quote(name)}"] if name else []
            words += [f"--platform {','.join(map(str, builder.platforms))}"] if builder.platforms else []
            words += ["--append"] if number else []
            commands.append(" ".join([*words, shlex.quote(builder.endpoint)]))
        endpoints = " and ".join(builder.endpoint for builder in self.pipeline.builders)
        told = (
            f"no answer from {endpoints}: is it up, can this runner reach it, and are the secrets "
            f"{self.pipeline.ca}, {self.pipeline.cert} and {self.pipeline.key} of its trust domain?"
        )
        # `create` takes a dead address without a word. Of a wrong certificate `inspect` says only that its deadline is
        # exceeded, while `du` says what the other side said.
        asked = "docker buildx inspect --bootstrap multiarch || { docker buildx du --builder multiarch >/dev/null"
        return [*commands, f"{asked}; echo {shlex.quote(told)} >&2; exit 1; }}"]

    def build(self) -> list[str]:
        """Return the commands that build and push under every tag."""
        pipeline, word = self.pipeline, self.shell.word
        words = ["docker buildx build --builder multiarch --push"]
        words += [f"--platform {','.join(map(str, pipeline.platforms))}"] if pipeline.platforms else []
        words += [f"--file {word(pipeline.dockerfile)}"] if pipeline.dockerfile else []
        words += [f"--target {word(pipeline.target)}"] if pipeline.target else []
        words += [f"--provenance={word(pipeline.provenance)}"] if pipeline.provenance else []
        for name, value in pipeline.build_args.items():
            if isinstance(value, str):
                words.append(f"--build-arg {word(f'{name}={value}')}")
            else:  # buildx reads the value from the environment: it stands in no argument
                if name in self.secrets or name in _TAKEN or name.startswith("DRONE_"):
                    raise Problem(
                        f"pipeline {pipeline.name}: the build argument {name} would take the place of the step's own variable",
                        "name it otherwise in the Dockerfile and here",
                    )
                self.secrets[name] = value
                words.append(f"--build-arg {name}")
        words += [f"--label {word(label)}" for label in pipeline.labels]
        words += [f"--cache-from {word(cache)}" for cache in pipeline.cache_from]
        words += [f"--cache-to {word(cache)}" for cache in pipeline.cache_to]
        words += ['"$@"', word(pipeline.context or ".")]
        return [
            f'set --; for tag in $tags; do set -- "$@" --tag {word(pipeline.repo)}:"$tag"; done',
            " ".join(words),
        ]

    def _demand(self, names: Iterable[str]) -> str:
        """Return the command that says which secret is missing, instead of what fails without it."""
        told = 'missing() { echo "$1 is empty: does its secret exist, and may this build have it?" >&2; exit 1; }'
        return "\n".join([told, *(f'test -n "${name}" || missing {name}' for name in names)])


# Tag v1.2.3: 1, 1.2 and 1.2.3; 0.1.2: 0.1 and 0.1.2; a pre-release: itself alone, its numbers without leading zeros; the
# default branch: latest. Anything else builds nothing, and a tag that is no version fails.
AUTO_TAG = r"""tags=
case "$DRONE_COMMIT_REF" in
  refs/tags/*) version="$(printf '%s' "$DRONE_COMMIT_REF" | sed -e 's|^refs/tags/||' -e 's|^v||')" ;;
  "refs/heads/$DRONE_REPO_BRANCH") tags=latest ;;
  *) echo "auto_tag: $DRONE_COMMIT_REF is neither a tag nor the default branch, so nothing is built"; exit 0 ;;
esac
if test -n "$tags"; then
  :
elif printf '%s\n' "$version" | grep -Eq '^[0-9]+\.[0-9]+\.[0-9]+$'; then
  major="$(printf '%s\n' "$version" | cut -d. -f1)"
  tags="$(printf '%s\n' "$version" | cut -d. -f1,2) $version"
  case "$major" in *[1-9]*) tags="$major $tags" ;; esac
elif printf '%s\n' "$version" | grep -Eq '^[0-9]+\.[0-9]+\.[0-9]+-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*$'; then
  zeros='{for (i = 1; i <= 3; i++) {sub(/^0+/, "", $i); if ($i == "") $i = 0} print}'
  core="$(printf '%s\n' "$version" | cut -d- -f1 | awk -F. -v OFS=. "$zeros")"
  tags="$core-$(printf '%s\n' "$version" | cut -d- -f2-)"
else
  echo "auto_tag: $version is no semantic version" >&2; exit 1
fi"""
SUFFIX = """
tags="$(for tag in $tags; do if test "$tag" = latest; then echo SUFFIX; else echo "$tag"-SUFFIX; fi; done)\""""


def _registry(repo: str) -> str:
    """Return the registry of a repository's name; "" is Docker Hub."""
    first, slash = repo.partition("/")[:2]
    return first if slash and ("." in first or ":" in first or first == "localhost") else ""


# cross: what a Dockerfile must be so that nothing is emulated


@dataclass(frozen=True)
class Stage:
    """A stage of a Dockerfile."""

    base: str
    name: str
    native: bool  # FROM --platform=$BUILDPLATFORM
    runs: tuple[int, ...]  # line numbers of its RUN instructions
    copies: tuple[str, ...]  # stages it copies from
    line: int


def check_cross(dockerfile: str, path: str, target: str = "") -> None:
    """Raise a Problem where building a Dockerfile for another platform would execute that platform's programs."""
    stages = list(_stages(dockerfile))
    if not stages:
        raise Problem(f"{path} has no FROM", "is it a Dockerfile?")
    by_name = {stage.name.lower(): stage for stage in stages if stage.name}
    by_name.update({str(number): stage for number, stage in enumerate(stages)})
    if target and target.lower() not in by_name:
        raise Problem(
            f"{path} has no stage {target!r}", f"it has {', '.join(stage.name for stage in stages if stage.name)}"
        )
    wanted = [by_name[target.lower()] if target else stages[-1]]
    used: list[Stage] = []
    while wanted:
        stage = wanted.pop()
        if stage in used:
            continue
        used.append(stage)
        wanted += [by_name[name.lower()] for name in (stage.base, *stage.copies) if name.lower() in by_name]
    native = {stage for stage in used if _is_native(stage, by_name)}
    for stage in sorted(used, key=lambda one: one.line):
        if stage.runs and stage not in native:
            raise Problem(
                f"{path}, line {stage.runs[0]}: RUN in a stage of the target platform (FROM in line {stage.line}) is emulated",
                "write FROM --platform=$BUILDPLATFORM, compile there for $TARGETARCH, and COPY --from it; or strategy emulated",
            )
    if not native:
        raise Problem(
            f"{path} nowhere says FROM --platform=$BUILDPLATFORM", "nothing is compiled across; use strategy emulated"
        )


def _is_native(stage: Stage, by_name: Mapping[str, Stage]) -> bool:
    """Tell whether a stage, or the one that it continues, is of the building machine's own platform."""
    seen: list[Stage] = []
    while stage not in seen:
        if stage.native:
            return True
        seen.append(stage)
        stage = by_name.get(stage.base.lower(), stage)
    return False


def _stages(dockerfile: str) -> Iterable[Stage]:
    """Yield a Dockerfile's stages."""
    current: dict[str, Any] | None = None
    for line, instruction in _instructions(dockerfile):
        word, rest = instruction.partition(" ")[::2]
        word = word.upper()
        if word == "FROM":
            if current:
                yield Stage(**current)
            flags = re.findall(r"--\S+", rest)
            names = [part for part in rest.split() if not part.startswith("--")]
            native = any(re.fullmatch(r"--platform=[\"']?\$\{?BUILDPLATFORM\}?[\"']?", flag) for flag in flags)
            name = names[2] if len(names) > 2 and names[1].lower() == "as" else ""
            base = names[0] if names else ""
            current = {"base": base, "name": name, "native": native, "runs": (), "copies": (), "line": line}
        elif current and word == "RUN":
            current["runs"] += (line,)
            current["copies"] += tuple(re.findall(r"--mount=\S*\bfrom=([^,\s]+)", rest))
        elif current and word in ("COPY", "ADD"):
            current["copies"] += tuple(re.findall(r"--from=(\S+)", rest))
    if current:
        yield Stage(**current)


def _instructions(dockerfile: str) -> Iterable[tuple[int, str]]:
    """Yield (line number, instruction) with continuation lines joined, without comments and without here-documents."""
    escape = "`" if re.match(r"\A(#[^\n]*\n)*#\s*escape\s*=\s*`", dockerfile, re.IGNORECASE) else "\\"
    begun, parts, waiting = 0, [], []  # type: int, list[str], list[str]
    for number, line in enumerate(dockerfile.splitlines(), 1):
        if waiting:
            if line.strip("\t").rstrip() == waiting[0]:
                waiting.pop(0)
            continue
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begun = begun or number
        text = line.strip()
        if text.endswith(escape):
            parts.append(text[:-1])
            continue
        instruction = " ".join([*parts, text])
        if instruction.partition(" ")[0].upper() in ("RUN", "COPY", "ADD"):
            waiting = re.findall(r"<<-?[\"']?(\w+)[\"']?", instruction)
        yield begun, instruction
        begun, parts = 0, []
