# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What buildx makes of the texts that options of a build are: values, lines of comma-separated fields, switches. No I/O.

Refused is what buildx would read as something else than was meant, what it would refuse only after a part of the work, and
what cannot be an argument of a process. The syntaxes are those of docker/buildx, util/buildflags and build/utils.go.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, Any, Mapping

from .._problem import Problem, suggest
from .reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CACHES = ("azblob", "gha", "inline", "local", "registry", "s3")
OUTPUTS = ("cacheonly", "docker", "image", "local", "oci", "registry", "tar")
SCHEMES = ("docker-image", "git", "http", "https", "oci-layout", "ssh")
# What execve takes of one argument, and of one variable (Linux: MAX_ARG_STRLEN).
LONGEST = (128 << 10) - 1
# Go's strconv.ParseBool.
TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ULIMIT = re.compile(r"(?P<name>[a-z]+)=(?P<soft>-1|\d+)(?::(?P<hard>-1|\d+))?")
_ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending",
    "stack",
)  # fmt: skip
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?) ?(?:[kmgtp]i?)?b?", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def as_text(value: Any) -> str:
    """Return a value as Docker's tools write it: YAML's true is `true`, not `True`, and null is empty."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def switch(text: str | None) -> str:
    """Return `true` or `false` for whatever Go takes for that (YAML's false arrives as "False"), and any other text as it is."""
    return "true" if text in TRUE else "false" if text in FALSE else text or ""


def fields(text: str, option: str) -> list[str]:
    """Return the fields of a line of comma-separated values, as Go reads it; raise a Problem where a quote is misplaced."""
    found, position = [], 0
    while position <= len(text):
        if text[position : position + 1] == '"':
            match = re.compile(r'"((?:[^"]|"")*)"(?=,|\Z)').match(text, position)
            if not match:
                raise Problem(f"{option}: {text!r} has a quote without its other", 'quote a whole field: "dest=/a,b"')
            found.append(match[1].replace('""', '"'))
            position = match.end() + 1
            continue
        field = text[position:].partition(",")[0]
        if '"' in field:
            raise Problem(f"{option}: {text!r} has a quote within a field", 'quote a whole field: "dest=/a,b"')
        found.append(field)
        position += len(field) + 1
    return found


def table(text: str, option: str) -> dict[str, str]:
    """Return `type=local,dest=/srv/out` as a table; names in lower case."""
    pairs = (field.partition("=") for field in fields(text, option))
    return {name.strip().lower(): value.strip() for name, _equals, value in pairs}


def place(output: str) -> str:
    """Return where on this host an output is written; "" for an image, and for what goes to the standard output."""
    # One field alone is short for type=local, whatever stands in it.
    alone = len(fields(output, "outputs")) == 1 and not output.startswith("type=")
    found = output.strip() if alone else table(output, "outputs").get("dest", "")
    return "" if found == "-" else found


def is_attested(options: Mapping[str, Any]) -> bool:
    """Whether buildx attests anything: the minimum of provenance, unless that is disabled, and what is asked for."""
    wanted = {"provenance": True, "sbom": False, **_attestations(options)}
    return any(wanted.values())


def _attestations(options: Mapping[str, Any]) -> dict[str, bool]:
    """Return which attestations are asked for (True) or disabled (False); raise a Problem where one is both or neither."""
    given = [
        (f"type={kind},{options[kind]}", kind)
        for kind in ("provenance", "sbom")
        if options[kind] not in ("", None, "true", "false")
    ]
    found = {kind: options[kind] == "true" for kind in ("provenance", "sbom") if options[kind] in ("true", "false")}
    for text, option in [*given, *((text, "attests") for text in options["attests"])]:
        read = table(text, option)
        kind = read.get("type", "")
        if not kind:
            raise Problem(f"{option}: {text!r} says no type", "write type=provenance,… or type=sbom,…")
        if kind in found:
            raise Problem(f"{option}: {kind} is asked for twice", f"give {kind} or attests, and each type once")
        found[kind] = read.get("disabled", "false") not in TRUE
    return found


def normalised(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with each value as the text that buildx gets; raise a Problem for what it cannot get as it is meant."""
    options = dict(params)
    for option in ("add_hosts", "annotations", "build_args", "build_contexts", "labels"):
        options[option] = {name: _value(option, name, value) for name, value in params[option].items()}
    for option in ("allow", "attests", "cache_from", "cache_to", "no_cache_filters", "outputs", "ssh", "ulimit"):
        for text in params[option]:
            check_line(text, option)
    for option in ("builder", "cgroup_parent", "context", "file", "provenance", "sbom", "shm_size", "target"):
        if params.get(option) is not None:
            check_line(params[option], option)
    for option in ("cache_from", "cache_to"):
        for text in params[option]:
            _check_type(text, option, "cache backend", CACHES)
    _check_outputs(params)
    for text in params["ulimit"]:
        _check_ulimit(text)
    for host, addresses in options["add_hosts"].items():
        _check_host(host, addresses)
    if params["shm_size"] and not _SIZE.fullmatch(params["shm_size"]):
        raise Problem(f"shm_size: {params['shm_size']!r} is not a size", "write bytes, or such as 64m or 1g")
    options.update(provenance=switch(params["provenance"]), sbom=switch(params["sbom"]))
    _attestations(options)
    return options


def check_line(text: str, option: str) -> None:
    """Raise a Problem for what no argument of one line can hold."""
    if not text.strip():
        raise Problem(f"{option} has an empty entry", "give a value, or leave it out")
    if _CONTROL.search(text):
        raise Problem(f"{option} has a control character, such as a line break", "write it on one line")
    check_length(text, option)


def check_length(text: str, where: str) -> None:
    """Raise a Problem for what is too long to be handed to a process."""
    if len(os.fsencode(text)) > LONGEST - 64:  # what buildx is told of it, and its name
        raise Problem(
            f"{where} is longer than the {LONGEST >> 10} KiB that Linux lets an argument have", "put it into a file"
        )


def _value(option: str, name: str, value: Any) -> str:
    """Return one value of a table as text; its name must be one that buildx finds again before the first `=`."""
    if isinstance(value, (dict, list)):
        kind = "a table" if isinstance(value, dict) else "a list"
        raise Problem(f"{option}: {name} is {kind}", "give a text; to_json of Ansible makes one")
    if not name.strip() or "=" in name or _CONTROL.search(name):
        raise Problem(f"{option}: {name!r} is not a name", "a name is not empty, and has no = and no line break")
    text = as_text(value)
    check_length(f"{name}={text}", f"{option}: {name}")
    if option in ("add_hosts", "build_contexts"):
        check_line(text, f"{option}: {name}")
    return text


def _check_type(text: str, option: str, what: str, known: Sequence[str]) -> None:
    """Raise a Problem where `type=` names nothing that BuildKit knows."""
    kind = table(text, option).get("type", "")
    if kind and kind not in known:
        raise Problem(f"{option}: {text!r}: {kind!r} is not a {what}", suggest(kind, known))


def _check_outputs(params: Mapping[str, Any]) -> None:
    """Raise a Problem for outputs that contradict each other, or that lead nowhere."""
    places: set[str] = set()
    for text in params["outputs"]:
        _check_type(text, "outputs", "kind of output", OUTPUTS)
        read = table(text, "outputs")
        where = place(text)
        if text.strip() == "-" or read.get("dest") == "-":
            raise Problem(f"outputs: {text!r} goes to the standard output, which nobody reads", "give dest=/a/file")
        if where and not os.path.isabs(where):
            raise Problem(f"outputs: {where!r} is not an absolute path", "write dest=/srv/out")
        if not where and read.get("type") in ("local", "tar", "oci"):
            raise Problem(f"outputs: {text!r} does not say where", f"write type={read['type']},dest=/srv/out")
        if where and os.path.normpath(where) in places:
            raise Problem(f"outputs: two of them are written to {where}", "give each a place of its own")
        places.update([os.path.normpath(where)] if where else [])
        if params["push"] and read.get("push", "true") in FALSE:
            raise Problem(f"outputs: {text!r} says not to push, and push is set", "decide for one")


def _check_ulimit(text: str) -> None:
    match = _ULIMIT.fullmatch(text)
    if not match:
        raise Problem(f"ulimit: {text!r} is not a limit", "write NAME=SOFT or NAME=SOFT:HARD, such as nofile=1024:2048")
    if match["name"] not in _ULIMITS:
        raise Problem(f"ulimit: {match['name']!r} is not a limit of Linux", suggest(match["name"], _ULIMITS))
    soft, hard = int(match["soft"]), int(match["hard"] or match["soft"])
    if hard != -1 and (soft > hard or soft == -1):
        raise Problem(f"ulimit: {text!r} is soft above hard", "the first number is at most the second")


def _check_host(host: str, addresses: str) -> None:
    if re.search(r"[\s,:=]", host):
        raise Problem(
            f"add_hosts: {host!r} is not the name of a host", "write the name alone, and its address as the value"
        )
    for address in addresses.split(","):
        try:
            if address != "host-gateway":
                ipaddress.ip_address(address[1:-1] if address[:1] + address[-1:] == "[]" else address)
        except ValueError:
            raise Problem(
                f"add_hosts: {host}: {address!r} is not an IP address", "such as 10.0.0.1, ::1 or host-gateway"
            ) from None


def check_contexts(contexts: Mapping[str, str], is_url: Any) -> None:
    """Raise a Problem for a named context of which BuildKit could make nothing."""
    for name, source in contexts.items():
        try:
            Reference.parse(name)
        except Problem as problem:
            raise Problem(f"build_contexts: {name!r} is not a name of a context", problem.hint) from None
        scheme, separator, rest = source.partition("://")
        if separator and scheme not in SCHEMES:
            raise Problem(f"build_contexts: {name}: {scheme}:// is not a kind of context", suggest(scheme, SCHEMES))
        if scheme == "docker-image" and separator:
            try:
                Reference.parse(rest)
            except Problem as problem:
                raise Problem(f"build_contexts: {name}: {problem.what}", problem.hint) from None
        path = rest.partition("@")[0] if separator else source
        path = re.sub(r":[\w.-]*\Z", "", path) if separator else path
        is_path = (not separator or scheme == "oci-layout") and not is_url(source) and not source.startswith("target:")
        if is_path and not os.path.isdir(path):
            hint = "give a directory's absolute path, docker-image://…, oci-layout://…, target:… or a URL"
            raise Problem(f"build_contexts: {name} is {source}, which is not there on this host", hint)
        if is_path and not os.path.isabs(path):
            raise Problem(f"build_contexts: {name}: {source!r} is not an absolute path", "begin it with /")


def check_variable(name: str, where: str) -> None:
    """Raise a Problem for what is no name of an environment's variable."""
    if not _VARIABLE.fullmatch(name):
        raise Problem(f"{where}: {name!r} is not the name of a variable", "use letters, digits and _, no digit first")


def twice(names: Iterable[str]) -> str:
    """Return the first name that is there twice, "" for none."""
    listed = list(names)
    return next((name for number, name in enumerate(listed) if name in listed[:number]), "")
