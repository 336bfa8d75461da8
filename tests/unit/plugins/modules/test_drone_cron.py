# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._drone.crons import check_expression
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.modules import drone_cron
from ansible_collections.multiarch.drone.tests.standins.drone.golang import is_cron

APP = "octocat/app1"
ROUTE = "/api/repos/octocat/app1/cron"
NIGHT = "0 0 1 * * *"


def job(name="nightly", expr=NIGHT, branch="main", repo=APP, **more):
    given = {"expr": expr, "branch": branch}
    return {"repo": repo, "name": name, **{key: value for key, value in given.items() if value is not None}, **more}


def stored(server, name="nightly"):
    row = next((row for row in server.state.crons if row.name == name), None)
    return row and {"expr": row.expr, "branch": row.branch, "target": row.target, "disabled": row.disabled}


def test_a_new_job_is_made(converge, server):
    result, made = converge(drone_cron, {"crons": [job()]})
    assert made == [f"POST {ROUTE}"]
    assert result["steps"] == ["octocat/app1 nightly: create with 0 0 1 * * *"]
    assert stored(server) == {"expr": NIGHT, "branch": "main", "target": "", "disabled": False}


def test_what_drone_ignores_when_a_job_is_made_is_set_afterwards(converge, server):
    _result, made = converge(drone_cron, {"crons": [job(disabled=True, target="production")]})
    assert made == [f"POST {ROUTE}", f"PATCH {ROUTE}/nightly"]
    assert stored(server) == {"expr": NIGHT, "branch": "main", "target": "production", "disabled": True}


def test_branch_target_and_disabled_are_changed_in_place(converge, drone, server):
    drone(drone_cron, {"crons": [job(target="production")]})
    _result, made = converge(drone_cron, {"crons": [job(expr=None, branch="release", disabled=True, target="")]})
    assert made == [f"PATCH {ROUTE}/nightly"]
    assert stored(server) == {"expr": NIGHT, "branch": "release", "target": "", "disabled": True}


def test_a_changed_expression_replaces_the_job_and_keeps_the_rest(converge, drone, server):
    drone(drone_cron, {"crons": [job(disabled=True, target="production")]})
    result, made = converge(drone_cron, {"crons": [job(expr="@daily", branch=None)]})
    assert made == [f"DELETE {ROUTE}/nightly", f"POST {ROUTE}", f"PATCH {ROUTE}/nightly"]
    assert stored(server) == {"expr": "@daily", "branch": "main", "target": "production", "disabled": True}
    assert result["diff"] == {
        "before": {"octocat/app1 nightly": {"expr": NIGHT}},
        "after": {"octocat/app1 nightly": {"expr": "@daily"}},
    }


@pytest.mark.parametrize("failing", ["POST", "PATCH"])
def test_nothing_is_lost_when_the_new_job_cannot_be_made(drone, server, failing):
    drone(drone_cron, {"crons": [job(disabled=True, target="production")]})
    before = stored(server)
    server.faults.add(kind="status", status=500, message="out of disk", method=failing)
    result = drone(drone_cron, {"crons": [job(expr="@daily", branch="release"), job("other")], "connections": 1})
    assert result.failed
    assert "out of disk" in result["msg"]
    assert "taken back: " in result["msg"]
    assert "delete the job of 0 0 1 * * *" in result["msg"]
    assert stored(server) == before
    assert stored(server, "other")  # the others are done
    assert not drone(drone_cron, {"crons": [job(expr="@daily", branch="release")]}).failed
    assert stored(server)["expr"] == "@daily"


def test_a_job_that_cannot_be_put_back_is_told_with_all_that_it_had(drone, server):
    drone(drone_cron, {"crons": [job(target="production")]})
    server.faults.add(kind="status", status=500, message="out of disk", method="POST", times=99)
    result = drone(drone_cron, {"crons": [job(expr="@daily")]})
    assert "could not be made again" in result["msg"]
    assert "it had expr '0 0 1 * * *', branch 'main', target 'production', disabled False" in result["msg"]
    assert result["results"][0]["changed"]  # it is gone: that is the truth


def test_a_lost_answer_neither_doubles_nor_loses_a_job(drone, server):
    drone(drone_cron, {"crons": [job()]})
    for method in ("DELETE", "POST"):
        server.faults.add(kind="cut", method=method, done=True)
    assert not drone(drone_cron, {"crons": [job(expr="@daily")]}).failed
    assert server.changes == [f"DELETE {ROUTE}/nightly", f"POST {ROUTE}"]
    assert stored(server)["expr"] == "@daily"


def test_a_job_is_deleted_and_exclusive_deletes_what_is_not_listed(converge, drone, server):
    drone(drone_cron, {"crons": [job("a"), job("b"), job("c"), job("d", repo="octocat/app2")]})
    wish = [{"repo": APP, "name": "a", "state": "absent"}, job("b")]
    _result, made = converge(drone_cron, {"crons": wish, "exclusive": True})
    assert sorted(made) == [f"DELETE {ROUTE}/a", f"DELETE {ROUTE}/c"]
    assert stored(server, "d")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            job(expr="0 1 * * *"),
            "has five fields, which Drone reads seconds first, and thus in another way than crontab; write the seconds too: '0 0 1 * * *'",
        ),
        (job(expr="whenever"), "'whenever' is not a cron expression of Drone's; write six fields"),
        (job(expr=""), "'' is not a cron expression"),
        (job(expr="@dayly"), "did you mean @daily?"),
        (job(expr="@reboot"), "'@reboot' is not a cron expression of Drone's"),
        (job(expr="0 0 24 * * *"), "'24' is not a valid hour; it is 0 to 23"),
        (job(expr="0 0 1 * * 7"), "'7' is not a valid day of the week"),
        (job(expr="0 0 1 5-2 * *"), "'5-2' is not a valid day of the month"),
        (job(expr="0 0 1 */0 * *"), "'*/0' is not a valid day of the month"),
        (job("Nightly Build"), "Drone does not keep 'Nightly Build' as a cron job's name; name it 'nightly-build'"),
        (job(""), "Drone does not keep '' as a cron job's name"),
        (job("a/b"), "name it 'a-b'"),
        (job("***"), "use a-z, 0-9 and `-`"),
        (job(branch=" "), "octocat/app1 nightly has an empty branch"),
        (job(branch=None), "octocat/app1 nightly does not exist yet, and its branch is not given"),
        ({"repo": APP, "name": "x"}, "its expr and branch is not given"),
        (job(repo="octocat"), "not a repository's slug: 'octocat"),
        (job(repo="octocat/App1"), "names are case-sensitive"),
    ],
)
def test_bad_input_is_refused_before_any_change(drone, server, entry, message):
    result = drone(drone_cron, {"crons": [job("good"), entry]})
    assert result.failed
    assert message in result["msg"]
    assert server.changes == []


def test_two_entries_that_disagree_are_refused(drone, server):
    result = drone(drone_cron, {"crons": [job(), job(expr="@daily")]})
    assert "octocat/app1 nightly has two entries that disagree: expr is '0 0 1 * * *' and '@daily'" in result["msg"]


EXPRESSIONS = [
    NIGHT,
    "@daily",
    "@every 1h30m",
    "0 */15 8-18 * jan,MAR mon-fri",
    "0 0 0 ? * SUN",
    "5/10 * * * * *",
    "60 * * * * *",
    "0 0 1 0 * *",
    "0 0 1 * 13 *",
    "@every",
    "@every 1d",
    "* * * * * * *",
    "1-2-3 * * * * *",
    "- * * * * *",
    ", * * * * *",
    "*/x * * * * *",
    "a-b * * * * *",
]


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_what_we_take_drone_takes_and_what_we_refuse_it_refuses(expr):
    """Five fields apart, which Drone takes for something else."""
    if is_cron(expr):
        check_expression(expr)
    else:
        with pytest.raises(Problem):
            check_expression(expr)


def test_a_thousand_jobs_as_wished_cost_one_listing_for_each_repository(drone, server):
    wanted = [job(f"job-{number}") for number in range(200)]
    assert len(drone(drone_cron, {"crons": wanted})["results"]) == 200
    assert not drone(drone_cron, {"crons": wanted})["changed"]
    assert [str(seen) for seen in server.requests] == [f"GET {ROUTE}"]


def test_the_result_is_json_that_feeds_back(drone, server):
    result = drone(drone_cron, {"crons": [job()]})
    assert json.loads(json.dumps(result))["results"] == [
        {"name": "octocat/app1 nightly", "changed": True, "steps": ["create with 0 0 1 * * *"]}
    ]
