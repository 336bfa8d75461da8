# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import errno

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._change import Plan, Step, carry_out
from ansible_collections.multiarch.drone.plugins.module_utils._change_each import carry_out_each
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.module_utils._serve import serve


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


def test_a_step_that_fails_halfway_is_taken_back_with_those_before_it():
    world = World(a=1, b=1)

    def half():
        world.things["b"] = "half"
        raise OSError("disk full")

    halfway = Step("set b", half, world.put("b", 2).undo, partial=True)
    with pytest.raises(Problem, match="set b: disk full; taken back: set b, set a"):
        carry_out(Plan({"a": 1, "b": 1}, {"a": 2, "b": 2}, [world.put("a", 2), halfway]), check_mode=False)
    assert world.things == {"a": 1, "b": 1}


def test_a_step_that_fails_halfway_and_has_no_way_back_is_named_in_the_error():
    world = World(a=1, b=1)
    halfway = world.put("b", 2, fails=True)._replace(undo=None, partial=True)
    with pytest.raises(Problem, match="disk full; changed and not taken back: set b; taken back: set a"):
        carry_out(Plan({"a": 1, "b": 1}, {"a": 2, "b": 2}, [world.put("a", 2), halfway]), check_mode=False)


def test_a_check_that_fails_before_a_step_leaves_nothing_to_take_back():
    def refuse():
        raise Problem("no")

    step = Step("set a", lambda: None, lambda: None, partial=True, check=refuse)
    with pytest.raises(Problem, match="set a: no; nothing was changed"):
        carry_out(Plan({"a": 1}, {"a": 2}, [step]), check_mode=False)


def test_what_is_done_afterwards_takes_nothing_back_where_it_fails():
    world = World(a=1, b=1)
    plan = Plan({"a": 1, "b": 1}, {"a": 2, "b": 2}, [world.put("a", 2)], [world.put("b", 2, fails=True)])
    assert carry_out(plan, check_mode=True)["steps"] == ["set a", "set b"]
    with pytest.raises(Problem, match="set b: disk full; done before: set a"):
        carry_out(plan, check_mode=False)
    assert world.things == {"a": 2, "b": 1}


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


def each(world, values, fails=(), **options):
    """Wish `values` for a world, item by item; those in `fails` cannot be changed."""
    plans = {}
    for name, value in values.items():
        before = {"value": world.things[name]}
        steps = [world.put(name, value, fails=name in fails)] if before["value"] != value else []
        plans[name] = Plan(before, {"value": value}, steps)

    def reread():
        return {name: {"value": world.things[name]} for name in values}

    return carry_out_each(plans, **{"check_mode": False, "reread": reread, "at_a_time": 3, **options})


def test_each_item_that_differs_is_changed_and_check_mode_predicted_it():
    world = World(a=1, b=1, c=1)
    predicted = each(world, {"a": 2, "b": 1, "c": 2}, check_mode=True)
    assert world.things == {"a": 1, "b": 1, "c": 1}
    assert each(world, {"a": 2, "b": 1, "c": 2}) == predicted
    assert predicted == {
        "changed": True,
        "steps": ["a: set a", "c: set c"],
        "diff": {"before": {"a": {"value": 1}, "c": {"value": 1}}, "after": {"a": {"value": 2}, "c": {"value": 2}}},
        "results": [
            {"name": "a", "changed": True, "steps": ["set a"]},
            {"name": "c", "changed": True, "steps": ["set c"]},
        ],
        "unchanged": ["b"],
    }
    again = each(world, {"a": 2, "b": 1, "c": 2})
    assert not again["changed"]
    assert again["diff"] == {"before": {}, "after": {}}


def test_where_one_item_fails_the_others_are_done_and_the_result_tells_of_each():
    world = World(a=1, b=1, c=1)
    with pytest.raises(Problem, match=r"1 of 3 failed: b: set b: disk full; nothing was changed; the others") as caught:
        each(world, {"a": 2, "b": 2, "c": 2}, fails="b")
    assert world.things == {"a": 2, "b": 1, "c": 2}
    facts = caught.value.facts
    assert facts["changed"]
    assert facts["steps"] == ["a: set a", "c: set c"]
    assert set(facts["diff"]["after"]) == {"a", "c"}
    assert [(told["name"], told["changed"], told.get("failed", False)) for told in facts["results"]] == [
        ("a", True, False),
        ("b", False, True),
        ("c", True, False),
    ]
    assert each(world, {"a": 2, "b": 2, "c": 2})["steps"] == ["b: set b"]


def test_an_item_that_is_not_as_promised_when_read_again_has_failed_and_was_not_changed():
    world = World(a=1, b=1)
    answers = {"a": {"value": 2}, "b": {"value": 1}}
    with pytest.raises(
        Problem, match=r"b: the change did not take hold: wanted {'value': 2}, found {'value': 1}"
    ) as caught:
        each(world, {"a": 2, "b": 2}, reread=lambda: answers)
    assert caught.value.facts["steps"] == ["a: set a"]
    assert caught.value.facts["diff"] == {"before": {"a": {"value": 1}}, "after": {"a": {"value": 2}}}


def test_an_item_whose_step_failed_half_way_is_told_as_it_was_found():
    world = World(a=1)

    def half():
        world.things["a"] = "half"
        raise OSError("disk full")

    plans = {"a": Plan({"value": 1}, {"value": 2}, [Step("set a", half)])}
    with pytest.raises(Problem, match=r"set a: disk full; half done: it is now {'value': 'half'}") as caught:
        carry_out_each(plans, check_mode=False, reread=lambda: {"a": {"value": world.things["a"]}})
    assert caught.value.facts["changed"]
    assert caught.value.facts["diff"]["after"] == {"a": {"value": "half"}}


def test_a_world_that_cannot_be_read_again_leaves_no_item_proven():
    def reread():
        raise Problem("the server is gone")

    with pytest.raises(Problem, match="a: changed, but not read back: the server is gone") as caught:
        each(World(a=1), {"a": 2}, reread=reread)
    assert caught.value.facts["changed"]


def test_after_a_few_failures_in_a_row_that_concern_all_the_rest_is_not_tried():
    class Gone(Problem):
        pass

    tried = []

    def step(name):
        def apply():
            tried.append(name)
            raise Gone("the server is gone")

        return Step("change", apply)

    plans = {name: Plan({"value": 1}, {"value": 2}, [step(name)]) for name in map(str, range(50))}
    with pytest.raises(Problem, match=r"50 of 50 failed: .*; and 45 more") as caught:
        carry_out_each(plans, check_mode=False, give_up_on=(Gone,))
    assert len(tried) == 5
    assert caught.value.facts["results"][49]["msg"] == "not tried; the server is gone"
    tried.clear()
    with pytest.raises(Problem):
        carry_out_each(plans, check_mode=False)
    assert len(tried) == 50


def test_an_error_of_the_system_that_nobody_expected_is_told_without_a_traceback():
    class Module:
        _diff = False
        check_mode = False

        def fail_json(self, **result):
            self.failed = result

    def work(_module):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x")

    module = Module()
    serve(module, work)
    assert module.failed == {"msg": "/tmp/x: No space left on device"}
