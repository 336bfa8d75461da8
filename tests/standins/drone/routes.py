# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The routes of Drone's API in one table: method, path, who may, and what it does.

Paths and checks are those of Drone's handler/api/api.go. Left out are logs, cards, badges, events and promotion, which
nothing here asks for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Callable, Sequence, Union

from . import access, handlers
from .access import Answer, Call, Check, error
from .handlers import Encoded

if TYPE_CHECKING:
    from .state import State

Handler = Callable[[Call], Union[Answer, Encoded, object]]

# What `oss` builds of Drone answer with 501; from its source, not recorded.
NOT_IN_OSS = ("/api/queue", "/api/builds/incomplete", "/api/secrets", "/api/templates", "/secrets", "/cron", "/sign")

REPO = "/api/repos/{owner}/{name}"
ROUTES: Sequence[tuple[str, str, Check, Handler]] = (
    ("GET", "/healthz", access.anyone, handlers.health),
    ("GET", "/version", access.anyone, handlers.version),
    ("GET", "/api/user", access.user, handlers.user_find),
    ("GET", "/api/user/repos", access.user, handlers.user_repos),
    ("POST", "/api/user/repos", access.user, handlers.user_synchronize),
    ("GET", "/api/repos", access.admin, handlers.repos_all),
    ("GET", REPO, access.reads, handlers.repo_find),
    ("PATCH", REPO, access.administrates, handlers.repo_update),
    ("POST", REPO, access.administrates, handlers.repo_activate),
    ("DELETE", REPO, access.administrates, handlers.repo_deactivate),
    ("POST", REPO + "/chown", access.administrates, handlers.repo_chown),
    ("POST", REPO + "/repair", access.administrates, handlers.repo_repair),
    ("POST", REPO + "/sign", access.writes, handlers.repo_sign),
    ("GET", REPO + "/builds", access.reads, handlers.builds_list),
    ("GET", REPO + "/builds/latest", access.reads, handlers.builds_latest),
    ("GET", REPO + "/builds/{number}", access.reads, handlers.builds_find),
    ("DELETE", REPO + "/builds/{number}", access.writes, handlers.builds_cancel),
    ("GET", REPO + "/secrets", access.writes, handlers.secrets_list),
    ("POST", REPO + "/secrets", access.writes, handlers.secrets_create),
    ("GET", REPO + "/secrets/{secret}", access.writes, handlers.secrets_find),
    ("PATCH", REPO + "/secrets/{secret}", access.writes, handlers.secrets_update),
    ("DELETE", REPO + "/secrets/{secret}", access.writes, handlers.secrets_delete),
    ("GET", REPO + "/cron", access.writes, handlers.crons_list),
    ("POST", REPO + "/cron", access.writes, handlers.crons_create),
    ("GET", REPO + "/cron/{cron}", access.writes, handlers.crons_find),
    ("PATCH", REPO + "/cron/{cron}", access.writes, handlers.crons_update),
    ("DELETE", REPO + "/cron/{cron}", access.writes, handlers.crons_delete),
    ("GET", "/api/secrets", access.admin, handlers.org_secrets_all),
    ("GET", "/api/secrets/{namespace}", access.member, handlers.org_secrets_list),
    ("POST", "/api/secrets/{namespace}", access.org_admin, handlers.org_secrets_create),
    ("GET", "/api/secrets/{namespace}/{secret}", access.member, handlers.org_secrets_find),
    ("PATCH", "/api/secrets/{namespace}/{secret}", access.org_admin, handlers.org_secrets_update),
    ("DELETE", "/api/secrets/{namespace}/{secret}", access.org_admin, handlers.org_secrets_delete),
    ("GET", "/api/templates", access.member, handlers.templates_all),
    ("GET", "/api/templates/{namespace}", access.member, handlers.templates_list),
    ("GET", "/api/templates/{namespace}/{template}", access.member, handlers.templates_find),
    ("PUT", "/api/templates/{namespace}/{template}", access.org_admin, handlers.templates_update),
    ("PATCH", "/api/templates/{namespace}/{template}", access.org_admin, handlers.templates_update),
    ("DELETE", "/api/templates/{namespace}/{template}", access.org_admin, handlers.templates_delete),
    ("GET", "/api/users", access.admin, handlers.users_list),
    ("POST", "/api/users", access.admin, handlers.users_create),
    ("GET", "/api/users/{user}", access.admin, handlers.users_find),
    ("PATCH", "/api/users/{user}", access.admin, handlers.users_update),
    ("DELETE", "/api/users/{user}", access.admin, handlers.users_delete),
    ("GET", "/api/queue", access.admin, handlers.queue_list),
    ("POST", "/api/queue", access.admin, handlers.queue_resume),
    ("DELETE", "/api/queue", access.admin, handlers.queue_pause),
    ("GET", "/api/builds/incomplete", access.admin, handlers.builds_incomplete),
)
# Where a template is made, which is what tells the two generations apart.
CREATE_TEMPLATE = {
    True: ("POST", "/api/templates/{namespace}", access.org_admin, handlers.templates_create),
    False: ("POST", "/api/templates", access.org_admin, handlers.templates_create),
}

Compiled = Sequence["tuple[str, re.Pattern[str], Check, Handler]"]


def compile_routes(state: State) -> Compiled:
    """Return the routes of a version."""
    routes = (*ROUTES, CREATE_TEMPLATE[state.version.new])
    return [
        (method, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path)), check, handler)
        for method, path, check, handler in routes
    ]


def dispatch(routes: Compiled, method: str, path: str, call: Call, *, oss: bool = False) -> Answer | Encoded | object:
    """Find a request's route, check who asks, and let the handler answer."""
    matches = [(route, match) for route in routes if (match := route[1].fullmatch(path))]
    if not matches:
        if path.startswith("/api/"):
            return Answer(404, "404 page not found\n", kind="text/plain; charset=utf-8")
        # Everything else is the page that a browser gets.
        return Answer(200, "<!DOCTYPE html>\n<title>Drone | Continuous Integration</title>\n", kind="text/html")
    for (verb, _unused, check, handler), match in matches:
        if verb == method:
            if oss and any(part in path for part in NOT_IN_OSS):
                return error(501, "Not Implemented")
            call.names = match.groupdict()
            check(call)
            return handler(call)
    return Answer(405)
