# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host's Drone runner as it is: its files, its service, its container; and how it is changed without losing a build.

Everything that can be known beforehand is found out while the old runner still works: whether the server takes the secret,
and whether the new image starts with the new settings (a rehearsal without network and Docker, which takes no build). Only
then the old one is drained. One SIGTERM does that: it takes no more builds, and leaves with 1 when its own have ended. It
is never sent twice, since the second one would kill it (the runner's package drone/signal listens for one alone).
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping

from . import _drone_leftovers, _drone_runner, _engine
from ._change import Plan, Step
from ._drone_runner import CONFIG, CONTAINER, ENVIRONMENT, LABEL, PROGRAMS, PRUNER, TIMER, UNIT, Runner, Tools
from ._engine import call, must
from ._files import File, names, put, read_file
from ._problem import Problem

if TYPE_CHECKING:
    from ._drone import Drone
    from ._drone_runner_queue import Build

PINGED = "successfully pinged the remote server"
FIRST_WORDS = "starting the server"
# What a runner without Docker says each second: it has read its settings, and they are good.
REHEARSED = "cannot ping the docker daemon"
REHEARSAL_SECONDS = 15
REHEARSAL = f"{CONTAINER}-rehearsal"
# Builds that were cancelled get this long to end.
CANCEL_SECONDS = 120


@dataclass(frozen=True)
class Service:
    """What systemd says of a unit."""

    state: str = "inactive"  # active, activating, deactivating (it drains), inactive or failed
    enabled: bool = False

    @property
    def active(self) -> bool:
        """Whether it takes builds, or will in a moment."""
        return self.state in ("active", "activating", "reloading")


@dataclass(frozen=True)
class Container:
    """The runner's container."""

    running: bool
    mark: str  # what it was started with; "" where we did not start it
    image: str
    started: float


@dataclass(frozen=True)
class World:
    """A host's runner as it was found."""

    files: Mapping[str, File] = field(default_factory=dict)
    service: Service = field(default_factory=Service)
    timer: Service = field(default_factory=Service)
    docker: bool = False  # whether the engine runs
    container: Container | None = None
    image: str = ""  # the id of the declared image, "" where the host has not got it
    pinged: bool = False
    builds: tuple[str, ...] = ()  # what may run here, by the labels of what it consists of
    strangers: tuple[str, ...] = ()  # other containers that run a runner
    lost: tuple[Build, ...] = ()


@dataclass(frozen=True)
class Policy:
    """How a runner is drained, and what happens when its builds take longer."""

    timeout: float
    then: str  # fail, cancel, kill
    drone: Drone | None
    name: str


def tools(mounted: Iterable[str]) -> Tools:
    """Return what of this host goes into the runner's files."""
    texts = {path: file.text for path in mounted for file in [read_file(path)] if file}
    lacks = [path for path in mounted if path not in texts]
    if lacks:
        raise Problem(f"{lacks[0]} cannot be read on this host", "put it there first, or name another file")
    source = sys.modules[_drone_leftovers.__name__].__loader__.get_source(_drone_leftovers.__name__)  # type: ignore[union-attr]
    # Not the very one that runs this: it may be in an environment of somebody's, or gone with the next release.
    python = next(
        (path for path in ("/usr/bin/python3", sys.executable) if path and os.path.exists(path)), "/usr/bin/python3"
    )
    return Tools(shutil.which("docker") or "/usr/bin/docker", python, source or "", texts)


def read(image: str, drone: Drone | None = None, name: str = "") -> World:
    """Return the runner of this host as it is now; with the server's client, also which builds a dead one has left."""
    files = {path: file for path in _drone_runner.paths() for file in [read_file(path)] if file}
    service, timer = _services(UNIT, TIMER)
    if not _engine.unit().active:
        return World(files, service, timer)
    engine = _drone_leftovers.Engine()
    row = engine.get(f"/containers/{CONTAINER}/json")
    container = _container(row) if row else None
    have = (engine.get(f"/images/{image}/json") or {}).get("Id", "") if image else ""
    found = _drone_leftovers.find(engine, CONTAINER, builders=False)
    lost: tuple[Build, ...] = ()
    began = container.started if container and container.running else 0.0
    if drone:
        from . import _drone_runner_queue

        lost = tuple(_drone_runner_queue.lost(drone, name, began))
    return World(
        files,
        service,
        timer,
        True,
        container,
        have,
        bool(began) and has_pinged(),
        tuple(found.builds),
        _strangers(engine),
        lost,
    )


def plan(runner: Runner, world: World, policy: Policy, ready: float, refused: str) -> Plan:
    """Return the steps to the declared runner; `refused` says why the server would not serve it."""
    _refuse_strangers(world)
    steps: list[Step] = []
    begun: list[str] = []
    wrong = _wrong(runner, world)
    restart = _runs(runner, world) != "what is declared" or not world.pinged
    if restart and refused:
        raise Problem(refused, "nothing was changed: check drone_url, rpc_secret and the server")
    if not world.image:
        steps.append(Step(f"pull {runner.image}", lambda: _pull(runner.image), lambda: None))
    if wrong:

        def write() -> None:
            if restart:
                rehearse(runner)
            _write(runner.files, wrong)
            must("systemctl", "daemon-reload")

        steps.append(Step(f"write {names(wrong)}", write, lambda: _take_back(world, wrong, begun, ready)))
    if restart:

        def start() -> None:
            begun.append("drain")
            drain(policy)
            begun.append("start")
            begin(ready)

        what = "drain and restart" if world.service.state in ("active", "activating", "deactivating") else "start"
        steps.append(Step(f"{what} {UNIT}", start))
    for unit, state, wanted in ((UNIT, world.service, True), (TIMER, world.timer, runner.prunes)):
        now = ["--now"] if unit == TIMER else []
        if state.enabled != wanted or (unit == TIMER and state.active != wanted):
            verbs = ("enable", "disable") if wanted else ("disable", "enable")
            steps.append(Step(f"{verbs[0]} {unit}", *_both(verbs, [*now, unit])))
    if world.lost:
        steps.append(_cancel_lost(world.lost, policy))
    return Plan(shape(runner, world), _promise(runner), steps)


def shape(runner: Runner, world: World) -> dict[str, Any]:
    """Return the runner as the diff shows it: of secrets only whether they are the declared ones."""
    return {
        "image": runner.image if world.image else "not here",
        **_files_shown(runner, world.files),
        "service": {
            "active": world.service.active,
            "enabled": world.service.enabled,
            "runs": _runs(runner, world),
            "pinged its server": world.pinged,
        },
        "timer": {"active": world.timer.active, "enabled": world.timer.enabled},
        "lost builds": [str(build) for build in world.lost],
    }


def plan_absent(world: World, policy: Policy) -> Plan:
    """Return the steps after which a host has no runner; what builds have left behind stays."""
    _refuse_strangers(world)
    steps: list[Step] = []
    if world.service.state in ("active", "activating", "deactivating") or (world.container and world.container.running):
        steps.append(Step(f"drain and stop {UNIT}", lambda: drain(policy)))
    for unit, state in ((UNIT, world.service), (TIMER, world.timer)):
        if state.enabled or (unit == TIMER and state.active):
            steps.append(Step(f"disable {unit}", _both(("disable", "enable"), ["--now", unit])[0]))
    if world.files:
        steps.append(Step(f"remove {names(world.files)}", lambda: _remove(world)))
    if world.lost:
        steps.append(_cancel_lost(world.lost, policy))
    return Plan(shape_absent(world), shape_absent(World()), steps)


def shape_absent(world: World) -> dict[str, Any]:
    """Return what there is of a runner that shall not be."""
    return {
        "files": sorted(world.files),
        "service": {"active": world.service.active or _drains(world), "enabled": world.service.enabled},
        "timer": {"active": world.timer.active, "enabled": world.timer.enabled},
        "lost builds": [str(build) for build in world.lost],
    }


def plan_drained(world: World, policy: Policy) -> Plan:
    """Return the step after which the runner of a host has ended its builds and takes none, until it is started again."""
    steps = []
    if world.service.active or _drains(world):
        steps.append(Step(f"drain and stop {UNIT}", lambda: drain(policy)))
    return Plan(shape_drained(world), {"service": {"active": False}}, steps)


def shape_drained(world: World) -> dict[str, Any]:
    """Return whether the runner may have builds."""
    return {"service": {"active": world.service.active or _drains(world)}}


def told(runner: Runner, world: World, waited: Iterable[str]) -> dict[str, Any]:
    """Return what the result says of a declared runner."""
    return {
        "name": runner.name,
        "server": runner.server,
        "image": runner.image,
        "platform": runner.platform,
        "capacity": int(runner.environment["DRONE_RUNNER_CAPACITY"]),
        "privileged_images": runner.privileged_images,
        "healthy": _runs(runner, world) == "what is declared" and world.pinged and world.service.active,
        "builds": list(world.builds),
        "waited_for": list(waited),
    }


def has_pinged() -> bool:
    """Tell whether the runner has reached its server since it was started, as its own log says."""
    first = ""
    argv = ("docker", "logs", CONTAINER)
    process = subprocess.Popen(  # pylint: disable=ansible-bad-function
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )
    try:
        for raw in process.stdout or ():
            line = raw.decode("utf-8", "replace")
            first = first or line
            if PINGED in line:
                return True
    finally:
        process.kill()
        process.communicate()
    # A log whose beginning is gone tells of days of work.
    return first.startswith("time=") and not re.search(f"{FIRST_WORDS}|{REHEARSED}", first)


def rehearse(runner: Runner) -> None:
    """Start the new runner without network and Docker; raise a Problem where it does not take its settings."""
    with tempfile.TemporaryDirectory(prefix="drone-runner-") as directory:
        argv = list(runner.rehearse)
        for path in (ENVIRONMENT, _drone_runner.BUILDS):
            if path in runner.files:
                copy = os.path.join(directory, os.path.basename(path))
                put(copy, runner.files[path])
                argv = [word.replace(f"--env-file={path}", f"--env-file={copy}") for word in argv]
                argv = [word.replace(f"--volume={path}:", f"--volume={copy}:") for word in argv]
        call("docker", "rm", "--force", REHEARSAL)
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            [*argv[:2], f"--name={REHEARSAL}", *argv[2:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        try:
            lines = _listen(process, REHEARSED, REHEARSAL_SECONDS)
        finally:
            call("docker", "rm", "--force", REHEARSAL)
            process.kill()
            process.communicate()
    if lines is not None:
        raise Problem(
            f"{runner.image} does not start with these settings: {_last_words(lines) or 'it says nothing'}",
            "the runner that was there still works",
        )


def drain(policy: Policy) -> None:
    """Stop the runner when its builds have ended; raise a Problem where that takes longer than it may."""
    must("systemctl", "stop", "--no-block", UNIT)
    if _until_stopped(policy.timeout):
        if _drone_leftovers.started(_drone_leftovers.Engine(), CONTAINER):
            # One that its service has lost (Docker died): nothing has asked it to stop yet.
            call("docker", "stop", CONTAINER, timeout=policy.timeout)
        return
    builds = _drone_leftovers.find(_drone_leftovers.Engine(), CONTAINER, builders=False).builds
    names = ", ".join(builds) or "builds that it does not name"
    if policy.then == "cancel" and policy.drone:
        _cancel_builds(policy)
        if _until_stopped(CANCEL_SECONDS):
            return
        raise _still_draining(f"{names} were cancelled and do not end within {CANCEL_SECONDS} s", builds)
    if policy.then == "kill":
        kill()
        _cancel_builds(policy)  # or Drone would show them as running for days
        return
    raise _still_draining(f"after {policy.timeout:g} s the runner still has {names}", builds)


def _cancel_builds(policy: Policy) -> None:
    """Cancel what the server takes this runner to run, where there is a token for it."""
    if policy.drone:
        from . import _drone_runner_queue

        _drone_runner_queue.cancel(policy.drone, _drone_runner_queue.builds_of(policy.drone, policy.name))


def mounted_ca(world: World) -> str | None:
    """Return the host's file of certificates that the runner trusts, as its own command line says."""
    script = world.files[_drone_runner.RUN].text if _drone_runner.RUN in world.files else ""
    match = re.search(rf"--volume=(\S+):{CONFIG}/ca\.pem:ro", script)
    return match.group(1) if match else None


def kill() -> None:
    """End the runner and what its builds consist of, now."""
    call("docker", "kill", CONTAINER)
    if not _until_stopped(60):
        raise Problem(f"{UNIT} does not stop though its container was killed", f"look at: systemctl status {UNIT}")
    engine = _drone_leftovers.Engine()
    _drone_leftovers.remove(engine, _drone_leftovers.find(engine, CONTAINER, builders=False).left)


def begin(ready: float) -> None:
    """Start the service, and wait until the runner says that it has reached its server."""
    call("systemctl", "reset-failed", UNIT)
    must("systemctl", "start", UNIT)
    deadline = time.monotonic() + ready
    while not has_pinged():
        (service,) = _services(UNIT)
        if time.monotonic() > deadline or service.state in ("failed", "inactive"):
            log = call("journalctl", f"--unit={UNIT}", "--lines=60", "--output=cat", "--no-pager").text.splitlines()
            raise Problem(
                f"the runner has not reached its server within {ready:g} s: {_last_words(log) or 'it says nothing'}",
                f"look at: journalctl -u {UNIT}",
            )
        time.sleep(0.3)


def addresses(hosts: Iterable[str]) -> dict[str, list[str]]:
    """Return the addresses of hosts, as far as this host knows them."""
    found: dict[str, list[str]] = {}
    for host in hosts:
        try:
            rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found[host] = sorted({str(row[4][0]).partition("%")[0] for row in rows})
        except (OSError, UnicodeError):
            found[host] = []
    return found


def networks() -> dict[str, str]:
    """Return the ranges that this host reaches directly, or that Docker has given away, by what they are."""
    found = {}
    try:
        with open("/proc/net/route", encoding="ascii") as file:
            rows = [line.split() for line in file.readlines()[1:]]
    except OSError:
        rows = []
    for row in rows:
        base, mask = (socket.inet_ntoa(bytes.fromhex(row[column])[::-1]) for column in (1, 7))
        if mask != "0.0.0.0":
            found[f"which this host reaches through {row[0]} ({base})"] = f"{base}/{mask}"
    return found


def pools_and_registries() -> tuple[dict[str, str], list[str]]:
    """Return from which ranges Docker gives builds their networks, and which registries it was told of."""
    if not _engine.unit().active:
        return {f"from which Docker gives builds their networks ({pool})": pool for pool in _drone_runner.POOLS}, []
    info = _drone_leftovers.Engine().get("/info") or {}
    given = [row.get("Base", "") for row in info.get("DefaultAddressPools") or ()] or list(_drone_runner.POOLS)
    pools = {f"from which Docker gives builds their networks ({pool})": pool for pool in given if pool}
    config = info.get("RegistryConfig") or {}
    names = [*(config.get("IndexConfigs") or {}), *(config.get("Mirrors") or ())]
    return pools, [re.sub(r"^\w+://|/.*$", "", name) for name in names if name != "docker.io"]


def _container(row: Mapping[str, Any]) -> Container:
    state = row.get("State") or {}
    labels = (row.get("Config") or {}).get("Labels") or {}
    return Container(
        bool(state.get("Running")),
        labels.get(LABEL, ""),
        row.get("Image", ""),
        _drone_leftovers.seconds(state.get("StartedAt", "")),
    )


def _services(*units: str) -> list[Service]:
    shown = call("systemctl", "show", *units, "--property=ActiveState,UnitFileState").text
    found = []
    for block in re.split(r"\n\s*\n", shown):
        said = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found.append(Service(said.get("ActiveState", "inactive"), said.get("UnitFileState") == "enabled"))
    return [*found, *[Service()] * len(units)][: len(units)]


def _strangers(engine: _drone_leftovers.Engine) -> tuple[str, ...]:
    rows = engine.get("/containers/json") or []
    names = [row["Names"][0].lstrip("/") for row in rows if _drone_leftovers.is_runner(row) and row.get("Names")]
    return tuple(name for name in names if name not in (CONTAINER, REHEARSAL))


def _refuse_strangers(world: World) -> None:
    if world.container and not world.container.mark:
        raise Problem(
            f"a container {CONTAINER} is there already, which this module has not made",
            f"drain and remove it: docker stop -t 3600 {CONTAINER}; docker rm {CONTAINER}",
        )


def _drains(world: World) -> bool:
    return world.service.state == "deactivating" or bool(world.container and world.container.running)


def _wrong(runner: Runner, world: World) -> list[str]:
    wrong = [path for path, file in runner.files.items() if world.files.get(path) != file]
    return [*wrong, *(path for path in world.files if path not in runner.files)]


def _runs(runner: Runner, world: World) -> str:
    container = world.container
    if not (container and container.running) or not world.service.active:
        return "nothing"
    # A tag may have moved since.
    same = container.mark == runner.mark and (not world.image or container.image == world.image)
    return "what is declared" if same else "something else"


def _promise(runner: Runner) -> dict[str, Any]:
    return {
        "image": runner.image,
        **_files_shown(runner, runner.files),
        "service": {"active": True, "enabled": True, "runs": "what is declared", "pinged its server": True},
        "timer": {"active": runner.prunes, "enabled": runner.prunes},
        "lost builds": [],
    }


def _files_shown(runner: Runner, files: Mapping[str, File]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for path, file in files.items():
        text: Any = file.text.splitlines()
        if path in (ENVIRONMENT, _drone_runner.BUILDS):
            wanted = _drone_runner.variables(runner.files[path].text if path in runner.files else "")
            pairs = _drone_runner.variables(file.text).items()
            text = {key: _drone_runner.shown(key, value, wanted.get(key)) for key, value in pairs}
        elif path == PRUNER:
            text = "as declared" if path in runner.files and file.text == runner.files[path].text else "another"
        shown[path] = {"content": text, "mode": f"{file.mode:04o}", "owner": file.owner}
    return shown


def _write(files: Mapping[str, File], which: Iterable[str]) -> None:
    # The secrets' directory is nobody else's business either.
    os.makedirs(CONFIG, 0o700, exist_ok=True)
    os.makedirs(PROGRAMS, 0o755, exist_ok=True)
    for path in which:
        put(path, files.get(path))


def _take_back(world: World, wrong: Iterable[str], begun: list[str], ready: float) -> None:
    """Put the old files back, and the old runner to work where it worked before."""
    had = world.service.active
    if "start" in begun and not had:
        call("systemctl", "stop", "--no-block", UNIT)
        _until_stopped(ready)
    _write(world.files, wrong)
    must("systemctl", "daemon-reload")
    if not begun or not had:
        return
    (now,) = _services(UNIT)
    if "start" not in begun:
        # It still drains: systemd starts it again, with its old settings, when its builds have ended.
        must("systemctl", "restart", "--no-block", UNIT)
        return
    if now.state != "inactive":
        must("systemctl", "stop", "--no-block", UNIT)
        _until_stopped(ready)
    begin(ready)


def _remove(world: World) -> None:
    for path in world.files:
        put(path, None)
    for directory in (CONFIG, PROGRAMS):
        shutil.rmtree(directory, ignore_errors=True)
    must("systemctl", "daemon-reload")
    call("systemctl", "reset-failed", UNIT)


def _cancel_lost(lost: Iterable[Build], policy: Policy) -> Step:
    def cancel() -> None:
        from . import _drone_runner_queue

        if policy.drone:
            _drone_runner_queue.cancel(policy.drone, lost)

    return Step(f"cancel {', '.join(map(str, lost))}, which a dead runner has left running", cancel)


def _pull(image: str) -> None:
    from ._docker import Docker

    Docker().run("pull", "--quiet", image, timeout=900)


def _still_draining(what: str, builds: Iterable[str]) -> Problem:
    return Problem(
        what,
        "no build was lost: it takes no new ones, ends these, and then starts again as it was; or raise drain_timeout",
        draining=list(builds),
    )


def _until_stopped(seconds: float) -> bool:
    """Wait until the service has stopped; tell whether it has."""
    deadline = time.monotonic() + seconds
    while True:
        (service,) = _services(UNIT)
        if service.state in ("inactive", "failed"):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)


def _listen(process: subprocess.Popen[bytes], word: str, seconds: float) -> list[str] | None:
    """Read what a process says until it says a word, or time is up: None. Where it ends before, what it said."""
    import select

    if process.stdout is None:
        return []
    deadline = time.monotonic() + seconds
    said = b""
    while time.monotonic() < deadline:
        ready, _unused, _unused2 = select.select([process.stdout], [], [], 0.2)
        data = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
        said += data
        if word.encode() in said:
            return None
        if ready and not data:
            return said.decode("utf-8", "replace").splitlines()
    return None


def _last_words(lines: Iterable[str]) -> str:
    """Return the line in which a runner says why: what it calls an error, or else its last."""
    texts = [line.strip() for line in lines if line.strip() and not line.startswith(("See 'docker", "Run 'docker"))]
    errors = [line for line in texts if re.search(r"level=(error|fatal)|\berror\b", line)]
    line = (errors or texts or [""])[-1]
    match = re.search(r'error="?(.*?)"?$', line) if "level=" in line else None
    return f"{re.sub(r'.*msg=', '', line)}" if match else line


def _both(verbs: tuple[str, str], words: list[str]) -> tuple[Callable[[], None], Callable[[], None]]:
    return lambda: must("systemctl", verbs[0], *words), lambda: must("systemctl", verbs[1], *words)
