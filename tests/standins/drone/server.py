# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HTTP around the stand-in: kept connections, faults, pace, and what tests want to know about each request."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Iterable, Mapping
from urllib.parse import parse_qsl, unquote

from .access import Answer, Call, error
from .faults import Fault, Faults, Pace
from .golang import BadRequest
from .repos import Encoded
from .routes import compile_routes, dispatch
from .rpc import Rpc
from .state import Conflict, State

LOGIN_PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in to continue</title></head><body>proxy</body></html>\n"


@dataclass(frozen=True)
class Seen:
    """A request that the server got, and what it answered; `status` is 0 where the connection was cut."""

    login: str  # who asked; empty without a token that the server knows
    method: str
    path: str  # with its query
    body: Any
    status: int
    began: float = 0.0  # on time.monotonic's clock
    ended: float = 0.0

    def overlaps(self, other: Seen) -> bool:
        """Tell whether both were on their way at a time."""
        return self.began < other.ended and other.began < self.ended

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class DroneServer:
    """A Drone server on a free port of the loopback, running while its `with` block does.

    It starts as the recorded servers did: administrator octocat, user alice, and `repos`, all known and inactive.
    `fleet` adds repositories fleet/repo-0001 … of the administrator's. `tokens` has each account's by its login.
    """

    def __init__(
        self,
        *,
        version: str = "2.28.1",
        seed: int = 0,
        port: int = 0,
        address: str = "127.0.0.1",
        users: Mapping[str, bool] | None = None,
        repos: Iterable[str] = ("octocat/app1", "octocat/app2", "octocat/app3", "alice/svc"),
        fleet: int = 0,
        tokens: Mapping[str, str] | None = None,
        pace: Pace | None = None,
        oss: bool = False,
        host_url: str = "http://gitea.test",
        rpc_secret: str = "",
    ) -> None:
        self.state = State(version, seed, host_url)
        self.rpc = Rpc(self.state, rpc_secret)
        self.faults = Faults()
        self.oss = oss
        self._seen: list[Seen] = []
        users = {"octocat": True, "alice": False} if users is None else users
        for login, admin in users.items():
            self.state.add_user(login, token=(tokens or {}).get(login, ""), admin=admin)
        admins = [login for login, admin in users.items() if admin]
        for slug in repos:
            self.state.host.add_repo(slug)
        for number in range(1, fleet + 1):
            self.state.host.add_repo(f"fleet/repo-{number:04}", **dict.fromkeys(admins, "admin"))
        # The newest account synchronised first, as when the recordings were made.
        for login in reversed(list(users)):
            self.state.synchronize(self.state.users.find(lambda user, login=login: user.login == login))  # type: ignore[misc,arg-type]
        self.state.pace = pace or Pace()
        self.routes = compile_routes(self.state)
        self._http = _Http((address, port), self)
        self.url = f"http://{address}:{self._http.server_address[1]}"

    @property
    def tokens(self) -> dict[str, str]:
        return {user.login: user.token for user in self.state.users}

    @property
    def requests(self) -> list[Seen]:
        """Every request so far, in the order in which they were answered."""
        return list(self._seen)

    @property
    def changes(self) -> list[str]:
        """The requests that were to change something: ["PATCH /api/repos/octocat/app1"]."""
        return [str(seen) for seen in self.requests if seen.method != "GET"]

    def forget_requests(self) -> None:
        self._seen.clear()

    def machine(self, login: str = "robot", *, admin: bool = True) -> str:
        """Add a machine account and return its token."""
        return self.state.add_user(login, admin=admin, machine=True).token

    def add_repo(self, slug: str, *, synchronized: bool = True, **access: str) -> None:
        """Add a repository at the source-code host; the server knows it once one who may see it has synchronised."""
        self.state.host.add_repo(slug, **access)
        if synchronized:
            for user in self.state.users:
                self.state.synchronize(user)

    def repo(self, slug: str) -> dict[str, Any]:
        """Return a repository's row, read past the API."""
        namespace, name = slug.split("/")
        found = self.state.repo(namespace, name)
        if found is None:
            raise KeyError(slug)
        return found.json(self.state.version)

    def __enter__(self) -> DroneServer:
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def serve_forever(self) -> None:
        self._http.serve_forever(poll_interval=0.02)

    def answer(self, method: str, target: str, token: str, body: bytes) -> tuple[Answer, float]:
        """Answer a request as Drone would; with the answer comes how long a real server takes for it."""
        path, _unused, query = target.partition("?")
        user = self.state.by_token(token) if token else None
        call = Call(self.state, user, dict(parse_qsl(query)), body)
        pace = self.state.pace
        try:
            content = dispatch(self.routes, method, unquote(path), call, oss=self.oss)
        except Answer as answer:
            content = answer
        except BadRequest as refused:
            content = error(400, str(refused))
        except Conflict as conflict:
            content = error(500, str(conflict))
        if isinstance(content, Encoded):
            return Answer(200, content.body), content.seconds or pace.read
        # A write has taken its time where it was made, one after the other.
        seconds = pace.read if method == "GET" else 0.0
        return (content if isinstance(content, Answer) else Answer(200, content)), seconds

    def note(self, token: str, method: str, target: str, body: bytes, status: int, began: float) -> None:
        user = self.state.by_token(token) if token else None
        try:
            content = json.loads(body) if body else None
        except ValueError:
            content = body.decode("utf-8", "replace")
        self._seen.append(Seen(user.login if user else "", method, target, content, status, began, time.monotonic()))

    def control(self, method: str, target: str, body: bytes) -> Answer:
        """Answer /_standin: the switches for those who cannot call Python. POST faults and builds, PUT rpc-secret, GET requests."""
        if (method, target) == ("POST", "/_standin/faults"):
            fields = json.loads(body)
            self.faults.add(**fields)
            return Answer(204)
        if (method, target) == ("DELETE", "/_standin/faults"):
            self.faults.clear()
            return Answer(204)
        if (method, target) == ("GET", "/_standin/requests"):
            return Answer(200, [vars(seen) for seen in self.requests])
        if (method, target) == ("POST", "/_standin/builds"):
            return Answer(200, self.rpc.add(**json.loads(body)).json(stages=True))
        if (method, target) == ("PUT", "/_standin/rpc-secret"):
            self.rpc.rotate(json.loads(body)["secret"])
            return Answer(204)
        known = (
            "POST or DELETE /_standin/faults, GET /_standin/requests, POST /_standin/builds, PUT /_standin/rpc-secret"
        )
        return Answer(404, {"message": known})


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # connections that are kept would hold the end up
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], drone: DroneServer) -> None:
        self.drone = drone
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave in one write, at once: Nagle's algorithm would hold small answers for 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Http

    def handle_any(self) -> None:
        drone = self.server.drone
        started = time.monotonic()
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        if self.path.startswith("/_standin/"):
            self.reply(drone.control(self.command, self.path, body))
            return
        if self.path.startswith("/rpc/v2/"):
            self.reply(self.speak(body))
            return
        scheme, _unused, token = (self.headers.get("Authorization") or "").partition(" ")
        token = token.strip() if scheme == "Bearer" else ""
        fault = drone.faults.take(self.command, self.path)
        answer, seconds = Answer(0), 0.0
        if fault is None or fault.done or fault.kind in ("slow", "half"):
            answer, seconds = drone.answer(self.command, self.path, token, body)
        if fault and fault.kind == "slow":
            seconds = max(seconds, fault.seconds)
        if fault and fault.kind in ("status", "html", "redirect"):
            answer = _broken(fault)
        cut = fault is not None and fault.kind in ("cut", "half")
        drone.note(token, self.command, self.path, body, 0 if cut else answer.status, started)
        left = seconds - (time.monotonic() - started)
        if left > 0:
            time.sleep(left)
        if fault and cut:
            self.cut(answer if fault.kind == "half" else None)
            return
        self.reply(answer, fault)

    def speak(self, body: bytes) -> Answer:
        """Answer a runner."""
        try:
            return self.server.drone.rpc.answer(self.command, self.path, self.headers.get("X-Drone-Token") or "", body)
        except Answer as answer:
            return answer

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any

    def reply(self, answer: Answer, fault: Fault | None = None) -> None:
        body = _encode(answer)
        self.send_response(answer.status)
        if answer.content is not None:
            self.send_header("Content-Type", answer.kind)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(body)))
        if fault and fault.retry_after:
            self.send_header("Retry-After", fault.retry_after)
        if fault and fault.kind == "redirect":
            self.send_header("Location", fault.location)
        self.end_headers()
        self.wfile.write(body)

    def cut(self, half: Answer | None) -> None:
        """End the connection without an answer, or in the middle of it."""
        if half is not None:
            body = _encode(half)
            self.send_response(half.status)
            self.send_header("Content-Type", half.kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_unused: object) -> None:
        """Say nothing: a token may be in the request."""


def _broken(fault: Fault) -> Answer:
    if fault.kind == "html":
        return Answer(200, LOGIN_PAGE, kind="text/html; charset=utf-8")
    if fault.kind == "redirect":
        return Answer(302, "", kind="text/html")
    return Answer(fault.status, {"message": fault.message or f"fault {fault.status}"})


def _encode(answer: Answer) -> bytes:
    if answer.content is None:
        return b""
    if isinstance(answer.content, bytes):
        return answer.content
    if answer.kind.startswith("application/json"):
        return json.dumps(answer.content).encode() + b"\n"
    return str(answer.content).encode()
