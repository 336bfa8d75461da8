# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runners say to a Drone server (/rpc/v2): ping, ask for a stage, accept it, tell how it goes, watch for its end.

Routes, answers and their codes are those of Drone's operator/manager/rpc2, tried with drone-runner-docker 1.8.4. Long polls
end with 204; a stage that another runner has accepted is a 409. Whoever shows a secret that is not the server's gets a 401,
in the middle of a build as well: then what a runner reports is lost, and its builds stay `running` (seen on Drone 2.28.1).
"""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, Mapping
from urllib.parse import parse_qs

from .access import Answer

if TYPE_CHECKING:
    from .model import Build, Stage
    from .state import State

LONGEST_POLL = 30.0
AGAIN = Answer(204)
DONE = ("success", "failure", "killed", "error", "skipped")


class Rpc:
    """The part of a server that runners speak to."""

    def __init__(self, state: State, secret: str = "", poll: float = LONGEST_POLL) -> None:
        self.state = state
        self.secret = secret
        self.poll = poll
        self.configs: dict[int, str] = {}  # each build's .drone.yml, by its id
        self.steps: dict[int, list[dict[str, Any]]] = {}  # each stage's steps, by its id
        self.logs: dict[int, list[str]] = {}  # what each step has printed, by its id
        self.pings = 0

    def answer(self, method: str, target: str, secret: str, body: bytes) -> Answer:
        """Answer a runner; the secret is all that it is asked for."""
        if not self.secret:
            return Answer(403)
        if secret != self.secret:
            return Answer(401)
        path, _unused, query = target.partition("?")
        for verb, pattern, handler in self._routes():
            match = re.fullmatch(f"/rpc/v2{pattern}", path)
            if match and verb == method:
                given = json.loads(body) if body.strip() else None
                return handler(int(match.groupdict().get("id") or 0), given, parse_qs(query))
        return Answer(404, "404 page not found\n", kind="text/plain; charset=utf-8")

    def rotate(self, secret: str) -> None:
        """Take another secret, as a server that was restarted with it: it ends the polls that are under way."""
        self.secret = secret

    def add(self, slug: str, config: str, *, arch: str = "amd64") -> Build:
        """Add a build of one stage that waits for a runner."""
        build = self.state.add_build(slug, status="pending", arch=arch)
        self.configs[build.id] = config
        return build

    def _routes(self) -> tuple[tuple[str, str, Callable[[int, Any, Mapping[str, list[str]]], Answer]], ...]:
        return (
            ("POST", "/ping", self._ping),
            ("POST", "/stage", self._request),
            ("POST", r"/stage/(?P<id>\d+)", self._accept),
            ("GET", r"/stage/(?P<id>\d+)", self._details),
            ("PUT", r"/stage/(?P<id>\d+)", self._update),
            ("PUT", r"/step/(?P<id>\d+)", self._update_step),
            ("POST", r"/build/(?P<id>\d+)/watch", self._watch),
            ("POST", r"/step/(?P<id>\d+)/logs/(?:batch|upload)", self._log),
            ("POST", r"/step/(?P<id>\d+)/card", lambda *_unused: Answer(200)),
        )

    def _ping(self, *_unused: object) -> Answer:
        self.pings += 1
        return Answer(200)

    def _request(self, _unused: int, wanted: Any, _unused2: object) -> Answer:
        """Hand out a stage that nobody has accepted; wait for one as long as a poll lasts."""
        deadline, secret = time.monotonic() + self.poll, self.secret
        while time.monotonic() < deadline and self.secret == secret:
            for build in self.state.builds:
                for stage in build.stages:
                    if (
                        stage.status == "pending"
                        and not stage.machine
                        and _fits(stage, wanted)
                        and not self.state.paused
                    ):
                        return _json(stage.json())
            time.sleep(0.05)
        return AGAIN

    def _accept(self, id: int, _unused: object, query: Mapping[str, list[str]]) -> Answer:
        with self.state.lock:
            build, stage = self._find(id)
            if stage.machine:
                return Answer(409, "Optimistic Lock Error", kind="text/plain; charset=utf-8")
            stage = replace(stage, machine=query.get("machine", [""])[0])
            self._save(build, stage)
            return _json(stage.json())

    def _details(self, id: int, *_unused: object) -> Answer:
        build, stage = self._find(id)
        repo = self.state.repos.get(build.repo_id)
        if repo is None:
            return Answer(500)
        data = base64.b64encode(self.configs.get(build.id, "").encode()).decode()
        return _json(
            {
                "build": build.json(),
                "stage": stage.json(),
                "config": {"Data": data, "Hash": None},
                "netrc": None,
                "repository": {**repo.json(self.state.version), "timeout": repo.timeout or 60, "secret": repo.secret},
                "secrets": [],
                "system": {"proto": "http", "host": "drone.test", "link": "http://drone.test", "version": "2.28.1"},
            }
        )

    def _update(self, id: int, given: Any, _unused: object) -> Answer:
        with self.state.lock:
            build, stage = self._find(id)
            known = {step["number"]: step for step in self.steps.get(id, [])}
            steps = [
                {**step, "id": known.get(step["number"], {}).get("id") or self._new_id()}
                for step in given.get("steps") or ()
            ]
            self.steps[id] = steps
            if stage.status not in DONE:  # a build that was cancelled stays so
                stage = replace(
                    stage, status=given["status"], started=given.get("started") or 0, stopped=given.get("stopped") or 0
                )
                self._save(build, stage)
            return _json({**given, **stage.json(), "steps": steps})

    def _update_step(self, id: int, given: Any, _unused: object) -> Answer:
        with self.state.lock:
            for steps in self.steps.values():
                steps[:] = [{**step, **given} if step["id"] == id else step for step in steps]
            return _json(given)

    def _watch(self, id: int, *_unused: object) -> Answer:
        deadline, secret = time.monotonic() + self.poll, self.secret
        while time.monotonic() < deadline and self.secret == secret:
            build = self.state.builds.get(id)
            if build is None or build.status in DONE:
                return Answer(200)
            time.sleep(0.05)
        return AGAIN

    def _log(self, id: int, lines: Any, _unused: object) -> Answer:
        self.logs.setdefault(id, []).extend(str(line.get("out", "")) for line in lines or ())
        return Answer(200)

    def _find(self, id: int) -> tuple[Build, Stage]:
        for build in self.state.builds:
            for stage in build.stages:
                if stage.id == id:
                    return build, stage
        raise Answer(500, "sql: no rows in result set", kind="text/plain; charset=utf-8")

    def _save(self, build: Build, stage: Stage) -> None:
        """Write a stage; its build is as far as its only stage."""
        build = replace(build, stages=tuple(stage if other.id == stage.id else other for other in build.stages))
        now = int(time.time())
        if stage.status == "running":
            build = replace(build, status="running", started=build.started or now)
        elif stage.status in DONE and build.status not in DONE:
            build = replace(build, status=stage.status, finished=now)
        self.state.builds.update(build)

    def _new_id(self) -> int:
        return next(self.state.stage_ids)


def _fits(stage: Stage, wanted: Mapping[str, Any]) -> bool:
    return (stage.arch, "linux") == (wanted.get("arch"), wanted.get("os")) and not wanted.get("labels")


def _json(value: object) -> Answer:
    return Answer(200, value)
