# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Before, after, changed, diff: the one mechanism by which every module changes something and says so.

A module compares its wish with the world and gets a `Plan`. `carry_out` takes its steps, or in check mode only shows
them, reads the world again, and makes the result. There is no other way to `changed: true`, so no module can forget
its diff, and none can change what it does not show.

A module that takes a list has a `Plan` for each of its items: see `carry_out_each` in `_change_each.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple

from ._problem import Problem
from ._progress import tell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Step(NamedTuple):
    """One change: what it does, in words ("register qemu-aarch64"), how, and how it is taken back.

    A step is all or nothing, unless it is `partial`: then an `apply` that fails may have done a part, which `undo` takes
    back as well; it returns False where there was nothing to take back. `check` runs before `apply`, and changes nothing.
    """

    summary: str
    apply: Callable[[], object]
    undo: Callable[[], object] | None = None
    partial: bool = False
    check: Callable[[], object] | None = None


@dataclass(frozen=True)
class Plan:
    """The way from `before` to `after`: two mappings of the same shape, item by item, and the steps between them.

    Values are what a person may see: no secret belongs there. Steps that are taken `afterwards` are no reason to take
    back the others: the world is as wished already.
    """

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    steps: Sequence[Step] = field(default_factory=tuple)
    afterwards: Sequence[Step] = field(default_factory=tuple)

    @property
    def summaries(self) -> list[str]:
        """What is done, in words."""
        return [step.summary for step in (*self.steps, *self.afterwards)]

    def __post_init__(self) -> None:
        # A diff that lies is worse than none: a change that it does not show is a bug of ours, found at once.
        if bool(self.summaries) != (self.before != self.after):
            raise ValueError(f"steps {self.summaries} do not fit {self.before} -> {self.after}")


def carry_out(plan: Plan, *, check_mode: bool, reread: Callable[[], Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Take the plan's steps unless in check mode, prove that they hold, and return `changed`, `steps` and `diff`.

    `reread` reads the world again in the shape of `plan.after`. Where a step fails or the world then differs, what was
    done is taken back in reverse order, and the Problem says what was restored and what was not.
    """
    if plan.steps and not check_mode:
        _unused, problem = take(plan, reread)
        if problem:
            raise problem
    for step in () if check_mode else plan.afterwards:
        try:
            tell(step.summary)
            step.apply()
        except (Problem, OSError) as error:
            facts = error.facts if isinstance(error, Problem) else {}
            done = ", ".join(step.summary for step in plan.steps)
            raise Problem(f"{step.summary}: {error}", f"done before: {done}" if done else "", **facts) from error
    return {
        "changed": bool(plan.summaries),
        "steps": plan.summaries,
        "diff": diff(plan.before, plan.after),
    }


def take(plan: Plan, reread: Callable[[], Mapping[str, Any]] | None = None) -> tuple[Sequence[Step], Problem | None]:
    """Take a plan's steps; return those that hold now, and the Problem where one failed."""
    done: list[Step] = []
    begun: Step | None = None
    try:
        for step in plan.steps:
            begun = None
            if step.check is not None:
                step.check()
            begun = step
            tell(step.summary)
            step.apply()
            done.append(step)
        if reread is not None:
            expect(plan.after, reread())
    except (Problem, OSError) as error:
        failed = plan.steps[len(done)].summary if len(done) < len(plan.steps) else "reading the result back"
        if begun and begun.partial and not any(step is begun for step in done):
            done.append(begun)
        return _taken_back(failed, error, done)
    return plan.steps, None


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return only what differs, as Ansible's callbacks print it."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {
        "before": {name: before[name] for name in names if name in before},
        "after": {name: after[name] for name in names if name in after},
    }


def expect(wish: Mapping[str, Any], world: Mapping[str, Any]) -> None:
    """Raise a Problem where the world, read again, is not what the plan promised."""
    difference = diff(wish, world)
    if difference["before"] or difference["after"]:
        raise Problem(f"the change did not take hold: wanted {difference['before']}, found {difference['after']}")


def _taken_back(failed: str, error: Exception, done: Iterable[Step]) -> tuple[Sequence[Step], Problem]:
    """Undo the steps that were done, last first; return those that could not be, and the Problem that tells all of it."""
    restored: list[str] = []
    kept: list[Step] = []
    told: list[str] = []
    for step in reversed(list(done)):
        why = ""
        try:
            if step.undo is not None:
                tell(f"take back: {step.summary}")
                if step.undo() is not False:
                    restored.append(step.summary)
                continue
        except (Problem, OSError) as undo_error:
            why = f" ({undo_error})"
        kept.insert(0, step)
        told.append(step.summary + why)
    outcome = "nothing was changed"
    if kept:
        outcome = f"changed and not taken back: {', '.join(told)}"
        outcome += f"; taken back: {', '.join(restored)}" if restored else ""
    elif restored:
        outcome = f"taken back: {', '.join(restored)}"
    facts = error.facts if isinstance(error, Problem) else {}
    problem = Problem(f"{failed}: {error}", outcome, **facts)
    problem.__cause__ = error
    return kept, problem
