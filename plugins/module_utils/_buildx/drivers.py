# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What each driver of buildx takes: the only table of their options, read off docker/buildx's driver/*/factory.go.

buildx itself tells of a wrong option when the builder is created, one at a time and without a hint; here they are all
looked at before anything runs.
"""

from __future__ import annotations

import re
from typing import Callable, Mapping, NamedTuple

from .._problem import Problem, suggest

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)


def size(text: str) -> int:
    """Return the bytes of a size as Docker writes them: 512m, 1.5g, 1GiB (all of them powers of 1024)."""
    match = SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no size such as 512m or 2g")
    return int(float(match.group(1)) * 1024 ** " kmgtp".index(match.group(2).lower() or " "))


def _text(text: str) -> None:
    if not text:
        raise ValueError("it is empty")


def _flag(text: str) -> None:
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")


def _number(text: str) -> None:
    if not re.fullmatch(r"-?\d+", text):
        raise ValueError(f"{text!r} is no number")


def _size(text: str) -> None:
    if text != "-1":  # memory-swap knows it: no limit
        size(text)


def _path(text: str) -> None:
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is no absolute path")


def _restart(text: str) -> None:
    if not re.fullmatch(r"no|always|unless-stopped|on-failure(:\d+)?", text):
        raise ValueError(f"{text!r} is none of no, always, unless-stopped, on-failure, on-failure:N")


def _pairs(text: str) -> None:
    if not all(re.fullmatch(r"[^=]+=[^=]*", pair) for pair in text.strip('"').split(",")):
        raise ValueError(f"{text!r} is not name=value,name=value")


def _tolerations(text: str) -> None:
    known = ("key", "operator", "value", "effect", "tolerationSeconds")
    for pair in re.split("[,;]", text):
        name, found, value = pair.partition("=")
        # buildx leaves out what is no pair, without a word.
        if not found or "=" in value or name not in known or (name == "tolerationSeconds" and not value.isdigit()):
            raise ValueError(f"{pair!r} is none of {', '.join(known)}, as in key=ci,operator=Exists;key=arm64")


def _balance(text: str) -> None:
    if text not in ("sticky", "random"):
        raise ValueError(f"{text!r} is neither sticky nor random")


def _duration(text: str) -> None:
    if not re.fullmatch(r"(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+", text):
        raise ValueError(f"{text!r} is no duration such as 120s")


class Driver(NamedTuple):
    """One driver: its options with what checks their values, and what else a node of it may have."""

    options: Mapping[str, Callable[[str], None]]
    env: bool  # env.NAME sets a variable of the daemon
    daemon: bool  # buildx starts the daemon: it takes a configuration and flags
    endpoint: str  # what an endpoint is: "docker" (a daemon or context), "buildkit" (a URL, required) or "" (none)


DRIVERS = {
    "docker": Driver({}, env=False, daemon=False, endpoint=""),
    "docker-container": Driver(
        {
            "image": _text,
            "network": _text,
            "memory": _size,
            "memory-swap": _size,
            "cpu-period": _number,
            "cpu-quota": _number,
            "cpu-shares": _number,
            "cpuset-cpus": _text,
            "cpuset-mems": _text,
            "cgroup-parent": _text,
            "restart-policy": _restart,
            "default-load": _flag,
            "provenance-add-gha": _flag,
            "allow-untrusted-image": _flag,
        },
        env=True,
        daemon=True,
        endpoint="docker",
    ),
    "kubernetes": Driver(
        {
            "image": _text,
            "namespace": _text,
            "replicas": _number,
            "requests.cpu": _text,
            "requests.memory": _text,
            "requests.ephemeral-storage": _text,
            "persistent-volume-claim.requests.storage": _text,
            "limits.cpu": _text,
            "limits.memory": _text,
            "limits.ephemeral-storage": _text,
            "rootless": _flag,
            "schedulername": _text,
            "serviceaccount": _text,
            "nodeselector": _pairs,
            "annotations": _pairs,
            "labels": _pairs,
            "tolerations": _tolerations,
            "loadbalance": _balance,
            "qemu.install": _flag,
            "qemu.image": _text,
            "buildkit-root-volume-memory": _text,
            "default-load": _flag,
            "timeout": _duration,
        },
        env=True,
        daemon=True,
        endpoint="",
    ),
    "remote": Driver(
        {"servername": _text, "cacert": _path, "cert": _path, "key": _path, "default-load": _flag},
        env=False,
        daemon=False,
        endpoint="buildkit",
    ),
}

# The schemes of a BuildKit endpoint (docker/buildx: driver/remote/util), and one example of each for the error.
REMOTE_ENDPOINTS = {
    "unix": "unix:///run/buildkit/buildkitd.sock",
    "tcp": "tcp://HOST:1234",
    "docker-container": "docker-container://CONTAINER",
    "kube-pod": "kube-pod://POD?namespace=NAMESPACE",
    "ssh": "ssh://USER@HOST",
}
# What comes after the scheme (moby/buildkit: client/connhelper).
ENDPOINT_SHAPES = {
    "unix": r"/.",
    "tcp": r"[^/@?#\s]+:\d+\Z",
    "docker-container": r"[a-zA-Z0-9][\w.-]*(\?context=[\w.+-]+)?\Z",
    "kube-pod": r"[a-z0-9][a-z0-9.-]*(\?[^\s#]*)?\Z",
    "ssh": r"([^/@\s-][^/@\s]*@)?[^/@?#\s-][^/@?#\s]*(/[^?#\s]*)?\Z",
}


def driver_opts(where: str, driver: str, given: Mapping[str, object]) -> dict[str, str]:
    """Return a node's driver options as buildx stores them; raise a Problem that names the wrong one and the near match."""
    known = DRIVERS[driver]
    checked = {}
    for name, value in given.items():
        if isinstance(value, (list, dict)):
            raise Problem(f"{where}: driver option {name} is no text", "write it as buildx takes it: one text")
        text = str(value).lower() if isinstance(value, bool) else str("" if value is None else value)
        if known.env and name.startswith("env."):
            if not re.fullmatch(r"env\.[A-Za-z_]\w*", name):
                raise Problem(f"{where}: {name!r} is no driver option", "write env.NAME")
        elif name not in known.options:
            hint = suggest(name, known.options) if known.options else f"the {driver} driver takes none"
            raise Problem(f"{where}: {name!r} is no option of the {driver} driver", hint)
        else:
            try:
                known.options[name](text)
            except ValueError as error:
                raise Problem(f"{where}: driver option {name}: {error}") from error
        checked[name] = text
    if driver == "remote":
        _certificates(where, checked)
    return checked


def _certificates(where: str, opts: Mapping[str, str]) -> None:
    """Raise a Problem where the options of a TLS connection do not belong together, or their files are not there."""
    import os

    if ("cert" in opts) != ("key" in opts):
        given, missing = ("cert", "key") if "cert" in opts else ("key", "cert")
        raise Problem(f"{where}: driver option {given} without {missing}", "a client certificate needs both")
    if {"cert", "servername"} & set(opts) and "cacert" not in opts:
        raise Problem(
            f"{where}: TLS without the driver option cacert", "name the CA that signed the daemon's certificate"
        )
    for name in ("cacert", "cert", "key"):
        if name in opts and not os.access(opts[name], os.R_OK):
            why = "cannot be read by this user" if os.path.exists(opts[name]) else "is not there"
            raise Problem(f"{where}: {name} {opts[name]} {why}", "copy it to the host before the builder is declared")


def endpoint(where: str, driver: str, given: str) -> str:
    """Return a node's endpoint after looking at it; contexts are looked up later, by whoever knows the user."""
    kind = DRIVERS[driver].endpoint
    if not kind and given:
        raise Problem(f"{where}: the {driver} driver takes no endpoint, and {given!r} is given", "leave it out")
    if kind == "buildkit":
        examples = ", ".join(REMOTE_ENDPOINTS.values())
        if not given:
            raise Problem(f"{where}: a remote node needs an endpoint", f"such as {examples}")
        scheme, found, rest = given.partition("://")
        if not found or scheme not in REMOTE_ENDPOINTS or not rest:
            raise Problem(f"{where}: {given!r} is no BuildKit endpoint", f"write one of {examples}")
        if scheme == "tcp" and not re.search(r":\d+$", rest):
            raise Problem(f"{where}: {given!r} has no port", "BuildKit's usual one is 1234")
        if re.match(r"ssh://[^/@]*:[^/@]*@", given):
            raise Problem(f"{where}: an ssh endpoint with a password", "BuildKit takes none: give the user a key")
        if not re.match(ENDPOINT_SHAPES[scheme], rest):
            raise Problem(f"{where}: {given!r} is no {scheme} endpoint", f"write it as {REMOTE_ENDPOINTS[scheme]}")
    if kind == "docker" and given and not re.match(r"(unix|tcp|ssh|npipe|fd)://.|[a-zA-Z0-9][a-zA-Z0-9_.+-]*\Z", given):
        raise Problem(
            f"{where}: {given!r} is neither a Docker context nor a daemon's address",
            "write unix://…, tcp://… or ssh://…",
        )
    return given
