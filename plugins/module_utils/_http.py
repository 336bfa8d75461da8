# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The HTTP transport: kept connections, one deadline and one size limit for each answer, safe redirects, proxies.

`open_url` and `fetch_url` open a connection for each request, read ~/.netrc, have no deadline for a whole answer, and
import 160 ms of what plain HTTP does not need. So the exchange is `http.client`'s, on a socket that knows the deadline.
Nothing here retries, but a request that is safe to repeat on a kept connection that the server has closed.
"""

from __future__ import annotations

import io
import os
import re
import select
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Mapping
from urllib.parse import quote, urljoin, urlsplit

from ._problem import Problem, printable

if TYPE_CHECKING:
    import http.client
    import ssl

DEFAULT_PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 5
LONGEST_TIMEOUT = 86400  # seconds; a socket takes no more than some 292 years, and raises OverflowError
HEADERS_LIMIT = 256 << 10  # bytes of all headers, interim answers included
# What only the server that it was meant for may see.
SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization", "x-drone-token")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")


class Lost(Exception):
    """No answer came, or none that can be read.

    `kind` is one of name, refused, cut, short, late, large, damaged, certificate, tls, no-http, proxy. `sent` says
    whether the server may have acted on the request.
    """

    def __init__(self, kind: str, why: str, *, sent: bool = False) -> None:
        self.kind = kind
        self.why = printable(why)
        self.sent = sent
        super().__init__(self.why)


def check_timeout(seconds: float) -> None:
    """Raise a Problem for a timeout that no answer could meet, or that no socket takes."""
    if not seconds > 0:  # NaN, too, is not greater
        raise Problem(f"timeout is {seconds}", "give the seconds that an answer may take, such as 30")
    if seconds > LONGEST_TIMEOUT:
        raise Problem(f"timeout is {seconds}", f"give at most {LONGEST_TIMEOUT} seconds, which is a day")


@dataclass(frozen=True)
class Url:
    """An address that is http or https, without user and password: what follows the host is in `target`."""

    scheme: str
    host: str
    port: int
    target: str = "/"

    def __str__(self) -> str:
        """The address as messages name it: without its query, which may hold a signature."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def authority(self) -> str:
        """Host and port as a Host header has them: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @classmethod
    def parse(cls, text: str) -> Url:
        """Return the parts of an address; raise a ValueError that says what is wrong, and never repeats a password."""
        parts = urlsplit(text)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError("it does not begin with http:// or https:// and a host")
        if "@" in parts.netloc:
            raise ValueError("it holds a user or a password")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
        if not port:
            raise ValueError("port 0 is not a port")
        # What is already quoted stays so; a control character, a space or a letter of another alphabet is quoted.
        return cls(parts.scheme, checked_host(parts.hostname), port, quote(target, safe="!#$%&'()*+,/:;=?@[]~"))


def checked_host(host: str) -> str:
    """Return a host's name or address as DNS and sockets take it; raise a ValueError where they would not."""
    if ":" in host:
        try:
            socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        except OSError:
            raise ValueError("the address in [ ] is not an IPv6 address") from None
        return host
    if not host.isascii():
        host = host.encode("idna").decode()  # a UnicodeError is a ValueError
    if not _HOST.fullmatch(host):
        raise ValueError("its host is not a valid name")
    return host


@dataclass(frozen=True)
class Answer:
    """What a server answered, and where in the end."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # names in lower case; several of one name joined by commas
    body: bytes = field(repr=False)
    url: Url

    @property
    def content_type(self) -> str:
        """The media type alone, "" where there is none."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy, from the environment as every other program reads it."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}

    @classmethod
    def of(cls, url: Url) -> Proxy | None:
        """Return the proxy that http_proxy, https_proxy, all_proxy and no_proxy prescribe for an address."""
        if not any(name.lower().endswith("_proxy") and value for name, value in os.environ.items()):
            return None
        import urllib.request  # 20 ms, and most have no proxy

        text = urllib.request.getproxies_environment()
        proxy = text.get(url.scheme) or text.get("all")
        if not proxy or urllib.request.proxy_bypass_environment(f"{url.host}:{url.port}"):  # type: ignore[attr-defined]
            return None
        hint = "write it as http://HOST:PORT, or put the server into no_proxy"
        try:
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            host, port = checked_host(parts.hostname or ""), parts.port or 80
        except ValueError:  # not repeated: it may hold a password
            raise Problem(f"the proxy that {url.scheme}_proxy names has no valid address", hint) from None
        if parts.scheme != "http":
            raise Problem(f"the proxy that {url.scheme}_proxy names is not an http:// proxy", hint)
        if not parts.username:
            return cls(host, port)
        import base64
        from urllib.parse import unquote

        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return cls(host, port, "Basic " + base64.b64encode(pair.encode()).decode())


Context = Callable[[Url, bool], "ssl.SSLContext"]
Trusts = Callable[[Url, Url, str, int], bool]


def same_server(here: Url, there: Url, _method: str, _status: int) -> bool:
    """Tell whether a redirect stays on the server that the credentials are meant for."""
    return here.origin == there.origin


class Transport:
    """Connections to servers, for each thread its own: one to each server, kept between requests.

    `context` makes the TLS context for an address, and for whether its certificate must be valid. With `repeat`, a
    request that changes nothing is sent again where the server closes a kept connection at the same moment.
    """

    def __init__(self, context: Context, *, limit: int, repeat: bool = False) -> None:
        self._context = context
        self._limit = limit
        self._repeat = repeat
        self._local = threading.local()

    def request(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        deadline: float,
        verify: bool = True,
        trusts: Trusts = same_server,
    ) -> Answer:
        """Return the answer at `url`, redirects followed, by the deadline (`time.monotonic`); raise Lost where none came.

        Where `trusts(here, there, method, status)` says that a redirect leads elsewhere, neither credentials nor a body
        nor the licence to show any certificate go along. It may also raise a Problem.
        """
        origin = url
        for _unused in range(MOST_REDIRECTS + 1):
            answer = self._once(method, url, headers, body, deadline, verify)
            if answer.status not in REDIRECTS or "location" not in answer.headers:
                return answer
            here, url = url, _location(answer)
            if (here.scheme, url.scheme) == ("https", "http"):
                raise Problem(f"{here} redirects to {url}, which is not protected by TLS", ASK)
            if not trusts(here, url, method, answer.status):
                if body is not None and answer.status in (307, 308):
                    raise Problem(
                        f"{here} redirects {method} to {url}", f"the request's content is not sent there; {ASK}"
                    )
                headers = {name: value for name, value in headers.items() if name.lower() not in SECRET_HEADERS}
                verify = True
            if answer.status not in (307, 308) and method != "HEAD":
                method, body = "GET", None
        raise Problem(f"{origin} redirects without end", ASK)

    def close(self) -> None:
        """Close this thread's connections."""
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    @property
    def _kept(self) -> dict[tuple[Any, ...], http.client.HTTPConnection]:
        kept: dict[tuple[Any, ...], http.client.HTTPConnection] | None = getattr(self._local, "kept", None)
        if kept is None:
            kept = self._local.kept = {}
        return kept

    def _once(
        self, method: str, url: Url, headers: Mapping[str, str], body: bytes | None, deadline: float, verify: bool
    ) -> Answer:
        """Send one request and return its answer."""
        import http.client  # 25 ms, and only what really asks a server needs them

        proxy = Proxy.of(url)
        target = url.target
        sent = {"Host": url.authority, "User-Agent": "multiarch.drone", **headers}
        if proxy and url.scheme == "http":
            target = f"http://{url.authority}{target}"
            sent.update(proxy.headers)
        key = (*url.origin, verify or url.scheme == "http", proxy)
        while True:
            connection = self._kept.pop(key, None)
            # A server closes idle connections. Seen before anything is sent, that is no doubt about what was done.
            if connection is not None and _readable(connection.sock):
                connection.close()
                connection = None
            reused = connection is not None
            if connection is None:
                connection = self._connect(url, proxy, deadline, verify)
            stream: Any = connection.sock  # a _Stream, which typeshed does not know
            try:
                stream.begin(deadline, self._limit + HEADERS_LIMIT)
                connection.request(method, target, body=body, headers=sent)
                response = connection.getresponse()
                fields = _fields(response, self._limit)
                content = _content(response, self._limit)
            except (OSError, http.client.HTTPException, ValueError, OverflowError, Lost) as error:
                connection.close()
                if reused and self._repeat and method in ("GET", "HEAD") and isinstance(error, ConnectionError):
                    continue  # it was closed between the look and the request
                raise _lost(error, sent=True) from error
            if response.will_close:
                connection.close()
            else:
                self._kept[key] = connection
            return Answer(response.status, fields, content, url)

    def _connect(self, url: Url, proxy: Proxy | None, deadline: float, verify: bool) -> http.client.HTTPConnection:
        import http.client

        context = self._context(url, verify) if url.scheme == "https" else None
        sock: socket.socket | None = None
        try:
            sock = _dialled(proxy.host if proxy else url.host, proxy.port if proxy else url.port, deadline)
            if context is not None:
                if proxy:
                    _tunnel(sock, url, proxy, deadline)
                sock.settimeout(_remaining(deadline))  # of the whole handshake
                sock = context.wrap_socket(sock, server_hostname=url.host)
        except (OSError, http.client.HTTPException, ValueError, Lost) as error:
            if sock is not None:
                sock.close()
            raise _lost(error, sent=False) from error
        connection = http.client.HTTPConnection(url.host, url.port)
        connection.auto_open = 0
        connection.sock = _Stream(sock)
        return connection


ASK = "check the address, or ask who runs that server"


class _Stream:
    """A socket as http.client uses it: each read and write ends by the deadline, and all that is read has a limit.

    A socket's own timeout is that of one read: a server that sends a byte now and then would never reach it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._deadline = 0.0
        self._left = 0
        self._files = 0
        self._closed = False

    def begin(self, deadline: float, limit: int) -> None:
        """Give the next exchange its deadline and its bytes."""
        self._deadline, self._left = deadline, limit

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self.sock.settimeout(_remaining(self._deadline))
            view = view[self.sock.send(view) :]

    def receive(self, buffer: Any) -> int:
        self.sock.settimeout(_remaining(self._deadline))
        count = self.sock.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise Lost("large", "the answer is too large", sent=True)
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._files += 1
        return io.BufferedReader(_Reader(self), 1 << 16)

    def close(self) -> None:
        """Close the socket, as soon as the answer that is being read from it has been closed too."""
        self._closed = True
        if not self._files:
            self.sock.close()

    def file_closed(self) -> None:
        self._files -= 1
        if self._closed:
            self.close()


class _Reader(io.RawIOBase):
    """What http.client reads from."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.receive(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stream.file_closed()


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise socket.timeout("timed out")
    return min(remaining, LONGEST_TIMEOUT)


def _dialled(host: str, port: int, deadline: float) -> socket.socket:
    """Return a socket that is connected to the first address of a host that takes the connection."""
    addresses = _addresses(host, port, deadline)
    for number, (family, kind, protocol, _name, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            # The addresses share what is left: one that swallows everything must not keep the others from answering.
            sock.settimeout(_remaining(deadline) / (len(addresses) - number))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()
            if number == len(addresses) - 1:
                raise
        else:
            return sock
    raise Lost("name", f"no address is known for {host}")


def _addresses(host: str, port: int, deadline: float) -> list[Any]:
    """Return the addresses of a host; a name server that hangs does not outlast the deadline."""
    if ":" in host or re.fullmatch(r"[0-9.]+", host):
        return _looked_up(host, port)
    found: list[Any] = []

    def look_up() -> None:
        try:
            found.append(_looked_up(host, port))
        except (OSError, ValueError, Lost) as error:
            found.append(error)

    # The resolver has no timeout of ours: who is late is left behind.
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_remaining(deadline))
    if not found:
        raise Lost("late", f"the name servers gave no address for {host} within the timeout")
    if isinstance(found[0], Exception):
        raise found[0]
    return list(found[0])


def _looked_up(host: str, port: int) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise Lost("name", f"no address is known for {host} ({error.strerror})") from error


def _tunnel(sock: socket.socket, url: Url, proxy: Proxy, deadline: float) -> None:
    """Let a proxy connect a socket to the server."""
    import http.client

    where = f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"
    lines = [
        f"CONNECT {where} HTTP/1.1",
        f"Host: {where}",
        *(f"{name}: {value}" for name, value in proxy.headers.items()),
    ]
    stream = _Stream(sock)
    stream.begin(deadline, HEADERS_LIMIT)
    stream.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))
    response = http.client.HTTPResponse(stream, method="CONNECT")  # type: ignore[arg-type]
    try:
        response.begin()
        if response.status != 200:
            raise Lost("proxy", f"the proxy refuses: {response.status} {response.reason[:100]}")
    finally:
        response.close()


def _fields(response: http.client.HTTPResponse, limit: int) -> dict[str, str]:
    """Return an answer's headers; raise Lost where they do not say how long the answer is, or say too much."""
    fields: dict[str, str] = {}
    for name, value in response.getheaders():
        name = name.lower()
        # Several challenges may stand in fields of their own; of everything else, the first one counts.
        if name == "www-authenticate" and name in fields:
            fields[name] += f", {value}"
        fields.setdefault(name, value)
    coding = fields.get("transfer-encoding", "").strip().lower()
    if coding and coding != "chunked":
        raise Lost("damaged", f"its Transfer-Encoding is {coding[:40]!r}, which nobody asked for", sent=True)
    lengths = {length.strip() for length in response.headers.get_all("Content-Length") or ()}
    if lengths and not coding:
        length = lengths.pop()
        if lengths or not re.fullmatch(r"[0-9]+", length):
            raise Lost("damaged", f"its Content-Length is {length[:40]!r}, which is not one number", sent=True)
        if len(length) > 18 or (int(length) > limit and response.length):
            raise Lost("large", _too_large(limit), sent=True)
    return fields


def _content(response: http.client.HTTPResponse, limit: int) -> bytes:
    """Return an answer's body, whole."""
    import http.client

    parts, size = [], 0
    while True:
        part = response.read(1 << 16)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > limit:
            raise Lost("large", _too_large(limit), sent=True)
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(parts)


def _too_large(limit: int) -> str:
    return f"the answer is larger than {limit >> 20} MiB"


def _location(answer: Answer) -> Url:
    """Return where a redirect leads; raise a Problem where that is no address."""
    text = answer.headers["location"]
    try:
        return Url.parse(urljoin(f"{answer.url.scheme}://{answer.url.authority}{answer.url.target}", text))
    except ValueError as error:
        shown = re.sub(r"//[^/@]*@", "//", text.partition("?")[0])[:200]
        raise Problem(f"{answer.url} redirects to {shown!r}, which is not a valid address: {error}", ASK) from None


def _lost(error: Exception, *, sent: bool) -> Lost:
    """Say what an exception of the network means."""
    import http.client

    if isinstance(error, Lost):
        return error
    name, reason = type(error).__name__, str(getattr(error, "strerror", "") or error)
    if isinstance(error, (TimeoutError, socket.timeout)):
        return Lost("late", "no answer within the timeout", sent=sent)
    if name == "SSLCertVerificationError":
        return Lost("certificate", getattr(error, "verify_message", "") or reason)
    if "WRONG_VERSION_NUMBER" in str(error) or "UNKNOWN_PROTOCOL" in str(error):
        return Lost("tls", "it does not speak TLS on that port")
    if name.startswith("SSL") and not sent:
        return Lost("tls", f"TLS failed: {getattr(error, 'reason', '') or reason}")
    if isinstance(error, ConnectionRefusedError):
        return Lost("refused", "nothing listens there (connection refused)")
    if isinstance(error, (http.client.RemoteDisconnected, ConnectionError)):
        return Lost("cut", f"the connection was cut ({reason or name})", sent=sent)
    if isinstance(error, http.client.IncompleteRead):
        return Lost("short", "the connection was cut in the middle of the answer (IncompleteRead)", sent=sent)
    if isinstance(error, http.client.BadStatusLine):
        return Lost("no-http", "what answers there does not speak HTTP", sent=sent)
    if isinstance(error, OSError):
        return Lost("cut", f"the connection was cut ({reason or name})", sent=sent)
    return Lost("damaged", f"its answer is not valid HTTP ({name}: {str(error)[:100]})", sent=sent)


def _readable(stream: Any) -> bool:
    """Tell whether something waits on an idle connection: its end, or what nobody asked for."""
    if hasattr(select, "poll"):
        poll = select.poll()  # select() itself cannot look at descriptors from 1024 on
        poll.register(stream.sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([stream.sock], [], [], 0)[0])
