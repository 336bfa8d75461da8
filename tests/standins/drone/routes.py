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

from . import access, accounts, belongings, repos
from .access import Answer, Call, Check, error
from .repos import Encoded

if TYPE_CHECKING:
    from .state import State

Handler = Callable[[Call], Union[Answer, Encoded, object]]

# What `oss` builds of Drone answer with 501; from its source, not recorded.
NOT_IN_OSS = ("/api/queue", "/api/builds/incomplete", "/api/secrets", "/api/templates", "/secrets", "/cron", "/sign")

REPO = "/api/repos/{owner}/{name}"
ROUTES: Sequence[tuple[str, str, Check, Handler]] = (
    ("GET", "/healthz", access.anyone, repos.health),
    ("GET", "/version", access.anyone, repos.version),
    ("GET", "/api/user", access.user, repos.user_find),
    ("GET", "/api/user/repos", access.user, repos.user_repos),
    ("POST", "/api/user/repos", access.user, repos.user_synchronize),
    ("GET", "/api/repos", access.admin, repos.repos_all),
    ("GET", REPO, access.reads, repos.repo_find),
    ("PATCH", REPO, access.administrates, repos.repo_update),
    ("POST", REPO, access.administrates, repos.repo_activate),
    ("DELETE", REPO, access.administrates, repos.repo_deactivate),
    ("POST", REPO + "/chown", access.administrates, repos.repo_chown),
    ("POST", REPO + "/repair", access.administrates, repos.repo_repair),
    ("POST", REPO + "/sign", access.writes, repos.repo_sign),
    ("GET", REPO + "/builds", access.reads, repos.builds_list),
    ("GET", REPO + "/builds/latest", access.reads, repos.builds_latest),
    ("GET", REPO + "/builds/{number}", access.reads, repos.builds_find),
    ("DELETE", REPO + "/builds/{number}", access.writes, repos.builds_cancel),
    ("GET", REPO + "/secrets", access.writes, belongings.secrets_list),
    ("POST", REPO + "/secrets", access.writes, belongings.secrets_create),
    ("GET", REPO + "/secrets/{secret}", access.writes, belongings.secrets_find),
    ("PATCH", REPO + "/secrets/{secret}", access.writes, belongings.secrets_update),
    ("DELETE", REPO + "/secrets/{secret}", access.writes, belongings.secrets_delete),
    ("GET", REPO + "/cron", access.writes, belongings.crons_list),
    ("POST", REPO + "/cron", access.writes, belongings.crons_create),
    ("GET", REPO + "/cron/{cron}", access.writes, belongings.crons_find),
    ("PATCH", REPO + "/cron/{cron}", access.writes, belongings.crons_update),
    ("DELETE", REPO + "/cron/{cron}", access.writes, belongings.crons_delete),
    ("GET", "/api/secrets", access.admin, belongings.org_secrets_all),
    ("GET", "/api/secrets/{namespace}", access.member, belongings.org_secrets_list),
    ("POST", "/api/secrets/{namespace}", access.org_admin, belongings.org_secrets_create),
    ("GET", "/api/secrets/{namespace}/{secret}", access.member, belongings.org_secrets_find),
    ("PATCH", "/api/secrets/{namespace}/{secret}", access.org_admin, belongings.org_secrets_update),
    ("DELETE", "/api/secrets/{namespace}/{secret}", access.org_admin, belongings.org_secrets_delete),
    ("GET", "/api/templates", access.member, belongings.templates_all),
    ("GET", "/api/templates/{namespace}", access.member, belongings.templates_list),
    ("GET", "/api/templates/{namespace}/{template}", access.member, belongings.templates_find),
    ("PUT", "/api/templates/{namespace}/{template}", access.org_admin, belongings.templates_update),
    ("PATCH", "/api/templates/{namespace}/{template}", access.org_admin, belongings.templates_update),
    ("DELETE", "/api/templates/{namespace}/{template}", access.org_admin, belongings.templates_delete),
    ("GET", "/api/users", access.admin, accounts.users_list),
    ("POST", "/api/users", access.admin, accounts.users_create),
    ("GET", "/api/users/{user}", access.admin, accounts.users_find),
    ("PATCH", "/api/users/{user}", access.admin, accounts.users_update),
    ("DELETE", "/api/users/{user}", access.admin, accounts.users_delete),
    ("GET", "/api/queue", access.admin, repos.queue_list),
    ("POST", "/api/queue", access.admin, repos.queue_resume),
    ("DELETE", "/api/queue", access.admin, repos.queue_pause),
    ("GET", "/api/builds/incomplete", access.admin, repos.builds_incomplete),
)
# Where a template is made, which is what tells the two generations apart.
CREATE_TEMPLATE = {
    True: ("POST", "/api/templates/{namespace}", access.org_admin, belongings.templates_create),
    False: ("POST", "/api/templates", access.org_admin, belongings.templates_create),
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
