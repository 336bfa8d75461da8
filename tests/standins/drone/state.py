# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tables of a Drone server, with the constraints that its database has; and the source-code host beside it."""

from __future__ import annotations

import random
import string
import threading
import time
from dataclasses import replace
from itertools import count
from typing import Any, Callable, Generic, Iterable, Iterator, Mapping, TypeVar

from .faults import Pace
from .model import Build, Cron, Repo, Secret, Stage, Template, User, Version

Row = TypeVar("Row", Repo, User, Secret, Cron, Template, Build)


class Conflict(Exception):
    """A change that the database refuses, in its words: Drone hands them on with a 500."""


class Table(Generic[Row]):
    """Rows by id. Writes come one after the other, as in SQLite, and each takes its time."""

    def __init__(self, ids: Iterator[int], writer: threading.RLock, pace: Callable[[], Pace]) -> None:
        self._rows: dict[int, Row] = {}
        self._ids = ids
        self._writer = writer
        self._pace = pace

    def __iter__(self) -> Iterator[Row]:
        return iter(list(self._rows.values()))

    def find(self, wanted: Callable[[Row], object]) -> Row | None:
        return next((row for row in self if wanted(row)), None)

    def get(self, id: int) -> Row | None:
        return self._rows.get(id)

    def insert(self, make: Callable[[int], Row], key: Callable[[Row], object], columns: str) -> Row:
        """Add a row unless another one has its key: then the database names the columns that must be unique."""
        with self._writer:
            time.sleep(self._pace().write)
            row = make(next(self._ids))
            if any(key(other) == key(row) for other in self):
                raise Conflict(f"UNIQUE constraint failed: {columns}")
            self._rows[row.id] = row
            return row

    def load(self, rows: Iterable[Row]) -> None:
        with self._writer:
            self._rows.update((row.id, row) for row in rows)

    def next_id(self) -> int:
        return next(self._ids)

    def update(self, row: Row) -> Row:
        with self._writer:
            time.sleep(self._pace().write)
            if isinstance(row, Repo):
                # Optimistic: whoever has read an older version than there is now has read for nothing.
                current = self._rows.get(row.id)
                if not isinstance(current, Repo) or current.version != row.version:
                    raise Conflict("Optimistic Lock Error")
                row = replace(row, version=row.version + 1, updated=int(time.time()))
            self._rows[row.id] = row
            return row

    def delete(self, row: Row) -> None:
        with self._writer:
            time.sleep(self._pace().write)
            self._rows.pop(row.id, None)


class Host:
    """The source-code host: which repositories there are, and who may do what with them.

    It answers nobody without an account there; a machine account of Drone's has none.
    """

    def __init__(self) -> None:
        self.repos: dict[str, tuple[str, str]] = {}  # uid: (namespace, name)
        self.access: dict[str, dict[str, str]] = {}  # uid: {login: read, write or admin}
        self.orgs: dict[str, dict[str, str]] = {}  # namespace: {login: member or admin}
        self.logins: set[str] = set()
        self._uids = count(1)

    def add_repo(self, slug: str, **access: str) -> str:
        """Make a repository; its namespace's namesake, where there is one, is its administrator."""
        namespace, name = slug.split("/")
        uid = str(next(self._uids))
        self.repos[uid] = (namespace, name)
        owner = {namespace: "admin"} if namespace in self.logins else {}
        self.access[uid] = {**owner, **access}
        return uid

    def rename(self, old: str, new: str) -> None:
        """Rename a repository: Drone learns it with the next synchronisation."""
        uid = next(uid for uid, names in self.repos.items() if "/".join(names) == old)
        namespace, name = new.split("/")
        self.repos[uid] = (namespace, name)


class State:
    """All that a Drone server keeps."""

    def __init__(self, version: str, seed: int, host_url: str) -> None:
        self.version = Version(version)
        self.random = random.Random(seed)
        self.pace = Pace()
        self.host = Host()
        self.host_url = host_url
        self.paused = False
        self.lock = threading.RLock()
        self.users: Table[User] = self._table()
        self.repos: Table[Repo] = self._table()
        self.secrets: Table[Secret] = self._table()
        self.org_secrets: Table[Secret] = self._table()
        self.crons: Table[Cron] = self._table()
        self.templates: Table[Template] = self._table()
        self.builds: Table[Build] = self._table()
        self.stage_ids = count(self.random.randrange(100, 1000))
        # What the last synchronisation learnt: {login: {uid: read, write or admin}}.
        self.perms: dict[str, dict[str, str]] = {}
        self.encoded: dict[int, tuple[Repo, bytes]] = {}  # each repository's JSON, as long as it is the same
        self._slugs: dict[tuple[str, str], int] = {}

    def _table(self) -> Table[Any]:
        # Ids start anywhere: whoever takes them for granted is found out.
        return Table(count(self.random.randrange(100, 1000)), self.lock, lambda: self.pace)

    def new_token(self) -> str:
        return "".join(self.random.choices(string.ascii_letters + string.digits, k=32))

    def by_token(self, token: str) -> User | None:
        return self.users.find(lambda user: user.token == token)

    def by_login(self, login: str) -> User | None:
        # The column is `COLLATE NOCASE` (migration 001_create_table_user.sql; not recorded).
        return self.users.find(lambda user: user.login.lower() == login.lower())

    def add_user(self, login: str, *, token: str = "", admin: bool = False, machine: bool = False) -> User:
        """Add an account; people have one at the source-code host too."""
        now = int(time.time())
        seen = 0 if machine else now
        if not machine:
            self.host.logins.add(login)
        user = User(
            id=self.users.next_id(),
            login=login,
            token=token or self.new_token(),
            admin=admin,
            machine=machine,
            synced=seen,
            created=now,
            updated=now,
            last_login=seen,
        )
        self.users.load([user])
        return user

    def repo(self, namespace: str, name: str) -> Repo | None:
        # Case-sensitive, as recorded. The index is checked, since a synchronisation may have renamed.
        id = self._slugs.get((namespace, name))
        found = self.repos.get(id) if id is not None else None
        if found and (found.namespace, found.name) == (namespace, name):
            return found
        return None

    def access(self, user: User, repo: Repo) -> str:
        return self.perms.get(user.login, {}).get(repo.uid, "")

    def synchronize(self, user: User) -> bool:
        """Learn from the source-code host what somebody may see there; False for those it does not know."""
        if user.machine or user.login not in self.host.logins:
            return False
        now = int(time.time())
        mine = {uid: who[user.login] for uid, who in self.host.access.items() if user.login in who}
        known = {repo.uid: repo for repo in self.repos}
        new = [uid for uid in mine if uid not in known]
        # Go walks a map in no order, and so the rows get theirs.
        self.random.shuffle(new)
        with self.lock:
            for uid in new:
                namespace, name = self.host.repos[uid]
                id = self.repos.next_id()
                self.repos.load(
                    [
                        Repo(
                            id=id,
                            uid=uid,
                            namespace=namespace,
                            name=name,
                            host=self.host_url,
                            synced=now,
                            created=now,
                            updated=now,
                        )
                    ]
                )
                self._slugs[namespace, name] = id
            for uid in mine:
                namespace, name = self.host.repos[uid]
                repo = known.get(uid)
                if repo and (repo.namespace, repo.name) != (namespace, name):
                    self.repos.load([replace(repo, namespace=namespace, name=name)])
                    self._slugs[namespace, name] = repo.id
            self.perms[user.login] = mine
        return True

    def remove_repo(self, repo: Repo) -> None:
        """Forget a repository with all that belongs to it."""
        self.repos.delete(repo)
        tables: tuple[Table[Any], ...] = (self.secrets, self.crons, self.builds)
        for table in tables:
            for row in table:
                if row.repo_id == repo.id:
                    table.delete(row)

    def transfer(self, user: User) -> None:
        """Give the repositories of somebody who leaves to another of their administrators, or to nobody."""
        for repo in self.repos:
            if repo.user_id != user.id:
                continue
            heirs = [
                other.id
                for other in self.users
                if other.id != user.id and self.perms.get(other.login, {}).get(repo.uid) == "admin"
            ]
            self.repos.update(replace(repo, user_id=heirs[0] if heirs else 0))

    def add_build(self, slug: str, *, status: str = "running", machine: str = "", arch: str = "amd64") -> Build:
        """Add a build of one stage, as if a runner had taken it."""
        repo = self.repo(*slug.split("/"))
        if repo is None:
            raise KeyError(slug)
        now = int(time.time())
        number = 1 + max((build.number for build in self.builds if build.repo_id == repo.id), default=0)
        id = self.builds.next_id()
        started = now if status == "running" else 0
        stage = Stage(
            id=next(self.stage_ids),
            build_id=id,
            repo_id=repo.id,
            status=status,
            machine=machine,
            arch=arch,
            started=started,
            created=now,
        )
        build = Build(
            id=id, repo_id=repo.id, number=number, stages=(stage,), status=status, started=started, created=now
        )
        self.builds.load([build])
        return build

    def change_repo(self, repo: Repo, changes: Mapping[str, Any]) -> Repo:
        """Write a repository that was read before: refused when somebody else wrote it in between."""
        return self.repos.update(replace(repo, **changes))
