# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._change import Plan, Step, carry_out
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem


class World:
    """A world of one dictionary, whose changes can be made to fail."""

    def __init__(self, **things):
        self.things = things

    def put(self, name, value, fails=False):
        before = self.things.get(name)

        def apply():
            if fails:
                raise OSError("disk full")
            self.things[name] = value

        def undo():
            self.things[name] = before

        return Step(f"set {name}", apply, undo)


def test_check_mode_predicts_what_the_run_does_and_changes_nothing():
    world = World(a=1, b=1)
    plan = Plan({"a": 1, "b": 1}, {"a": 2, "b": 1}, [world.put("a", 2)])
    predicted = carry_out(plan, check_mode=True)
    assert world.things == {"a": 1, "b": 1}
    assert carry_out(plan, check_mode=False, reread=lambda: world.things) == predicted
    assert predicted == {"changed": True, "steps": ["set a"], "diff": {"before": {"a": 1}, "after": {"a": 2}}}
    assert world.things == {"a": 2, "b": 1}


def test_a_failing_step_takes_back_what_was_done_before_it():
    world = World(a=1, b=1)
    plan = Plan({"a": 1, "b": 1}, {"a": 2, "b": 2}, [world.put("a", 2), world.put("b", 2, fails=True)])
    with pytest.raises(Problem, match="set b: disk full; taken back: set a"):
        carry_out(plan, check_mode=False)
    assert world.things == {"a": 1, "b": 1}


def test_a_step_that_cannot_be_undone_is_named_in_the_error():
    world = World(a=1, b=1)
    plan = Plan(
        {"a": 1, "b": 1}, {"a": 2, "b": 2}, [Step("set a", world.put("a", 2).apply), world.put("b", 2, fails=True)]
    )
    with pytest.raises(Problem, match="set b: disk full; changed and not taken back: set a"):
        carry_out(plan, check_mode=False)


def test_a_world_that_differs_when_read_again_is_an_error_and_is_restored():
    world = World(a=1)
    plan = Plan({"a": 1}, {"a": 2}, [world.put("a", 2)])
    with pytest.raises(Problem, match="did not take hold"):
        carry_out(plan, check_mode=False, reread=lambda: {"a": 1})
    assert world.things == {"a": 1}


def test_a_change_that_the_diff_does_not_show_cannot_be_planned():
    with pytest.raises(ValueError, match="do not fit"):
        Plan({"a": 1}, {"a": 1}, [Step("set a", lambda: None)])
    with pytest.raises(ValueError, match="do not fit"):
        Plan({"a": 1}, {"a": 2})
