# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HTTP to one Drone server: its address, its token's way, and what a lost answer means. Nothing here retries."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Mapping
from urllib.parse import urlsplit

from .. import _http
from .._http import DEFAULT_PORTS, Answer, Proxy, Transport, Url
from .._problem import Problem

if TYPE_CHECKING:
    import ssl

# 20,000 repositories are 14 MiB. What JSON becomes in memory is bounded by `_schema.parse_json`.
LIMIT = 16 << 20

HINTS = {
    "name": "check drone_url and the name servers",
    "certificate": "name the certificate authority's file in ca_path, or, for a test, set validate_certs to false",
    "tls": "check the port, and what stands before the server",
    "no-http": "check the scheme and the port of drone_url",
    "late": "is it overloaded? timeout waits longer",
    "large": "is drone_url a Drone server?",
    "damaged": "is drone_url a Drone server?",
    "proxy": "check https_proxy and no_proxy",
    "refused": "check drone_url; is the server running?",
}


class Lost(_http.Lost):
    """No answer came from a Drone server; `hint` says what to do, `again` whether asking again may help."""

    def __init__(self, lost: _http.Lost, why: str, hint: str) -> None:
        super().__init__(lost.kind, why, sent=lost.sent)
        self.hint = hint
        self.again = lost.kind in ("refused", "cut", "short")


@dataclass(frozen=True)
class Server:
    """Where a server is: Server.parse("https://ci.example.com/drone/api/") is https, ci.example.com, 443, /drone."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port as a Host header has them: the port only where it is not the scheme's own."""
        return self.at("/").authority

    def at(self, target: str) -> Url:
        """Return the URL of a target below the server's path."""
        return Url(self.scheme, self.host, self.port, self.path + target)

    @classmethod
    def parse(cls, url: str) -> Server:
        """Return the server of a URL as people paste it: a slash or /api at its end, a path of a proxy before it."""
        url = url.strip()
        if not url:
            raise Problem(
                "drone_url is empty", "set it, or DRONE_SERVER, to the server's URL: https://drone.example.com"
            )
        if "@" in url:  # never repeated in a message: it is a password
            raise Problem(
                "drone_url holds a user or a password", "give the token in drone_token, and the URL without it"
            )
        if any(character.isspace() or not character.isprintable() for character in url):
            raise Problem(f"drone_url {url!r} has a space or a control character", "give the server's address alone")
        try:
            parts = urlsplit(url)
            if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
                # Not completed by a guess: a token would be sent to wherever the guess leads.
                bare = url.split("//")[-1]
                raise Problem(
                    f"drone_url {url!r} does not begin with http:// or https://", f"did you mean https://{bare}?"
                )
            parsed = Url.parse(url)
        except ValueError as error:
            raise Problem(f"drone_url is not a valid URL: {error}", "write it as https://drone.example.com") from error
        if parts.query or parts.fragment:
            raise Problem(f"drone_url {url!r} has a query or a fragment", "give the server's address alone")
        path = parsed.path.rstrip("/")
        if path.endswith("/api"):
            path = path[: -len("/api")].rstrip("/")
        return cls(parsed.scheme, parsed.host, parsed.port, path)


class Wire:
    """The way to one server: its address, what each request carries, how long an answer may take."""

    def __init__(self, server: Server, headers: Mapping[str, str], *, timeout: float, tls: Tls) -> None:
        _http.check_timeout(timeout)
        self.server = server
        self.timeout = timeout
        self.answered = False  # whether this server has ever answered: before, its address may be wrong
        self.transport = Transport(lambda _url, _verify: tls.context(), limit=LIMIT)
        self._headers = dict(headers)

    @property
    def way(self) -> str:
        """How messages name the way to the server."""
        proxy = Proxy.of(self.server.at("/"))
        return f"{self.server} through the proxy {proxy}" if proxy else str(self.server)

    def exchange(self, method: str, target: str, body: bytes | None = None) -> Answer:
        """Send one request for `target`, below the server's path, and return its answer; raise Lost where none came.

        A redirect is followed while it stays on this server, or goes from http to https on the same host; the token
        never goes anywhere else.
        """
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        deadline = time.monotonic() + self.timeout
        url = self.server.at(target)
        try:
            answer = self.transport.request(method, url, headers, body, deadline=deadline, trusts=self._trusts)
        except _http.Lost as lost:
            raise self._lost(lost) from lost
        self.answered = True
        return answer

    def _trusts(self, here: Url, there: Url, method: str, status: int) -> bool:
        """Move to https with a redirect, and refuse any other address."""
        known = {self.server.at("/").origin}
        if (self.server.scheme, self.server.port) == ("http", 80):
            known.add(("https", self.server.host, 443))
        # 301 to 303 would turn a change into a GET: only 307 and 308 promise that a change arrives as one.
        below = there.path.startswith(self.server.path + "/")
        if there.origin not in known or not below or (method != "GET" and status not in (307, 308)):
            raise Problem(
                f"{self.server} redirects {method} {here.path[len(self.server.path) :]} to {there}",
                "the token is not sent there; set drone_url to the address that is meant",
            )
        if there.scheme != self.server.scheme:
            self.server = replace(self.server, scheme=there.scheme, port=there.port)
        return True

    def _lost(self, lost: _http.Lost) -> Lost:
        why, hint = lost.why, HINTS.get(lost.kind, "is it restarting?")
        if lost.kind == "late":
            why = why.replace("the timeout", f"{self.timeout:g} s")
        elif lost.kind == "certificate":
            why = f"its TLS certificate is not trusted: {why}"
        elif "does not speak TLS" in why:
            hint = f"did you mean http://{self.server.authority}?"
        return Lost(lost, why, hint)


class Tls:
    """The TLS context of all connections, made when the first one needs it."""

    def __init__(self, *, validate: bool, ca_path: str | None) -> None:
        self.validate = validate
        self.ca_path = ca_path
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def context(self) -> ssl.SSLContext:
        """Return the context; raise a Problem where ca_path holds no certificates."""
        with self._lock:
            if self._context is None:
                # 100 ms of imports and the search for the distribution's certificates: not for plain HTTP.
                from ansible.module_utils.urls import make_context

                try:
                    self._context = make_context(cafile=self.ca_path or None, validate_certs=self.validate)
                except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                    raise Problem(
                        f"ca_path {self.ca_path}: {getattr(error, 'strerror', None) or error}",
                        "name a file of certificates in PEM format",
                    ) from error
            return self._context
