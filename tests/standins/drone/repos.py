# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Repositories, their builds and the queue, as Drone's handlers treat them: read, change, write, answer with the row."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Mapping

from .access import Answer, Call, error, one
from .golang import decode

if TYPE_CHECKING:
    from .model import Build, Repo, User


@dataclass(frozen=True)
class Encoded:
    """A list that is encoded already, and how long a real server would have taken for it."""

    body: bytes
    seconds: float


def health(call: Call) -> Answer:
    return Answer(200, "OK", kind="text/plain; charset=utf-8")


def version(call: Call) -> object:
    return {"version": call.state.version.name}


# Repositories


def _list(call: Call, repos: list[Repo]) -> Encoded:
    """Encode repositories, each once as long as it is the same: a list of 10,000 must not measure Python."""
    parts = []
    for repo in repos:
        known = call.state.encoded.get(repo.id)
        if known is None or known[0] is not repo:
            known = call.state.encoded[repo.id] = (repo, json.dumps(repo.json(call.state.version)).encode())
        parts.append(known[1])
    return Encoded(b"[" + b",".join(parts) + b"]", call.state.pace.of_list(len(repos)))


def user_find(call: Call) -> object:
    return call.me.json()


def user_repos(call: Call) -> Encoded:
    """List the repositories that somebody has rights to, by slug; with ?latest=true builds would come along."""
    mine = call.state.perms.get(call.me.login, {})
    return _list(call, sorted((repo for repo in call.state.repos if repo.uid in mine), key=lambda repo: repo.slug))


def user_synchronize(call: Call) -> Answer | Encoded:
    done = call.state.synchronize(call.me)
    if call.query.get("async") == "true":
        return Answer(204)  # even when it fails
    return user_repos(call) if done else error(500, "Unauthorized")


def repos_all(call: Call) -> Encoded:
    """List all repositories, in the order of their rows: no total, no word about a next page."""

    def number(name: str) -> int:
        text = call.query.get(name, "")
        return int(text) if re.fullmatch(r"-?\d+", text) else 0

    limit = number("per_page") if number("per_page") >= 1 else 25
    start = max(number("page") - 1, 0) * limit
    return _list(call, list(call.state.repos)[start : start + limit])


def repo_find(call: Call) -> object:
    row = call.repo.json(call.state.version)
    access = call.state.access(call.user, call.repo) if call.user else ""
    if access:
        row["permissions"] = {"read": True, "write": access in ("write", "admin"), "admin": access == "admin"}
    return row


# What a PATCH may change: anybody who administrates the repository, and administrators of the server only.
SETTINGS: Mapping[str, type] = {
    "visibility": str,  # any: nothing is checked
    "config_path": str,
    "protected": bool,
    "ignore_forks": bool,
    "ignore_pull_requests": bool,
    "auto_cancel_pull_requests": bool,
    "auto_cancel_pushes": bool,
    "auto_cancel_running": bool,
}
ADMIN_SETTINGS: Mapping[str, type] = {"trusted": bool, "timeout": int, "throttle": int, "counter": int}


def repo_update(call: Call) -> object:
    repo = call.repo
    known = {name: kind for name, kind in SETTINGS.items() if call.state.version.new or name != "auto_cancel_running"}
    changes = decode(call.body, "repositoryInput", {**known, **ADMIN_SETTINGS})
    if not call.me.admin:
        # 200, and nothing happens: the silence that modules must break.
        changes = {name: value for name, value in changes.items() if name not in ADMIN_SETTINGS}
    return call.state.change_repo(repo, changes).json(call.state.version)


def repo_activate(call: Call) -> object:
    repo = call.repo
    if not _known_at_host(call, call.me):
        return error(500, "Unauthorized")  # what the source-code host says to the new webhook
    changes = {
        "active": True,
        "user_id": call.me.id,
        "config_path": repo.config_path or ".drone.yml",
        "timeout": repo.timeout or 60,
        "secret": repo.secret or call.state.new_token(),
    }
    return call.state.change_repo(repo, changes).json(call.state.version)


def repo_deactivate(call: Call) -> object:
    repo = call.state.change_repo(call.repo, {"active": False})
    if call.query.get("remove") == "true":  # not recorded
        call.state.remove_repo(repo)
    return repo.json(call.state.version)


def repo_chown(call: Call) -> object:
    return call.state.change_repo(call.repo, {"user_id": call.me.id}).json(call.state.version)


def repo_repair(call: Call) -> object:
    """Make the webhook anew, in the owner's name; without one, or with a machine as owner, from the source: 404."""
    owner = one(call.state.users.get(call.repo.user_id))
    if not _known_at_host(call, owner):
        return error(404, "Unauthorized")
    return call.state.change_repo(call.repo, {}).json(call.state.version)


def repo_sign(call: Call) -> object:
    data = decode(call.body, "payload", {"data": str}).get("data", "")
    signed = hmac.new(call.repo.secret.encode(), digestmod=hashlib.sha256)
    for document in _documents(data):
        if not re.search(r"(?m)^kind: *signature *$", document):
            signed.update(document.encode())
    return {"data": signed.hexdigest()}


def _documents(data: str) -> list[str]:
    """Return the documents of a .drone.yml as drone-yaml parts them: by lines, and nothing behind `...`."""
    documents: list[str] = []
    for line in data.splitlines():
        if line.startswith("..."):
            break
        if line.startswith("---") or not documents:
            documents.append("")
        if not line.startswith("---"):
            documents[-1] += f"{line}\n"
    return documents


def _known_at_host(call: Call, user: User) -> bool:
    return not user.machine and user.login in call.state.host.logins


# Builds and the queue


def _builds(call: Call) -> list[Build]:
    repo = call.repo
    return sorted((build for build in call.state.builds if build.repo_id == repo.id), key=lambda build: -build.number)


def builds_list(call: Call) -> object:
    return [build.json() for build in _builds(call)][:25]


def builds_latest(call: Call) -> object:
    return one(next(iter(_builds(call)), None)).json(stages=True)


def builds_find(call: Call) -> object:
    number = _number(call)
    return one(next((build for build in _builds(call) if build.number == number), None)).json(stages=True)


def _number(call: Call) -> int:
    if not call.names["number"].isdigit():
        raise error(400, f"strconv.ParseInt: parsing {json.dumps(call.names['number'])}: invalid syntax")
    return int(call.names["number"])


def builds_cancel(call: Call) -> object:
    """Cancel a build: what runs is killed, what waits is skipped, what is done stays as it is."""
    number = _number(call)
    build = one(next((build for build in _builds(call) if build.number == number), None))
    now = int(time.time())
    stages = tuple(
        stage
        if stage.status not in ("pending", "running")
        else replace(stage, status="killed" if stage.started else "skipped", started=stage.started or now, stopped=now)
        for stage in build.stages
    )
    if build.status in ("pending", "running"):
        build = replace(build, status="killed", started=build.started or now, finished=now)
    return call.state.builds.update(replace(build, stages=stages)).json(stages=True)


def queue_list(call: Call) -> object:
    """List the stages that wait or run, each with the machine that has it: only the empty queue is recorded."""
    stages = [stage for build in call.state.builds for stage in build.stages]
    return [stage.json() for stage in stages if stage.status in ("pending", "running")]


def queue_pause(call: Call) -> Answer:
    call.state.paused = True
    return Answer(204)


def queue_resume(call: Call) -> Answer:
    call.state.paused = False
    return Answer(204)


def builds_incomplete(call: Call) -> object:
    """List repositories with a build that waits or runs: no stages, thus no machine. Not recorded."""
    rows = []
    for build in sorted(call.state.builds, key=lambda build: -build.id)[:50]:
        repo = call.state.repos.get(build.repo_id)
        if repo and any(stage.status in ("pending", "running") for stage in build.stages):
            rows.append({**repo.json(call.state.version), "build": build.json()})
    return rows
