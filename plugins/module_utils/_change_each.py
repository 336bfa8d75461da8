# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Many changes in one call: a `Plan` for each item of a list, a few at a time, each by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping

from ._change import Plan, Step, diff, expect, take
from ._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

# How many failures a message spells out; the result tells every one.
FAILURES_SHOWN = 5
# How many items in a row must fail for a reason that concerns all of them, until no other is tried.
GIVE_UP_AFTER = 5


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


def _take_each(
    plans: Mapping[str, Plan], at_a_time: int, give_up_on: tuple[type[Exception], ...]
) -> tuple[dict[str, Sequence[Step]], dict[str, Exception]]:
    """Take several plans, a few at a time; return the steps of each that hold now, and the failures by name."""
    from concurrent.futures import ThreadPoolExecutor, wait  # a converged run, which is most of them, needs no threads

    lost: list[Problem] = []  # in a row: one alone may be one item's bad luck
    ended: list[Problem] = []
    taken: dict[str, tuple[Sequence[Step], Problem | None]] = {}

    def take_one(name: str) -> None:
        if name in taken:
            return
        if ended or len(lost) >= GIVE_UP_AFTER:
            taken[name] = (), Problem("not tried", str(ended[0] if ended else lost[0].__cause__))
            return
        taken[name] = take(plans[name])
        problem = taken[name][1]
        if problem and isinstance(problem.__cause__, give_up_on):
            lost.append(problem)
        else:
            lost.clear()

    with ThreadPoolExecutor(max(1, min(at_a_time, len(plans)))) as pool:
        while len(taken) < len(plans):
            try:
                begun = [pool.submit(take_one, name) for name in plans]
                # Not for ever: where the kernel tells another thread of a signal, one that waits does not hear of it.
                while wait(begun, timeout=0.5).not_done:
                    pass
                for future in begun:
                    future.result()
            except Problem as signal:  # what is at work goes on to its end, so that all that was changed is told
                ended.append(signal)
    outcomes = {name: taken[name] for name in plans}
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
                failed[name] = Problem(f"{told}; half done: it is now {diff(plan.before, found)['after']}")
            continue
        try:
            expect(plan.after, found)
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
    differences = {name: diff(before[name], after[name]) for name in before if before[name] != after[name]}
    return {side: {name: difference[side] for name, difference in differences.items()} for side in ("before", "after")}
