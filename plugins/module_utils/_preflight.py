# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What cannot be had although every variable of a role is as its argument specification says. No host is asked."""

from __future__ import annotations

import re
from typing import Any, Callable, Iterable, Mapping

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ._arguments import split_texts, wrong_shape
from ._binfmt.wish import depth
from ._buildkitd import wish as _buildkitd
from ._buildx import wish as _buildx
from ._buildx.drivers import driver_of
from ._buildx.store import check_name
from ._drone import crons
from ._drone.repos import check_slugs
from ._image.reference import Reference, check_registry
from ._platform import Platform, parse_all
from ._problem import Problem
from ._runner.wish import ARGUMENTS, Tools, declare


def problems_of(
    spec: Mapping[str, Any], roles: list[str], values: Mapping[str, Any], names: Mapping[str, str]
) -> list[str]:
    """Return what is wrong with the values of roles' variables, of which `spec` is the argument specification."""
    values = dict(values)
    split_texts(spec, values)
    shape = wrong_shape(spec, values)
    if shape:
        return [shape]
    try:
        read = ArgumentSpecValidator(spec).validate(values, validate_role_argument_spec=True)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # ansible-core's own checks end in a traceback for some values; each variable by itself tells which.
        return [trouble for name in values if name in spec for trouble in _unchecked(name, spec[name], values[name])]
    return list(read.error_messages) or wrong(roles, read.validated_parameters, names)


def _unchecked(name: str, option: Mapping[str, Any], value: Any) -> list[str]:
    try:
        ArgumentSpecValidator({name: option}).validate({name: value}, validate_role_argument_spec=True)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return [f"{name} has a value that Ansible cannot use: {error}"]
    return []


def wrong(roles: list[str], values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the roles' variables, and what to do.

    `names` are the names of the fleet's runners by host, "" for the host's own.
    """
    found: list[str] = []
    for role in roles:
        if values.get(f"{role}_state", "present") == "present" and role in CHECKS:
            try:
                found += CHECKS[role](values)
            except (AttributeError, LookupError, TypeError, ValueError) as error:  # deeper than the specification looks
                found.append(
                    f"{LISTS.get(role, role)}: an entry has a value of a wrong type ({error}); see the role's documentation."
                )
    if "docker_engine" in roles and "builder" in roles:
        found.append(_of_both(values))
    if "drone_runner" in roles:
        found.append(_of_runner(values, names))
    return [reason for reason in found if reason]


def texts(declared: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> list[str]:
    """Return which variables are text where a list or a dictionary belongs: Ansible takes `-e name=value` as text, JSON or not.

    Words with commas between them are a list; the runner's variables are its module's options, which read text.
    """
    found = []
    for name, option in declared.items():
        value = values.get(name)
        if not isinstance(value, str) or name.startswith("drone_runner_"):
            continue
        kind, text = option["type"], value.strip()
        # An empty text is what a survey has where nobody answered: nothing at all.
        if text and (kind == "dict" or (kind == "list" and (option.get("elements") == "dict" or text[0] in "[{"))):
            shape = "[…]" if kind == "list" else "{…}"
            words = "a list" if kind == "list" else "a dictionary"
            found.append(f"{name} is text, and has to be {words}: write -e '{{\"{name}\": {shape}}}', or -e @FILE.yml")
    return found


def tags_of_nobody(run: Iterable[str], task: Iterable[str]) -> str:
    """Return what a person is told whose --tags select none of our parts; "" where they select one, or a playbook of theirs around it."""
    chosen = {str(tag) for tag in run}
    if not chosen or chosen & (TAGS | {str(tag) for tag in task} - {"always"}):
        return ""
    known = sorted(TAGS - {"all", "tagged", "untagged"})
    return f"--tags {','.join(sorted(chosen))} selects no part of multiarch.drone; its tags are {', '.join(known)}"


def variable_of(option: str) -> str:
    """Return the variable of role drone_runner that an option of the module is given from."""
    return "drone_runner_" + (option[len("drone_") :] if option.startswith("drone_") else option)


def _trouble(variable: str, check: Callable[..., object], *arguments: Any, **named: Any) -> str:
    """Return what a check says, with the variable that a person wrote; "" where it says nothing."""
    try:
        check(*arguments, **named)
    except Problem as problem:
        return f"{variable}: {problem}"
    return ""


def _of_engine(values: Mapping[str, Any]) -> list[str]:
    source = values["docker_engine_buildx"]
    found = [
        _trouble("docker_engine_registry_logins", check_registry, _host(login["registry"]))
        for login in values["docker_engine_registry_logins"]
    ]
    found += [
        f"docker_engine_registry_mirrors: {mirror!r} is not a valid address; write https://HOST."
        for mirror in values["docker_engine_registry_mirrors"]
        if not re.match(r"https?://[^/\s]+", mirror)
    ]
    if values["docker_engine_min_free_gib"] < 0:
        found.append("docker_engine_min_free_gib: a disk has no less than 0 GiB free; write a number from 0 on.")
    checksum = values["docker_engine_buildx_checksum"]
    if checksum and not re.fullmatch(r"(md5|sha1|sha224|sha256|sha384|sha512):\S+", checksum):
        found.append(f"docker_engine_buildx_checksum: {checksum!r} is not a checksum; write sha256:… .")
    if source == "url" and not (values["docker_engine_buildx_url"] and checksum):
        found.append("docker_engine_buildx=url needs docker_engine_buildx_url and docker_engine_buildx_checksum.")
    if source == "path" and not values["docker_engine_buildx_path"]:
        found.append("docker_engine_buildx=path needs docker_engine_buildx_path, the plugin's file on the controller.")
    return found


def _host(registry: str) -> str:
    # Docker Hub's own address has a path.
    return re.sub(r"^https?://([^/]+).*$", r"\1", registry)


def _of_qemu(values: Mapping[str, Any]) -> list[str]:
    found = [_trouble("qemu_platforms", _platforms, values["qemu_platforms"])]
    found += [_trouble(name, depth, values[name], name) for name in ("qemu_verify", "qemu_prove")]
    for source, variable in (("image", "qemu_image"), ("path", "qemu_path")):
        if values["qemu_source"] == source and not values[variable]:
            found.append(f"qemu_source={source} needs {variable}.")
    if values["qemu_image"]:
        found.append(_trouble("qemu_image", Reference.parse, values["qemu_image"]))
    return found


def _platforms(texts: list[str]) -> None:
    """Judge platforms as the module does: all is each that is known."""
    names = [name.strip() for text in texts for name in str(text).split(",")]
    if "all" not in map(str.lower, names):
        parse_all(texts)


def _of_builders(values: Mapping[str, Any]) -> list[str]:
    found = []
    for builder in values["builder_builders"]:
        driver = driver_of(builder.get("driver") or values["builder_driver"])
        found.append(_trouble("builder_builders", check_name, builder["name"]))
        shape = _nodes(builder.get("nodes") or [])
        if isinstance(shape, str):
            found.append(f"builder_builders: {builder['name']}: {shape}")
            continue
        for index, node in enumerate(shape):
            where = f"builder_builders: {builder['name']}, node {node.get('name') or index}"
            found.append(_trouble(where, parse_all, node.get("platforms") or []) if node.get("platforms") else "")
            options = node.get("driver_opts") or {}
            found.append(_trouble("builder_builders", driver.driver_opts, where, options))
            if options.get("image"):
                found.append(_trouble(where, Reference.parse, str(options["image"])))
    if values["builder_timeout"] < 1:
        found.append("builder_timeout: nothing starts in less than a second; write a number from 1 on.")
    return found


def _nodes(given: Any) -> list[dict[str, Any]] | str:
    """Return a builder's nodes as the module would take them, or what is wrong with them."""
    spec = {"nodes": {**_buildx.ARGUMENTS["nodes"]}}
    read = ArgumentSpecValidator(spec).validate({"nodes": _given(given)})
    return "; ".join(read.error_messages) or list(read.validated_parameters["nodes"])


def _of_both(values: Mapping[str, Any]) -> str:
    drivers = {builder.get("driver") or values["builder_driver"] for builder in values["builder_builders"]}
    if drivers == {"docker"} and values["docker_engine_containerd_store"] == "false":
        return (
            "every builder of this host uses the driver docker, which builds for several platforms only on an engine with the containerd "
            "image store, and docker_engine_containerd_store=false is without: choose auto, or declare a builder with another driver in "
            "builder_builders."
        )
    return ""


def _of_buildkitd(values: Mapping[str, Any]) -> list[str]:
    source = values["buildkitd_source"]
    needs = {
        "url": ("buildkitd_url", "buildkitd_checksums"),
        "image": ("buildkitd_image",),
        "path": ("buildkitd_path",),
    }
    found = [
        f"buildkitd_source={source} needs {name}{HINTS.get(name, '')}."
        for name in needs.get(source, ())
        if not values[name]
    ]
    if values["buildkitd_image"]:
        found.append(_trouble("buildkitd_image", Reference.parse, values["buildkitd_image"]))
    read = ArgumentSpecValidator(_buildkitd.ARGUMENTS).validate({"instances": _given(values["buildkitd_instances"])})
    if read.error_messages:
        return [*found, *(f"buildkitd_instances: {message}." for message in read.error_messages)]
    instances = [{**instance, "gid": 0} for instance in read.validated_parameters["instances"]]
    programs = _buildkitd.Programs("/usr/bin", "")
    trouble = _trouble("buildkitd_instances", _buildkitd.declare, instances, programs, may_lack=True)
    if not trouble:
        # With the cap of the role, which every instance has that declares none, and with certificates that the role makes.
        capped = [{**instance, "gc": instance["gc"] or values["buildkitd_gc"]} for instance in instances]
        trouble = _trouble("buildkitd_gc", _buildkitd.declare, capped, programs, may_lack=True)
    found.append(trouble)
    for name in ("buildkitd_certificate_days", "buildkitd_renew_days"):
        if values[name] < 1:
            found.append(f"{name}: a certificate holds for a day at least; write a number from 1 on.")
    return found


def _given(value: Any) -> Any:
    """Return a validated value without the options that nobody gave: validation puts null there, which a module refuses."""
    if isinstance(value, Mapping):
        return {key: _given(item) for key, item in value.items() if item is not None}
    return [_given(item) for item in value] if isinstance(value, list) else value


def _of_repos(values: Mapping[str, Any]) -> list[str]:
    found = [
        _trouble("drone_repos_trusted", check_slugs, values["drone_repos_trusted"], globs=True),
    ]
    lacking = [
        number for number, repo in enumerate(values["drone_repos_repos"]) if not isinstance(repo.get("slug"), str)
    ]
    if lacking:
        found.append(f"drone_repos_repos[{lacking[0]}] has no slug; write OWNER/NAME.")
    else:
        slugs = [repo["slug"] for repo in values["drone_repos_repos"]]
        found.append(_trouble("drone_repos_repos", check_slugs, slugs, globs=True))
    for cron in values["drone_repos_crons"]:
        where = f"drone_repos_crons: {cron.get('repo')}, {cron.get('name')}"
        found.append(_trouble(where, crons.check_name, str(cron.get("name") or "")))
        if cron.get("expr"):
            found.append(_trouble(where, crons.check_expression, str(cron["expr"])))
    return found


def _of_pipelines(values: Mapping[str, Any]) -> list[str]:
    found = []
    for entry in values["drone_pipelines_pipelines"]:
        pipeline = entry.get("pipeline") or {}
        if pipeline.get("platforms") and not isinstance(pipeline["platforms"], (list, str)):
            found.append("drone_pipelines_pipelines: platforms is not a list; write [linux/amd64, linux/arm64].")
        elif pipeline.get("platforms"):
            found.append(_trouble("drone_pipelines_pipelines", parse_all, pipeline["platforms"]))
        if pipeline.get("repo"):
            found.append(_trouble("drone_pipelines_pipelines", Reference.parse, str(pipeline["repo"])))
    return found


def _of_runner(values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    # As the role hands them on: what is empty is left to the module.
    settings = {option: values[variable_of(option)] for option in ARGUMENTS if variable_of(option) in values}
    read = ArgumentSpecValidator(ARGUMENTS).validate(
        {name: value for name, value in settings.items() if value not in ("", None)}
    )
    if read.error_messages:
        return in_words_of_the_role("; ".join(read.error_messages) + ".")
    wish = read.validated_parameters
    if wish["state"] != "present":
        return ""
    try:
        declare(wish, Tools("docker", "python3", "", {}), Platform("linux", "amd64"))
    except Problem as problem:
        return in_words_of_the_role(str(problem))
    name = str(wish["name"])
    same = sorted(str(host) for host, other in names.items() if str(other or host) == name)
    if len(same) > 1:
        return f"the hosts {', '.join(same)} have one drone_runner_name, {name}; give each its own: nobody would know whose a build is."
    return ""


def in_words_of_the_role(text: str) -> str:
    """Return the module's words with the variables that a person wrote: drone_url is drone_runner_url to them.

    An option of one word is an English word too: only at the beginning, and before a value, it is the option.
    """
    for option in sorted(ARGUMENTS, key=len, reverse=True):
        name = re.escape(option)
        pattern = rf"(?<![\w/.-]){name}(?![\w/.-])" if "_" in option else rf"^{name}(?=[ :=])|(?<![\w/.-]){name}(?==)"
        text = re.sub(pattern, variable_of(option), text)
    return text


TAGS = {
    *("engine", "qemu", "builder", "runner", "drone", "pipelines", "verify", "report", "python"),
    *("all", "tagged", "untagged"),
}
HINTS = {
    "buildkitd_url": " (the archive of a release, such as "
    "https://github.com/moby/buildkit/releases/download/v0.34.2/buildkit-v0.34.2.linux-{arch}.tar.gz)",
    "buildkitd_checksums": ' (such as {amd64: "sha256:…"})',
}
# The variable whose entries a role checks, and the specification does not.
LISTS = {
    "docker_engine": "docker_engine_registry_logins",
    "builder": "builder_builders",
    "buildkitd": "buildkitd_instances",
    "drone_repos": "drone_repos_repos, drone_repos_crons",
    "drone_pipelines": "drone_pipelines_pipelines",
}
CHECKS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "docker_engine": _of_engine,
    "qemu": _of_qemu,
    "builder": _of_builders,
    "buildkitd": _of_buildkitd,
    "drone_repos": _of_repos,
    "drone_pipelines": _of_pipelines,
}
