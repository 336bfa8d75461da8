# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What each route of Drone's API answers, as far as anything here reads it (Drone: core/*.go, handler/api)."""

from __future__ import annotations

import re
from typing import Any

from .._schema import Field, Fields, record, records

TEXT, FLAG, NUMBER = Field(str), Field(bool), Field(int)
NAME, ID = Field(str, required=True), Field(int, required=True)

USER: Fields = {"login": NAME, "admin": FLAG, "machine": FLAG}
ACCOUNT: Fields = {"login": NAME, **dict.fromkeys(("admin", "machine", "active"), Field(bool, required=True))}
REPO: Fields = {
    "id": ID,
    "slug": NAME,
    "namespace": TEXT,
    "name": TEXT,
    "visibility": TEXT,
    "config_path": TEXT,
    "timeout": NUMBER,
    "throttle": NUMBER,
    "version": NUMBER,  # counts the changes
    "active": FLAG,
    "trusted": FLAG,
    "protected": FLAG,
    "ignore_forks": FLAG,
    "ignore_pull_requests": FLAG,
    "auto_cancel_pull_requests": FLAG,
    "auto_cancel_pushes": FLAG,
    "auto_cancel_running": FLAG,
}
SECRET: Fields = {"name": NAME, "pull_request": FLAG, "pull_request_push": FLAG}
CRON: Fields = {"name": NAME, "expr": NAME, "branch": NAME, "target": TEXT, "disabled": Field(bool, required=True)}
TEMPLATE: Fields = {"name": NAME, "data": Field(str, default="", most=4 << 20, lines=True)}
STAGE: Fields = {"machine": TEXT, "build_id": ID, "repo_id": ID, "started": NUMBER, "updated": NUMBER}
BUILD: Fields = {"id": ID, "number": ID}
INCOMPLETE: Fields = {"namespace": NAME, "name": NAME, "build": Field(dict)}
SIGNATURE: Fields = {"data": Field(str, required=True, most=1 << 16)}

_REPO = r"repos/[^/]+/[^/]+"
# Method and path, whether it is a list, and the fields of what it answers. Nothing reads the answers of other routes.
ROUTES: tuple[tuple[re.Pattern[str], bool, Fields], ...] = tuple(
    (re.compile(pattern), is_list, fields)
    for pattern, is_list, fields in (
        (r"GET user", False, USER),
        (r"GET (user/)?repos", True, REPO),
        (rf"(GET|PATCH) {_REPO}", False, REPO),
        (r"GET users", True, ACCOUNT),
        (r"(GET users/[^/]+|POST users)", False, USER),
        (rf"GET ({_REPO}/secrets|secrets/[^/]+)", True, SECRET),
        (rf"GET ({_REPO}/secrets|secrets/[^/]+)/[^/]+", False, SECRET),
        (rf"GET {_REPO}/cron", True, CRON),
        (rf"(GET {_REPO}/cron/[^/]+|POST {_REPO}/cron)", False, CRON),
        (r"GET templates/[^/]+", True, TEMPLATE),
        (r"GET templates/[^/]+/[^/]+", False, TEMPLATE),
        (r"GET queue", True, STAGE),
        (r"GET builds/incomplete", True, INCOMPLETE),
        (rf"GET {_REPO}/builds", True, BUILD),
        (rf"POST {_REPO}/sign", False, SIGNATURE),
    )
)


def parse(method: str, path: str, content: Any) -> Any:
    """Return an answer's records, their fields checked; None where nothing reads it; raise Damaged for another shape."""
    asked = f"{method} {path}"
    for pattern, is_list, fields in ROUTES:
        if pattern.fullmatch(asked):
            if not is_list:
                return record(content, fields, "the answer")
            rows = records(content, fields, "the list")
            if fields is INCOMPLETE:
                rows = [{**row, "build": record(row.get("build"), BUILD, "the list's build")} for row in rows]
            return rows
    return None
