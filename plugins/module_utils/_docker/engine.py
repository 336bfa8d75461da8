# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The Docker engine of a host as it runs: its systemd unit, and what it says of itself over its socket.

The socket and not the CLI: one request of some milliseconds tells all, and a host whose CLI is missing can be read too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Mapping

from .._problem import Problem

SOCKET = "/run/docker.sock"
UNIT = "docker.service"
# What was answered since `asked_once` began, refusals too; nothing where each question is asked anew.
_ANSWERS: list[dict[str, tuple[Any, Problem | None]]] = []


@dataclass(frozen=True)
class Said:
    """How a program ended, and all that it printed."""

    rc: int
    text: str


@dataclass(frozen=True)
class Unit:
    """The engine's systemd unit: whether there is one, whether it runs, and whether it starts at boot."""

    installed: bool = False
    active: bool = False
    enabled: bool = False
    pid: int = 0
    flags: tuple[str, ...] = ()  # with which it starts the next time; () where that is not known
    moving: bool = False  # it starts, stops or reloads just now


@dataclass(frozen=True)
class Engine:
    """A running engine, as `GET /info` tells it."""

    version: str
    containers: int
    running: int
    images: int
    data_root: str
    containerd_store: bool
    info: Mapping[str, Any] = field(repr=False, compare=False)


@contextlib.contextmanager
def asked_once() -> Iterator[None]:
    """Ask systemd and the engine each question once: for a look at several layers, which changes nothing between two of them."""
    _ANSWERS.append({})
    try:
        yield
    finally:
        _ANSWERS.pop()


def _once(question: str, ask: Callable[[], Any]) -> Any:
    """Return the answer to a question, from memory where it was asked already; an engine that hangs does so once."""
    if not _ANSWERS:
        return ask()
    known = _ANSWERS[-1]
    if question not in known:
        try:
            known[question] = ask(), None
        except Problem as problem:
            known[question] = None, problem
    answer, refusal = known[question]
    if refusal is not None:
        raise refusal
    return answer


def unit() -> Unit:
    """Return what systemd knows of the engine; a host without systemd or engine has none installed."""
    found: Unit = _once(UNIT, unit_now)
    return found


def unit_now() -> Unit:
    """Return what systemd knows of the engine at this moment, whatever it said before."""
    properties = "LoadState,ActiveState,UnitFileState,MainPID,ExecStart,Environment,EnvironmentFiles"
    shown = call("systemctl", "show", UNIT, f"--property={properties}")
    said = dict(line.split("=", 1) for line in shown.text.splitlines() if "=" in line)
    return Unit(
        installed=said.get("LoadState") == "loaded",
        active=said.get("ActiveState") in ("active", "reloading"),
        enabled=said.get("UnitFileState") in ("enabled", "enabled-runtime"),
        pid=int(said.get("MainPID") or 0),
        flags=tuple(_flags(said)),
        moving=said.get("ActiveState") in ("activating", "deactivating", "reloading"),
    )


def _flags(said: Mapping[str, str]) -> Iterator[str]:
    """Yield the arguments of a unit's ExecStart, its variables replaced as systemd does (systemd.service(5))."""
    match = re.search(r"argv\[\]=\S+ ?(.*?) ; ignore_errors", said.get("ExecStart", ""))
    words = match.group(1).split() if match else []
    if not any("$" in word for word in words):
        yield from words
        return
    values = dict(word.partition("=")[::2] for word in shlex.split(said.get("Environment", "")))
    path = said.get("EnvironmentFiles", "").partition(" (")[0]
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            values.update(dict(re.findall(r"""(?m)^\s*(\w+)=["']?(.*?)["']?\s*$""", file.read())))
    except OSError:
        pass
    for word in words:
        alone = re.fullmatch(r"\$(\w+)", word)  # this becomes several words, ${NAME} one
        if alone:
            yield from values.get(alone.group(1), "").split()
        else:
            yield re.sub(r"\$\{(\w+)\}", lambda found: values.get(found.group(1), ""), word)


def read(state: Unit, *, path: str = SOCKET, timeout: float = 20) -> Engine | None:
    """Return the running engine, or None where its unit does not run.

    The socket of a stopped engine is never asked: it belongs to systemd, which would start the engine for the question.
    """
    return engine_of(get("/info", path=path, timeout=timeout)) if state.active else None


def engine_of(info: Mapping[str, Any]) -> Engine:
    """Return the engine that an answer to `GET /info` describes."""
    # With the containerd image store the "storage driver" is a snapshotter, and says so here.
    status = dict(pair[:2] for pair in info.get("DriverStatus") or () if len(pair) >= 2)
    return Engine(
        version=str(info.get("ServerVersion", "")),
        containers=int(info.get("Containers", 0)),
        running=int(info.get("ContainersRunning", 0)),
        images=int(info.get("Images", 0)),
        data_root=str(info.get("DockerRootDir", "")),
        containerd_store=str(status.get("driver-type", "")).startswith("io.containerd.snapshotter"),
        info=info,
    )


def image_names() -> tuple[str, ...]:
    """Return the names of the images that the engine holds."""
    rows = _ask("/images/json", list)
    names = {str(tag) for row in rows if isinstance(row, dict) for tag in row.get("RepoTags") or ()}
    return tuple(sorted(names - {"<none>:<none>"}))


def get(url: str, *, path: str = SOCKET, timeout: float = 20) -> dict[str, Any]:
    """Return the engine's answer to a GET request, a JSON object."""
    value: dict[str, Any] = _once(
        f"{url} at {os.path.realpath(path)}", lambda: _ask(url, dict, path=path, timeout=timeout)
    )
    return value


def _ask(url: str, kind: type, *, path: str = SOCKET, timeout: float = 20) -> Any:
    """Return the engine's JSON answer to a GET request, of a type that it must have."""
    answer = b"".join(stream(url, path=path, timeout=timeout))
    head = answer.partition(b"\r\n\r\n")[0]
    status = head.partition(b"\r\n")[0].decode("utf-8", "replace")
    try:
        value = json.loads(answer[len(head) :].decode())
    except ValueError as error:
        raise Problem(f"the Docker engine at {path} answered {url} with {status!r} and no JSON: {error}") from error
    if " 200 " not in status or not isinstance(value, kind):
        raise Problem(f"the Docker engine at {path} answered {url} with {status!r}: {value}")
    return value


def stream(url: str, *, path: str = SOCKET, timeout: float = 20) -> Iterator[bytes]:
    """Yield the engine's answer to a GET request as it comes, head and all; whoever has seen enough may leave."""
    # HTTP/1.0: the engine then sends no chunks and closes, so that the answer is what can be read to the end.
    request = f"GET {url} HTTP/1.0\r\nHost: docker\r\n\r\n".encode()
    deadline = time.monotonic() + timeout
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout)
            client.connect(path)
            client.sendall(request)
            while True:
                client.settimeout(max(0.1, deadline - time.monotonic()))
                data = client.recv(1 << 16)
                if not data:
                    return
                yield data
    except PermissionError as error:
        raise Problem(f"no permission to ask the Docker engine at {path}", "run the task as root (become)") from error
    except socket.timeout as error:
        raise Problem(
            f"the Docker engine at {path} does not answer within {timeout:g} s", "look at: journalctl -u docker"
        ) from error
    except OSError as error:
        raise Problem(
            f"the Docker engine cannot be asked at {path}: {error.strerror}", "look at: systemctl status docker"
        ) from error


def restart(*, timeout: float = 180) -> None:
    """Restart the engine and wait until it answers; raise a Problem with the engine's own words where it does not."""
    # Attempts that failed before count against systemd's start limit, and would forbid this one.
    call("systemctl", "reset-failed", UNIT)
    _systemctl("restart", timeout=timeout + patience())
    read(unit())


def patience() -> float:
    """Return for how many seconds what requires the engine may take to stop: systemd stops it first, and a CI runner drains."""
    shown = call("systemctl", "show", UNIT, "--property=RequiredBy", "--value").text
    units = [unit for unit in shown.split() if unit.endswith(".service")]
    if not units:
        return 0.0
    limits = call("systemctl", "show", *units, "--property=TimeoutStopUSec", "--value").text.split("\n")
    return max(map(_seconds, limits), default=0.0)


def reload(state: Unit) -> None:
    """Have the running engine read daemon.json again."""
    # `systemctl reload docker` calls /bin/kill, which minimal hosts lack.
    os.kill(state.pid, 1)  # SIGHUP


def version_tuple(version: str) -> tuple[int, ...]:
    """Return (26, 1) for "26.1.5+dfsg1": what versions are compared by; () where it is unknown."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match.group(1)), int(match.group(2))) if match else ()


def installed_version() -> str:
    """Return the version of the engine on disk ("20.10.24+dfsg1"), or "" where there is none."""
    match = re.search(r"version ([^,\s]+)", call("dockerd", "--version").text)
    return match.group(1) if match else ""


def call(*argv: str, timeout: float = 30) -> Said:
    """Run a program and return what it said; one that is missing or takes too long has said so."""
    try:
        # run_command needs the module, knows no time limit, and would be carried through every function here.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return Said(124, f"{argv[0]} did not end within {timeout:g} s")
    except OSError as error:
        return Said(127, f"{argv[0]}: {error.strerror}")
    return Said(done.returncode, done.stdout.decode("utf-8", "replace").strip())


def must(*argv: str, timeout: float = 150) -> None:
    """Run a program that has to succeed; raise a Problem with what it said where it does not."""
    said = call(*argv, timeout=timeout)
    if said.rc:
        raise Problem(f"{' '.join(argv)} failed: {said.text}")


def journal_words(unit: str, reason: str, since: str = "") -> str:
    """Return the last line of a unit's journal that begins with `reason`, or ""."""
    from .cli import last_words  # only an error needs it

    moment = ["--since", since] if since else []
    log = call("journalctl", "--unit", unit, *moment, "--lines=80", "--output=cat", "--no-pager").text
    return last_words("\n".join(line for line in log.splitlines() if re.match(reason, line)), reason)


def _seconds(text: str) -> float:
    """Return the seconds that systemd writes as "2h 30s" or "1min 30s"; what has no limit gets a day."""
    if text.strip() == "infinity":
        return 86400.0
    units = {"w": 604800, "d": 86400, "h": 3600, "min": 60, "s": 1, "ms": 0.001, "us": 0.000001}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(min|ms|us|w|d|h|s)", text))


def _systemctl(verb: str, *, timeout: float = 60) -> None:
    said = call("systemctl", verb, UNIT, timeout=timeout)
    if said.rc:
        reason = journal_words(UNIT, r"(failed to |unable to |Error |invalid )") or said.text
        raise Problem(f"systemctl {verb} {UNIT} failed: {reason}", "look at: journalctl -u docker")
