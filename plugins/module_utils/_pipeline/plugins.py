# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plugins that build images in Drone: their images, their settings, and what each of them cannot do.

Drone hands a setting to a plugin as PLUGIN_<NAME IN UPPER CASE> and the plugin ignores what it does not know, so a
misspelt one is silence. These tables are read from the plugins' sources, at the versions that the images name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Iterable, Iterator, Mapping
from urllib.parse import unquote

from .._arguments import texts
from .._problem import Problem, suggest


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What every plugin below takes (plugins/docker of 2019 is the ancestor of all).
_COMMON = _words(
    """
    dockerfile context target build_args build_args_from_env add_host no_cache compress quiet pull_image dry_run
    tag tags auto_tag auto_tag_suffix default_tags default_suffix repo registry username password email config
    cache_from mirror insecure storage_driver storage_path bip mtu custom_dns custom_dns_search ipv6 experimental debug
    daemon_off
    """
)
# What plugins/ecr adds; it logs in with these and not with a user's name and password.
_ECR = _words(
    """
    access_key secret_key region assume_role external_id create_repository lifecycle_policy repository_policy
    scan_on_push env_file
    """
)
# What buildx brought.
_BUILDX = _words("platforms labels output cache_to provenance buildkit_config")


@dataclass(frozen=True)
class Plugin:
    """One plugin: `names` translates our word for a setting into the plugin's, `elsewhere` says who takes a setting."""

    name: str
    image: str
    settings: frozenset[str]
    several_platforms: bool = True
    privileged: bool = True  # whether its step says so; the runner privileges plugins/docker by itself
    runs_on: frozenset[str] = frozenset()  # architectures that the image exists for; empty: all that matter
    names: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    escaped: frozenset[str] = frozenset()  # lists whose commas the plugin lets one escape as \,
    single: frozenset[str] = frozenset()  # settings that take one value where our word takes a list
    # Whether it tags `latest` by itself. Those that say so in their documentation and do not build, and push nothing.
    latest: bool = True
    # Woodpecker's plugins read CI_*, which Drone's runner does not set; without them auto_tag always says `latest`.
    environment: Mapping[str, str] = field(default_factory=dict)


PLUGINS = {
    plugin.name: plugin
    for plugin in (
        # v23.1.2
        Plugin(
            "thegeeklab",
            "thegeeklab/drone-docker-buildx:23",
            _COMMON | _BUILDX | _words("named_context extra_tags sbom log_level skip_verify"),
            elsewhere={
                "secrets": "thegeeklab/drone-docker-buildx:24 takes it: set image to that and plugin to any",
                "purge": "the plugin has had none since 20.11: leave it out",
            },
            escaped=frozenset(["cache_from"]),
            single=frozenset(["cache_to"]),
            latest=False,
        ),
        # v6.1
        Plugin(
            "wp-docker-buildx",
            "quay.io/thegeeklab/wp-docker-buildx:6",
            (_COMMON - {"dockerfile", "config"})
            | _BUILDX
            | _words("containerfile registry_config secrets named_context extra_tags sbom auto_label default_labels")
            | _words("max_concurrent_uploads environment log_level insecure_skip_verify"),
            names={"dockerfile": "containerfile"},
            elsewhere={"dockerfile": "it is `containerfile` there", "config": "it is `registry_config` there"},
            escaped=frozenset(["cache_from"]),
            single=frozenset(["cache_to"]),
            latest=False,
            environment={"CI_COMMIT_REF": "${DRONE_COMMIT_REF}", "CI_REPO_DEFAULT_BRANCH": "${DRONE_REPO_BRANCH}"},
        ),
        # v3.2.1
        Plugin(
            "woodpecker",
            "woodpeckerci/plugin-docker-buildx:3.2.1",
            (_COMMON - {"default_tags"})
            | _BUILDX
            | _words("label auto_label default_labels cache_images secrets logins default_tag tag_file tags_file purge")
            | _words("env_file buildkit_debug buildkit_driveropt log_level skip_verify")
            | _words("aws_access_key_id aws_secret_access_key aws_region ecr_create_repository ecr_lifecycle_policy")
            | _words("ecr_repository_policy ecr_scan_on_push"),
            single=frozenset(["cache_from", "cache_to"]),
        ),
        # 1.0.0 of July 2021: plugins/ecr before thegeeklab/drone-docker-buildx 20.10, for amd64 alone
        Plugin(
            "ecr",
            "ghcr.io/bitprocessor/drone-docker-buildx-ecr:1.0.0",
            (_COMMON - {"username", "password", "email"}) | _ECR | _words("platforms buildkit_config purge squash"),
            runs_on=frozenset(["amd64"]),
            latest=False,
            elsewhere={
                "username": "ECR's login is made from access_key and secret_key",
                "password": "ECR's login is made from access_key and secret_key",
                "cache_to": "its image is of 2021 and knows cache_from alone: plugin woodpecker pushes to ECR and has it",
            },
        ),
        # plugins/docker 20.18
        Plugin(
            "docker",
            "plugins/docker:20.18",
            _COMMON
            | _words("platform squash custom_labels auto_label label_schema env_file purge secret secrets_from_env")
            | _words(
                "secrets_from_file ssh_agent_key build_args_new multiple_build_args docker_username docker_password"
            )
            | _words("base_image_username base_image_password base_image_registry artifact_file repo_link")
            | _words("docker_registry registry_type"),
            several_platforms=False,
            privileged=False,
            names={"platforms": "platform", "labels": "custom_labels"},
            elsewhere={
                **dict.fromkeys(
                    ("cache_to", "buildkit_config", "provenance", "output"),
                    "plugins thegeeklab, wp-docker-buildx and woodpecker take it",
                ),
                **dict.fromkeys(
                    _words("cosign_params cosign_password cosign_private_key push_only no_push source_image")
                    | _words("daemon_retry_count"),
                    "plugins/docker:21.3 takes it: set image to that and plugin to any",
                ),
            },
            single=frozenset(["platforms"]),
        ),
        # Any image with settings: nothing is known of it, so nothing is refused.
        Plugin("any", "", frozenset(), privileged=False),
    )
}

# What the runner privileges by itself (drone-runner-docker, engine/compiler), and what of a step keeps it from doing so.
ALWAYS_PRIVILEGED = ("plugins/docker", "plugins/acr", "plugins/ecr", "plugins/gcr", "plugins/heroku", "plugins/gar")
_LOSES_PRIVILEGE = ("commands", "command", "entrypoint", "volumes")
_LOSES_PRIVILEGE_SET = ("XDG_RUNTIME_DIR", "DOCKER_OPTS", "DOCKER_HOST", "PATH", "HOME")

# Settings and variables whose value is a credential: it belongs in a secret.
CREDENTIAL = re.compile(
    r"(^|_)(password|passwd|passphrase|secret|token|(secret|access|private|api|agent)_?key(_id)?|access_key_id|"
    r"secret_access_key|credentials?|logins|registry_config)$",
    re.IGNORECASE,
)
# What only looks like one: plugins/docker's `secret` says where a secret comes from (id=…,src=…).
_NO_CREDENTIAL = frozenset(["secret"])


def find(name: str) -> Plugin:
    """Return the plugin of that name; raise a Problem with the near match where there is none."""
    if name not in PLUGINS:
        raise Problem(f"{name!r} is not a plugin", suggest(name, PLUGINS))
    return PLUGINS[name]


def check_settings(plugin: Plugin, settings: Mapping[str, Any], where: str) -> None:
    """Raise a Problem for a setting that the plugin would silently ignore."""
    upper: dict[str, str] = {}
    for name in settings:
        # Drone hands it over in upper case: `Dockerfile`, as the article spells it, is `dockerfile`.
        other = upper.setdefault(name.upper(), name)
        if other != name:
            raise Problem(f"{where}: settings {other} and {name} are the same one to Drone", "keep one of them")
        if plugin.name == "any" or name.lower() in plugin.settings:
            continue
        hint = plugin.elsewhere.get(name.lower())
        if hint is None and name.lower() == "platforms":
            hint = _who_can()
        raise Problem(
            f"{where}: plugin {plugin.name} has no setting {name!r} and would ignore it",
            hint or suggest(name.lower(), plugin.settings),
        )


def check_platforms(plugin: Plugin, platforms: list[str], where: str) -> None:
    """Raise a Problem where the plugin cannot build several platforms in one step."""
    if len(platforms) > 1 and not plugin.several_platforms:
        raise Problem(
            f"{where}: plugin {plugin.name} builds one platform, and {', '.join(platforms)} are asked for", _who_can()
        )


def check_ecr(settings: Mapping[str, Any], where: str) -> None:
    """Raise a Problem where an ECR registry is not of the region that the plugin logs in to."""
    by_lower_case = {name.lower(): value for name, value in settings.items()}
    registry, region = by_lower_case.get("registry"), by_lower_case.get("region") or "us-east-1"
    if (
        not isinstance(registry, str)
        or not registry
        or not isinstance(region, str)
        or has_substitution(registry + region)
    ):
        return
    match = re.search(r"\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.", registry)
    if not match:
        raise Problem(f"{where}: {registry} is not an ECR registry", f"write ACCOUNT.dkr.ecr.{region}.amazonaws.com")
    if match.group(1) != region:
        told = f"region is {region}" if by_lower_case.get("region") else f"no region is set, which means {region}"
        raise Problem(
            f"{where}: registry {registry} is in region {match.group(1)}, and {told}", f"set region to {match.group(1)}"
        )


def has_substitution(text: str) -> bool:
    """Tell whether Drone puts something into a text: a variable, or in a template what `.input` has."""
    return "$" in text or "{{" in text


def clear_text(value: object, place: str = "", name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the (place, text) of each credential that a value holds in clear text, however deeply it is nested.

    What a credential's name leads to is one, in whatever shape, but for {from_secret: NAME} and a variable's name. So is
    what stands behind its name in NAME=value, and a password in a URL.
    """
    if is_credential(name, value):
        if not _is_reference(value):
            yield from ((place, text) for text in texts(value) if not _is_reference(text))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            if key != "from_secret":
                dot = "" if not place else " " if place.endswith(",") else "."
                yield from clear_text(one, f"{place}{dot}{key}", str(key))
    elif isinstance(value, (list, tuple)):
        for one in value:
            named = one.get("name") if isinstance(one, Mapping) else None
            yield from clear_text(one, f"step {named}," if isinstance(named, str) and named else place)
    elif isinstance(value, str):
        key, _equals, assigned = value.partition("=")
        if is_credential(key, assigned) and not _is_reference(assigned):
            yield (f"{place}.{key}" if place else key), assigned
        for password in re.findall(r"://[^/@:\s]*:([^/@\s]+)@", value):
            if not _is_reference(password):
                yield place, password


def is_credential(name: str, value: object) -> bool:
    """Tell whether a setting or variable of this name holds a credential."""
    if value in (None, "", False, True) or name.lower() in _NO_CREDENTIAL:
        return False
    return bool(CREDENTIAL.search(name)) or (name.lower() == "config" and isinstance(value, str) and '"auth' in value)


def _is_reference(value: object) -> bool:
    """Tell whether Drone or the shell puts the value in: {from_secret: NAME}, or a variable's name."""
    if isinstance(value, Mapping):
        return set(value) == {"from_secret"} and isinstance(value["from_secret"], str)
    return isinstance(value, str) and bool(re.fullmatch(r"\$\$?\{?\w+\}?|\{\{ *\.input\.[\w.]+ *\}\}", value))


def credentials_within(value: object) -> Iterator[str]:
    """Yield each credential in clear text anywhere in a value, as it is written and as it is meant in a URL."""
    for _place, text in clear_text(value):
        yield from (text, unquote(text))


def check_references(value: object, where: str) -> None:
    """Raise a Problem for a misspelt from_secret, which Drone would hand to the step as a text."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            if isinstance(key, str) and key != "from_secret" and len(value) == 1:
                word = re.sub(r"[^a-z]", "", key.lower())
                if get_close_matches(word, ["fromsecret"], n=1, cutoff=0.8):
                    raise Problem(f"{where}: {key!r} does not name a secret", "write {from_secret: NAME}")
            check_references(one, f"{where}, {key}")
    elif isinstance(value, (list, tuple)):
        for one in value:
            check_references(one, where)


def image_name(image: str) -> str:
    """Return an image as the runner compares it: without tag, digest and Docker Hub's own name."""
    name = re.sub(r"(:[\w.-]+)?(@.*)?$", "", image, count=1)
    return re.sub(r"^(index\.)?docker\.io/(library/)?", "", name)


def is_privileged(image: str, images: Iterable[str]) -> bool:
    """Tell whether the runners privilege an image by itself, without trust; `images` are those of their configuration."""
    return image_name(image) in {image_name(one) for one in (*ALWAYS_PRIVILEGED, *images)}


def loses_privilege(step: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Return what of a step keeps the runner from privileging its image, "" where nothing does."""
    found = [key for key in _LOSES_PRIVILEGE if step.get(key)]
    found += [f"environment.{name}" for name in _LOSES_PRIVILEGE_SET if name in environment]
    return found[0] if found else ""


def _who_can() -> str:
    names = [name for name, plugin in PLUGINS.items() if plugin.several_platforms and plugin.image]
    return f"plugin {', '.join(names[:-1])} or {names[-1]} builds several; or strategy native, a pipeline for each"
