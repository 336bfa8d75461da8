# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A pipeline as data: what a person describes, checked, and what it means to a plugin. No I/O.

`Pipeline.parse` takes the description, whose words are in `spec.py`; `documents` in `strategies.py`
makes the documents of its strategy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Iterable, Iterator, Mapping

from .._platform import Platform, parse_all
from .._problem import Problem
from . import plugins
from . import spec as words

# The Docker CLI with buildx: what strategy remote builds with, and what native joins with.
DOCKER_CLI = "docker:28-cli"


@dataclass(frozen=True)
class Pipeline:
    """A pipeline as described; every check that needs nothing but the description has passed."""

    name: str
    strategy: str
    plugin: plugins.Plugin
    image: str
    step: str
    repo: str
    tags: tuple[str, ...] = ()
    auto_tag: bool = False
    auto_tag_suffix: str = ""
    platforms: tuple[Platform, ...] = ()
    registry: str = ""
    username: words.Value = None
    password: words.Value = None
    context: str = ""
    dockerfile: str = ""
    target: str = ""
    build_args: Mapping[str, words.Value] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    provenance: str = ""
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, words.Value] = field(default_factory=dict)
    privileged: bool = True
    pull: str = ""
    when: Mapping[str, Any] = field(default_factory=dict)
    step_extra: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()
    steps_after: tuple[Mapping[str, Any], ...] = ()
    trigger: Mapping[str, Any] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    builders: tuple[words.Builder, ...] = ()
    ca: str = "buildkit_ca"
    cert: str = "buildkit_cert"
    key: str = "buildkit_key"

    @classmethod
    def parse(
        cls,
        description: Mapping[str, Any],
        *,
        allow_plaintext: bool = False,
        privileged_images: Iterable[str] = (),
    ) -> Pipeline:
        """Return the pipeline of a description; raise a Problem for what Drone or a plugin would swallow silently.

        A step whose image the runners privilege by themselves does not ask for it: that would take trust.
        """
        given = words.check_shape(description, words.SPEC, "pipeline")
        where = f"pipeline {given['name']}"
        _check_words(description, given, where, allow_plaintext=allow_plaintext)
        plugin, settings = _plugin_of(description, given, where)
        remote = given["strategy"] == "remote"
        image = given.pop("image", "") or (DOCKER_CLI if remote else plugin.image)
        needed = not remote and _needs_privilege(given, plugin, image, settings, privileged_images, where)
        tagged = given.get("auto_tag") or _TAGGED & {name.lower() for name in settings}
        if not (plugin.latest or tagged):
            given.setdefault("tags", ["latest"])
        pipeline = cls(
            plugin=plugin,
            image=image,
            settings=settings,
            privileged=given.pop("privileged", needed),
            **_values_of(given, where),
            **given,
        )
        pipeline._check(where, described=description)
        return pipeline

    def as_settings(self, platforms: Iterable[Platform], **changes: Any) -> dict[str, Any]:
        """Return the plugin's settings: those given as they are, then what our words mean to this plugin."""
        result = dict(self.settings)
        taken = {name.lower(): name for name in result}
        values: dict[str, Any] = {name: getattr(self, name) for name in words.AS_SETTINGS}
        values.update(platforms=[str(platform) for platform in platforms], **changes)
        values["build_args"] = [f"{name}={value}" for name, value in self.build_args.items() if isinstance(value, str)]
        for word in words.AS_SETTINGS:
            value = values[word]
            if value in (None, "", False, (), [], {}):
                continue
            name = self.plugin.names.get(word, word)
            if name in taken:
                raise Problem(
                    f"pipeline {self.name}: {word} and settings.{taken[name]} say the same", "keep one of them"
                )
            result[name] = self._setting(name, word, value)
        from_env = [name for name, value in self.build_args.items() if not isinstance(value, str)]
        if from_env:
            result["build_args_from_env"] = from_env
        plugins.check_settings(self.plugin, result, f"pipeline {self.name}, step {self.step}")
        return result

    def as_environment(self) -> dict[str, Any]:
        """Return the step's environment: what is given, what the plugin misses in Drone, and build arguments from secrets."""
        result = dict(self.environment)
        if self.auto_tag or any(name.lower() in ("auto_tag", "default_tags") for name in self.settings):
            result = {**self.plugin.environment, **result}
        result.update({name: value for name, value in self.build_args.items() if not isinstance(value, str)})
        return result

    def _setting(self, name: str, word: str, value: Any) -> Any:
        """Return a setting's value as the plugin reads it: Drone joins a list with commas, and the plugin splits it again."""
        if not isinstance(value, (list, tuple)):
            return value
        entries = list(value)
        if word in self.plugin.single:
            if len(entries) > 1:
                raise Problem(f"pipeline {self.name}: plugin {self.plugin.name} takes one {word}", "keep one of them")
            return entries[0]
        if name in self.plugin.escaped:
            return [re.sub(r"(?<!\\),", r"\\,", entry) for entry in entries]
        for entry in entries:
            if "," in entry and self.plugin.name != "any":
                raise Problem(
                    f"pipeline {self.name}: plugin {self.plugin.name} would split {word} {entry!r} at its comma",
                    "give the value another way: in the Dockerfile, or as a secret's environment variable",
                )
        # One tag is written as the article writes it.
        return entries[0] if word == "tags" and len(entries) == 1 else entries

    def _check(self, where: str, *, described: Mapping[str, Any]) -> None:
        """Raise a Problem where the words contradict each other, or ask for what the strategy cannot do."""
        names = {name.lower() for name in self.settings}
        if (self.auto_tag or _true(self.settings, "auto_tag")) and (self.tags or names & {"tags", "tag"}):
            raise Problem(f"{where}: auto_tag makes the tags itself, and tags are given too", "keep one of them")
        if self.auto_tag_suffix and not self.auto_tag:
            raise Problem(
                f"{where}: auto_tag_suffix without auto_tag does nothing", "set auto_tag, or write it into tags"
            )
        words.check_repo(self.repo, where)
        words.check_conditions({"when": self.when, "trigger": self.trigger}, where)
        taken = [step.get("name") for step in (*self.steps, *self.steps_after)]
        if not all(isinstance(name, str) and name for name in taken):
            raise Problem(f"{where}: a step of steps or steps_after has no name", "name it; Drone refuses it without")
        for name in taken:
            if name == self.step or taken.count(name) > 1:
                raise Problem(f"{where}: two steps are named {name}, which Drone refuses", "rename one of them")
        if self.strategy == "remote":
            self._check_remote(where)
            return
        for word in ("builders", "certificates"):
            if described.get(word):
                raise Problem(
                    f"{where}: {word} is for strategy remote",
                    f"leave it out, or set strategy to remote; it is {self.strategy}",
                )
        self._check_registry(where)
        if self.strategy == "native":
            self._check_native(where)
        else:
            plugins.check_platforms(self.plugin, [str(platform) for platform in self.platforms], where)
        if self.strategy == "cross" and not self.platforms:
            raise Problem(f"{where}: strategy cross builds for other platforms, and none is named", "set platforms")
        if self.plugin.name == "ecr":
            plugins.check_ecr({"registry": self.registry, **self.settings}, where)
        self.as_settings(self.platforms if self.strategy != "native" else self.platforms[:1])

    def _check_registry(self, where: str) -> None:
        """Raise a Problem where the login is for one registry and the push goes to another, as with these plugins."""
        registry = self.registry or next((v for n, v in self.settings.items() if n.lower() == "registry"), "")
        if (
            self.plugin.name in ("ecr", "any")
            or not isinstance(registry, str)
            or not registry
            or plugins.has_substitution(registry)
        ):
            return
        host = re.sub(r"^https?://", "", registry).split("/")[0]
        if host not in ("docker.io", "index.docker.io", "registry-1.docker.io") and not self.repo.startswith(
            host + "/"
        ):
            raise Problem(
                f"{where}: {self.repo} would be pushed to Docker Hub, while the login is for {host}",
                f"set repo to {host}/{self.repo}",
            )

    def _check_native(self, where: str) -> None:
        if not self.platforms:
            raise Problem(
                f"{where}: strategy native makes a pipeline for each platform, and none is named", "set platforms"
            )
        if self.plugin.name == "ecr":
            raise Problem(
                f"{where}: strategy native joins with the Docker CLI, which cannot log in to ECR with access_key",
                "use strategy emulated, or another plugin with username AWS and a password of `aws ecr get-login-password`",
            )
        names = {name.lower() for name in self.settings}
        for word in (
            "tags",
            "tag",
            "auto_tag",
            "auto_tag_suffix",
            "platforms",
            "platform",
            "repo",
            "username",
            "password",
            "registry",
        ):
            if word in names:
                raise Problem(
                    f"{where}: strategy native needs {word} for its joining pipeline too",
                    f"move settings.{word} to {word}",
                )

    def _check_remote(self, where: str) -> None:
        if not self.builders:
            raise Problem(
                f"{where}: strategy remote builds on a daemon, and none is named",
                "set builders: [{endpoint: tcp://HOST:1234}]",
            )
        if self.privileged:
            raise Problem(f"{where}: strategy remote needs no privileged step", "leave privileged out")
        if _names_event(self.when, "pull_request"):
            raise Problem(
                f"{where}: the step of strategy remote holds the daemon's key, and never runs for pull requests",
                "leave pull_request out of when.event",
            )
        buildable = {platform for builder in self.builders for platform in builder.platforms}
        if all(builder.platforms for builder in self.builders):
            for platform in self.platforms:
                if platform not in buildable:
                    raise Problem(
                        f"{where}: no builder builds {platform}", f"they build {', '.join(map(str, sorted(buildable)))}"
                    )


def _check_words(
    description: Mapping[str, Any], given: Mapping[str, Any], where: str, *, allow_plaintext: bool
) -> None:
    """Raise a Problem for a value whose shape is wrong, and for a credential in clear text."""
    plugins.check_references(description, where)
    if not allow_plaintext:
        _check_clear_text(description, where)
    for word in ("build_args", "labels"):
        if word in given:
            words.check_pairs(given[word], f"{where}, {word}")
    for word in ("username", "password"):
        if given.get(word) not in (None, ""):
            words.check_value(given[word], f"{where}, {word}")


def _plugin_of(
    description: Mapping[str, Any], given: dict[str, Any], where: str
) -> tuple[plugins.Plugin, Mapping[str, Any]]:
    """Take the plugin and its settings out of a description."""
    remote, image = given["strategy"] == "remote", given.get("image", "")
    settings: Mapping[str, Any] = dict(given.pop("settings", {}))
    plugin = plugins.find(given.pop("plugin", "") or ("any" if image and not remote else "thegeeklab"))
    if remote:
        settings = words.lift(given, settings, where)
        if description.get("plugin"):
            raise Problem(
                f"{where}: strategy remote runs docker buildx itself, and no plugin",
                "leave plugin out, or name another strategy",
            )
    elif plugin.name == "any" and not image:
        raise Problem(f"{where}: plugin any is any image, and none is named", "set image")
    return plugin, settings


def _needs_privilege(
    given: Mapping[str, Any],
    plugin: plugins.Plugin,
    image: str,
    settings: Mapping[str, Any],
    privileged_images: Iterable[str],
    where: str,
) -> bool:
    """Return whether the step itself asks for privilege; raise a Problem where it cannot get what the plugin needs."""
    by_image = plugins.is_privileged(image, privileged_images)
    lost = plugins.loses_privilege(given.get("step_extra", {}), given.get("environment", {}))
    if by_image and lost and not given.get("privileged"):
        raise Problem(
            f"{where}: the runners privilege {image} by itself, but not a step with {lost}",
            "leave it out; or set privileged to true, which takes a trusted repository",
        )
    needed = plugin.privileged and not by_image
    if needed and given.get("privileged") is False and not _true(settings, "daemon_off"):
        raise Problem(
            f"{where}: plugin {plugin.name} starts a Docker daemon, and privileged is false",
            f"leave privileged out, which takes a trusted repository; or name {plugins.image_name(image)} in privileged_images, "
            "where DRONE_RUNNER_PRIVILEGED_IMAGES of the runners has it",
        )
    return needed


def _values_of(given: dict[str, Any], where: str) -> dict[str, Any]:
    """Take the words out of a description whose values get another form, and return them in it."""
    platforms = given.pop("platforms", [])
    return {
        "tags": words.tags(given.pop("tags", []), where),
        "platforms": tuple(parse_all(platforms)) if platforms else (),
        "build_args": words.build_args(given.pop("build_args", {}), where),
        "labels": tuple(words.pairs(given.pop("labels", {}))),
        "provenance": words.provenance(given.pop("provenance", None)),
        "builders": tuple(words.builder(builder, where) for builder in given.pop("builders", [])),
        **{name: tuple(given.pop(name, [])) for name in _LISTS},
        **given.pop("certificates", {}),
    }


def _check_clear_text(description: Mapping[str, Any], where: str) -> None:
    """Raise a Problem for a credential that would stand in the file for everybody to read."""
    clear = dict.fromkeys(place for place, _text in plugins.clear_text(description))
    if clear:
        raise Problem(
            f"{where}: {' and '.join(clear)} would stand in the file in clear text",
            "write {from_secret: NAME} and make the secret with multiarch.drone.drone_secret; "
            "or, for a test, set allow_plaintext to true",
        )


# Settings that make tags, or do without.
_TAGGED = frozenset(["tag", "tags", "extra_tags", "auto_tag", "default_tags", "output", "dry_run"])
_LISTS = ("cache_from", "cache_to", "steps", "steps_after", "depends_on")


def from_secrets(document: Any) -> Iterator[str]:
    """Yield the name of each secret that a document takes with from_secret."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == "from_secret" and isinstance(value, str):
                yield value
            else:
                yield from from_secrets(value)
    elif isinstance(document, list):
        for value in document:
            yield from from_secrets(value)


def _true(settings: Mapping[str, Any], name: str) -> bool:
    return any(key.lower() == name and str(value).lower() == "true" for key, value in settings.items())


def _names_event(when: Mapping[str, Any], event: str) -> bool:
    """Tell whether conditions name an event to run for."""
    events = when.get("event", [])
    if isinstance(events, Mapping):
        events = events.get("include", [])
    return event in words.listed(events)
