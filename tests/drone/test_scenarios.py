# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Drone as code, from end to end: what the modules promise, on whatever server there is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._drone.client import repo_route
from ansible_collections.multiarch.drone.plugins.module_utils._drone.repos import _set
from ansible_collections.multiarch.drone.plugins.modules import (
    drone_cron,
    drone_repo,
    drone_repo_info,
    drone_repo_trust,
    drone_secret,
    drone_template,
    drone_user,
)


def test_trust_takes_hold_and_is_taken_back(converge, server):
    for state in ("untrusted", "trusted", "untrusted"):
        converge(drone_repo_trust, {"repos": server.repos, "state": state})
        assert {server.row(slug)["trusted"] for slug in server.repos} == {state == "trusted"}


def test_exclusive_trust_is_taken_from_what_is_not_listed_and_from_nothing_else(drone, converge, server):
    mine = set(server.repos)
    trusted = [slug for slug in drone(drone_repo_info, {"trusted": True})["slugs"] if slug not in mine]
    converge(drone_repo_trust, {"repos": server.repos})
    result = converge(drone_repo_trust, {"repos": [*trusted, server.repos[0]], "exclusive": True})
    assert {told["name"] for told in result["results"]} == mine - {server.repos[0]}


def test_every_setting_takes_hold_and_is_taken_back(converge, server):
    slug = server.repos[0]
    row = server.row(slug)
    settings = {
        "trusted": True,
        "protected": True,
        "visibility": "internal",
        "timeout": 77,
        "throttle": 3,
        "config_path": "ci/pipeline.yml",
        "ignore_forks": True,
        "ignore_pull_requests": True,
        "auto_cancel_pull_requests": True,
        "auto_cancel_pushes": True,
    }
    if "auto_cancel_running" in row:
        settings["auto_cancel_running"] = True
    converge(drone_repo, {"repos": [{"slug": slug, **settings}]})
    row = server.row(slug)
    assert {name: row[name] for name in settings} == settings
    plain = {name: False if value is True else value for name, value in settings.items()}
    plain.update(visibility="public", timeout=60, throttle=0, config_path=".drone.yml")
    converge(drone_repo, {"repos": [{"slug": slug, **plain}]})


def test_a_setting_that_the_version_does_not_have_is_refused(drone, server):
    slug = server.repos[0]
    if "auto_cancel_running" in server.row(slug):
        pytest.skip("this version has them all")
    result = drone(drone_repo, {"repos": [{"slug": slug, "auto_cancel_running": True}]})
    assert "has no setting auto_cancel_running" in result["msg"]


def test_what_is_inactive_is_activated_and_deactivated(converge, server):
    inactive = [slug for slug in server.repos if not server.row(slug)["active"]]
    if not inactive:
        pytest.skip("every test repository is active, and activating again would take it over")
    for active in (True, False):
        converge(drone_repo, {"repos": [{"slug": slug, "active": active} for slug in inactive]})
        assert {server.row(slug)["active"] for slug in inactive} == {active}


def test_what_info_returns_is_what_repo_takes(drone, server):
    repos = drone(drone_repo_info, {"glob": server.repos})["repos"]
    assert {repo["slug"] for repo in repos} == set(server.repos)
    result = drone(drone_repo, {"repos": repos})
    assert not result.failed, result["msg"]
    assert not result["changed"]


def test_names_that_the_server_does_not_know_are_told_before_any_change(drone, server):
    slug = server.repos[0]
    version = server.row(slug)["version"]
    other = slug.swapcase()
    result = drone(drone_repo_trust, {"repos": [slug, other, f"{server.namespace}/multiarch-test-unknown"]})
    assert result.failed
    assert f"{other} (did you mean {slug}?" in result["msg"]
    assert "multiarch-test-unknown" in result["msg"]
    assert server.row(slug)["version"] == version


def test_changes_of_one_repository_at_a_time_all_take_hold_in_the_end(server):
    slug = server.repos[0]
    names = ["protected", "ignore_forks", "ignore_pull_requests", "auto_cancel_pull_requests", "auto_cancel_pushes"]
    client = server.client
    for value in (True, False):
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(lambda name, value=value: _set(client, slug, {name: value}), names))
        row = client.get(repo_route(slug))
        assert {row[name] for name in names} == {value}


@pytest.mark.parametrize("kind", ["repo", "namespace"])
def test_a_secret_lives_and_dies(converge, drone, server, name, tmp_path, kind):
    place = {"repo": server.repos[0]} if kind == "repo" else {"namespace": server.namespace}
    options = {"update": "changed", "fingerprints": str(tmp_path / "prints")}

    def wish(**more):
        return {"secrets": [{**place, "name": name, **more}], **options}

    assert converge(drone_secret, wish(value="one-value-of-a-test"))["results"][0]["steps"] == ["create"]
    assert "write the value" in str(converge(drone_secret, wish(value="another-value-of-a-test"))["steps"])
    assert "set pull_request to true" in str(converge(drone_secret, wish(pull_request=True))["steps"])
    result = drone(drone_secret, {"secrets": [{**place, "name": name, "value": "a-third-value"}]})
    assert result["not_compared"] == [f"{next(iter(place.values()))} {name}"]
    assert converge(drone_secret, wish(state="absent"))["changed"]


def test_a_cron_job_lives_and_dies(converge, server, name):
    def wish(**more):
        return {"crons": [{"repo": server.repos[0], "name": name, **more}]}

    path = repo_route(server.repos[0], "cron", name)
    converge(drone_cron, wish(expr="0 0 1 1 1 *", branch="main", disabled=True))
    assert server.client.get(path)["disabled"]
    converge(drone_cron, wish(expr="0 30 1 1 1 *"))
    row = server.client.get(path)
    assert (row["expr"], row["branch"], row["disabled"]) == ("0 30 1 1 1 *", "main", True)
    converge(drone_cron, wish(branch="multiarch-test", target="nowhere"))
    converge(drone_cron, wish(target=""))
    assert converge(drone_cron, wish(state="absent"))["changed"]
    assert server.client.find(path) is None


def test_a_template_lives_and_dies(converge, server, name):
    def wish(**more):
        return {"templates": [{"namespace": server.namespace, "name": f"{name}.yaml", **more}]}

    converge(drone_template, wish(data="kind: pipeline\nname: one\n"))
    converge(drone_template, wish(data="kind: pipeline\nname: two\n"))
    assert converge(drone_template, wish(state="absent"))["changed"]


def test_a_machine_account_gets_a_token_that_trusts_and_cannot_activate(converge, drone, server, name):
    slug = server.repos[0]
    account = {"login": name, "machine": True, "admin": True}
    try:
        result = drone(drone_user, {"users": [account]})
        assert not result.failed, result["msg"]
        token = result["tokens"][name]
        assert not converge(drone_user, {"users": [account]})["changed"]
        for state in ("trusted", "untrusted"):
            assert not drone(drone_repo_trust, {"repos": [slug], "state": state}, token=token).failed
        inactive = [slug for slug in server.repos if not server.row(slug)["active"]]
        if inactive:
            refused = drone(drone_repo, {"repos": [{"slug": inactive[0], "active": True}]}, token=token)
            assert f"`{name}` is a machine account and cannot activate" in refused["msg"]
        converge(drone_user, {"users": [{"login": name, "admin": False}]})
        refused = drone(drone_repo_trust, {"repos": [slug]}, token=token)
        assert refused.failed
    finally:
        assert not drone(drone_user, {"users": [{"login": name, "state": "absent"}]}).failed
    assert "revoked" in drone(drone_repo_info, {}, token=token)["msg"]
