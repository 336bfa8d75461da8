# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who may do what: the checks that stand before Drone's handlers (handler/api/acl), in its order and with its answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Mapping, TypeVar

if TYPE_CHECKING:
    from .model import Repo, User
    from .state import State


class Answer(Exception):
    """What the server answers; raised by a check that stops a request on its way."""

    def __init__(self, status: int, content: Any = None, *, kind: str = "application/json") -> None:
        super().__init__(status)
        self.status = status
        self.content = content
        self.kind = kind


def error(status: int, message: str) -> Answer:
    return Answer(status, {"message": message})


UNAUTHORIZED = error(401, "Unauthorized")
FORBIDDEN = error(403, "Forbidden")
NOT_FOUND = error(404, "Not Found")
NO_ROWS = error(404, "sql: no rows in result set")


@dataclass
class Call:
    """A request on its way to its handler."""

    state: State
    user: User | None
    query: Mapping[str, str]
    body: bytes
    names: Mapping[str, str] = field(default_factory=dict)  # the parts of the path: {"owner": "octocat"}

    @property
    def me(self) -> User:
        if self.user is None:
            raise UNAUTHORIZED
        return self.user

    @property
    def repo(self) -> Repo:
        found = self.state.repo(self.names["owner"], self.names["name"])
        if found is None:
            raise NOT_FOUND if self.user else UNAUTHORIZED
        return found


Found = TypeVar("Found")


def one(row: Found | None) -> Found:
    """Return a row that was looked for; without one the database's words are the answer."""
    if row is None:
        raise NO_ROWS
    return row


Check = Callable[[Call], None]


def anyone(call: Call) -> None:
    """Let everybody pass."""


def user(call: Call) -> None:
    """Let whoever has an account pass."""
    if call.user is None:
        raise UNAUTHORIZED


def admin(call: Call) -> None:
    """Let administrators pass."""
    if not call.me.admin:
        raise FORBIDDEN


def reads(call: Call) -> None:
    """Let whoever may read the repository pass; a public one may be read by all, an internal one by all with an account."""
    repo = call.repo
    if repo.visibility == "public" or (repo.visibility == "internal" and call.user):
        return
    _need(call, "read")


def writes(call: Call) -> None:
    _need(call, "write")


def administrates(call: Call) -> None:
    _need(call, "admin")


def _need(call: Call, level: str) -> None:
    if call.user is None:
        raise UNAUTHORIZED
    repo = call.repo
    if call.user.admin:
        return
    levels = ("", "read", "write", "admin")
    access = call.state.access(call.user, repo)
    if not access:
        raise NOT_FOUND  # the same as for a repository that does not exist
    if not call.user.active:
        raise FORBIDDEN
    if levels.index(access) < levels.index(level):
        raise NOT_FOUND


def member(call: Call) -> None:
    """Let members of the organisation pass. Only refusals are recorded."""
    _membership(call, ("member", "admin"))


def org_admin(call: Call) -> None:
    """Let administrators of the organisation pass. Only refusals are recorded."""
    _membership(call, ("admin",))


def _membership(call: Call, roles: tuple[str, ...]) -> None:
    if call.me.admin:
        return
    role = call.state.host.orgs.get(call.names.get("namespace", ""), {}).get(call.me.login)
    if role not in roles:
        # 401, not 403, in both versions.
        raise error(401, "Forbidden" if call.state.version.new else "Not Found")
