# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one Drone client: who asks, what is there, changes that are repeated only when that is safe, errors with a hint.

Facts about the API are read from Drone's source (harness/harness, branch `drone`) and from recordings of real servers.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping

from ansible.module_utils.basic import env_fallback

from .._problem import Problem, printable
from .._schema import Damaged, parse_json
from . import rows as _rows
from .server import Lost, Server, Tls, Wire

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from .._http import Answer

# What every module that speaks to Drone takes; documented in doc_fragments/drone.py.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "drone_url": {"type": "str", "required": True, "fallback": (env_fallback, ["DRONE_SERVER"])},
    "drone_token": {"type": "str", "required": True, "no_log": True, "fallback": (env_fallback, ["DRONE_TOKEN"])},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "timeout": {"type": "int", "default": 30},
    "connections": {"type": "int", "default": 4},
}

# Seconds before asking again; a server that says Retry-After knows better.
WAITS = (0.2, 0.5, 1.0, 2.0, 4.0)
LONGEST_RETRY_AFTER = 120.0
TRANSIENT = (429, 502, 503, 504)
# What a 401 says to those who are no members of an organisation: in newer servers, in 2.0.
NO_MEMBER = ("Forbidden", "Not Found")
LOCKED = "Optimistic Lock Error"  # two changes of one row at a time; the later one is refused
# Real servers take any number (drone-2.28.json). Few, large pages: each is one statement and thus one moment in time.
PAGE = 10000
PASSES = 5  # how often a listing is read whose rows keep moving
# No server has more; a listing without end shows itself by one of them. Real ones give at least 25 rows a page.
MOST_ROWS = 200_000
MOST_PAGES = 2000
LISTING_TIMEOUTS = 10  # how many times `timeout` all the pages of a listing may take


class Unreachable(Problem):
    """A Problem of the server as a whole, or of the token: what was not begun need not be tried."""


class Refused(Problem):
    """A Problem that the server answered, with its status and its own words."""

    def __init__(self, what: str, hint: str, *, status: int, message: str) -> None:
        super().__init__(what, hint)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class User:
    """Who a token belongs to."""

    login: str
    admin: bool
    machine: bool


def safe_to_repeat() -> None:
    """Say, as a request's `look`, that doing it twice does what doing it once does."""


class Drone:
    """A Drone server, seen by the owner of a token."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        validate_certs: bool = True,
        ca_path: str | None = None,
        timeout: float = 30,
        connections: int = 4,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        token = token.strip()  # a vault file or `echo` ends it with a newline
        if not token:
            raise Problem("drone_token is empty", "set it, or DRONE_TOKEN, to the token of the server's page /account")
        if not all("!" <= character <= "~" for character in token):
            raise Problem("drone_token has a character that no token has", "is it still encrypted, or a file's name?")
        if connections < 1:
            raise Problem(f"connections is {connections}", "give at least one")
        self.connections = connections
        self._hidden = [token]
        self._sleep = sleep
        self._me: User | None = None
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "multiarch.drone"}
        tls = Tls(validate=validate_certs, ca_path=ca_path)
        self._wire = Wire(Server.parse(url), headers, timeout=timeout, tls=tls)

    @classmethod
    def of(cls, module: AnsibleModule) -> Drone:
        """Return the client that a module's options describe."""
        options = module.params
        if not options["validate_certs"]:
            module.warn("validate_certs is false: whoever answers in the server's place gets the token")
        # The token is sent without what surrounds it; hide that form too.
        module.no_log_values.update({options["drone_token"].strip()} - {""})
        return cls(
            options["drone_url"],
            options["drone_token"],
            validate_certs=options["validate_certs"],
            ca_path=options["ca_path"],
            timeout=options["timeout"],
            connections=options["connections"],
        )

    @property
    def url(self) -> str:
        """The server's address, as messages name it."""
        return str(self._wire.server)

    def hide(self, values: Iterable[str]) -> None:
        """Never repeat these values, should a server or a proxy say them back in an error."""
        self._hidden.extend(value for value in values if value)

    def me(self) -> User:
        """Return whom the token belongs to: asked once, and the first thing that any module asks."""
        if self._me is None:
            user = self.get("user")
            self._me = User(user["login"], bool(user.get("admin")), bool(user.get("machine")))
        return self._me

    def need_admin(self, what: str) -> None:
        """Raise a Problem unless the token is an administrator's: Drone answers others 200 and changes nothing."""
        me = self.me()
        if not me.admin:
            raise Problem(
                f"{what} needs an administrator's token; `{me.login}` is none on {self.url}",
                "make the account one (drone user update LOGIN --admin, or DRONE_USER_CREATE=username:LOGIN,admin:true)",
            )

    def repos(self) -> list[dict[str, Any]]:
        """Return every repository that the token's owner may see, as the server's rows: all of them to an administrator.

        An administrator's /api/user/repos lacks what others own, and a machine account's is empty.
        """
        return self.rows("repos") if self.me().admin else list(self.get("user/repos"))

    def rows(self, path: str) -> list[dict[str, Any]]:
        """Return all rows of a list that has pages, no order and no total.

        Rows that move between two pages show up twice, or not at all; but each that moves out of sight pushes another
        one into sight twice. So a listing with a row that was seen before is read again, and everything seen counts.
        """
        found: dict[Any, dict[str, Any]] = {}
        deadline = time.monotonic() + LISTING_TIMEOUTS * self._wire.timeout
        for _unused in range(PASSES):
            seen: set[Any] = set()
            moved = False
            number, size = 1, PAGE
            while True:
                page = {row["id"]: row for row in self.get(path, page=number, per_page=size)}
                moved = moved or not seen.isdisjoint(page)
                repeated = seen.issuperset(page)
                seen.update(page)
                found.update(page)
                # A short page is the last. Unless the server gives fewer than we ask for: then by a round number.
                capped = number == 1 and (len(page) % 5 == 0 or len(page) % 8 == 0)
                if not page or (len(page) < size and not capped):
                    break
                if repeated and len(page) < PAGE:  # it does not know of pages, and has given all
                    break
                if repeated or len(found) > MOST_ROWS or number > MOST_PAGES or time.monotonic() > deadline:
                    raise Unreachable(
                        f"GET {self._wire.way}/api/{path}: the list has no end: {len(found)} rows in {number} pages",
                        "is drone_url a Drone server?",
                    )
                number, size = number + 1, len(page)
            if not moved:
                break
        return list(found.values())

    def synchronize(self) -> None:
        """Let the server ask the source-code host which repositories the token's owner has, and wait for it."""
        # Not ?async=true: that answers 204 even when it fails. Asking twice is harmless.
        self.post("user/repos", look=safe_to_repeat)

    # The verbs. `path` is below /api and made by `route`; a query comes as keywords.

    def get(self, path: str, **query: object) -> Any:
        """Return what is at a path; asked again where that may help."""
        return self._call("GET", path, query, None, safe_to_repeat)

    def find(self, path: str, **query: object) -> Any:
        """Return what is at a path, None where nothing is."""
        try:
            return self.get(path, **query)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def post(self, path: str, body: object = None, *, look: Callable[[], Any] | None = None, **query: object) -> Any:
        """Make something at a path.

        Without an answer nobody knows whether it happened. Then `look` looks: what it returns, unless None, is taken
        as the answer; None says that it did not happen, and it is tried again. Without `look` it never is.
        """
        return self._call("POST", path, query, body, look)

    def patch(self, path: str, body: object, *, look: Callable[[], Any] | None = None) -> Any:
        """Change what is at a path; `look` as for `post`."""
        return self._call("PATCH", path, {}, body, look)

    def delete(self, path: str, *, look: Callable[[], Any] | None = None, **query: object) -> Any:
        """Delete what is at a path; `look` as for `post`."""
        return self._call("DELETE", path, query, None, look)

    def _call(
        self, method: str, path: str, query: Mapping[str, object], body: object, look: Callable[[], Any] | None
    ) -> Any:
        target = f"/api/{path}"
        if query:
            target += "?" + "&".join(f"{name}={value}" for name, value in query.items())
        data = None if body is None else json.dumps(body).encode()
        for attempt in range(len(WAITS) + 1):
            wait = WAITS[attempt] * random.uniform(0.75, 1.25) if attempt < len(WAITS) else -1.0
            problem: Problem
            try:
                answer = self._wire.exchange(method, target, data)
                if answer.status < 300:
                    return self._content(method, path, answer)
                problem = self._refused(method, target, answer)
                locked = isinstance(problem, Refused) and LOCKED in problem.message
                again = locked or answer.status in TRANSIENT
                # 429 is refused unread; but a gateway's 502 may hide a change that was made.
                doubtful = again and answer.status != 429
                wait = self._retry_after(answer, wait)
                if locked and look is None:
                    raise problem
            except Lost as lost:
                problem = Unreachable(f"{method} {self._wire.way}{target.partition('?')[0]}: {lost.why}", lost.hint)
                # An address that has never answered is more likely wrong than restarting: ask three times, not six.
                again = lost.again and (self._wire.answered or attempt < 2)
                doubtful = lost.sent
            if doubtful and look is None:
                raise Unreachable(problem.what, f"nobody knows whether it was done; {problem.hint}")
            if again and wait >= 0:
                self._sleep(wait)
            seen = look() if doubtful and look else None
            if seen is not None:
                return seen
            if not again or wait < 0:
                raise problem
        raise AssertionError("the last attempt returns or raises")

    def _content(self, method: str, path: str, answer: Answer) -> Any:
        """Return the records of an answer; raise a Problem for a page that is no answer of Drone's."""
        where = f"{method} {self._wire.way}/api/{path}"
        try:
            content = parse_json(answer.body) if answer.body else None
        except Damaged as damaged:
            page = self._page(answer)
            found = f"{page} instead of JSON" if "complete JSON" in str(damaged) else f"JSON that is damaged: {damaged}"
            raise Unreachable(
                f"{where} answered {answer.status} with {found}",
                "is drone_url the Drone server's own address, and no proxy's or login's page before it?",
            ) from None
        try:
            return _rows.parse(method, path, content)
        except Damaged as damaged:
            raise Unreachable(f"{where} did not answer as Drone does: {damaged}", "check drone_url") from None

    def _refused(self, method: str, target: str, answer: Answer) -> Problem:
        """Return the Problem of an answer that is an error: server, route, the server's words, and what to do."""
        message = ""
        try:
            content = parse_json(answer.body)
            message = printable(str(content["message"] if isinstance(content, dict) else content))[:500]
            quoted = f'"{self._scrub(message)}"'
        except (ValueError, KeyError):
            quoted = self._page(answer)
        what = f"{method} {self._wire.way}{target.partition('?')[0]} answered {answer.status}: {quoted}"
        hint = self._hint(answer, method, target, message)
        if answer.status == 401 and message not in NO_MEMBER:
            return Unreachable(what, hint)
        return Refused(what, hint, status=answer.status, message=message)

    def _hint(self, answer: Answer, method: str, target: str, message: str) -> str:
        """Return what to do about an error that the server answered."""
        login = f"`{self._me.login}`" if self._me else "the token's owner"
        if message == "Forbidden" or (answer.status == 401 and message in NO_MEMBER):
            return f"{login} has no right to it: it takes an administrator, or for an organisation one of its members"
        if message == "Unauthorized" and answer.status == 500:
            return (
                f"the source-code host does not know {login}: a machine account can neither activate nor synchronise; "
                "use the token of a person's account"
            )
        if b"HTTP request to an HTTPS server" in answer.body:
            return f"did you mean https://{self._wire.server.authority}?"
        if message.startswith("UNIQUE constraint") or "duplicate" in message.lower():
            return "somebody else made it in the meantime; run again"
        if LOCKED in message:
            return "somebody else keeps changing it at the same time; run again"
        if answer.status == 404 and message == "":
            return "is drone_url the Drone server's own address?"
        return {
            401: "the server does not know the token: is it of another server, or revoked? The page /account shows it",
            403: f"something before the server refuses, or {login} has no right to it",
            404: f"it does not exist, or {login} may not see it: Drone tells neither from the other",
            405: "this server's version does not know the route",
            407: "the proxy wants a login: put it into the URL in http_proxy or https_proxy",
            429: f"too many requests: lower connections, or run again later{self._asked(answer)}",
            501: "this server is an `oss` build, which lacks secrets, cron, templates and the queue",
            502: "the server behind the gateway is away; run again when it is back",
            503: f"the server is busy or restarting; run again later{self._asked(answer)}",
            504: "the server behind the gateway is slow; run again later",
        }.get(answer.status, "see the server's log" if answer.status >= 500 else "")

    def _asked(self, answer: Answer) -> str:
        said = answer.headers.get("retry-after", "")
        return f" (it asks for {said[:40]} s)" if said.isdigit() else ""

    def _retry_after(self, answer: Answer, wait: float) -> float:
        """Return the seconds to wait: what Retry-After says, in seconds or as a date; ours where it says nothing."""
        said = answer.headers.get("retry-after", "").strip()
        if not said or wait < 0 or answer.status not in TRANSIENT:
            return wait
        try:
            seconds = float(said)
        except ValueError:
            from email.utils import parsedate_to_datetime  # a date is rare

            try:
                seconds = parsedate_to_datetime(said).timestamp() - time.time()
            except (TypeError, ValueError, OverflowError, IndexError):
                return wait
        return max(seconds, wait) if seconds <= LONGEST_RETRY_AFTER else -1.0

    def _page(self, answer: Answer) -> str:
        """Describe a body that is no JSON: a page by its title, a text by its first line."""
        import re

        text = answer.body[:8000].decode("utf-8", "replace")
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        if title or text.lstrip()[:1] == "<":
            name = " ".join(title.group(1).split())[:100] if title else ""
            return f"an HTML page ({self._scrub(name)!r})" if name else "an HTML page"
        line = text.strip().split("\n")[0][:200]
        return f'"{self._scrub(line)}"' if line else "nothing"

    def _scrub(self, text: str) -> str:
        for hidden in self._hidden:
            text = text.replace(hidden, "********")
        return text


def route(*parts: str) -> str:
    """Return the path of a route, each part quoted: route("repos", "octocat", "app1") is repos/octocat/app1."""
    from urllib.parse import quote

    return "/".join(quote(part, safe="") for part in parts)


def repo_route(slug: str, *parts: str) -> str:
    """Return the route of a repository, or of what belongs to it: repo_route("octocat/app1", "secrets")."""
    return route("repos", *slug.split("/", 1), *parts)
