# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.modules import drone_repo, drone_repo_info
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer

ALL = {
    "active": True,
    "trusted": True,
    "protected": True,
    "visibility": "internal",
    "timeout": 90,
    "throttle": 2,
    "config_path": ".drone/build.yml",
    "ignore_forks": True,
    "ignore_pull_requests": True,
    "auto_cancel_pull_requests": True,
    "auto_cancel_pushes": True,
    "auto_cancel_running": True,
}


def repos(*slugs, **settings):
    return [{"slug": slug, **settings} for slug in slugs]


# What it is for


def test_every_setting_takes_hold_as_check_mode_predicted_and_a_second_run_changes_nothing(drone, server):
    arguments = {"repos": repos("octocat/app1", **ALL)}
    predicted = drone(drone_repo, arguments, check=True)
    assert server.changes == []
    done = drone(drone_repo, arguments)
    assert server.changes == ["PATCH /api/repos/octocat/app1", "POST /api/repos/octocat/app1"]
    row = server.repo("octocat/app1")
    assert {name: row[name] for name in ALL} == ALL
    same = ("changed", "steps", "results", "unchanged", "diff", "missing")
    assert {name: predicted[name] for name in same} == {name: done[name] for name in same}
    assert done["diff"]["after"] == {"octocat/app1": ALL}
    again = drone(drone_repo, arguments)
    assert not again["changed"]
    assert server.changes == []
    assert len(server.requests) == 2


def test_settings_hold_for_each_repository_that_does_not_say_otherwise(drone, server):
    arguments = {
        "settings": {"timeout": 120, "throttle": 1},
        "repos": [*repos("octocat/app1", "octocat/app2"), *repos("octocat/app3", timeout=30)],
    }
    assert drone(drone_repo, arguments)["changed"]
    assert {slug: server.repo(f"octocat/{slug}")["timeout"] for slug in ("app1", "app2", "app3")} == {
        "app1": 120,
        "app2": 120,
        "app3": 30,
    }
    assert not drone(drone_repo, arguments)["changed"]


def test_only_what_differs_is_sent(drone, server):
    drone(drone_repo, {"repos": repos("octocat/app1", **ALL)})
    drone(drone_repo, {"repos": repos("octocat/app1", **{**ALL, "timeout": 91})})
    assert [seen.body for seen in server.requests if seen.method == "PATCH"] == [{"timeout": 91}]
    assert len(server.changes) == 1


def test_what_nobody_mentions_stays(drone, server):
    drone(drone_repo, {"repos": repos("octocat/app1", **ALL)})
    assert not drone(drone_repo, {"repos": repos("octocat/app1")})["changed"]
    drone(drone_repo, {"repos": repos("octocat/app1", protected=False)})
    assert server.repo("octocat/app1")["timeout"] == 90


def test_an_active_repository_is_never_activated_again(drone, server):
    drone(drone_repo, {"repos": repos("octocat/app1", active=True)})
    assert server.changes == ["POST /api/repos/octocat/app1"]
    drone(drone_repo, {"repos": repos("octocat/app1", active=True, timeout=61)})
    assert server.changes == ["PATCH /api/repos/octocat/app1"]


def test_absent_deactivates_and_keeps_the_trust_and_forget_removes(drone, server):
    drone(drone_repo, {"repos": repos("octocat/app1", active=True, trusted=True)})
    arguments = {"repos": repos("octocat/app1"), "state": "absent"}
    assert drone(drone_repo, arguments)["steps"] == ["octocat/app1: deactivate"]
    assert server.repo("octocat/app1")["trusted"]
    assert not drone(drone_repo, arguments)["changed"]
    predicted = drone(drone_repo, {**arguments, "forget": True}, check=True)
    done = drone(drone_repo, {**arguments, "forget": True})
    assert (done["steps"], done["diff"]) == (predicted["steps"], predicted["diff"])
    assert server.changes == ["DELETE /api/repos/octocat/app1?remove=true"]
    assert done["diff"]["after"] == {"octocat/app1": {}}
    with pytest.raises(KeyError):
        server.repo("octocat/app1")
    assert not drone(drone_repo, {**arguments, "forget": True})["changed"]


def test_an_entry_has_a_state_of_its_own_and_the_settings_are_not_for_absent_ones(drone, server):
    drone(drone_repo, {"repos": repos("octocat/app1", "octocat/app2", active=True)})
    entries = [*repos("octocat/app1", state="absent", trusted=False), *repos("octocat/app2")]
    drone(drone_repo, {"repos": entries, "settings": {"active": True, "timeout": 99}})
    assert server.changes == ["DELETE /api/repos/octocat/app1", "PATCH /api/repos/octocat/app2"] or server.changes == [
        "PATCH /api/repos/octocat/app2",
        "DELETE /api/repos/octocat/app1",
    ]
    assert server.repo("octocat/app1")["timeout"] != 99


def test_what_the_info_module_returns_can_be_given_back_and_changes_nothing(drone, server):
    drone(drone_repo, {"repos": repos("octocat/app1", **ALL)})
    found = drone(drone_repo_info, {})["repos"]
    assert [repo["slug"] for repo in found] == ["alice/svc", "octocat/app1", "octocat/app2", "octocat/app3"]
    assert not drone(drone_repo, {"repos": found})["changed"]


def test_a_repository_that_is_already_absent_need_not_be_known(drone, server):
    done = drone(drone_repo, {"repos": repos("octocat/never-was"), "state": "absent"})
    assert not done.failed
    assert not done["changed"]


# Who may do what


def test_a_plain_user_sets_what_users_may_set_in_what_is_theirs(drone, server):
    assert drone(drone_repo, {"repos": repos("alice/svc", active=True, protected=True)}, by="alice")["changed"]
    assert "GET /api/user/repos" in map(str, server.requests)
    assert server.repo("alice/svc")["protected"]


@pytest.mark.parametrize("setting", [{"trusted": True}, {"timeout": 90}, {"throttle": 1}])
def test_what_drone_would_swallow_from_a_plain_user_is_refused_before_any_change(drone, server, setting):
    failed = drone(drone_repo, {"repos": repos("alice/svc", protected=True, **setting)}, by="alice")
    assert f"{next(iter(setting))} (alice/svc) needs an administrator's token; `alice` is none" in failed["msg"]
    assert server.changes == []


def test_a_plain_user_may_say_what_is_so_already(drone, server):
    assert not drone(drone_repo, {"repos": repos("alice/svc", trusted=False)}, by="alice").failed


def test_a_plain_user_is_told_that_they_see_only_some_repositories(drone, server):
    failed = drone(drone_repo, {"repos": repos("octocat/app1", protected=True)}, by="alice")
    assert "does not know octocat/app1 among the 1 that `alice` may see" in failed["msg"]


def test_a_machine_account_sets_everything_and_is_told_up_front_what_it_cannot(drone, server):
    token = server.machine()
    assert drone(drone_repo, {"repos": repos("octocat/app1", trusted=True, timeout=5)}, token=token)["changed"]
    failed = drone(drone_repo, {"repos": repos("octocat/app1", "octocat/app2", active=True, timeout=6)}, token=token)
    assert "`robot` is a machine account and cannot activate octocat/app1, octocat/app2" in failed["msg"]
    assert server.changes == []


# Bad input, before any change


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"timeout": 0}, "octocat/app1: timeout is 0; it is at least 1 minute"),
        ({"timeout": -5}, "timeout is -5"),
        ({"throttle": -1}, "throttle is -1; it is at least 0"),
        ({"visibility": "secret"}, "value of visibility must be one of: public, private, internal"),
        ({"config_path": " "}, "config_path is ' '"),
        ({"config_path": ""}, "config_path is ''"),
        ({"timeout": "soon"}, "timeout"),
        ({"no_such_setting": 1}, "no_such_setting"),
        ({"forget": True}, "octocat/app1 is to be present, and forgotten"),
        ({"state": "absent", "active": True}, "octocat/app1 is to be absent, and active"),
        ({"state": "absent", "forget": True, "trusted": False}, "is to be forgotten, and has settings (trusted)"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_server_is_asked(drone, server, entry, words):
    failed = drone(drone_repo, {"repos": [*repos("octocat/app2", timeout=9), {"slug": "octocat/app1", **entry}]})
    assert words in failed["msg"]
    assert server.requests == []


def test_settings_for_all_are_checked_too(drone, server):
    assert "settings: timeout is 0" in drone(drone_repo, {"repos": [], "settings": {"timeout": 0}})["msg"]


def test_forget_without_an_absent_repository_is_refused(drone):
    assert "forget goes with state=absent" in drone(drone_repo, {"repos": repos("octocat/app1"), "forget": True})["msg"]


@pytest.mark.parametrize("slug", ["octocat", "octocat/app1/x", "octocat/*", ""])
def test_what_is_no_slug_is_refused(drone, server, slug):
    failed = drone(drone_repo, {"repos": repos(slug)})
    assert f"not a repository's slug: {slug!r}" in failed["msg"]
    assert server.requests == []


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"timeout": 60}, {"timeout": 61}, "octocat/app1 has two entries that disagree: timeout is 60 and 61"),
        ({}, {"state": "absent"}, "octocat/app1 has two entries that disagree about state or forget"),
    ],
)
def test_two_entries_for_one_repository_that_disagree_are_refused(drone, server, first, second, words):
    failed = drone(drone_repo, {"repos": [*repos("octocat/app1", **first), *repos("octocat/app1", **second)]})
    assert words in failed["msg"]
    assert server.requests == []


def test_two_entries_for_one_repository_that_agree_are_one(drone, server):
    entries = [*repos("octocat/app1", timeout=61), *repos("octocat/app1", timeout=61, throttle=1)]
    assert not drone(drone_repo, {"repos": entries}).failed
    assert server.changes == ["PATCH /api/repos/octocat/app1"]


def test_unknown_repositories_are_listed_all_at_once_or_skipped(drone, server):
    wanted = {"repos": repos("octocat/app1", "octocat/appp1", "Octocat/app2", timeout=61)}
    failed = drone(drone_repo, wanted)
    assert failed["missing"] == ["octocat/appp1", "Octocat/app2"]
    assert "did you mean octocat/app2?; names are case-sensitive" in failed["msg"]
    assert server.changes == []
    done = drone(drone_repo, {**wanted, "missing": "skip"})
    assert done["missing"] == ["octocat/appp1", "Octocat/app2"]
    assert server.changes == ["PATCH /api/repos/octocat/app1"]


def test_a_setting_that_the_servers_version_does_not_have_is_refused(run_module, no_naps):
    with DroneServer(version="2.0.4") as old:
        access = {"drone_url": old.url, "drone_token": old.tokens["octocat"]}
        failed = run_module(drone_repo, {**access, "repos": repos("octocat/app1", auto_cancel_running=True, timeout=9)})
        assert f"octocat/app1: {old.url} has no setting auto_cancel_running" in failed["msg"]
        assert old.changes == []
        settings = {name: value for name, value in ALL.items() if name != "auto_cancel_running"}
        assert run_module(drone_repo, {**access, "repos": repos("octocat/app1", **settings)})["changed"]
        assert not run_module(drone_repo, {**access, "repos": repos("octocat/app1", **settings)})["changed"]
        assert run_module(drone_repo_info, access)["repos"][1]["auto_cancel_running"] is None


# What goes wrong on the way


def test_a_failed_activation_takes_the_settings_back_and_the_others_are_done(drone, server):
    drone(drone_repo, {"repos": repos("octocat/app1", **{**ALL, "active": False})})
    server.faults.add(method="POST", path="*/app1", status=500, message="cannot create the webhook")
    arguments = {"repos": repos("octocat/app1", "octocat/app2", active=True, timeout=91)}
    failed = drone(drone_repo, arguments)
    assert "octocat/app1: activate: POST" in failed["msg"]
    assert "taken back: set timeout to 91" in failed["msg"]
    assert server.repo("octocat/app1")["timeout"] == 90
    assert server.repo("octocat/app2")["active"]
    assert failed["diff"]["after"] == {"octocat/app2": {"active": True, "timeout": 91}}
    assert drone(drone_repo, arguments)["steps"] == ["octocat/app1: set timeout to 91", "octocat/app1: activate"]


def test_a_removal_whose_answer_was_lost_is_not_an_error(drone, server):
    server.faults.add(kind="cut", method="DELETE", done=True)
    assert not drone(drone_repo, {"repos": repos("octocat/app1"), "state": "absent", "forget": True}).failed
    assert server.changes == ["DELETE /api/repos/octocat/app1?remove=true"]


def test_changes_of_other_people_at_the_same_time_are_read_and_ours_made_again(drone, server):
    server.faults.add(method="PATCH", status=500, message="Optimistic Lock Error", times=3)
    assert drone(drone_repo, {"repos": repos("octocat/app1", timeout=77)})["changed"]
    assert server.repo("octocat/app1")["timeout"] == 77


# drone_repo_info


def test_info_filters_by_trust_activity_and_glob(drone, server):
    drone(
        drone_repo, {"repos": [*repos("octocat/app1", trusted=True, active=True), *repos("octocat/app2", trusted=True)]}
    )

    def find(**filters):
        return drone(drone_repo_info, filters)["slugs"]

    assert find(trusted=True) == ["octocat/app1", "octocat/app2"]
    assert find(trusted=True, active=False) == ["octocat/app2"]
    assert find(glob=["octocat/*3", "alice/svc"]) == ["alice/svc", "octocat/app3"]
    assert find(glob=["nobody/*"]) == []
    assert find(glob=[]) == []
    assert "not a repository's slug" in drone(drone_repo_info, {"glob": ["octocat"]})["msg"]


def test_info_says_whether_it_shows_all(drone, server):
    assert drone(drone_repo_info, {})["complete"] is True
    shown = drone(drone_repo_info, {}, by="alice")
    assert (shown["slugs"], shown["complete"]) == (["alice/svc"], False)
