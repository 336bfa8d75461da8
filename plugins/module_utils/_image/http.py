# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HTTP for registries: connections kept alive, redirects that carry no credentials, one deadline over everything.

Not ansible.module_utils.urls: it costs 160 ms of imports, makes a connection for each request, and reads ~/.netrc.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Mapping, Sequence, TypeVar
from urllib.parse import urljoin, urlsplit

from .._problem import Problem

if TYPE_CHECKING:
    import http.client
    import ssl

T = TypeVar("T")
R = TypeVar("R")

LIMIT = 4 << 20  # bytes: registries and containerd take no larger manifest
CERTIFICATES = "/etc/docker/certs.d"


@dataclass(frozen=True)
class Answer:
    """What a server said. `url` is where it was said in the end, without its query: that may hold a signature."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # names in lower case
    body: bytes = field(repr=False)
    url: str


class PlainHttp(Problem):
    """The server does not speak TLS."""


class Transport:
    """Connections to servers, for one thread: one to each, kept alive."""

    def __init__(self, deadline: float, ca_path: str = "", certificates: str = CERTIFICATES) -> None:
        self.deadline = deadline
        self.ca_path = ca_path
        self.certificates = certificates
        self._open: dict[tuple[str, str, bool], http.client.HTTPConnection] = {}

    def request(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        method: str = "GET",
        body: bytes | None = None,
        verify: bool = True,
    ) -> Answer:
        """Return what the server at `url` says after at most five redirects; raise a Problem where it says nothing."""
        first = urlsplit(url)
        for _unused in range(6):
            answer = self._once(url, headers, method, body, verify)
            if answer.status not in (301, 302, 303, 307, 308) or "location" not in answer.headers:
                return answer
            here, url = urlsplit(url), urljoin(url, answer.headers["location"])
            there = urlsplit(url)
            if there.scheme not in ("http", "https") or (here.scheme, there.scheme) == ("https", "http"):
                raise Problem(f"{answer.url} redirects to {_bare(url)}, which is not protected as it is", _ASK_ADMIN)
            if (there.scheme, there.netloc) != (first.scheme, first.netloc):
                # Another server gets neither the credentials nor a licence to show any certificate.
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
                verify = True
            if answer.status not in (307, 308):
                method, body = "GET", None
        raise Problem(f"{_bare(url)} redirects without end", _ASK_ADMIN)

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def _once(self, url: str, headers: Mapping[str, str], method: str, body: bytes | None, verify: bool) -> Answer:
        import http.client  # 25 ms, and only what really asks a registry needs them

        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc, verify or parts.scheme == "http")
        while True:
            reused = key in self._open
            try:
                connection = self._open.pop(key, None) or self._connect(parts.scheme, parts.netloc, verify)
                if connection.sock is not None:
                    connection.sock.settimeout(self._remaining(parts.netloc))
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                sent = {"User-Agent": "multiarch.drone", **headers}
                proxy = _proxy("http", parts.netloc) if parts.scheme == "http" else ""
                if proxy:
                    target = f"http://{parts.netloc}{target}"
                    sent.update(_proxy_login(proxy))
                connection.request(method, target, body=body, headers=sent)
                response = connection.getresponse()
                content = response.read(LIMIT + 1)
                if response.length and len(content) <= LIMIT:
                    raise http.client.IncompleteRead(content, response.length)
            except (http.client.HTTPException, OSError) as error:
                # A connection kept alive may have been closed by the server in the meantime: that is no answer yet.
                if reused and isinstance(error, (http.client.RemoteDisconnected, ConnectionError)):
                    continue
                raise self._unreachable(_bare(url), parts.netloc, error) from error
            if len(content) > LIMIT:
                connection.close()
                raise Problem(f"{_bare(url)}: the answer is larger than {LIMIT >> 20} MiB", "it is no manifest")
            if response.will_close:
                connection.close()
            else:
                self._open[key] = connection
            fields = {name.lower(): value for name, value in response.getheaders()}
            # Several challenges may stand in fields of their own.
            fields["www-authenticate"] = ", ".join(response.headers.get_all("WWW-Authenticate") or [])
            return Answer(response.status, fields, content, _bare(url))

    def _connect(self, scheme: str, netloc: str, verify: bool) -> http.client.HTTPConnection:
        import http.client

        remaining = self._remaining(netloc)
        proxy = _proxy(scheme, netloc)
        first = urlsplit(proxy).netloc.rpartition("@")[2] if proxy else netloc
        if scheme == "https":
            context = self._tls(netloc, verify)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                first, timeout=remaining, context=context
            )
            if proxy:
                server = urlsplit(f"//{netloc}")
                connection.set_tunnel(server.hostname or "", server.port or 443, _proxy_login(proxy))
        else:
            connection = http.client.HTTPConnection(first, timeout=remaining)
        return connection

    def _tls(self, netloc: str, verify: bool) -> ssl.SSLContext:
        import ssl

        context = ssl.create_default_context()
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            if self.ca_path:
                context.load_verify_locations(cafile=self.ca_path)
            # What Docker trusts for this one registry, and how it shows itself there.
            directory = os.path.join(self.certificates, netloc)
            for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
                path = os.path.join(directory, name)
                if name.endswith(".crt"):
                    context.load_verify_locations(cafile=path)
                elif name.endswith(".cert"):
                    context.load_cert_chain(path, path[: -len(".cert")] + ".key")
        except OSError as error:
            where = self.ca_path or f"{self.certificates}/{netloc}"
            raise Problem(f"{where}: cannot be used as a certificate: {error}", "give PEM files") from error
        return context

    def _remaining(self, netloc: str) -> float:
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise late(netloc)
        return remaining

    def _unreachable(self, url: str, netloc: str, error: Exception) -> Problem:
        import socket
        import ssl

        if isinstance(error, socket.timeout):
            return late(netloc)
        if isinstance(error, ssl.SSLCertVerificationError):
            hint = "give the CA's certificate with ca_path, or list the registry in insecure_registries"
            return Problem(f"{url}: its certificate is not trusted: {error.verify_message}", hint)
        if isinstance(error, ssl.SSLError):
            hint = "if it speaks plain HTTP, list it in insecure_registries"
            return PlainHttp(f"{url}: no TLS connection: {error.reason or error}", hint)
        if isinstance(error, socket.gaierror):
            return Problem(
                f"{url}: the host's name is not known: {error.strerror}", "check the name and this host's DNS"
            )
        if isinstance(error, ConnectionError):
            return PlainHttp(f"{url}: {error.strerror or error}", "does the registry run, and on that port?")
        said = getattr(error, "strerror", None) or f"{type(error).__name__} {error}".strip()
        return Problem(f"{url}: no whole answer: {said}", "is it a registry, and is there a proxy in between?")


def each(work: Callable[[T], R], items: Sequence[T], *, deadline: float, threads: int) -> list[R | Problem]:
    """Return what `work` makes of each item, or its Problem, in order and by the deadline, whatever hangs.

    A socket's timeout does not bound a name server that hangs or a server that sends a byte each second: so the
    threads are daemons, and who is late at the deadline is left behind.
    """
    results: list[R | Problem | BaseException | None] = [None] * len(items)
    waiting = deque(enumerate(items))
    finished = threading.Semaphore(0)

    def run() -> None:
        while True:
            try:
                number, item = waiting.popleft()
            except IndexError:
                return
            try:
                results[number] = work(item)
            except BaseException as error:
                results[number] = error
            finished.release()

    for _unused in range(min(threads, len(items))):
        threading.Thread(target=run, daemon=True).start()
    for _item in items:
        # A moment of grace: a socket that reaches the same deadline says more than we could.
        if not finished.acquire(timeout=max(0.0, deadline - time.monotonic()) + 0.2):
            break
    gathered: list[R | Problem] = []
    for item, result in zip(items, list(results)):
        if isinstance(result, BaseException) and not isinstance(result, Problem):
            raise result
        gathered.append(late(str(item)) if result is None else result)
    return gathered


def late(who: str) -> Problem:
    """Return the Problem of a server that hangs."""
    return Problem(f"{who}: no answer within the timeout", "is it overloaded or behind a firewall? Else raise timeout")


_ASK_ADMIN = "ask who runs that registry"


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _proxy(scheme: str, netloc: str) -> str:
    """Return the URL of the proxy that the environment names for this server, "" for none."""
    if not os.environ.get(f"{scheme}_proxy") and not os.environ.get(f"{scheme.upper()}_PROXY"):
        return ""
    import urllib.request

    if urllib.request.proxy_bypass_environment(netloc):  # type: ignore[attr-defined]
        return ""
    proxy = urllib.request.getproxies_environment().get(scheme, "")
    return proxy if "://" in proxy or not proxy else f"http://{proxy}"


def _proxy_login(proxy: str) -> dict[str, str]:
    login = urlsplit(proxy).netloc.rpartition("@")[0]
    if not login:
        return {}
    import base64
    from urllib.parse import unquote

    return {"Proxy-Authorization": "Basic " + base64.b64encode(unquote(login).encode()).decode()}
