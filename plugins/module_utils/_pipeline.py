# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A pipeline as data: what a person describes, checked, and the documents of `.drone.yml` that it comes to. No I/O.

`Pipeline.parse` takes the description (`SPEC` is its only list of words), `documents` in `_pipeline_strategies.py`
makes the documents of its strategy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Iterable, Iterator, Mapping

from . import _pipeline_plugins as plugins
from ._platform import Platform, parse_all
from ._problem import Problem, near

STRATEGIES = ("emulated", "native", "cross", "remote")
# The Docker CLI with buildx: what strategy remote builds with, and what native joins with.
DOCKER_CLI = "docker:28-cli"

# A description's words, as an argument spec. The filter has no Ansible before it: `_check_shape` reads the same table.
SPEC: Mapping[str, Mapping[str, Any]] = {
    "name": {"type": "str", "default": "default"},
    "strategy": {"type": "str", "default": "emulated", "choices": list(STRATEGIES)},
    "plugin": {"type": "str", "choices": list(plugins.PLUGINS)},
    "image": {"type": "str"},
    "step": {"type": "str", "default": "docker"},
    "repo": {"type": "str", "required": True},
    "tags": {"type": "list", "elements": "raw"},
    "auto_tag": {"type": "bool", "default": False},
    "auto_tag_suffix": {"type": "str"},
    "platforms": {"type": "list", "elements": "str"},
    "registry": {"type": "str"},
    "username": {"type": "raw"},
    "password": {"type": "raw", "no_log": False},  # usually {from_secret: NAME}; clear text is hidden by the module
    "context": {"type": "str"},
    "dockerfile": {"type": "str"},
    "target": {"type": "str"},
    "build_args": {"type": "raw"},
    "labels": {"type": "raw"},
    "provenance": {"type": "raw"},
    "cache_from": {"type": "list", "elements": "str"},
    "cache_to": {"type": "list", "elements": "str"},
    "settings": {"type": "dict"},
    "environment": {"type": "dict"},
    "privileged": {"type": "bool"},
    "pull": {"type": "str", "choices": ["always", "if-not-exists", "never"]},
    "when": {"type": "dict"},
    "step_extra": {"type": "dict"},
    "steps": {"type": "list", "elements": "dict"},
    "steps_after": {"type": "list", "elements": "dict"},
    "trigger": {"type": "dict"},
    "depends_on": {"type": "list", "elements": "str"},
    "extra": {"type": "dict"},
    "builders": {
        "type": "list",
        "elements": "dict",
        "options": {
            "endpoint": {"type": "str", "required": True},
            "platforms": {"type": "list", "elements": "str"},
            "servername": {"type": "str"},
        },
    },
    "certificates": {
        "type": "dict",
        "options": {
            "ca": {"type": "str", "default": "buildkit_ca"},
            "cert": {"type": "str", "default": "buildkit_cert"},
            "key": {"type": "str", "default": "buildkit_key", "no_log": False},  # the name of a secret, none itself
        },
    },
}

# Words that become settings of a plugin, in the order in which they are written.
_AS_SETTINGS = (
    "registry",
    "username",
    "password",
    "repo",
    "tags",
    "auto_tag",
    "auto_tag_suffix",
    "dockerfile",
    "context",
    "target",
    "build_args",
    "labels",
    "provenance",
    "cache_from",
    "cache_to",
    "platforms",
)

Value = Any  # a string, or {"from_secret": NAME}


@dataclass(frozen=True)
class Builder:
    """A BuildKit daemon that strategy remote builds on."""

    endpoint: str
    platforms: tuple[Platform, ...] = ()
    servername: str = ""


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
    username: Value = None
    password: Value = None
    context: str = ""
    dockerfile: str = ""
    target: str = ""
    build_args: Mapping[str, Value] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    provenance: str = ""
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Value] = field(default_factory=dict)
    privileged: bool = True
    pull: str = ""
    when: Mapping[str, Any] = field(default_factory=dict)
    step_extra: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()
    steps_after: tuple[Mapping[str, Any], ...] = ()
    trigger: Mapping[str, Any] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    builders: tuple[Builder, ...] = ()
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
        given = _check_shape(description, SPEC, "pipeline")
        where = f"pipeline {given['name']}"
        strategy, image = given["strategy"], given.get("image", "")
        settings: dict[str, Any] = dict(given.pop("settings", {}))
        plugin = plugins.find(given.pop("plugin", "") or ("any" if image and strategy != "remote" else "thegeeklab"))
        if strategy == "remote":
            settings = _lift(given, settings, where)
            if description.get("plugin"):
                raise Problem(
                    f"{where}: strategy remote runs docker buildx itself, and no plugin",
                    "leave plugin out, or name another strategy",
                )
        elif plugin.name == "any" and not image:
            raise Problem(f"{where}: plugin any is any image, and none is named", "set image")
        certificates = given.pop("certificates", {})
        builders = given.pop("builders", [])
        platforms = given.pop("platforms", [])
        lists: dict[str, Any] = {name: tuple(given.pop(name, [])) for name in _LISTS}
        image = given.pop("image", "") or (DOCKER_CLI if strategy == "remote" else plugin.image)
        by_image = strategy != "remote" and plugins.is_privileged(image, privileged_images)
        lost = plugins.loses_privilege(given.get("step_extra", {}), given.get("environment", {}))
        if by_image and lost and not given.get("privileged"):
            raise Problem(
                f"{where}: the runners privilege {image} by itself, but not a step with {lost}",
                "leave it out; or set privileged to true, which takes a trusted repository",
            )
        privileged = plugin.privileged and strategy != "remote" and not by_image
        if privileged and given.get("privileged") is False and not _true(settings, "daemon_off"):
            raise Problem(
                f"{where}: plugin {plugin.name} starts a Docker daemon, and privileged is false",
                f"leave privileged out, which takes a trusted repository; or name {plugins.image_name(image)} in privileged_images, "
                "where DRONE_RUNNER_PRIVILEGED_IMAGES of the runners has it",
            )
        tagged = given.get("auto_tag") or _TAGGED & {name.lower() for name in settings}
        if not (plugin.latest or tagged):
            given.setdefault("tags", ["latest"])
        pipeline = cls(
            plugin=plugin,
            image=image,
            tags=_tags(given.pop("tags", []), where),
            platforms=tuple(parse_all(platforms)) if platforms else (),
            build_args=_build_args(given.pop("build_args", {}), where),
            labels=tuple(_pairs(given.pop("labels", {}))),
            provenance=_provenance(given.pop("provenance", None)),
            settings=settings,
            privileged=given.pop("privileged", privileged),
            builders=tuple(_builder(builder, where) for builder in builders),
            **lists,
            **certificates,
            **given,
        )
        pipeline._check(where, described=description)
        clear = pipeline.plaintext()
        if clear and not allow_plaintext:
            raise Problem(
                f"{where}: {' and '.join(clear)} would stand in the file in clear text",
                "write {from_secret: NAME} and make the secret with multiarch.drone.drone_secret; "
                "or, for a test, set allow_plaintext to true",
            )
        return pipeline

    def as_settings(self, platforms: Iterable[Platform], **changes: Any) -> dict[str, Any]:
        """Return the plugin's settings: those given as they are, then what our words mean to this plugin."""
        result = dict(self.settings)
        taken = {name.lower(): name for name in result}
        values: dict[str, Any] = {name: getattr(self, name) for name in _AS_SETTINGS}
        values.update(platforms=[str(platform) for platform in platforms], **changes)
        values["build_args"] = [f"{name}={value}" for name, value in self.build_args.items() if isinstance(value, str)]
        for word in _AS_SETTINGS:
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

    def plaintext(self) -> dict[str, str]:
        """Return the credentials that stand in the description in clear text, by where they stand."""
        places = {"settings": self.settings, "environment": self.environment, "build_args": self.build_args}
        for step in (*self.steps, *self.steps_after):
            for kind in ("settings", "environment"):
                if isinstance(step.get(kind), Mapping):
                    places[f"step {step.get('name')}, {kind}"] = step[kind]
        found = {f"{place}.{name}": value for place in places for name, value in plugins.credentials_in(places[place])}
        found.update(plugins.credentials_in({"password": self.password}))
        return found

    def _check(self, where: str, *, described: Mapping[str, Any]) -> None:
        """Raise a Problem where the words contradict each other, or ask for what the strategy cannot do."""
        names = {name.lower() for name in self.settings}
        if (self.auto_tag or _true(self.settings, "auto_tag")) and (self.tags or names & {"tags", "tag"}):
            raise Problem(f"{where}: auto_tag makes the tags itself, and tags are given too", "keep one of them")
        if self.auto_tag_suffix and not self.auto_tag:
            raise Problem(
                f"{where}: auto_tag_suffix without auto_tag does nothing", "set auto_tag, or write it into tags"
            )
        _check_repo(self.repo, where)
        taken = [str(step.get("name")) for step in (*self.steps, *self.steps_after)]
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
            or plugins.put_in(registry)
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


def _check_shape(given: Any, spec: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Any]:
    """Return a description without what is not set, with its defaults; raise a Problem for a word or a type that is none."""
    if not isinstance(given, Mapping):
        raise Problem(f"{where} is {type(given).__name__} and not a dictionary", "write it as {name: …, repo: …}")
    for word in given:
        if word not in spec:
            raise Problem(f"{where}: {word!r} is no word of a pipeline's description", near(str(word), spec))
    result: dict[str, Any] = {}
    for word, rule in spec.items():
        value = given.get(word, rule.get("default"))
        if value is None:
            if rule.get("required"):
                raise Problem(f"{where}: {word} is missing", f"set {word}")
            continue
        result[word] = _checked(value, rule, f"{where}, {word}")
    return result


def _checked(value: Any, rule: Mapping[str, Any], where: str) -> Any:
    kind = rule["type"]
    if kind == "list":
        value = [value] if isinstance(value, (str, dict)) else value
        if not isinstance(value, (list, tuple)):
            raise Problem(f"{where}: {value!r} is no list", "write it in brackets")
        return [_checked(item, {"type": rule["elements"], "options": rule.get("options")}, where) for item in value]
    if kind == "dict":
        if rule.get("options"):
            return _check_shape(value, rule["options"], where)
        if not isinstance(value, Mapping):
            raise Problem(f"{where}: {value!r} is no dictionary", "write it as {name: value}")
        return dict(value)
    if kind == "bool":
        if str(value).lower() not in ("true", "false", "yes", "no"):
            raise Problem(f"{where}: {value!r} is neither true nor false", "write true or false")
        return str(value).lower() in ("true", "yes")
    if kind == "str":
        if isinstance(value, (dict, list)):
            raise Problem(f"{where}: {value!r} is no text", "write one value")
        value = str(value)
        if rule.get("choices") and value not in rule["choices"]:
            raise Problem(f"{where}: {value!r} is none", near(value, rule["choices"]))
        if not value.strip() and (rule.get("required") or rule.get("default")):
            raise Problem(f"{where} is empty", "set it, or leave it out")
    return value


def _lift(given: dict[str, Any], settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Take what a plugin would have as settings for strategy remote's own words, so that only the strategy need change."""
    for name, value in settings.items():
        word = name.lower()
        if word not in _AS_SETTINGS:
            raise Problem(
                f"{where}: setting {name!r} is a plugin's, and strategy remote runs none", near(word, _AS_SETTINGS)
            )
        if word in given and given[word] not in (None, False):
            raise Problem(f"{where}: {word} and settings.{name} say the same", "keep one of them")
        given[word] = _checked(value, SPEC[word], f"{where}, settings.{name}")
    return {}


def _tags(given: Iterable[Any], where: str) -> tuple[str, ...]:
    tags = []
    for tag in given:
        if isinstance(tag, float):
            raise Problem(
                f"{where}: the tag {tag} was read as a number, and 1.10 would become 1.1", f'quote it: "{tag}"'
            )
        text = str(tag)
        if not plugins.put_in(text) and not re.fullmatch(r"\w[\w.-]{0,127}", text, re.ASCII):
            raise Problem(f"{where}: {text!r} is no tag", "a tag has letters, digits, `_`, `.` and `-`, at most 128")
        tags.append(text)
    return tuple(tags)


def _pairs(given: Any) -> list[str]:
    """Return `NAME=value` for each entry of a dictionary, or a list that is written so already."""
    if isinstance(given, Mapping):
        return [f"{name}={value}" for name, value in given.items()]
    return [given] if isinstance(given, str) else [str(entry) for entry in given]


def _build_args(given: Any, where: str) -> dict[str, Value]:
    pairs: dict[str, Value] = {}
    if isinstance(given, Mapping):
        pairs = {str(name): value if isinstance(value, Mapping) else _text(value) for name, value in given.items()}
    else:
        for entry in [given] if isinstance(given, str) else given:
            name, equals, value = str(entry).partition("=")
            if not equals:
                raise Problem(f"{where}: the build argument {entry!r} has no value", "write NAME=value")
            pairs[name] = value
    for name, value in pairs.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise Problem(f"{where}: {name!r} is no build argument's name", "letters, digits and `_`")
        if isinstance(value, Mapping) and (set(value) != {"from_secret"} or not isinstance(value["from_secret"], str)):
            raise Problem(
                f"{where}: the build argument {name} is neither a value nor {{from_secret: NAME}}", "write one of them"
            )
    return pairs


def _text(value: Any) -> str:
    """Return a scalar as Drone hands it to a plugin: true, not True."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _provenance(given: Any) -> str:
    return "" if given is None else _text(given)


def _builder(given: Mapping[str, Any], where: str) -> Builder:
    endpoint = given["endpoint"]
    if endpoint.startswith("unix:"):
        raise Problem(
            f"{where}: {endpoint} is a socket, and mounting it needs trust", "name a daemon as tcp://HOST:1234"
        )
    if not re.fullmatch(r"tcp://(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d+", endpoint):
        raise Problem(f"{where}: {endpoint!r} is no daemon's address", "write tcp://HOST:1234")
    platforms = tuple(parse_all(given["platforms"])) if given.get("platforms") else ()
    return Builder(endpoint, platforms, given.get("servername", ""))


def _check_repo(repo: str, where: str) -> None:
    if plugins.put_in(repo):
        return
    name, tag = repo.rpartition(":")[::2]
    if name and "/" not in tag:
        raise Problem(f"{where}: repo {repo} holds a tag", f"write repo: {name} and tags: [{tag}]")
    first, slash = repo.partition("/")[:2]
    host = bool(slash) and bool({".", ":"} & set(first) or first == "localhost")
    path = repo[len(first) + 1 :] if host else repo
    if not re.fullmatch(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*", path):
        raise Problem(
            f"{where}: {repo!r} is no repository of images",
            "it is written in lower case: registry.example.com/octocat/example",
        )


def _true(settings: Mapping[str, Any], name: str) -> bool:
    return any(key.lower() == name and str(value).lower() == "true" for key, value in settings.items())


def _names_event(when: Mapping[str, Any], event: str) -> bool:
    """Tell whether conditions name an event to run for."""
    events = when.get("event", [])
    if isinstance(events, Mapping):
        events = events.get("include", [])
    return event in ([events] if isinstance(events, str) else list(events))
