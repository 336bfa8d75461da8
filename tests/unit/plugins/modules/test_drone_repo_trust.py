# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.modules import drone_repo_trust
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer

LISTED = ["GET /api/user", "GET /api/repos?page=1&per_page=10000"]


def asked(server):
    return [str(seen) for seen in server.requests]


def trusted(server):
    return {
        slug for slug in ("octocat/app1", "octocat/app2", "octocat/app3", "alice/svc") if server.repo(slug)["trusted"]
    }


# What it is for


def test_check_mode_predicts_the_run_and_a_second_run_changes_nothing_and_asks_only_for_the_list(drone, server):
    arguments = {"repos": ["octocat/app1", "alice/*"]}
    predicted = drone(drone_repo_trust, arguments, check=True)
    assert asked(server) == LISTED
    assert trusted(server) == set()
    done = drone(drone_repo_trust, arguments)
    assert sorted(server.changes) == ["PATCH /api/repos/alice/svc", "PATCH /api/repos/octocat/app1"]
    assert [seen.body for seen in server.requests if seen.method == "PATCH"] == [{"trusted": True}] * 2
    assert asked(server)[-1] == LISTED[1]  # read back
    assert trusted(server) == {"octocat/app1", "alice/svc"}
    same = ("changed", "steps", "results", "unchanged", "diff", "missing")
    assert {name: predicted[name] for name in same} == {name: done[name] for name in same}
    assert done["steps"] == ["octocat/app1: trust", "alice/svc: trust"]
    assert done["diff"]["before"] == {"octocat/app1": {"trusted": False}, "alice/svc": {"trusted": False}}
    assert done["diff"]["after"] == {"octocat/app1": {"trusted": True}, "alice/svc": {"trusted": True}}
    again = drone(drone_repo_trust, arguments)
    assert not again["changed"]
    assert again["unchanged"] == ["octocat/app1", "alice/svc"]
    assert asked(server) == LISTED


def test_globs_end_at_the_slash_and_a_repository_that_several_entries_mean_is_changed_once(drone, server):
    done = drone(drone_repo_trust, {"repos": ["octocat/app[12]", "*/app1", "octocat/app1"]})
    assert done["steps"] == ["octocat/app1: trust", "octocat/app2: trust"]
    assert len(server.changes) == 2


def test_untrusted_takes_the_trust(drone, server):
    drone(drone_repo_trust, {"repos": ["*/*"]})
    assert drone(drone_repo_trust, {"repos": ["octocat/*"], "state": "untrusted"})["changed"]
    assert trusted(server) == {"alice/svc"}


def test_exclusive_takes_the_trust_from_everything_else_on_the_server(drone, server):
    drone(drone_repo_trust, {"repos": ["octocat/app1", "alice/svc"]})
    done = drone(drone_repo_trust, {"repos": ["octocat/app[13]"], "exclusive": True})
    assert done["steps"] == ["octocat/app3: trust", "alice/svc: untrust"]
    assert trusted(server) == {"octocat/app1", "octocat/app3"}
    assert not drone(drone_repo_trust, {"repos": ["octocat/app[13]"], "exclusive": True})["changed"]


def test_exclusive_with_an_empty_list_leaves_nothing_trusted(drone, server):
    drone(drone_repo_trust, {"repos": ["*/*"]})
    drone(drone_repo_trust, {"repos": [], "exclusive": True})
    assert trusted(server) == set()


def test_activate_activates_what_is_inactive_after_it_is_trusted(drone, server):
    drone(drone_repo_trust, {"repos": ["octocat/app1"]})
    done = drone(drone_repo_trust, {"repos": ["octocat/app1", "octocat/app2"], "activate": True})
    assert done["steps"] == ["octocat/app1: activate", "octocat/app2: trust", "octocat/app2: activate"]
    assert sorted(server.changes) == [
        "PATCH /api/repos/octocat/app2",
        "POST /api/repos/octocat/app1",
        "POST /api/repos/octocat/app2",
    ]
    assert server.repo("octocat/app2")["active"]
    assert not drone(drone_repo_trust, {"repos": ["octocat/app1"], "activate": True})["changed"]
    assert server.changes == []


def test_a_machine_account_that_is_an_administrator_can_trust_everything(drone, server):
    done = drone(drone_repo_trust, {"repos": ["*/*"]}, token=server.machine())
    assert len(done["steps"]) == 4
    assert trusted(server) == {"octocat/app1", "octocat/app2", "octocat/app3", "alice/svc"}


def test_the_url_and_the_token_come_from_the_environment_of_the_drone_command(server, run_module, monkeypatch):
    monkeypatch.setenv("DRONE_SERVER", server.url + "/")
    monkeypatch.setenv("DRONE_TOKEN", server.tokens["octocat"])
    assert run_module(drone_repo_trust, {"repos": ["octocat/app1"]})["changed"]


def test_the_old_servers_answers_will_do(run_module, no_naps):
    with DroneServer(version="2.0.4") as old:
        access = {"drone_url": old.url, "drone_token": old.tokens["octocat"]}
        assert run_module(drone_repo_trust, {**access, "repos": ["octocat/*"], "activate": True})["changed"]
        assert not run_module(drone_repo_trust, {**access, "repos": ["octocat/*"], "activate": True})["changed"]


# What is refused before any change


@pytest.mark.parametrize("by", ["alice", "robot"])
def test_a_token_that_is_no_administrators_is_refused_before_any_change(drone, server, by):
    server.machine("robot", admin=False)
    failed = drone(drone_repo_trust, {"repos": ["alice/svc"]}, by=by)
    assert f"trusted needs an administrator's token; `{by}` is none on {server.url}" in failed["msg"]
    assert asked(server) == ["GET /api/user"]


def test_a_revoked_token_and_an_empty_one_are_told_apart(drone, server):
    assert "the server does not know the token" in drone(drone_repo_trust, {"repos": []}, token="revoked")["msg"]
    assert "drone_token is empty" in drone(drone_repo_trust, {"repos": []}, token="")["msg"]
    assert server.requests == []


def test_unknown_names_are_listed_all_at_once_with_what_was_meant(drone, server):
    failed = drone(
        drone_repo_trust, {"repos": ["octocat/app1", "octocat/App2", "alice/srv", "nobody/*", "x/unheard-of"]}
    )
    assert failed["missing"] == ["octocat/App2", "alice/srv", "nobody/*", "x/unheard-of"]
    assert "octocat/App2 (did you mean octocat/app2?; names are case-sensitive)" in failed["msg"]
    assert "alice/srv (did you mean alice/svc?)" in failed["msg"]
    assert "nobody/* (a pattern that matches nothing)" in failed["msg"]
    assert "x/unheard-of;" in failed["msg"]
    assert server.changes == []


@pytest.mark.parametrize(
    "slug",
    [
        "octocat",
        "octocat/",
        "/app1",
        "octocat/app1/x",
        "",
        " ",
        "octocat/app 1",
        "../app1",
        "octocat/..",
        "https://x/y",
    ],
)
def test_what_is_no_slug_is_refused_before_the_server_is_asked(drone, server, slug):
    failed = drone(drone_repo_trust, {"repos": ["octocat/app1", slug]})
    assert f"not a repository's slug: {slug!r}" in failed["msg"]
    assert server.requests == []


def test_a_namespace_alone_gets_the_glob_as_a_hint(drone):
    assert "'octocat' (did you mean octocat/*?)" in drone(drone_repo_trust, {"repos": ["octocat"]})["msg"]


@pytest.mark.parametrize("option", ["exclusive", "activate"])
def test_what_makes_no_sense_with_untrusted_is_refused(drone, server, option):
    failed = drone(drone_repo_trust, {"repos": ["octocat/app1"], "state": "untrusted", option: True})
    assert f"{option} goes with state=trusted" in failed["msg"]
    assert server.requests == []


def test_a_machine_account_is_told_that_it_cannot_activate_before_any_change(drone, server):
    failed = drone(drone_repo_trust, {"repos": ["octocat/*"], "activate": True}, token=server.machine())
    assert "`robot` is a machine account and cannot activate octocat/app1, octocat/app2, octocat/app3" in failed["msg"]
    assert server.changes == []


# Repositories that the server does not know yet


def test_missing_skip_goes_on_without_them(drone, server):
    done = drone(drone_repo_trust, {"repos": ["octocat/app1", "octocat/new"], "missing": "skip"})
    assert done["missing"] == ["octocat/new"]
    assert trusted(server) == {"octocat/app1"}


def test_missing_synchronize_lets_the_server_look_for_them_and_check_mode_predicts_it(drone, server):
    server.add_repo("octocat/new", synchronized=False)
    arguments = {"repos": ["octocat/app1", "octocat/new"], "missing": "synchronize"}
    predicted = drone(drone_repo_trust, arguments, check=True)
    assert server.changes == []
    assert "which a run would synchronise first: octocat/new" in str(predicted["warnings"])
    done = drone(drone_repo_trust, arguments)
    assert server.changes[0] == "POST /api/user/repos"
    assert server.repo("octocat/new")["trusted"]
    assert (done["steps"], done["diff"]) == (predicted["steps"], predicted["diff"])
    drone(drone_repo_trust, arguments)
    assert server.changes == []


def test_missing_synchronize_fails_for_what_is_missing_then(drone, server):
    failed = drone(drone_repo_trust, {"repos": ["octocat/app1", "octocat/none"], "missing": "synchronize"})
    assert failed["missing"] == ["octocat/none"]
    assert server.changes == ["POST /api/user/repos"]


def test_a_machine_account_is_told_that_it_cannot_synchronise(drone, server):
    arguments = {"repos": ["octocat/new"], "missing": "synchronize"}
    assert (
        "a machine account, which cannot synchronise"
        in drone(drone_repo_trust, arguments, token=server.machine())["msg"]
    )
    assert server.changes == []


# What goes wrong on the way


@pytest.mark.parametrize(
    "fault", [{"status": 429, "retry_after": "0"}, {"status": 503}, {"kind": "cut"}, {"kind": "half", "done": True}]
)
def test_passing_troubles_are_survived(drone, server, fault):
    for path in ("*/api/repos?*", "*/app1", "*/app2"):
        server.faults.add(**{"path": path, **fault})
    done = drone(drone_repo_trust, {"repos": ["octocat/*"]})
    assert not done.failed
    assert trusted(server) == {"octocat/app1", "octocat/app2", "octocat/app3"}


def test_a_change_whose_answer_was_lost_is_not_made_twice(drone, server):
    server.faults.add(kind="cut", method="PATCH", done=True)
    assert drone(drone_repo_trust, {"repos": ["octocat/app1"]})["changed"]
    assert asked(server)[2:4] == ["PATCH /api/repos/octocat/app1", "GET /api/repos/octocat/app1"]
    assert server.changes == ["PATCH /api/repos/octocat/app1"]


def test_an_activation_whose_answer_was_lost_is_not_made_twice(drone, server):
    drone(drone_repo_trust, {"repos": ["octocat/app1"]})
    server.faults.add(kind="cut", method="POST", done=True)
    assert not drone(drone_repo_trust, {"repos": ["octocat/app1"], "activate": True}).failed
    assert server.changes == ["POST /api/repos/octocat/app1"]


def test_an_optimistic_lock_is_read_again_and_changed_again(drone, server):
    server.faults.add(method="PATCH", status=500, message="Optimistic Lock Error")
    assert drone(drone_repo_trust, {"repos": ["octocat/app1"]})["changed"]
    route = "/api/repos/octocat/app1"
    assert asked(server)[2:5] == [f"PATCH {route}", f"GET {route}", f"PATCH {route}"]


def test_where_some_fail_the_others_are_done_and_a_second_run_finishes(drone, server):
    server.faults.add(method="PATCH", path="*/app2", status=500, message="database is locked")
    arguments = {"repos": ["octocat/*"]}
    failed = drone(drone_repo_trust, arguments)
    assert failed.failed
    assert failed["changed"]
    assert "1 of 3 failed: octocat/app2: trust: PATCH" in failed["msg"]
    assert '500: "database is locked"; see the server\'s log' in failed["msg"]
    assert {told["name"]: told.get("failed", False) for told in failed["results"]} == {
        "octocat/app1": False,
        "octocat/app2": True,
        "octocat/app3": False,
    }
    assert trusted(server) == {"octocat/app1", "octocat/app3"}
    assert drone(drone_repo_trust, arguments)["steps"] == ["octocat/app2: trust"]


def test_a_trust_that_does_not_take_hold_is_an_error_though_the_server_said_200(drone, server, monkeypatch):
    # As when somebody takes it back at once, or loses the administrator's rights in the middle.
    monkeypatch.setattr(drone_repo_trust.Drone, "need_admin", lambda self, what: None)
    failed = drone(drone_repo_trust, {"repos": ["alice/svc"]}, by="alice")
    assert "answered 200 and did not change trusted" in failed["msg"]
    assert not failed["changed"]


def test_a_server_that_goes_away_ends_it_after_a_few_attempts(drone, server):
    server.faults.add(kind="cut", method="PATCH", times=10**6)
    server.faults.add(kind="cut", path="/api/repos/*", times=10**6)
    for number in range(40):
        server.state.host.add_repo(f"octocat/more-{number}")
    server.add_repo("octocat/last")
    failed = drone(drone_repo_trust, {"repos": ["octocat/*"], "connections": 2})
    assert "44 of 44 failed" in failed["msg"]
    assert sum(told["msg"].startswith("not tried") for told in failed["results"]) > 30


def test_never_more_than_a_few_changes_are_on_their_way_and_never_two_of_one_repository(drone, server):
    server.add_repo("octocat/last")
    assert not drone(drone_repo_trust, {"repos": ["*/*"], "activate": True, "connections": 16}).failed
    assert 500 not in {seen.status for seen in server.requests}


@pytest.mark.parametrize(("option", "value"), [("connections", 0), ("timeout", 0)])
def test_options_that_cannot_be_are_refused(drone, server, option, value):
    assert f"{option} is {value}" in drone(drone_repo_trust, {"repos": ["octocat/app1"], option: value})["msg"]
    assert server.requests == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "html"}, "an HTML page ('Sign in to continue') instead of JSON"),
        ({"kind": "redirect", "location": "https://login.example.com/"}, "the token is not sent there"),
    ],
)
def test_a_page_or_a_redirect_before_the_server_is_told(drone, server, fault, words):
    server.faults.add(**fault)
    failed = drone(drone_repo_trust, {"repos": ["octocat/app1"]})
    assert words in failed["msg"]


def test_the_diff_is_returned_only_where_it_is_wanted(drone, server):
    assert "diff" not in drone(drone_repo_trust, {"repos": ["octocat/app1"]}, diff=False)
    server.faults.add(method="PATCH", path="*/app2", status=500)
    assert "diff" not in drone(drone_repo_trust, {"repos": ["octocat/*"]}, diff=False)
