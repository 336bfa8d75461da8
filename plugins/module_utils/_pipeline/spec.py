# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The words of a pipeline's description: which there are, and what each may say. No I/O.

The module takes `SPEC` as its argument spec. The filter has no Ansible before it: `check_shape` reads the same table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from .._platform import Platform, parse_all
from .._problem import Problem, suggest
from . import plugins

Value = Any  # a string, or {"from_secret": NAME}
STRATEGIES = ("emulated", "native", "cross", "remote")
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
AS_SETTINGS = (
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


@dataclass(frozen=True)
class Builder:
    """A BuildKit daemon that strategy remote builds on."""

    endpoint: str
    platforms: tuple[Platform, ...] = ()
    servername: str = ""


def check_shape(given: Any, spec: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Any]:
    """Return a description without what is not set, with its defaults; raise a Problem for a word or a type that is none."""
    if not isinstance(given, Mapping):
        raise Problem(f"{where} is {type(given).__name__} and not a dictionary", "write it as {name: …, repo: …}")
    for word in given:
        if word not in spec:
            raise Problem(f"{where}: {word!r} is not a word of a pipeline's description", suggest(str(word), spec))
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
            raise Problem(f"{where}: {value!r} is not a list", "write it in brackets")
        return [_checked(item, {"type": rule["elements"], "options": rule.get("options")}, where) for item in value]
    if kind == "dict":
        if rule.get("options"):
            return check_shape(value, rule["options"], where)
        if not isinstance(value, Mapping):
            raise Problem(f"{where}: {value!r} is not a dictionary", "write it as {name: value}")
        return {str(name): one for name, one in value.items()}
    if kind == "bool":
        if str(value).lower() not in ("true", "false", "yes", "no"):
            raise Problem(f"{where}: {value!r} is neither true nor false", "write true or false")
        return str(value).lower() in ("true", "yes")
    if kind == "str":
        if isinstance(value, (dict, list)):
            raise Problem(f"{where}: {value!r} is not text", "write one value")
        value = str(value)
        if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", value):
            raise Problem(f"{where}: {value!r} has a control character", "write plain text")
        if rule.get("choices") and value not in rule["choices"]:
            raise Problem(f"{where}: {value!r} is not a choice", suggest(value, rule["choices"]))
        if not value.strip() and (rule.get("required") or rule.get("default")):
            raise Problem(f"{where} is empty", "set it, or leave it out")
    return value


def lift(given: dict[str, Any], settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Take what a plugin would have as settings for strategy remote's own words, so that only the strategy need change."""
    for name, value in settings.items():
        word = name.lower()
        if word not in AS_SETTINGS:
            raise Problem(
                f"{where}: setting {name!r} is a plugin's, and strategy remote runs none", suggest(word, AS_SETTINGS)
            )
        if word in given and given[word] not in (None, False):
            raise Problem(f"{where}: {word} and settings.{name} say the same", "keep one of them")
        given[word] = _checked(value, SPEC[word], f"{where}, settings.{name}")
    return {}


def tags(given: Iterable[Any], where: str) -> tuple[str, ...]:
    tags = []
    for tag in given:
        if isinstance(tag, float):
            raise Problem(
                f"{where}: the tag {tag} was read as a number, and 1.10 would become 1.1", f'quote it: "{tag}"'
            )
        text = str(tag)
        if not plugins.has_substitution(text) and not re.fullmatch(r"\w[\w.-]{0,127}", text, re.ASCII):
            raise Problem(
                f"{where}: {text!r} is not a valid tag", "a tag has letters, digits, `_`, `.` and `-`, at most 128"
            )
        tags.append(text)
    return tuple(tags)


def pairs(given: Any) -> list[str]:
    """Return `NAME=value` for each entry of a dictionary, or a list that is written so already."""
    if isinstance(given, Mapping):
        return [f"{name}={value}" for name, value in given.items()]
    return [given] if isinstance(given, str) else [str(entry) for entry in given]


def check_pairs(given: Any, where: str) -> None:
    """Raise a Problem for what is neither a dictionary nor a list of NAME=value."""
    values = list(given.values()) if isinstance(given, Mapping) else given if isinstance(given, (list, tuple)) else []
    if not isinstance(given, (str, list, tuple, Mapping)) or any(
        value is None or isinstance(value, (list, tuple)) for value in values
    ):
        raise Problem(f"{where} is neither a dictionary of texts nor a list of NAME=value", "write {NAME: value}")


def check_value(given: Any, where: str) -> None:
    """Raise a Problem for a login's value that is neither a text nor a secret."""
    if isinstance(given, Mapping):
        if set(given) == {"from_secret"} and isinstance(given["from_secret"], str) and given["from_secret"]:
            return
    elif isinstance(given, (str, int)) and not isinstance(given, bool):
        return
    raise Problem(f"{where} is neither a text nor {{from_secret: NAME}}", "write one of them")


def listed(given: Any) -> list[Any]:
    """Return a condition's values: Drone takes one for a list of one."""
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def check_conditions(conditions: Mapping[str, Any], where: str) -> None:
    """Raise a Problem for conditions that Drone cannot read: a text, a list of texts, or include and exclude of them."""
    for place, condition in conditions.items():
        for name, given in condition.items():
            sides = given if isinstance(given, Mapping) else {"include": given}
            if set(sides) - {"include", "exclude"} and name != "paths":
                raise Problem(f"{where}: {place}.{name} has other keys than include and exclude", "write a list")
            for one in sides.values():
                if not all(isinstance(value, (str, int, float)) for value in listed(one)):
                    raise Problem(f"{where}: {place}.{name} is not a list of texts", "write a list")


def build_args(given: Any, where: str) -> dict[str, Value]:
    found: dict[str, Value] = {}
    if isinstance(given, Mapping):
        found = {str(name): value if isinstance(value, Mapping) else _text(value) for name, value in given.items()}
    else:
        for entry in [given] if isinstance(given, str) else given:
            name, equals, value = str(entry).partition("=")
            if not equals:
                raise Problem(f"{where}: the build argument {entry!r} has no value", "write NAME=value")
            found[name] = value
    for name, value in found.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise Problem(f"{where}: {name!r} is not a build argument's name", "letters, digits and `_`")
        if isinstance(value, Mapping) and (set(value) != {"from_secret"} or not isinstance(value["from_secret"], str)):
            raise Problem(
                f"{where}: the build argument {name} is neither a value nor {{from_secret: NAME}}", "write one of them"
            )
    return found


def _text(value: Any) -> str:
    """Return a scalar as Drone hands it to a plugin: true, not True."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def provenance(given: Any) -> str:
    return "" if given is None else _text(given)


def builder(given: Mapping[str, Any], where: str) -> Builder:
    endpoint = given["endpoint"]
    if endpoint.startswith("unix:"):
        raise Problem(
            f"{where}: {endpoint} is a socket, and mounting it needs trust", "name a daemon as tcp://HOST:1234"
        )
    if not re.fullmatch(r"tcp://(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d+", endpoint):
        raise Problem(f"{where}: {endpoint!r} is not a daemon's address", "write tcp://HOST:1234")
    platforms = tuple(parse_all(given["platforms"])) if given.get("platforms") else ()
    return Builder(endpoint, platforms, given.get("servername", ""))


def check_repo(repo: str, where: str) -> None:
    if plugins.has_substitution(repo):
        return
    name, tag = repo.rpartition(":")[::2]
    if name and "/" not in tag:
        raise Problem(f"{where}: repo {repo} holds a tag", f"write repo: {name} and tags: [{tag}]")
    first, slash = repo.partition("/")[:2]
    host = bool(slash) and bool({".", ":"} & set(first) or first == "localhost")
    path = repo[len(first) + 1 :] if host else repo
    if not re.fullmatch(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*", path):
        raise Problem(
            f"{where}: {repo!r} is not a repository of images",
            "it is written in lower case: registry.example.com/octocat/example",
        )
