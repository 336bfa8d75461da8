# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Before, after, changed, diff: the one mechanism by which every module changes something and says so.

A module compares its wish with the world and gets a `Plan`. `carry_out` takes its steps, or in check mode only shows
them, reads the world again, and makes the result. There is no other way to `changed: true`, so no module can forget
its diff, and none can change what it does not show.

A module that takes a list has a `Plan` for each of its items; `carry_out_each` takes a few of them at a time, and one
that fails does not keep the others from being done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple

from ._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible.module_utils.basic import AnsibleModule


# How many failures a message spells out; the result tells every one.
FAILURES_SHOWN = 5
# How many items in a row must fail for a reason that concerns all of them, until no other is tried.
GIVE_UP_AFTER = 5


class Step(NamedTuple):
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
    if plan.steps and not check_mode:
        _unused, problem = _take(plan, reread)
        if problem:
            raise problem
    return {
        "changed": bool(plan.steps),
        "steps": [step.summary for step in plan.steps],
        "diff": _diff(plan.before, plan.after),
    }


def carry_out_each(
    plans: Mapping[str, Plan],
    *,
    check_mode: bool,
    at_a_time: int = 1,
    reread: Callable[[], Mapping[str, Mapping[str, Any]]] | None = None,
    give_up_on: tuple[type[Exception], ...] = (),
) -> dict[str, Any]:
    """Take the plan of each item, a few at a time, and return `changed`, `steps`, `diff`, `results`, `unchanged`.

    The items are independent: where one fails, its own steps are taken back and the others are done all the same; then
    the Problem names each that failed, and its facts say what was changed. An error in `give_up_on` concerns all of
    them (the server is gone): after a few in a row, the rest is not tried. `reread` reads the world again once, after everything.
    """
    touched = {name: plan for name, plan in plans.items() if plan.steps}
    kept = {name: plan.steps for name, plan in touched.items()}
    after: dict[str, Mapping[str, Any]] = {name: plan.after for name, plan in plans.items()}
    failed: dict[str, Exception] = {}
    if touched and not check_mode:
        kept, failed = _take_each(touched, at_a_time, give_up_on)
        after.update({name: plans[name].before for name in failed if not kept[name]})
        if reread is not None:
            _prove_each(touched, kept, failed, after, reread)
    changed = {name: steps for name, steps in kept.items() if steps}
    facts: dict[str, Any] = {
        "changed": any(after[name] != plan.before for name, plan in touched.items()),
        "steps": [f"{name}: {step.summary}" for name, steps in changed.items() for step in steps],
        "diff": _diff_each({name: plan.before for name, plan in plans.items()}, after),
        "results": [
            _told(name, changed.get(name, ()), failed.get(name), changed=after[name] != plan.before)
            for name, plan in touched.items()
        ],
        "unchanged": [name for name in plans if name not in touched],
    }
    if failed:
        shown = [f"{name}: {error}" for name, error in list(failed.items())[:FAILURES_SHOWN]]
        more = len(failed) - len(shown)
        raise Problem(
            f"{len(failed)} of {len(plans)} failed: {'; '.join(shown)}" + (f"; and {more} more" if more else ""),
            "the others are done; run again to finish",
            **facts,
        )
    return facts


def serve(module: AnsibleModule, work: Callable[[AnsibleModule], Mapping[str, Any]]) -> None:
    """Run a module's work and hand its result, or its Problem, to Ansible."""
    try:
        result, end = dict(work(module)), module.exit_json
    except Problem as problem:
        result, end = {"msg": str(problem), **problem.facts}, module.fail_json
    except OSError as error:  # a full disk, a directory of somebody else: no traceback tells more
        result, end = {"msg": f"{error.filename or 'this host'}: {error.strerror or error}"}, module.fail_json
    if not module._diff:
        result.pop("diff", None)
    end(**result)


def _take(plan: Plan, reread: Callable[[], Mapping[str, Any]] | None = None) -> tuple[Sequence[Step], Problem | None]:
    """Take a plan's steps; return those that hold now, and the Problem where one failed."""
    done: list[Step] = []
    try:
        for step in plan.steps:
            step.apply()
            done.append(step)
        if reread is not None:
            _expect(plan.after, reread())
    except (Problem, OSError) as error:
        failed = plan.steps[len(done)].summary if len(done) < len(plan.steps) else "reading the result back"
        return _taken_back(failed, error, done)
    return plan.steps, None


def _take_each(
    plans: Mapping[str, Plan], at_a_time: int, give_up_on: tuple[type[Exception], ...]
) -> tuple[dict[str, Sequence[Step]], dict[str, Exception]]:
    """Take several plans, a few at a time; return the steps of each that hold now, and the failures by name."""
    from concurrent.futures import ThreadPoolExecutor  # a converged run, which is most of them, needs no threads

    lost: list[Problem] = []  # in a row: one alone may be one item's bad luck

    def take(name: str) -> tuple[Sequence[Step], Problem | None]:
        if len(lost) >= GIVE_UP_AFTER:
            return (), Problem("not tried", str(lost[0].__cause__))
        kept, problem = _take(plans[name])
        if problem and isinstance(problem.__cause__, give_up_on):
            lost.append(problem)
        else:
            lost.clear()
        return kept, problem

    with ThreadPoolExecutor(max(1, min(at_a_time, len(plans)))) as pool:
        outcomes = dict(zip(plans, pool.map(take, plans)))
    kept = {name: steps for name, (steps, _unused) in outcomes.items()}
    return kept, {name: problem for name, (_unused, problem) in outcomes.items() if problem}


def _prove_each(
    plans: Mapping[str, Plan],
    kept: dict[str, Sequence[Step]],
    failed: dict[str, Exception],
    after: dict[str, Mapping[str, Any]],
    reread: Callable[[], Mapping[str, Mapping[str, Any]]],
) -> None:
    """Read the world again: what is not as promised joins `failed`, and `after` tells what was found."""
    try:
        world = reread()
    except (Problem, OSError) as error:
        for name in plans:
            failed.setdefault(name, Problem(f"changed, but not read back: {error}"))
        return
    for name, plan in plans.items():
        after[name] = found = world.get(name, {})
        if name in failed:
            if found != plan.before and not kept[name]:  # a step that failed half way
                told = getattr(failed[name], "what", failed[name])
                failed[name] = Problem(f"{told}; half done: it is now {_diff(plan.before, found)['after']}")
            continue
        try:
            _expect(plan.after, found)
        except Problem as problem:
            failed[name] = problem
            if found == plan.before:
                kept[name] = ()


def _told(name: str, steps: Sequence[Step], error: Exception | None, *, changed: bool) -> dict[str, Any]:
    """Return what happened to one item."""
    told: dict[str, Any] = {"name": name, "changed": changed}
    if steps:
        told["steps"] = [step.summary for step in steps]
    if error:
        told.update(failed=True, msg=str(error))
    return told


def _diff_each(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return what differs in each item that differs."""
    differences = {name: _diff(before[name], after[name]) for name in before if before[name] != after[name]}
    return {side: {name: difference[side] for name, difference in differences.items()} for side in ("before", "after")}


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


def _taken_back(failed: str, error: Exception, done: Iterable[Step]) -> tuple[Sequence[Step], Problem]:
    """Undo the steps that were done, last first; return those that could not be, and the Problem that tells all of it."""
    restored: list[str] = []
    kept: list[Step] = []
    told: list[str] = []
    for step in reversed(list(done)):
        why = ""
        try:
            if step.undo is not None:
                step.undo()
                restored.append(step.summary)
                continue
        except (Problem, OSError) as undo_error:
            why = f" ({undo_error})"
        kept.insert(0, step)
        told.append(step.summary + why)
    outcome = "nothing was changed"
    if kept:
        outcome = f"changed and not taken back: {', '.join(told)}"
    elif restored:
        outcome = f"taken back: {', '.join(restored)}"
    facts = error.facts if isinstance(error, Problem) else {}
    problem = Problem(f"{failed}: {error}", outcome, **facts)
    problem.__cause__ = error
    return kept, problem
