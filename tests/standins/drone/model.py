# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a Drone server keeps, and how each row reads as JSON: the fields and their order are those of Drone's `core`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Version:
    """What tells one version's API from another's: 2.0.4 and 2.28.1 are recorded, in between we go by the number."""

    name: str

    @property
    def number(self) -> tuple[int, int]:
        major, minor = self.name.split(".")[:2]
        return int(major), int(minor)

    @property
    def new(self) -> bool:
        """Tell what 2.28.1 has and 2.0.4 has not; which version in between brought each is not recorded."""
        return self.number >= (2, 1)


@dataclass(frozen=True)
class User:
    """Somebody with an account on the Drone server; a machine has none at the source-code host."""

    id: int
    login: str
    token: str
    email: str = ""
    machine: bool = False
    admin: bool = False
    active: bool = True
    synced: int = 0
    created: int = 0
    updated: int = 0
    last_login: int = 0

    def json(self, *, token: bool = False) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": self.id,
            "login": self.login,
            "email": self.email,
            "machine": self.machine,
            "admin": self.admin,
            "active": self.active,
            "avatar": f"http://avatars.test/{self.login}",
            "syncing": False,
            "synced": self.synced,
            "created": self.created,
            "updated": self.updated,
            "last_login": self.last_login,
        }
        return {**row, "token": self.token} if token else row


@dataclass(frozen=True)
class Repo:
    """A repository. `version` counts its changes: a change that has read an older one is refused."""

    id: int
    uid: str  # its id at the source-code host: survives renaming
    namespace: str
    name: str
    host: str  # the source-code host's address
    user_id: int = 0
    private: bool = False
    visibility: str = "public"
    active: bool = False
    config_path: str = ""
    trusted: bool = False
    protected: bool = False
    ignore_forks: bool = False
    ignore_pull_requests: bool = False
    auto_cancel_pull_requests: bool = False
    auto_cancel_pushes: bool = False
    auto_cancel_running: bool = False
    timeout: int = 0
    throttle: int = 0
    counter: int = 0
    synced: int = 0
    created: int = 0
    updated: int = 0
    version: int = 1
    secret: str = ""  # never leaves the server: signs pipelines

    @property
    def slug(self) -> str:
        return f"{self.namespace}/{self.name}"

    def json(self, version: Version) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": self.id,
            "uid": self.uid,
            "user_id": self.user_id,
            "namespace": self.namespace,
            "name": self.name,
            "slug": self.slug,
            "scm": "",
            "git_http_url": f"{self.host}/{self.slug}.git",
            "git_ssh_url": f"git@127.0.0.1:{self.slug}.git",
            "link": f"{self.host}/{self.slug}",
            "default_branch": "main",
            "private": self.private,
            "visibility": self.visibility,
            "active": self.active,
            "config_path": self.config_path,
            "trusted": self.trusted,
            "protected": self.protected,
            "ignore_forks": self.ignore_forks,
            "ignore_pull_requests": self.ignore_pull_requests,
            "auto_cancel_pull_requests": self.auto_cancel_pull_requests,
            "auto_cancel_pushes": self.auto_cancel_pushes,
            "timeout": self.timeout,
            **({"throttle": self.throttle} if self.throttle else {}),
            "counter": self.counter,
            "synced": self.synced,
            "created": self.created,
            "updated": self.updated,
            "version": self.version,
        }
        if version.new:
            row.update(auto_cancel_running=self.auto_cancel_running, archived=False)
        return row


@dataclass(frozen=True)
class Secret:
    """A secret of a repository (`repo_id`) or an organisation (`namespace`); `data` never leaves the server."""

    id: int
    name: str
    data: str
    repo_id: int = 0
    namespace: str = ""
    pull_request: bool = False
    pull_request_push: bool = False

    def json(self) -> dict[str, Any]:
        row = {
            "id": self.id,
            "repo_id": self.repo_id,
            "namespace": self.namespace,
            "name": self.name,
            "pull_request": self.pull_request,
            "pull_request_push": self.pull_request_push,
        }
        return {name: value for name, value in row.items() if value}  # Go's omitempty


@dataclass(frozen=True)
class Cron:
    """A cron job of a repository."""

    id: int
    repo_id: int
    name: str
    expr: str
    branch: str
    target: str = ""
    disabled: bool = False
    next: int = 0

    def json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "repo_id": self.repo_id,
            "name": self.name,
            "expr": self.expr,
            "next": self.next,
            "prev": 0,
            "event": "push",
            "branch": self.branch,
            **({"target": self.target} if self.target else {}),
            "disabled": self.disabled,
            "created": 0,
            "updated": 0,
            "version": 0,
        }


@dataclass(frozen=True)
class Template:
    """A pipeline's template in a namespace."""

    id: int
    namespace: str
    name: str
    data: str

    def json(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "namespace": self.namespace, "data": self.data}


@dataclass(frozen=True)
class Stage:
    """A part of a build that a runner takes. No recording holds one: the fields are those of Drone's core/stage.go."""

    id: int
    build_id: int
    repo_id: int
    name: str = "default"
    status: str = "pending"
    machine: str = ""
    arch: str = "amd64"
    started: int = 0
    stopped: int = 0
    created: int = 0

    def json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "repo_id": self.repo_id,
            "build_id": self.build_id,
            "number": 1,
            "name": self.name,
            "kind": "pipeline",
            "type": "docker",
            "status": self.status,
            "errignore": False,
            "exit_code": 0,
            **({"machine": self.machine} if self.machine else {}),
            "os": "linux",
            "arch": self.arch,
            "started": self.started,
            "stopped": self.stopped,
            "created": self.created,
            "updated": self.created,
            "version": 1,
            "on_success": True,
            "on_failure": False,
        }


@dataclass(frozen=True)
class Build:
    """A build of a repository. No recording holds one: the fields are those of Drone's core/build.go."""

    id: int
    repo_id: int
    number: int
    stages: tuple[Stage, ...] = field(default_factory=tuple)
    status: str = "pending"
    started: int = 0
    finished: int = 0
    created: int = 0

    def json(self, *, stages: bool = False) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": self.id,
            "repo_id": self.repo_id,
            "trigger": "@hook",
            "number": self.number,
            "status": self.status,
            "event": "push",
            "action": "",
            "link": "",
            "timestamp": 0,
            "message": "",
            "before": "",
            "after": "",
            "ref": "refs/heads/main",
            "source_repo": "",
            "source": "main",
            "target": "main",
            "author_login": "",
            "author_name": "",
            "author_email": "",
            "author_avatar": "",
            "sender": "",
            "started": self.started,
            "finished": self.finished,
            "created": self.created,
            "updated": self.created,
            "version": 1,
        }
        return {**row, "stages": [stage.json() for stage in self.stages]} if stages else row
