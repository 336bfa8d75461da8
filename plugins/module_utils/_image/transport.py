# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HTTP for registries: which certificates they may show, and what a lost answer means; many questions by one deadline."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Callable, Mapping, Sequence, TypeVar

from .. import _http
from .._http import Answer, Lost, Url
from .._problem import Problem

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")
R = TypeVar("R")

LIMIT = 4 << 20  # bytes: registries and containerd take no larger manifest
CERTIFICATES = "/etc/docker/certs.d"

HINTS = {
    "name": "check the name and this host's DNS",
    "certificate": "give the CA's certificate with ca_path, or list the registry in insecure_registries",
    "tls": "if it speaks plain HTTP, list it in insecure_registries",
    "refused": "does the registry run, and on that port?",
    "cut": "does the registry run, and on that port?",
    "large": "it is not a manifest",
    "proxy": "check https_proxy and no_proxy",
}


class PlainHttp(Problem):
    """The server does not speak TLS."""


class Transport:
    """Connections to registries and their token services, by one deadline."""

    def __init__(self, deadline: float, ca_path: str = "", certificates: str = CERTIFICATES) -> None:
        self.deadline = deadline
        self.ca_path = ca_path
        self.certificates = certificates
        self._transport = _http.Transport(self._context, limit=LIMIT, repeat=True)

    def request(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        method: str = "GET",
        body: bytes | None = None,
        verify: bool = True,
    ) -> Answer:
        """Return what the server at `url` says, redirects followed; raise a Problem where it says nothing."""
        try:
            where = Url.parse(url)
        except ValueError as error:
            raise Problem(f"{url.partition('?')[0]!r} is not a valid address: {error}", _http.ASK) from None
        try:
            return self._transport.request(method, where, headers, body, deadline=self.deadline, verify=verify)
        except Lost as lost:
            raise _unreachable(where, lost) from lost

    def close(self) -> None:
        self._transport.close()

    def _context(self, url: Url, verify: bool) -> ssl.SSLContext:
        import ssl

        context = ssl.create_default_context()
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            if self.ca_path:
                context.load_verify_locations(cafile=self.ca_path)
            # What Docker trusts for this one registry, and how it shows itself there.
            directory = os.path.join(self.certificates, url.authority)
            for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
                path = os.path.join(directory, name)
                if name.endswith(".crt"):
                    context.load_verify_locations(cafile=path)
                elif name.endswith(".cert"):
                    context.load_cert_chain(path, path[: -len(".cert")] + ".key")
        except OSError as error:
            where = self.ca_path or f"{self.certificates}/{url.authority}"
            raise Problem(f"{where}: cannot be used as a certificate: {error}", "give PEM files") from error
        return context


def _unreachable(url: Url, lost: Lost) -> Problem:
    """Return the Problem of an answer that did not come."""
    if lost.kind == "late":
        return late(url.authority)
    what = f"{url}: {'its certificate is not trusted: ' if lost.kind == 'certificate' else ''}{lost.why}"
    hint = HINTS.get(lost.kind, "is it a registry, and is there a proxy in between?")
    # A port that speaks plain HTTP answers a TLS greeting with an error, or not at all.
    return (PlainHttp if lost.kind in ("tls", "refused", "cut") else Problem)(what, hint)


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
