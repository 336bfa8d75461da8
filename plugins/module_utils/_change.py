# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Before, after, changed, diff: the one mechanism by which every module changes something and says so.

A module compares its wish with the world and gets a `Plan`. `carry_out` takes its steps, or in check mode only shows
them, reads the world again, and makes the result. There is no other way to `changed: true`, so no module can forget
its diff, and none can change what it does not show.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Mapping

from ._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible.module_utils.basic import AnsibleModule


@dataclass(frozen=True)
class Step:
    """One change: what it does, in words ("register qemu-aarch64"), how, and how it is taken back."""

    summary: str
    apply: Callable[[], object]
    undo: Callable[[], object] | None = None


@dataclass(frozen=True)
class Plan:
    """The way from `before` to `after`: two mappings of the same shape, item by item, and the steps between them.

    Values are what a person may see: no secret belongs there.
    """

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    steps: Sequence[Step] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        # A diff that lies is worse than none: a change that it does not show is a bug of ours, found at once.
        if bool(self.steps) != (self.before != self.after):
            raise ValueError(f"steps {[step.summary for step in self.steps]} do not fit {self.before} -> {self.after}")


def carry_out(plan: Plan, *, check_mode: bool, reread: Callable[[], Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Take the plan's steps unless in check mode, prove that they hold, and return `changed`, `steps` and `diff`.

    `reread` reads the world again in the shape of `plan.after`. Where a step fails or the world then differs, what was
    done is taken back in reverse order, and the Problem says what was restored and what was not.
    """
    done: list[Step] = []
    if plan.steps and not check_mode:
        try:
            for step in plan.steps:
                step.apply()
                done.append(step)
            if reread is not None:
                _expect(plan.after, reread())
        except (Problem, OSError) as error:
            failed = plan.steps[len(done)].summary if len(done) < len(plan.steps) else "reading the result back"
            raise _taken_back(failed, error, done) from error
    return {
        "changed": bool(plan.steps),
        "steps": [step.summary for step in plan.steps],
        "diff": _diff(plan.before, plan.after),
    }


def serve(module: AnsibleModule, work: Callable[[AnsibleModule], Mapping[str, Any]]) -> None:
    """Run a module's work and hand its result, or its Problem, to Ansible."""
    try:
        result = dict(work(module))
    except Problem as problem:
        module.fail_json(msg=str(problem), **problem.facts)
    if not module._diff:
        result.pop("diff", None)
    module.exit_json(**result)


def _diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return only what differs, as Ansible's callbacks print it."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {
        "before": {name: before[name] for name in names if name in before},
        "after": {name: after[name] for name in names if name in after},
    }


def _expect(wish: Mapping[str, Any], world: Mapping[str, Any]) -> None:
    """Raise a Problem where the world, read again, is not what the plan promised."""
    difference = _diff(wish, world)
    if difference["before"] or difference["after"]:
        raise Problem(f"the change did not take hold: wanted {difference['before']}, found {difference['after']}")


def _taken_back(failed: str, error: Exception, done: Iterable[Step]) -> Problem:
    """Undo the steps that were done, last first, and return the Problem that tells all of it."""
    restored: list[str] = []
    kept: list[str] = []
    for step in reversed(list(done)):
        if step.undo is None:
            kept.append(step.summary)
            continue
        try:
            step.undo()
            restored.append(step.summary)
        except (Problem, OSError) as undo_error:
            kept.append(f"{step.summary} ({undo_error})")
    outcome = "nothing was changed"
    if kept:
        outcome = f"changed and not taken back: {', '.join(kept)}"
    elif restored:
        outcome = f"taken back: {', '.join(restored)}"
    facts = error.facts if isinstance(error, Problem) else {}
    return Problem(f"{failed}: {error}", outcome, **facts)
