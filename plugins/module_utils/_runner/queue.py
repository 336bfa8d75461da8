# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A runner as its server sees it: whether the server takes its secret, which builds it has, and which a dead one left.

The queue (`GET /api/queue`) is the one place that says which machine has a stage; it names neither repository nor number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._drone.server import Lost, Server, Tls, Wire
from .._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._drone.client import Drone

# The clocks of server and host may differ; a stage that was only accepted carries the server's time.
SKEW_SECONDS = 600


@dataclass(frozen=True)
class Build:
    """A build with a stage on a runner."""

    owner: str
    name: str
    number: int
    began: float

    def __str__(self) -> str:
        return f"{self.owner}/{self.name} #{self.number}"


def ping(url: str, secret: str, *, validate_certs: bool, ca_path: str | None, timeout: float) -> str:
    """Ask the server what the runner asks it first; return "" where it takes the secret, or else why not."""
    headers = {"X-Drone-Token": secret, "User-Agent": "multiarch.drone"}
    wire = Wire(Server.parse(url), headers, timeout=timeout, tls=Tls(validate=validate_certs, ca_path=ca_path))
    try:
        answer = wire.exchange("POST", "/rpc/v2/ping")
    except Lost as lost:
        return f"{wire.way}: {lost.why}"
    except Problem as problem:
        return str(problem)
    if answer.status == 200 and not answer.body.strip():
        return ""
    if answer.status in (401, 403):
        return f"{wire.way} does not take rpc_secret ({answer.status})"
    return f"{wire.way} answered /rpc/v2/ping with {answer.status}, as no Drone server does"


def builds_of(drone: Drone, machine: str) -> list[Build]:
    """Return the builds that the server believes to be on a runner."""
    stages = [stage for stage in drone.get("queue") if stage.get("machine") == machine]
    if not stages:
        return []
    wanted = {stage["build_id"]: stage for stage in stages}
    names = _names(drone, wanted)
    missing = [str(id) for id in wanted if id not in names]
    if missing:
        raise Problem(f"{drone.url} has builds on {machine} that it does not name: {', '.join(missing)}", "run again")
    return [Build(*names[id], _began(stage)) for id, stage in wanted.items()]


def lost(drone: Drone, machine: str, since: float) -> list[Build]:
    """Return the builds that the server believes to run on a runner, though that one is gone.

    `since` is when the runner that runs now was started, 0 where none runs: what began before cannot be its own.
    """
    # Drone keeps whole seconds: a build may have begun nearly a second later than it says.
    return [build for build in builds_of(drone, machine) if not since or build.began + 1 < since]


def cancel(drone: Drone, builds: Iterable[Build]) -> None:
    """Cancel builds: what runs is killed, what has ended meanwhile stays as it is."""
    from .._drone.client import route, safe_to_repeat

    done: list[str] = []
    for build in builds:
        try:
            drone.delete(route("repos", build.owner, build.name, "builds", str(build.number)), look=safe_to_repeat)
        except Problem as problem:
            already = f"cancelled before it: {', '.join(done)}" if done else ""
            raise Problem(f"{build}: {problem}", already, **problem.facts) from problem
        done.append(str(build))


def _began(stage: Any) -> float:
    # `started` is the host's own time; until a stage has started, there is only the server's.
    return float(stage.get("started") or (stage.get("updated") or 0) + SKEW_SECONDS)


def _names(drone: Drone, stages: dict[Any, Any]) -> dict[Any, tuple[str, str, int]]:
    """Return the owner, name and number of each build by its id."""
    from .._drone.client import repo_route

    found = {}
    for row in drone.get("builds/incomplete"):  # the newest fifty alone
        build = row["build"]
        if build["id"] in stages:
            found[build["id"]] = (row["namespace"], row["name"], build["number"])
    ids = {stage["repo_id"] for id, stage in stages.items() if id not in found}
    for repo in drone.repos() if ids else ():
        if repo["id"] in ids:
            owner, _slash, name = repo["slug"].partition("/")
            for build in drone.get(repo_route(repo["slug"], "builds"), per_page=100):
                if build["id"] in stages:
                    found[build["id"]] = (owner, name, build["number"])
    return found
