# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A module that is told to end, by a connection that breaks or by Ctrl-C, leaves nothing half done."""

from __future__ import annotations

import os
import signal
import time

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._change import Plan, Step, carry_out
from ansible_collections.multiarch.drone.plugins.module_utils._change_each import carry_out_each
from ansible_collections.multiarch.drone.plugins.module_utils._serve import serve

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class Module:
    """What serve asks of an AnsibleModule."""

    _diff = False
    check_mode = False

    def exit_json(self, **result):
        self.result = result

    def fail_json(self, **result):
        self.result = {**result, "failed": True}


@pytest.fixture
def served():
    """Serve some work; return what Ansible would get."""
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def run(work):
        module = Module()
        serve(module, lambda _module: work())
        return module.result

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def told_to_end(number):
    os.kill(os.getpid(), number)
    time.sleep(5)


@pytest.mark.parametrize("number", SIGNALS)
def test_what_was_done_is_taken_back(served, number):
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    before = signal.getsignal(number)
    world = []
    steps = [Step("one", lambda: world.append(1), world.clear), Step("two", lambda: told_to_end(number))]
    result = served(lambda: carry_out(Plan({"there": False}, {"there": True}, steps), check_mode=False))
    assert (result["failed"], world) == (True, [])
    assert result["msg"] == f"two: {number.name} ended the task; run it again; taken back: one"
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_so(served):
    """Nohup asks for it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    step = Step("one", lambda: os.kill(os.getpid(), signal.SIGHUP))
    assert served(lambda: carry_out(Plan({"there": False}, {"there": True}, [step]), check_mode=False))["changed"]


def test_of_many_items_the_one_at_work_is_done_the_rest_is_left_and_all_of_it_is_told(served):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    done = []

    def plan(name):
        def apply():
            if name == "b":
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)  # the main thread hears of it
            done.append(name)

        return Plan({"there": False}, {"there": True}, [Step("make it", apply)])

    result = served(lambda: carry_out_each({name: plan(name) for name in "abcd"}, check_mode=False))
    assert done == ["a", "b"]
    assert result["failed"]
    assert result["steps"] == ["a: make it", "b: make it"]
    assert [(one["name"], one["changed"]) for one in result["results"]] == [
        ("a", True),
        ("b", True),
        ("c", False),
        ("d", False),
    ]
    assert "c: not tried; SIGTERM ended the task; run it again" in result["msg"]
