# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A pipeline in branches of git repositories: hundreds are read and changed a few at a time, each by itself."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping

from .._change import Plan, Step
from .._change_each import FAILURES_SHOWN, carry_out_each
from .._drone.client import Unreachable
from .._problem import Problem
from .git import Branch, Login, Raced, Remote
from .wish import Wish, as_result, wish_of

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from .checks import Server

# How often a push that somebody else's came before is tried again, on top of theirs.
ATTEMPTS = 8


@dataclass
class Target:
    """A branch of a git repository, and what its file shall hold."""

    name: str
    remote: Remote
    branch: str
    wish: Wish
    message: str
    told: dict[str, Any] = field(default_factory=dict)
    problem: Problem | None = None
    _found: Branch | None = None
    _texts: tuple[str, str] | None = None

    def plan(self) -> Plan | None:
        """Return the way to the wish; None where `problem` says why there is none."""
        try:
            self._found = Branch.read(self.remote, self.branch, self.wish.paths)
            self._texts = before, after = self.wish.text(self._found.files, str(self.remote))
        except Exception as error:  # every repository is an island: what one of them holds stops no other
            self.problem = (
                error if isinstance(error, Problem) else Problem(f"{self.remote}: {type(error).__name__}: {error}")
            )
            self.close()
            return None
        if before == after:
            self.close()
            return Plan({"text": before}, {"text": after})
        verb = "commit" if after else "commit the removal of"
        summary = f"{verb} {self.wish.path} to {self.branch or 'the default branch'}"
        return Plan({"text": before}, {"text": after}, [Step(summary, self.deploy)])

    def deploy(self) -> None:
        """Commit and push; where somebody else pushed first, make the text again on top of theirs and try again."""
        for attempt in range(ATTEMPTS):
            found = self._found or Branch.read(self.remote, self.branch, self.wish.paths)
            self._found = found
            try:
                before, after = self._texts or self.wish.text(found.files, str(self.remote))
                if before == after:
                    return
                commit = found.commit(self.wish.path, after.encode() if after else None, self.message)
                found.push(commit)
                self.told.update(commit=commit, branch=found.name)
                return
            except Raced:
                if attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(random.uniform(0.05, 0.2) * (attempt + 1))
            finally:
                self.close()

    def close(self) -> None:
        """Remove what was fetched."""
        if self._found is not None:
            self._found.drop()
            self._found = self._texts = None


def to_repositories(module: AnsibleModule, server: Server | None) -> dict[str, Any]:
    """Commit the file to each repository's branch, a few repositories at a time."""
    from concurrent.futures import ThreadPoolExecutor

    options = module.params
    at_a_time = options["at_a_time"]
    if at_a_time < 1:
        raise Problem(f"at_a_time is {at_a_time}", "give at least one")
    targets = _targets(module, server)
    if server is not None and targets:
        server.drone.me()  # a wrong token is one error, not one for each repository
        server.load()
    with ThreadPoolExecutor(max(1, min(at_a_time, len(targets)))) as pool:
        planned = list(pool.map(Target.plan, targets))
    plans = {target.name: plan for target, plan in zip(targets, planned) if plan is not None}
    try:
        facts = carry_out_each(plans, check_mode=module.check_mode, at_a_time=at_a_time, give_up_on=(Unreachable,))
    except Problem as problem:
        if "results" not in problem.facts:
            raise
        facts = dict(problem.facts)
    finally:
        for target in targets:
            target.close()
    rows = {row["name"]: row for row in facts.pop("results")}
    results = [_result(target, rows.get(target.name, {})) for target in targets]
    after = facts["diff"]["after"]
    diffs = {
        f"{name} {next(target.wish.path for target in targets if target.name == name)}": {
            side: facts["diff"][side][name] for side in ("before", "after")
        }
        for name in after
    }
    # Not `results`: in a loop Ansible takes that for its own, and shows no difference.
    facts = {**facts, "repos": results}
    facts = as_result(module, facts, [target.wish for target in targets], diffs)
    failed = [result for result in results if result.get("failed")]
    if failed:
        shown = "; ".join(result["msg"] for result in failed[:FAILURES_SHOWN])
        more = f"; and {len(failed) - FAILURES_SHOWN} more" if len(failed) > FAILURES_SHOWN else ""
        raise Problem(
            f"{len(failed)} of {len(results)} failed: {shown}{more}",
            "mend it and run again" if len(results) == 1 else "the others are done; mend these and run again",
            **facts,
        )
    return facts


def _targets(module: AnsibleModule, server: Server | None) -> list[Target]:
    """Return the repositories that are named; everything that can be refused without looking at one is refused here."""
    options = module.params
    login = Login(
        options["git_username"] or "",
        options["git_password"] or "",
        options["git_ssh_key"] or "",
        options["commit_author"],
        options["git_timeout"],
    )
    message = options["commit_message"]
    if not message.strip() or re.search(r"[\x00\ud800-\udfff]", message):
        raise Problem("commit_message is empty, or no text", "say what the commit does")
    targets: dict[str, Target] = {}
    for entry in options["repos"]:
        remote = Remote.parse(entry["url"], login)
        branch = entry["branch"] or options["branch"] or ""
        if re.search(r"^-|\.\.|[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]|//|@\{|^/|/$|\.lock$|^@$", branch):
            raise Problem(f"{remote}: {branch!r} is not a valid branch name", "write it as git branch shows it")
        slug = entry["slug"] or slug_of(remote)
        wish = wish_of(module, server, entry, slug)
        name = str(remote) + (f"#{entry['branch']}" if entry["branch"] else "")
        name += f" {wish.path}" if entry["config_path"] else ""
        if name in targets:
            raise Problem(f"{name} is named twice in repos", "keep one of them")
        targets[name] = Target(name, remote, branch, wish, message)
    return list(targets.values())


def slug_of(remote: Remote) -> str:
    """Return the repository's name in Drone: the last two parts of its URL."""
    parts = [part for part in re.split(r"[/:]", re.sub(r"(/?\.git)?/*$", "", remote.url)) if part]
    return "/".join(parts[-2:])


def _result(target: Target, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what happened to one repository."""
    told = {
        "name": target.name,
        "slug": target.wish.slug,
        "changed": False,
        **row,
        **target.told,
        "secrets": sorted(target.wish.secrets),
        "skipped_checks": sorted(target.wish.skipped),
    }
    if target.problem is not None:
        told.update(failed=True, msg=str(target.problem))
    return told
