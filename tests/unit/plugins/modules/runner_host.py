# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A runner host in memory: its files, systemd, Docker and a clock. Each change is written down, and can be made to fail."""

from __future__ import annotations

import copy
import errno
import itertools
import os
import re
import time
import types

from ansible_collections.multiarch.drone.plugins.module_utils._docker import cli, engine
from ansible_collections.multiarch.drone.plugins.module_utils._runner import prune, steps, wish, world
from ansible_collections.multiarch.drone.plugins.module_utils._runner.wish import (
    CONTAINER,
    ENVIRONMENT,
    RUN,
    TIMER,
    UNIT,
)

IMAGE = "drone/drone-runner-docker:1.8.4"


class Host:
    """What the modules of the runner see of a host, and what becomes of it."""

    def __init__(self, server):
        self.server = server
        self.files = {}
        self.active = {UNIT: "inactive", TIMER: "inactive", engine.UNIT: "active"}
        self.enabled = {UNIT: False, TIMER: False, engine.UNIT: True}
        self.images = {IMAGE: "sha256:184"}
        self.container = None
        self.builds = {}  # what runs: its number => when it ends
        self.then_start = False
        self.now = time.time() - 100_000
        self.calls = []
        self.breaks = 0  # the number of the call that fails
        self.rehearsal = None  # what a runner says that does not start

    # What a test looks at.
    @property
    def state(self):
        """What of a host a failed change must leave as it was."""
        self.settle()
        mark = self.container and self.container["mark"]
        return {
            "files": dict(self.files),
            "active": {unit: self.active[unit] for unit in (UNIT, TIMER)},
            "enabled": dict(self.enabled),
            "mark": mark,
        }

    def save(self):
        return copy.deepcopy((self.files, self.active, self.enabled, self.images, self.container))

    def restore(self, saved):
        files, self.active, self.enabled, self.images, self.container = copy.deepcopy(saved)
        self.files.clear()
        self.files.update(files)
        self.then_start = False

    def forget(self):
        self.calls.clear()
        self.breaks = 0

    # What the modules do.
    def change(self, *words):
        self.calls.append(" ".join(words))
        if len(self.calls) == self.breaks:
            raise OSError(errno.EIO, "broken", words[-1])

    def settle(self):
        """Let happen what the clock says."""
        self.builds = {number: end for number, end in self.builds.items() if end > self.now}
        if self.active[UNIT] == "deactivating" and not self.builds:
            self.active[UNIT], self.container = "inactive", None
            if self.then_start:
                self.start()

    def start(self):
        self.then_start = False
        script = self.files[RUN].text
        secret = re.search("DRONE_RPC_SECRET=(.*)", self.files[ENVIRONMENT].text).group(1)
        image = script.rstrip().rpartition(" ")[2]
        self.container = {
            "mark": re.search(rf"--label={wish.LABEL}=(\w+)", script).group(1),
            "image": self.images[image],
            "secret": secret,
            "started": self.now,
        }
        self.active[UNIT] = "active"

    def call(self, *argv, timeout=30):
        self.settle()
        if argv[:2] == ("systemctl", "show"):
            units = [word for word in argv[2:] if not word.startswith("--")]
            told = [
                f"ActiveState={self.active[unit]}\nUnitFileState={'enabled' if self.enabled[unit] else 'disabled'}"
                for unit in units
            ]
            return engine.Said(0, "\n\n".join(told) + "\nLoadState=loaded\nMainPID=0")
        if argv[0] == "journalctl":
            return engine.Said(0, 'time="x" level=error msg="cannot ping the remote server" error="Unauthorized"')
        try:
            self.change(*argv)
        except OSError as error:
            return engine.Said(1, str(error))
        verb, unit = argv[1], argv[-1]
        if argv[0] == "docker":
            if verb == "kill":
                self.builds.clear()
            return engine.Said(0, "")
        if verb in ("enable", "disable"):
            self.enabled[unit] = verb == "enable"
            if "--now" in argv and unit != UNIT:
                self.active[unit] = "active" if verb == "enable" else "inactive"
        elif unit == UNIT and verb in ("stop", "restart"):
            self.then_start = verb == "restart"
            self.active[UNIT] = "deactivating"
        elif unit == UNIT and verb == "start":
            self.start()
        elif verb in ("start", "stop"):
            self.active[unit] = "active" if verb == "start" else "inactive"
        self.settle()
        return engine.Said(0, "")

    def put_all(self, files):
        self.change("write", *(path.rpartition("/")[2] for path in files))
        for path, file in files.items():
            if file is None:
                self.files.pop(path, None)
            else:
                self.files[path] = file

    def pull(self, *argv, **_unused):
        self.change("docker", *argv)
        self.images[argv[-1]] = f"sha256:{argv[-1]}"

    def stream(self, url, **_unused):
        if url == "/info":
            yield b"HTTP/1.0 200 OK\r\n\r\n{}"
            return
        taken = self.container and self.container["secret"] == self.server.rpc.secret
        yield b"HTTP/1.0 200 OK\r\n\r\n" + (world.PINGED.encode() if taken else b"")

    def get(self, url):
        self.settle()
        path = url.partition("?")[0]
        runner = {"Names": [f"/{CONTAINER}"], "Id": "r", "State": "running", "Image": IMAGE, "Created": 1.0}
        rows = [
            {
                **runner,
                "Id": str(number),
                "Names": [f"/drone-{number}"],
                "Image": "golang",
                "Created": self.now,
                "Labels": {
                    "io.drone": "true",
                    "io.drone.repo.slug": "octocat/app1",
                    "io.drone.build.number": str(number),
                },
            }
            for number in self.builds
        ]
        if path == f"/containers/{CONTAINER}/json":
            if not self.container:
                return None
            began = time.strftime("%Y-%m-%dT%H:%M:%S.0Z", time.gmtime(self.container["started"]))
            return {
                "State": {"Running": True, "StartedAt": began},
                "Config": {"Labels": {wish.LABEL: self.container["mark"]}},
                "Image": self.container["image"],
            }
        if path.startswith("/images/"):
            id = self.images.get(path[len("/images/") : -len("/json")])
            return {"Id": id} if id else None
        return {"/containers/json": [runner, *rows] if self.container else rows, "/networks": [], "/volumes": {}}[path]

    def delete(self, url):
        self.change("delete", url)

    def install(self, monkeypatch):
        """Put this host in place of the real one."""

        def sleep(seconds):
            self.now += seconds

        clock = types.SimpleNamespace(monotonic=lambda: self.now, sleep=sleep)
        process = types.SimpleNamespace(stdout=None, kill=lambda: None, communicate=lambda: None)
        for place in (engine, world, steps):
            monkeypatch.setattr(place, "call", self.call)
        monkeypatch.setattr(engine, "stream", self.stream)
        monkeypatch.setattr(world, "read_file", self.files.get)
        monkeypatch.setattr(steps, "put_all", self.put_all)
        monkeypatch.setattr(steps, "read_file", self.files.get)
        monkeypatch.setattr(steps, "put", lambda path, file: None)  # the copies of a rehearsal
        monkeypatch.setattr(steps, "time", clock)
        monkeypatch.setattr(steps, "_listen", lambda *_unused: self.rehearsal)
        monkeypatch.setattr(
            steps,
            "subprocess",
            types.SimpleNamespace(Popen=lambda *_unused, **_unused2: process, PIPE=0, STDOUT=0, DEVNULL=0),
        )
        monkeypatch.setattr(prune, "Engine", lambda: self)
        monkeypatch.setattr(cli.Docker, "run", lambda _unused, *argv, **options: self.pull(*argv, **options))
        changed = {name: self._named(name) for name in ("makedirs", "rmdir")}
        monkeypatch.setattr(steps, "os", types.SimpleNamespace(path=os.path, **changed))

    def _named(self, name):
        return lambda path, *_unused, **_unused2: self.change(name, path)


def each_call(host, begin, change):
    """Run a change again and again, with another of its calls broken each time; yield that call and what came of it."""
    for number in itertools.count(1):
        begin()
        host.forget()
        host.breaks = number
        result = change()
        if len(host.calls) < number:
            return
        yield host.calls[number - 1], result
