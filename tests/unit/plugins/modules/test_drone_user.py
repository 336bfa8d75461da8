# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json

import pytest
from ansible_collections.multiarch.drone.plugins.modules import drone_user

CHOSEN = "0123456789abcdef-chosen"


def user(login="robot", **more):
    return {"login": login, **more}


def stored(server, login="robot"):
    return server.state.by_login(login)


def test_a_machine_account_is_made_and_its_token_is_returned_once(drone, converge, server):
    wish = {"users": [user(machine=True, admin=True)]}
    assert drone(drone_user, wish, check=True)["tokens"] == {}
    result, made = converge(drone_user, wish)
    assert made == ["POST /api/users"]
    assert result["tokens"] == {"robot": stored(server).token}
    assert (stored(server).machine, stored(server).admin, stored(server).active) == (True, True, True)
    assert drone(drone_user, wish)["tokens"] == {}


def test_each_new_token_is_another(drone, server):
    result = drone(drone_user, {"users": [user(f"robot-{number}", machine=True) for number in range(5)]})
    assert len(set(result["tokens"].values())) == 5
    assert all(len(token) == 32 for token in result["tokens"].values())


def test_the_returned_token_works(drone, server):
    token = drone(drone_user, {"users": [user(machine=True, admin=True)]})["tokens"]["robot"]
    assert not drone(drone_user, {"users": [user("other", machine=True)]}, token=token).failed
    assert {seen.login for seen in server.requests} == {"robot"}


def test_a_token_of_ones_own_is_taken_and_never_told(drone, server):
    wish = {"users": [user(machine=True, token=CHOSEN)]}
    result = drone(drone_user, wish)
    assert stored(server).token == CHOSEN
    assert result["tokens"] == {}
    server.faults.add(kind="status", status=400, message=f"bad {CHOSEN}", method="POST")
    failed = drone(drone_user, {"users": [user("other", machine=True, token=CHOSEN)]})
    assert failed.failed
    assert CHOSEN not in json.dumps([result, failed])


def test_a_token_is_not_lost_with_the_answer(drone, server):
    server.faults.add(kind="cut", method="POST", done=True)
    result = drone(drone_user, {"users": [user(machine=True)]})
    assert server.changes == ["POST /api/users"]
    assert result["tokens"] == {"robot": stored(server).token}


def test_a_token_is_not_lost_with_somebody_elses_failure(drone, server):
    server.faults.add(kind="status", status=500, method="POST", skip=1)
    result = drone(drone_user, {"users": [user(machine=True), user("other", machine=True)], "connections": 1})
    assert result.failed
    assert result["tokens"] == {"robot": stored(server).token}


def test_an_inactive_account_is_made_in_two_steps_and_not_by_half(drone, converge, server):
    server.faults.add(kind="status", status=500, method="PATCH")
    result = drone(drone_user, {"users": [user(machine=True, active=False)]})
    assert result.failed
    assert "taken back: create a machine account" in result["msg"]
    assert stored(server) is None
    assert result["tokens"] == {}
    _result, made = converge(drone_user, {"users": [user(machine=True, active=False)]})
    assert made == ["POST /api/users", "PATCH /api/users/robot"]


def test_rights_are_given_and_taken(converge, server):
    result, made = converge(drone_user, {"users": [user("alice", admin=True)]})
    assert result["steps"] == ["alice: make an administrator"]
    assert made == ["PATCH /api/users/alice"]
    result, _made = converge(drone_user, {"users": [user("alice", active=False)]})
    # Drone takes the rights of whoever becomes inactive: the diff says so beforehand.
    assert result["diff"]["after"] == {"alice": {"admin": False, "active": False}}
    assert not stored(server, "alice").admin


def test_what_nobody_mentions_stays(drone, server):
    assert not drone(drone_user, {"users": [user("alice"), user("octocat")]})["changed"]


def test_an_account_is_deleted(converge, server):
    _result, made = converge(drone_user, {"users": [user("alice", state="absent"), user("nobody", state="absent")]})
    assert made == ["DELETE /api/users/alice"]


def test_exclusive_deletes_other_machines_and_no_person(converge, drone, server):
    drone(drone_user, {"users": [user("old", machine=True), user("kept", machine=True)]})
    _result, made = converge(drone_user, {"users": [user("kept", machine=True)], "exclusive": True})
    assert made == ["DELETE /api/users/old"]
    assert stored(server, "alice")


def test_exclusive_spares_the_account_whose_token_is_used(drone, server):
    server.machine("me")
    assert not drone(drone_user, {"users": [user("alice")], "exclusive": True}, by="me")["changed"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (user("a b"), "'a b' is not a valid login; use at most 50 letters, digits"),
        (user(""), "'' is not a valid login"),
        (user("x" * 51), "is not a valid login"),
        (user("alice", active=False, admin=True), "alice is to be inactive, and an administrator"),
        (user("alice", machine=True), "alice is a person's account, which cannot become a machine's"),
        (user("Alice"), "knows Alice as alice; write it so"),
        (user("octocat", state="absent"), "octocat is the account whose token is used here"),
        (user("octocat", admin=False), "octocat is the account whose token is used here"),
        (user("octocat", active=False), "octocat is the account whose token is used here"),
        (user("robot", token="tiny!"), "the token for robot is too short or has odd characters"),
        (user("GOOD"), "are one account to Drone"),
    ],
)
def test_bad_input_is_refused_before_any_change(drone, server, entry, message):
    result = drone(drone_user, {"users": [user("good", machine=True), entry]})
    assert result.failed
    assert message in result["msg"]
    assert server.changes == []


def test_two_entries_that_disagree_are_refused_without_telling_tokens(drone, server):
    result = drone(drone_user, {"users": [user(token=CHOSEN), user(token=CHOSEN[::-1])]})
    assert "robot has two entries that disagree: token" in result["msg"]
    assert CHOSEN not in json.dumps(result)


def test_who_is_no_administrator_is_told_at_once(drone, server):
    result = drone(drone_user, {"users": [user(machine=True)]}, by="alice")
    assert "managing users needs an administrator's token; `alice` is none" in result["msg"]
    assert [str(seen) for seen in server.requests] == ["GET /api/user"]
