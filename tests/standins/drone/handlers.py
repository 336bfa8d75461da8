# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What each route does, as in Drone's handlers: read, change, write, answer with the row."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from dataclasses import dataclass, replace
from typing import Mapping, TypeVar

from .access import NO_ROWS, Answer, Call, error
from .golang import decode, is_cron, slug
from .model import Build, Cron, Repo, Secret, Template, User


@dataclass(frozen=True)
class Encoded:
    """A list that is encoded already, and how long a real server would have taken for it."""

    body: bytes
    seconds: float


Found = TypeVar("Found")


def _one(row: Found | None) -> Found:
    if row is None:
        raise NO_ROWS
    return row


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
    owner = _one(call.state.users.get(call.repo.user_id))
    if not _known_at_host(call, owner):
        return error(404, "Unauthorized")
    return call.state.change_repo(call.repo, {}).json(call.state.version)


def repo_sign(call: Call) -> object:
    data = decode(call.body, "payload", {"data": str}).get("data", "")
    return {"data": hmac.new(call.repo.secret.encode(), data.encode(), hashlib.sha256).hexdigest()}


def _known_at_host(call: Call, user: User) -> bool:
    return not user.machine and user.login in call.state.host.logins


# Builds and the queue


def _builds(call: Call) -> list[Build]:
    repo = call.repo
    return sorted((build for build in call.state.builds if build.repo_id == repo.id), key=lambda build: -build.number)


def builds_list(call: Call) -> object:
    return [build.json() for build in _builds(call)][:25]


def builds_latest(call: Call) -> object:
    return _one(next(iter(_builds(call)), None)).json(stages=True)


def builds_find(call: Call) -> object:
    number = _number(call)
    return _one(next((build for build in _builds(call) if build.number == number), None)).json(stages=True)


def _number(call: Call) -> int:
    if not call.names["number"].isdigit():
        raise error(400, f"strconv.ParseInt: parsing {json.dumps(call.names['number'])}: invalid syntax")
    return int(call.names["number"])


def builds_cancel(call: Call) -> object:
    """Cancel a build: what runs is killed, what waits is skipped, what is done stays as it is."""
    number = _number(call)
    build = _one(next((build for build in _builds(call) if build.number == number), None))
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


# Secrets

SECRET: Mapping[str, type] = {"name": str, "data": str, "pull_request": bool, "pull_request_push": bool}
SECRET_UPDATE = {name: kind for name, kind in SECRET.items() if name != "name"}


def _checked(secret: Secret) -> Secret:
    """Return a secret that Drone takes: the name comes first, then the value, then the name's characters."""
    if not secret.name:
        raise error(400, "Invalid Secret Name")
    if not secret.data:
        raise error(400, "Invalid Secret Value")
    if re.search(r"[^a-zA-Z0-9\-_.]", secret.name):
        raise error(400, "Invalid Secret Name")
    return secret


def _secrets(call: Call) -> list[Secret]:
    repo = call.repo
    mine = (secret for secret in call.state.secrets if secret.repo_id == repo.id)
    return sorted(mine, key=lambda secret: secret.name)


def _secret(call: Call) -> Secret:
    return _one(next((secret for secret in _secrets(call) if secret.name == call.names["secret"]), None))


def secrets_list(call: Call) -> object:
    return [secret.json() for secret in _secrets(call)]


def secrets_create(call: Call) -> object:
    fields = {"name": "", "data": "", **decode(call.body, "secretInput", SECRET)}
    repo_id = call.repo.id
    _checked(Secret(id=0, repo_id=repo_id, **fields))
    return call.state.secrets.insert(
        lambda id: Secret(id=id, repo_id=repo_id, **fields),
        key=lambda secret: (secret.repo_id, secret.name),
        columns="secrets.secret_repo_id, secrets.secret_name",
    ).json()


def secrets_find(call: Call) -> object:
    return _secret(call).json()


def secrets_update(call: Call) -> object:
    changes = decode(call.body, "secretUpdate", SECRET_UPDATE)
    return call.state.secrets.update(_checked(replace(_secret(call), **changes))).json()


def secrets_delete(call: Call) -> Answer:
    call.state.secrets.delete(_secret(call))
    return Answer(204)


# Secrets of organisations. Their columns are COLLATE NOCASE (migration 012_create_table_org_secrets.sql; not recorded).


def _org_secrets(call: Call) -> list[Secret]:
    namespace = call.names["namespace"].lower()
    mine = (secret for secret in call.state.org_secrets if secret.namespace.lower() == namespace)
    return sorted(mine, key=lambda secret: secret.name.lower())


def _org_secret(call: Call) -> Secret:
    name = call.names["secret"].lower()
    return _one(next((secret for secret in _org_secrets(call) if secret.name.lower() == name), None))


def org_secrets_all(call: Call) -> object:
    return [secret.json() for secret in sorted(call.state.org_secrets, key=lambda secret: secret.name.lower())]


def org_secrets_list(call: Call) -> object:
    return [secret.json() for secret in _org_secrets(call)]


def org_secrets_create(call: Call) -> object:
    fields = {"name": "", "data": "", **decode(call.body, "secretInput", SECRET)}
    namespace = call.names["namespace"]
    _checked(Secret(id=0, namespace=namespace, **fields))
    return call.state.org_secrets.insert(
        lambda id: Secret(id=id, namespace=namespace, **fields),
        key=lambda secret: (secret.namespace.lower(), secret.name.lower()),
        columns="orgsecrets.secret_namespace, orgsecrets.secret_name",
    ).json()


def org_secrets_find(call: Call) -> object:
    return _org_secret(call).json()


def org_secrets_update(call: Call) -> object:
    changes = decode(call.body, "secretUpdate", SECRET_UPDATE)
    return call.state.org_secrets.update(_checked(replace(_org_secret(call), **changes))).json()


def org_secrets_delete(call: Call) -> Answer:
    call.state.org_secrets.delete(_org_secret(call))
    return Answer(204)


# Cron jobs


def _crons(call: Call) -> list[Cron]:
    repo = call.repo
    return sorted((cron for cron in call.state.crons if cron.repo_id == repo.id), key=lambda cron: cron.name)


def _cron(call: Call) -> Cron:
    return _one(next((cron for cron in _crons(call) if cron.name == call.names["cron"]), None))


def crons_list(call: Call) -> object:
    return [cron.json() for cron in _crons(call)]


def crons_create(call: Call) -> object:
    """Make a cron job of name, expression and branch; what else is sent is ignored, `disabled` and `target` too."""
    fields = {
        "name": "",
        "expr": "",
        "branch": "",
        **decode(call.body, "Cron", {"name": str, "expr": str, "branch": str}),
    }
    repo_id = call.repo.id
    name = slug(fields.pop("name"))
    if not is_cron(fields["expr"]):
        raise error(400, "Invalid Cronjob Expression")
    if not name:
        raise error(400, "Invalid Cronjob Name")
    if not fields["branch"]:
        raise error(400, "Invalid Cronjob Branch")
    # When it runs next is not worked out: any time to come.
    soon = int(time.time()) + 3600
    return call.state.crons.insert(
        lambda id: Cron(id=id, repo_id=repo_id, name=name, next=soon, **fields),
        key=lambda cron: (cron.repo_id, cron.name),
        columns="cron.cron_repo_id, cron.cron_name",
    ).json()


def crons_find(call: Call) -> object:
    return _cron(call).json()


def crons_update(call: Call) -> object:
    """Change a cron job's branch, target and whether it runs; a new expression is ignored without a word."""
    changes = decode(call.body, "cronUpdate", {"branch": str, "target": str, "disabled": bool})
    return call.state.crons.update(replace(_cron(call), **changes)).json()


def crons_delete(call: Call) -> Answer:
    call.state.crons.delete(_cron(call))
    return Answer(204)


# Templates

EXTENSIONS = (".yml", ".yaml", ".star", ".starlark", ".script", ".jsonnet")


def _templates(call: Call) -> list[Template]:
    # The namespace's column is COLLATE NOCASE, from the source.
    namespace = call.names["namespace"].lower()
    mine = (template for template in call.state.templates if template.namespace.lower() == namespace)
    return sorted(mine, key=lambda template: template.name)


def _template(call: Call) -> Template:
    return _one(next((row for row in _templates(call) if row.name == call.names["template"]), None))


def templates_all(call: Call) -> object:
    return [template.json() for template in sorted(call.state.templates, key=lambda row: row.name)]


def templates_list(call: Call) -> object:
    return [template.json() for template in _templates(call)]


def templates_create(call: Call) -> object:
    """Make a template. 2.28 takes the namespace from the path and refuses other extensions, 2.0.4 takes all as it comes."""
    new = call.state.version.new
    fields = {
        "name": "",
        "data": "",
        "namespace": "",
        **decode(call.body, "templateInput", dict.fromkeys(("name", "data", "namespace"), str)),
    }
    if new:
        fields["namespace"] = call.names["namespace"]
        # That it refuses is known from its source and from servers; no recording holds it.
        if not fields["name"].endswith(EXTENSIONS):
            raise error(400, "Template extension invalid. Must be yaml, starlark or jsonnet")
    if not fields["name"]:
        raise error(400, "Invalid Template Name")
    if not fields["data"]:
        raise error(400, "Invalid Template Data")
    columns = "templates.template_name, templates.template_namespace"
    same = call.state.templates.find(lambda row: row.name == fields["name"])
    if not new and same and same.namespace.lower() != fields["namespace"].lower():
        # In 2.0 the name alone is unique on the whole server (its migration 015; not recorded).
        raise error(500, "UNIQUE constraint failed: templates.template_name")
    return call.state.templates.insert(
        lambda id: Template(id=id, **fields), key=lambda row: (row.name, row.namespace.lower()), columns=columns
    ).json()


def templates_find(call: Call) -> object:
    return _template(call).json()


def templates_update(call: Call) -> object:
    changes = decode(call.body, "templateUpdate", {"data": str})
    template = replace(_template(call), **changes)
    if not template.data:
        raise error(400, "Invalid Template Data")
    return call.state.templates.update(template).json()


def templates_delete(call: Call) -> Answer:
    call.state.templates.delete(_template(call))
    return Answer(204)


# Users


def users_list(call: Call) -> object:
    return [user.json() for user in sorted(call.state.users, key=lambda user: user.login)]


def users_create(call: Call) -> object:
    kinds: dict[str, type] = {"login": str, "machine": bool, "admin": bool, "token": str}
    fields = {"login": "", **decode(call.body, "User", kinds)}
    if not 1 <= len(fields["login"].encode()) <= 50:
        raise error(400, "Invalid username length")
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", fields["login"]):
        raise error(400, "Invalid character in username")
    token = fields.pop("token", "") or call.state.new_token()
    now = int(time.time())
    made = call.state.users.insert(
        lambda id: User(id=id, token=token, created=now, updated=now, **fields),
        key=lambda user: user.login.lower(),
        columns="users.user_login",
    )
    return made.json(token=made.machine)  # the only time that the token is shown


def _user(call: Call) -> User:
    return _one(call.state.by_login(call.names["user"]))


def users_find(call: Call) -> object:
    return _user(call).json()


def users_update(call: Call) -> object:
    changes = decode(call.body, "userInput", {"admin": bool, "active": bool})
    if changes.get("active") is False:
        changes["admin"] = False
    user = call.state.users.update(replace(_user(call), **changes))
    if not user.active:
        call.state.transfer(user)
    return user.json()


def users_delete(call: Call) -> Answer:
    user = _user(call)
    call.state.transfer(user)
    call.state.users.delete(user)
    call.state.perms.pop(user.login, None)
    return Answer(204)
