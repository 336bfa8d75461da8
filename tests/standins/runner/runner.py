# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stand-in for drone-runner-docker where its image cannot be pulled: one file, for an image that has Python and no more.

It reads the same variables, refuses what the real one refuses, says the same lines, takes stages of a server over /rpc/v2,
and runs each as a container, a network and a volume with the labels of the real ones. SIGTERM drains it, it then leaves
with 1; a second one kills it. All of it was compared with drone-runner-docker 1.8.4, run for real.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

KINDS = {
    "DRONE_RUNNER_CAPACITY": "int", "DRONE_RUNNER_MAX_PROCS": "int64", "DRONE_MEMORY_LIMIT": "int64",
    "DRONE_RUNNER_ENVIRON": "map", "DRONE_RUNNER_SECRETS": "map", "DRONE_RUNNER_LABELS": "map",
    "DRONE_RUNNER_VOLUMES": "map", "DRONE_RUNNER_NETWORK_OPTS": "map",
    "DRONE_RPC_SKIP_VERIFY": "bool", "DRONE_LIMIT_TRUSTED": "bool", "DRONE_DEBUG": "bool",
}  # fmt: skip
draining = threading.Event()
polls: set[http.client.HTTPConnection] = set()


def say(level: str, message: str, **fields: object) -> None:
    """Log as logrus does."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    pairs = "".join(f" {name}={_word(str(value))}" for name, value in sorted(fields.items()))
    print(f'time="{now}" level={level} msg="{message}"{pairs}', file=sys.stderr, flush=True)


def _word(text: str) -> str:
    return text if re.fullmatch(r"[\w./@^+-]+", text) else json.dumps(text)


def end(message: str) -> None:
    """Leave as kingpin does."""
    print(f"drone-runner-docker: error: {message}, try --help", file=sys.stderr, flush=True)
    os._exit(1)


def settings() -> dict[str, str]:
    """Read the environment as envconfig does, and leave where it would."""
    for name, kind in KINDS.items():
        value = os.environ.get(name)
        if value is None:
            continue
        why = ""
        if kind.startswith("int") and not re.fullmatch(r"[+-]?\d+", value):
            why = f"type {kind}. details: strconv.ParseInt: parsing {json.dumps(value)}: invalid syntax"
        if kind == "bool" and value not in [
            "1",
            "t",
            "T",
            "TRUE",
            "true",
            "True",
            "0",
            "f",
            "F",
            "FALSE",
            "false",
            "False",
        ]:
            why = f"type bool. details: strconv.ParseBool: parsing {json.dumps(value)}: invalid syntax"
        if kind == "map" and value.strip():
            bad = [pair for pair in value.split(",") if len(pair.split(":")) != 2]
            why = f"type map[string]string. details: invalid map item: {json.dumps(bad[0])}" if bad else ""
        if why:
            end(f"envconfig.Process: assigning {name}: converting '{value}' to {why}")
    for name in ("DRONE_RPC_HOST", "DRONE_RPC_SECRET"):
        if name not in os.environ:
            end(f"required key {name} missing value")
    builds = {}
    path = os.environ.get("DRONE_RUNNER_ENV_FILE")
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                for line in filter(str.strip, file):
                    name, _unused, value = line.rstrip("\n").partition("=")
                    builds[name] = value[1:-1] if value[:1] == value[-1:] and value[:1] in "'\"" else value
        except OSError as error:
            end(f"open {path}: {(error.strerror or '').lower()}")
    return builds


class _Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect("/var/run/docker.sock")


def docker(method: str, url: str, body: object = None) -> object:
    """Ask the Docker engine."""
    connection = _Unix("docker")
    data = None if body is None else json.dumps(body)
    connection.request(method, url, body=data, headers={"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise OSError(f"{url}: {answer.status} {text.decode()}")
    return json.loads(text) if text[:1] in (b"{", b"[") else text


def rpc(method: str, path: str, body: object = None, *, poll: bool = False) -> tuple[int, dict]:
    """Speak to the server; a poll is given up when the runner drains."""
    host = os.environ["DRONE_RPC_HOST"]
    name, _unused, before = host.partition("/")
    scheme = os.environ.get("DRONE_RPC_PROTO", "http")
    make = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = make(name, timeout=60)
    if poll:
        polls.add(connection)
    try:
        target = f"/{before}{path}" if before else path
        data = None if body is None else json.dumps(body)
        connection.request(method, target, body=data, headers={"X-Drone-Token": os.environ["DRONE_RPC_SECRET"]})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text[:1] == b"{" else {}
    finally:
        polls.discard(connection)
        connection.close()


def poll() -> None:
    """Take one stage after the other until the runner drains."""
    wanted = {
        "kind": "pipeline",
        "type": "docker",
        "os": os.environ.get("DRONE_PLATFORM_OS", "linux"),
        "arch": os.environ.get("DRONE_PLATFORM_ARCH", "amd64"),
        "variant": os.environ.get("DRONE_PLATFORM_VARIANT", ""),
        "kernel": "",
    }
    while not draining.is_set():
        try:
            status, stage = rpc("POST", "/rpc/v2/stage", wanted, poll=True)
        except (OSError, http.client.HTTPException):
            if not draining.is_set():
                time.sleep(1)
            continue
        if status == 200 and stage.get("id") and not draining.is_set():
            run(stage)
        elif status >= 400 and not draining.is_set():  # the secret was rotated: nobody hands out a stage any more
            time.sleep(1)


def run(stage: dict) -> None:
    """Run a stage, and tell the server how it went."""
    machine = os.environ.get("DRONE_RUNNER_NAME") or socket.gethostname()
    if rpc("POST", f"/rpc/v2/stage/{stage['id']}?machine={quote(machine)}")[0] != 200:
        return
    _unused, details = rpc("GET", f"/rpc/v2/stage/{stage['id']}")
    stage.update(machine=machine, status="running", started=int(time.time()))
    step = {"number": 1, "name": "work", "status": "running", "step_id": stage["id"], "started": stage["started"]}
    rpc("PUT", f"/rpc/v2/stage/{stage['id']}", {**stage, "steps": [step]})
    cancelled = threading.Event()
    over = threading.Event()
    name = f"drone-{secrets.token_hex(10)}"

    def watch() -> None:
        while not over.is_set():
            try:
                status, _unused = rpc("POST", f"/rpc/v2/build/{details['build']['id']}/watch")
            except (OSError, http.client.HTTPException):
                time.sleep(1)
                continue
            if status == 200 and not over.is_set():
                cancelled.set()
                docker("POST", f"/containers/{name}/kill")
                return
            if status >= 400:
                time.sleep(1)

    threading.Thread(target=watch, daemon=True).start()
    code = 1
    try:
        code = execute(name, details)
    except OSError as error:
        say("error", "cannot run the step", error=error)
    over.set()
    status = "killed" if cancelled.is_set() else "success" if code == 0 else "failure"
    ended = int(time.time())
    # Where the secret was rotated meanwhile, this is a 401: the build stays `running` on the server.
    rpc("PUT", f"/rpc/v2/stage/{stage['id']}", {**stage, "status": status, "stopped": ended, "steps": [step]})


def execute(name: str, details: dict) -> int:
    """Run the one step of a pipeline in a container, with a network and a volume of its own; all are gone afterwards."""
    text = base64.b64decode(details["config"]["Data"]).decode()
    repo, now = details["repository"], int(time.time())
    labels = {
        "io.drone": "true",
        "io.drone.build.number": str(details["build"]["number"]),
        "io.drone.created": str(now),
        "io.drone.expires": str(now + repo["timeout"] * 60 + 3600),
        "io.drone.protected": "false",
        "io.drone.repo.name": repo["name"],
        "io.drone.repo.namespace": repo["namespace"],
        "io.drone.repo.slug": f"{repo['namespace']}/{repo['name']}",
        "io.drone.stage.name": details["stage"]["name"],
        "io.drone.stage.number": str(details["stage"]["number"]),
        "io.drone.ttl": f"{repo['timeout']}m0s",
    }
    volume, network = (f"drone-{secrets.token_hex(10)}" for _unused in range(2))
    docker("POST", "/volumes/create", {"Name": volume, "Labels": labels})
    docker("POST", "/networks/create", {"Name": network, "Labels": labels})
    try:
        docker(
            "POST",
            f"/containers/create?name={name}",
            {
                "Image": re.findall(r"image: (\S+)", text)[0],
                "Entrypoint": ["/bin/sh", "-c"],
                "Cmd": ["\n".join(["set -e", *re.findall(r"^  - (.+)$", text, re.MULTILINE)])],
                "Env": [f"{key}={value}" for key, value in BUILDS.items()],
                "Labels": {**labels, "io.drone.step.name": "work", "io.drone.step.number": "1"},
                "HostConfig": {"Binds": [f"{volume}:/drone/src"], "NetworkMode": network},
            },
        )
        docker("POST", f"/containers/{name}/start")
        return wait(name)
    finally:
        for url in (f"/containers/{name}?force=1&v=1", f"/volumes/{volume}", f"/networks/{network}"):
            try:
                docker("DELETE", url)
            except OSError:
                continue


def wait(name: str) -> int:
    """Return a container's exit code; a connection that is lost meanwhile is made again, where Docker still has it."""
    while True:  # like the real one, whose step fails where Docker is not there for this question either
        with contextlib.suppress(OSError, http.client.HTTPException):
            docker("POST", f"/containers/{name}/wait")
        found = docker("GET", f"/containers/{name}/json")
        if isinstance(found, dict) and not found["State"]["Running"]:
            return int(found["State"]["ExitCode"])


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)  # with the server out of reach as well
        self.end_headers()

    def log_message(self, *_unused: object) -> None:
        pass


def drain(*_unused: object) -> None:
    """Take no more stages. The real one listens for one signal alone: the next finds Go's own handler, which leaves with 2."""
    print("received signal, terminating process", file=sys.stderr, flush=True)
    draining.set()
    signal.signal(signal.SIGTERM, lambda *_unused: os._exit(2))
    for connection in list(polls):
        if connection.sock:
            connection.sock.shutdown(socket.SHUT_RDWR)


def main() -> None:
    signal.signal(signal.SIGTERM, drain)
    while True:
        try:
            docker("GET", "/_ping")
            break
        except OSError:
            error = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
            say("error", "cannot ping the docker daemon", error=error)
            time.sleep(1)
    bind = os.environ.get("DRONE_HTTP_BIND", ":3000")
    say("info", "starting the server", addr=bind)
    health = ThreadingHTTPServer(("", int(bind.rpartition(":")[2])), _Health)
    threading.Thread(target=health.serve_forever, daemon=True).start()
    while not draining.is_set():
        try:
            status, _unused = rpc("POST", "/rpc/v2/ping")
            if status == 200:
                break
            why = http.client.responses.get(status, str(status))
        except (OSError, http.client.HTTPException) as error:
            why = f'Post "{os.environ.get("DRONE_RPC_PROTO", "http")}://{os.environ["DRONE_RPC_HOST"]}/rpc/v2/ping": {error}'
        say("error", "cannot ping the remote server", error=why)
        time.sleep(1)
    if draining.is_set():
        sys.exit(0)
    say("info", "successfully pinged the remote server")
    capacity = int(os.environ.get("DRONE_RUNNER_CAPACITY", "2"))
    endpoint = f"{os.environ.get('DRONE_RPC_PROTO', 'http')}://{os.environ['DRONE_RPC_HOST']}"
    arch = os.environ.get("DRONE_PLATFORM_ARCH", "amd64")
    say(
        "info",
        "polling the remote server",
        arch=arch,
        capacity=capacity,
        endpoint=endpoint,
        kind="pipeline",
        os="linux",
        type="docker",
    )
    threads = [threading.Thread(target=poll) for _unused in range(capacity)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # a join without an end would hold signals back
            thread.join(0.2)
    say("error", "shutting down the server", error="http: Server closed")
    end("http: Server closed")


BUILDS: dict[str, str] = {}
if __name__ == "__main__":
    BUILDS.update(settings())
    main()
