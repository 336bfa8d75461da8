# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HTTP to one server, on connections that are kept: one request, one answer, or the truth about what was lost.

`open_url` and `fetch_url` open a connection for each request, read ~/.netrc, and import 100 ms of what plain HTTP does
not need. So the exchange is `http.client`'s, a connection for each thread, and `ansible.module_utils.urls` makes the TLS
context, from the same certificates as for every other module. Nothing here knows Drone, and nothing here retries.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Mapping
from urllib.parse import urljoin, urlsplit

from .._problem import Problem

if TYPE_CHECKING:
    import ssl

DEFAULT_PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)


class Lost(Exception):
    """No answer came. `sent` says whether the server may have acted, `again` whether asking again may help."""

    def __init__(self, why: str, hint: str = "", *, sent: bool = False, again: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint
        self.sent = sent
        self.again = again


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
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

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
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Problem(f"drone_url is no URL: {error}", "write it as https://drone.example.com") from error
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            # Not completed by a guess: a token would be sent to wherever the guess leads.
            bare = url.split("//")[-1]
            raise Problem(f"drone_url {url!r} does not begin with http:// or https://", f"did you mean https://{bare}?")
        if parts.query or parts.fragment:
            raise Problem(f"drone_url {url!r} has a query or a fragment", "give the server's address alone")
        if any(character.isspace() for character in url):
            raise Problem(f"drone_url {url!r} has a space", "give the server's address alone")
        path = parts.path.rstrip("/")
        if path.endswith("/api"):
            path = path[: -len("/api")].rstrip("/")
        return cls(parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme], path)


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type alone, "" where there is none."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy, from the environment as every other program reads it."""

    host: str
    port: int
    authorization: str = ""

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}"

    @classmethod
    def of(cls, server: Server) -> Proxy | None:
        """Return the proxy that http_proxy, https_proxy, all_proxy and no_proxy prescribe for a server."""
        if not any(name.lower().endswith("_proxy") and value for name, value in os.environ.items()):
            return None
        from urllib.request import getproxies_environment, proxy_bypass  # 20 ms, and most have no proxy

        proxies = getproxies_environment()
        url = proxies.get(server.scheme) or proxies.get("all")
        if not url or proxy_bypass(f"{server.host}:{server.port}"):
            return None
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise Problem(
                f"the proxy that {server.scheme}_proxy names is no http:// proxy",
                "name another, or put the server into no_proxy",
            )
        authorization = ""
        if parts.username:
            import base64
            from urllib.parse import unquote

            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = "Basic " + base64.b64encode(pair.encode()).decode()
        return cls(parts.hostname, parts.port or 3128, authorization)


class Wire:
    """Connections to one server, one for each thread that asks, kept between requests."""

    def __init__(self, server: Server, headers: Mapping[str, str], *, timeout: float, tls: Tls) -> None:
        self.server = server
        self.timeout = timeout
        self.answered = False  # whether this server has ever answered: before, its address may be wrong
        self._headers = dict(headers)
        self._tls = tls
        self._proxy = Proxy.of(server)
        self._kept = threading.local()

    @property
    def way(self) -> str:
        """How messages name the way to the server."""
        return f"{self.server} through the proxy {self._proxy}" if self._proxy else str(self.server)

    def exchange(self, method: str, target: str, body: bytes | None = None) -> Answer:
        """Send one request for `target`, below the server's path, and return its answer; raise Lost where none came.

        A redirect is followed while it stays on this server, or goes from http to https on the same host; the token
        never goes anywhere else.
        """
        for _unused in range(5):
            answer = self._once(method, target, body)
            if answer.status not in REDIRECTS or "location" not in answer.headers:
                return answer
            target = self._redirected(method, target, answer)
        raise Problem(f"{self.server} redirects in a circle", "set drone_url to the address that it ends at")

    def _once(self, method: str, target: str, body: bytes | None) -> Answer:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        path = self.server.path + target
        if self._proxy and self.server.scheme == "http":
            path = f"{self.server.scheme}://{self.server.authority}{path}"
            headers["Host"] = self.server.authority
            if self._proxy.authorization:
                headers["Proxy-Authorization"] = self._proxy.authorization
        connection = self._connection()
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            answer = Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise self._lost(error, sent=True) from error
        if response.will_close:
            self._drop()
        self.answered = True
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        """Return this thread's connection, opened: a new one where the server has closed the one that was kept."""
        kept: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        if kept is not None and kept.sock is not None and getattr(self._kept, "server", None) == self.server:
            # A server closes idle connections. Seen before anything is sent, that is no doubt about what was done.
            if not _readable(kept.sock):
                return kept
            kept.close()
        connection = self._open()
        self._kept.connection = connection
        self._kept.server = self.server
        return connection

    def _open(self) -> http.client.HTTPConnection:
        server, proxy = self.server, self._proxy
        host, port = (proxy.host, proxy.port) if proxy else (server.host, server.port)
        connection: http.client.HTTPConnection
        if server.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=self.timeout, context=self._tls.context())
            if proxy:
                authorization = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
                connection.set_tunnel(server.host, server.port, authorization)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self.timeout)
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._lost(error, sent=False) from error
        return connection

    def _drop(self) -> None:
        kept = getattr(self._kept, "connection", None)
        if kept is not None:
            kept.close()
        self._kept.connection = None

    def _redirected(self, method: str, target: str, answer: Answer) -> str:
        """Return the target that a redirect leads to; move to https with it, and refuse any other address."""
        here = f"{self.server.scheme}://{self.server.authority}{self.server.path}{target}"
        location = urljoin(here, answer.headers["location"])
        parts = urlsplit(location)
        try:
            scheme, host, port = parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
        except ValueError:
            scheme, host, port = "", "", 0
        known = {(self.server.scheme, self.server.host, self.server.port)}
        if (self.server.scheme, self.server.port) == ("http", 80):
            known.add(("https", self.server.host, 443))
        # 301 to 303 would turn a change into a GET: only 307 and 308 promise that a change arrives as one.
        below = parts.path.startswith(self.server.path + "/")
        if (scheme, host, port) not in known or not below or (method != "GET" and answer.status not in (307, 308)):
            raise Problem(
                f"{self.server} redirects {method} {target.split('?')[0]} to {scheme}://{parts.netloc.split('@')[-1]}{parts.path}",
                "the token is not sent there; set drone_url to the address that is meant",
            )
        if scheme != self.server.scheme:
            self.server = replace(self.server, scheme=scheme, port=port)
            self._proxy = Proxy.of(self.server)
        return parts.path[len(self.server.path) :] + (f"?{parts.query}" if parts.query else "")

    def _lost(self, error: Exception, *, sent: bool) -> Lost:
        """Say what an exception of the network means, and what to do about it."""
        name, reason = type(error).__name__, str(getattr(error, "strerror", "") or error)
        if isinstance(error, socket.gaierror):
            where = self._proxy.host if self._proxy else self.server.host
            return Lost(f"no address is known for {where} ({reason})", "check drone_url and the name servers")
        if name == "SSLCertVerificationError":
            why = getattr(error, "verify_message", "") or reason
            return Lost(
                f"its TLS certificate is not trusted: {why}",
                "name the certificate authority's file in ca_path, or, for a test, set validate_certs to false",
            )
        if "WRONG_VERSION_NUMBER" in str(error) or "UNKNOWN_PROTOCOL" in str(error):
            return Lost("it does not speak TLS on that port", f"did you mean http://{self.server.authority}?")
        if name.startswith("SSL") and not sent:
            return Lost(f"TLS failed: {reason}", "check the port, and what stands before the server")
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
            return Lost(
                "what answers there does not speak HTTP", "check the scheme and the port of drone_url", sent=sent
            )
        if isinstance(error, (TimeoutError, socket.timeout)):
            return Lost(f"no answer within {self.timeout:g} s", "is it overloaded? timeout waits longer", sent=sent)
        if "Tunnel connection failed" in str(error):
            return Lost(f"the proxy refuses: {reason}", "check https_proxy and no_proxy")
        if isinstance(error, ConnectionRefusedError):
            return Lost(
                "nothing listens there (connection refused)", "check drone_url; is the server running?", again=True
            )
        # Reset, closed without an answer, cut in the middle of one, host or network away: it may come back.
        return Lost(f"the connection was cut ({reason or name})", "is it restarting?", sent=sent, again=True)


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


def _readable(sock: socket.socket) -> bool:
    """Tell whether something waits on an idle socket: its end, or what nobody asked for."""
    if hasattr(select, "poll"):
        poll = select.poll()  # select() itself cannot look at descriptors from 1024 on
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])
