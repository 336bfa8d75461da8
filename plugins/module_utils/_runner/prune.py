# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What interrupted builds of Drone leave on a host, and nothing else: found, told from what still runs, and removed.

The module drone_runner writes this very file onto runner hosts, where a systemd timer runs it: so it stands alone.

What a build is made of (step containers, a network, a volume) carries the label io.drone, when it was made, and when it is
over at the latest. It is left over for certain where the runner that made it is gone: where no runner runs, or where the
one that runs has started later. So nothing of a build that may still run is ever taken, though the runner goes on to take
builds meanwhile: what there is is listed first, and whose it is is asked afterwards.

A step that runs buildx on the host's own Docker leaves a BuildKit container without any label. Of those only what no
builder of this host knows is taken, and only when no build runs.

Images that the runner was made of before its present one go as well, when that one has proved itself.
"""

from __future__ import annotations

import argparse
import calendar
import glob
import http.client
import json
import os
import re
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any, Iterable, Mapping
from urllib.parse import quote

SOCKET = "/var/run/docker.sock"
BUILDER = "buildx_buildkit_"
IMAGE_NAMES = ("RepoTags", "RepoDigests")


@dataclass(frozen=True)
class Thing:
    """Something of Drone's on a host."""

    kind: str  # "container", "volume", "network" or "image", as the engine's API names them
    id: str
    name: str
    created: float
    expires: float = 0.0  # when its build is over at the latest; 0: it does not say
    size: int = 0
    build: str = ""  # "octocat/app1 #7"
    running: bool = False

    def __str__(self) -> str:
        whose = f" of {self.build}" if self.build else ""
        return f"{self.kind} {self.name}{whose}" + (f", {self.size / 1e6:.0f} MB" if self.size else "")


@dataclass(frozen=True)
class Found:
    """What of Drone's a host has: what is left over, and what may belong to a build that runs."""

    left: tuple[Thing, ...]
    live: tuple[Thing, ...]

    @property
    def builds(self) -> list[str]:
        """The builds that may run."""
        return sorted({thing.build for thing in self.live if thing.build})


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """The Docker engine behind a socket."""

    def __init__(self, path: str = SOCKET, timeout: float = 120) -> None:
        self._path = path
        self._timeout = timeout

    def get(self, url: str) -> Any:
        """Return what the engine has at a URL; None where it has nothing."""
        return self._ask("GET", url)

    def delete(self, url: str) -> None:
        """Delete what is at a URL; what is gone already is as wished."""
        self._ask("DELETE", url)

    def _ask(self, method: str, url: str) -> Any:
        connection = _Connection(self._path, self._timeout)
        try:
            connection.request(method, url)
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"Docker broke off its answer to {method} {url}: {error}") from error
        finally:
            connection.close()
        if answer.status == 404:
            return None
        value = json.loads(body) if body else None
        if answer.status >= 300:
            said = value.get("message", "") if isinstance(value, dict) else ""
            raise OSError(f"Docker answered {method} {url.partition('?')[0]} with {answer.status}: {said}")
        return value


def find(engine: Engine, container: str, *, builders: bool = True, sizes: bool = False) -> Found:
    """Return what of Drone's an engine has, of the runner in `container` and of those before it."""
    # First what there is, then whose it is: the other way round, a build that starts in between would look left over.
    listed = engine.get(f"/containers/json?all=1{'&size=1' if sizes else ''}") or []
    networks = engine.get(f"/networks?filters={_label()}") or []
    volumes = (engine.get(f"/volumes?filters={_label()}") or {}).get("Volumes") or []
    usage = _usage(engine) if sizes else {}
    began = started(engine, container)
    stranger = any(is_runner(row) and f"/{container}" not in row["Names"] for row in listed)
    things = [_container(row, usage) for row in listed if "io.drone" in (row.get("Labels") or {})]
    things += [_thing("volume", row, "Name", row["CreatedAt"], usage.get(row["Name"], 0)) for row in volumes]
    things += [_thing("network", row, "Id", row["Created"], 0) for row in networks]
    now = time.time()
    left = [thing for thing in things if _is_over(thing, began, now, stranger)]
    live = [thing for thing in things if thing not in left]
    if builders and not stranger:
        known = known_builders()
        foreign = [row for row in listed if _builder(row) and _builder(row) not in known]
        left += [_container(row, usage) for row in foreign if not live or _before(_created(row), began)]
    return Found(tuple(left), tuple(live))


def started(engine: Engine, container: str) -> float:
    """Return since when the runner runs; 0 where it does not."""
    return _began(engine.get(f"/containers/{quote(container)}/json") or {})


def pick(left: Iterable[Thing], now: float, age: float, size: int) -> list[Thing]:
    """Return what goes: builds older than `age`, and of the rest the oldest, until it all takes no more than `size`."""
    # As a whole: Docker refuses a volume or a network that a container holds, and a build makes its containers later.
    builds: dict[str, list[Thing]] = {}
    for thing in left:
        builds.setdefault(thing.build or thing.id, []).append(thing)
    oldest_first = sorted(builds.values(), key=_youngest)
    total = sum(thing.size for things in oldest_first for thing in things)
    chosen = []
    for things in oldest_first:
        if now - _youngest(things) >= age or (size and total > size):
            chosen += things
            total -= sum(thing.size for thing in things)
    return chosen


def superseded(engine: Engine, container: str, image: str, age: float) -> list[Thing]:
    """Return the images that the runner was made of before `image`, once it has run of that for `age` seconds."""
    declared = engine.get(f"/images/{quote(image)}/json")
    runner = engine.get(f"/containers/{quote(container)}/json")
    # While the old runner drains, and until the new one has proved itself, both images may be needed.
    if not declared or not runner or runner["Image"] != declared["Id"]:
        return []
    began = _began(runner)
    if not began or time.time() - began < age:
        return []
    rows = engine.get("/images/json") or []
    used = {row["ImageID"] for row in engine.get("/containers/json?all=1") or []}
    built = int(seconds(declared.get("Created") or ""))  # in a list, Docker tells no fractions
    gone = []
    for row in rows:
        tags, digests = ([name for name in row.get(key) or () if "<none>" not in name] for key in IMAGE_NAMES)
        # What was built later was pulled for an upgrade to come, and what has another name as well, somebody keeps.
        same = {_repository(name) for name in tags + digests} == {_repository(image)}
        if same and _created(row) < built and row["Id"] not in used:
            # By its names and not by its id: Docker then keeps what another image or a container needs, unasked.
            gone += [Thing("image", name, name, _created(row)) for name in tags or digests]
    return gone


def remove(engine: Engine, things: Iterable[Thing]) -> list[str]:
    """Remove things, containers first, which hold the others; return what could not be removed, and why."""
    order = ("container", "volume", "network", "image")
    failed = []
    for thing in sorted(things, key=lambda thing: order.index(thing.kind)):
        try:
            # With v=1 go the anonymous volumes, in which plugins keep gigabytes.
            query = "?force=1&v=1" if thing.kind == "container" else ""
            engine.delete(f"/{thing.kind}s/{quote(thing.id)}{query}")
            if thing.kind == "container" and thing.name.startswith(BUILDER):
                engine.delete(f"/volumes/{quote(thing.name)}_state")
        except OSError as error:
            failed.append(f"{thing}: {error}")
    return failed


def known_builders() -> set[str]:
    """Return the containers of builders that users of this host have declared."""
    names: set[str] = set()
    for path in glob.glob("/root/.docker/buildx/instances/*") + glob.glob("/home/*/.docker/buildx/instances/*"):
        try:
            with open(path, encoding="utf-8") as file:
                nodes = json.load(file).get("Nodes") or []
            names.update(f"{BUILDER}{node.get('Name')}" for node in nodes)
        except (OSError, ValueError, AttributeError):
            continue
    return names


def main(arguments: list[str] | None = None) -> int:
    """Remove what is left over, old or too much; say what was removed."""
    parser = argparse.ArgumentParser(description="Remove what interrupted builds of Drone have left behind.")
    parser.add_argument("--container", default="drone-runner", help="the runner's container")
    parser.add_argument("--image", default="", help="the runner's image: those that it was made of before go as well")
    parser.add_argument("--age", type=float, default=86400, help="seconds after which it goes")
    parser.add_argument("--size", type=int, default=0, help="bytes that it may take before; 0 for no limit")
    parser.add_argument("--builders", action="store_true", help="BuildKit containers that steps have left as well")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    options = parser.parse_args(arguments)
    engine = Engine()
    found = find(engine, options.container, builders=options.builders, sizes=True)
    chosen = pick(found.left, time.time(), options.age, options.size)
    if options.image:
        chosen += superseded(engine, options.container, options.image, options.age)
    failed = [] if options.dry_run else remove(engine, chosen)
    for thing in chosen:
        sys.stdout.write(f"{'would remove' if options.dry_run else 'removed'} {thing}\n")
    for line in failed:
        sys.stderr.write(f"not removed: {line}\n")
    return 1 if failed else 0


def _label() -> str:
    return quote(json.dumps({"label": ["io.drone=true"]}))


def _is_over(thing: Thing, began: float, now: float, stranger: bool) -> bool:
    if thing.expires and thing.expires < now:
        return True
    # A second runner beside ours: whose a young thing is nobody can say.
    return not stranger and (not began or _before(thing.created, began))


def _began(row: Mapping[str, Any]) -> float:
    state = row.get("State") or {}
    return seconds(state.get("StartedAt", "")) if state.get("Running") else 0.0


def _youngest(things: Iterable[Thing]) -> float:
    return max(thing.created for thing in things)


def _repository(name: str) -> str:
    """Return an image's name without tag and digest, as the engine writes it: drone/drone-runner-docker."""
    path, slash, last = name.partition("@")[0].rpartition("/")
    return re.sub(r"^((index|registry-1)\.)?docker\.io/(library/)?", "", f"{path}{slash}{last.partition(':')[0]}")


def _before(created: float, began: float) -> bool:
    # Docker tells the seconds of some things without their fraction.
    return created + 1 < began


def is_runner(row: dict[str, Any]) -> bool:
    return row.get("State") == "running" and "drone-runner-docker" in str(row.get("Image"))


def _builder(row: dict[str, Any]) -> str:
    name = str((row.get("Names") or [""])[0]).lstrip("/")
    return name if name.startswith(BUILDER) else ""


def _created(row: dict[str, Any]) -> float:
    return float(row.get("Created") or 0)


def _container(row: dict[str, Any], usage: dict[str, int]) -> Thing:
    size = int(row.get("SizeRw") or 0)
    for mount in row.get("Mounts") or ():
        if mount.get("Type") == "volume" and re.fullmatch(r"[0-9a-f]{64}|.*_state", str(mount.get("Name"))):
            size += usage.get(mount["Name"], 0)
    return _thing("container", row, "Id", _created(row), size)


def _thing(kind: str, row: dict[str, Any], id: str, created: Any, size: int) -> Thing:
    labels = row.get("Labels") or {}
    slug, number = labels.get("io.drone.repo.slug"), labels.get("io.drone.build.number")
    name = row.get("Name") or str((row.get("Names") or [row[id]])[0]).lstrip("/")
    return Thing(
        kind,
        row[id],
        name,
        created if isinstance(created, float) else seconds(created),
        _number(labels.get("io.drone.expires")),
        size,
        f"{slug} #{number}" if slug else "",
        row.get("State") == "running",
    )


def _usage(engine: Engine) -> dict[str, int]:
    rows = (engine.get("/system/df?type=volume") or {}).get("Volumes") or []
    return {row["Name"]: max(0, int((row.get("UsageData") or {}).get("Size") or 0)) for row in rows}


def _number(text: Any) -> float:
    return float(text) if str(text or "").isdigit() else 0.0


def seconds(text: str) -> float:
    """Return the moment that Docker writes as 2026-11-25T01:02:03.456789Z or with +02:00, in seconds since 1970."""
    match = re.match(r"(\d+-\d+-\d+T\d+:\d+:\d+)(\.\d+)?(?:Z|([+-])(\d+):(\d+))?", text)
    if not match:
        return 0.0
    whole, fraction, sign, hours, minutes = match.groups()
    offset = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(fraction or 0) - offset


if __name__ == "__main__":
    os.umask(0o077)
    raise SystemExit(main())
