# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
import os
import stat

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._drone.fingerprints import Fingerprints
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem
from ansible_collections.multiarch.drone.plugins.modules import drone_secret
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer, Pace

VALUE = "hunter2-very-secret"
APP = "octocat/app1"


def secret(name="password", value=VALUE, repo=APP, **more):
    return {"repo": repo, "name": name, **({} if value is None else {"value": value}), **more}


def stored(server, name="password"):
    tables = [*server.state.secrets, *server.state.org_secrets]
    return next((row for row in tables if row.name == name), None)


# What it is for


def test_a_new_secret_is_made_with_its_value_and_flags_in_one_request(converge, server):
    result, made = converge(drone_secret, {"secrets": [secret(pull_request=True)]})
    assert made == ["POST /api/repos/octocat/app1/secrets"]
    assert (stored(server).data, stored(server).pull_request, stored(server).pull_request_push) == (VALUE, True, False)
    after = {"pull_request": True, "pull_request_push": False, "value": "written"}
    assert result["diff"] == {"before": {"octocat/app1 password": {}}, "after": {"octocat/app1 password": after}}


def test_a_secret_of_an_organisation_is_made_too(converge, server):
    _result, made = converge(drone_secret, {"secrets": [{"namespace": "octocat", "name": "a", "value": VALUE}]})
    assert made == ["POST /api/secrets/octocat"]
    assert stored(server, "a").data == VALUE


def test_each_repository_is_listed_once_however_many_secrets_it_has(drone, server):
    wanted = [secret(f"s{number}", repo=repo) for repo in (APP, "octocat/app2") for number in range(20)]
    drone(drone_secret, {"secrets": wanted})
    assert not drone(drone_secret, {"secrets": wanted})["changed"]
    assert sorted(str(seen) for seen in server.requests) == [
        "GET /api/repos/octocat/app1/secrets",
        "GET /api/repos/octocat/app2/secrets",
    ]


def test_flags_are_set_without_the_value(converge, drone, server):
    drone(drone_secret, {"secrets": [secret()]})
    _result, made = converge(drone_secret, {"secrets": [secret(value=None, pull_request=True)]})
    assert made == ["PATCH /api/repos/octocat/app1/secrets/password"]
    assert (stored(server).data, stored(server).pull_request) == (VALUE, True)


def test_a_secret_that_is_to_be_absent_is_deleted_and_one_that_is_not_there_is_well(converge, drone, server):
    drone(drone_secret, {"secrets": [secret()]})
    gone = [secret(value=None, state="absent"), secret("never-was", value=None, state="absent")]
    result, made = converge(drone_secret, {"secrets": gone})
    assert made == ["DELETE /api/repos/octocat/app1/secrets/password"]
    assert result["unchanged"] == ["octocat/app1 never-was"]


def test_exclusive_removes_what_is_not_listed_and_only_where_something_is(converge, drone, server):
    drone(drone_secret, {"secrets": [secret("old"), secret("kept"), secret("other", repo="octocat/app2")]})
    _result, made = converge(drone_secret, {"secrets": [secret("kept")], "exclusive": True})
    assert made == ["DELETE /api/repos/octocat/app1/secrets/old"]
    assert stored(server, "other")


# Values


def test_by_default_the_value_of_an_existing_secret_is_not_compared_and_the_result_says_so(converge, drone, server):
    drone(drone_secret, {"secrets": [secret()]})
    result, _made = converge(drone_secret, {"secrets": [secret(value="another-secret-value")]})
    assert not result["changed"]
    assert result["not_compared"] == ["octocat/app1 password"]
    assert "not compared" in result["msg"]
    assert stored(server).data == VALUE


def test_update_always_writes_each_time(drone, server):
    arguments = {"secrets": [secret()], "update": "always"}
    assert drone(drone_secret, arguments)["steps"] == ["octocat/app1 password: create"]
    for _unused in range(2):
        result = drone(drone_secret, arguments)
        assert result["steps"] == ["octocat/app1 password: write the value"]
        assert server.changes == ["PATCH /api/repos/octocat/app1/secrets/password"]
        assert result["diff"]["after"] == {"octocat/app1 password": {"value": "written"}}


def test_update_changed_writes_a_value_when_it_changed_and_not_otherwise(converge, drone, server, tmp_path):
    options = {"update": "changed", "fingerprints": str(tmp_path / "prints")}
    converge(drone_secret, {"secrets": [secret(), secret("other", "something-else")], **options})
    result, made = converge(
        drone_secret, {"secrets": [secret(value="new-value"), secret("other", "something-else")], **options}
    )
    assert made == ["PATCH /api/repos/octocat/app1/secrets/password"]
    assert result["unchanged"] == ["octocat/app1 other"]
    assert stored(server).data == "new-value"


def test_update_changed_writes_a_value_of_which_nothing_is_known(converge, drone, server, tmp_path):
    drone(drone_secret, {"secrets": [secret(value="who-knows-what")]})
    _result, made = converge(
        drone_secret, {"secrets": [secret()], "update": "changed", "fingerprints": str(tmp_path / "p")}
    )
    assert made == ["PATCH /api/repos/octocat/app1/secrets/password"]
    assert stored(server).data == VALUE


def test_a_secret_that_was_deleted_meanwhile_is_made_again_though_its_fingerprint_is_known(
    converge, drone, server, tmp_path
):
    arguments = {"secrets": [secret()], "update": "changed", "fingerprints": str(tmp_path / "prints")}
    drone(drone_secret, arguments)
    server.state.secrets.delete(stored(server))
    assert converge(drone_secret, arguments)[1] == ["POST /api/repos/octocat/app1/secrets"]


def test_what_was_written_is_remembered_though_something_else_failed(drone, server, tmp_path):
    options = {"update": "changed", "fingerprints": str(tmp_path / "prints"), "connections": 1}
    server.faults.add(kind="status", status=500, method="POST", path="*app2*")
    result = drone(drone_secret, {"secrets": [secret(), secret(repo="octocat/app2")], **options})
    assert result.failed
    assert [told.get("failed", False) for told in result["results"]] == [False, True]
    drone(drone_secret, {"secrets": [secret(), secret(repo="octocat/app2")], **options})
    assert server.changes == ["POST /api/repos/octocat/app2/secrets"]


def test_check_mode_writes_no_fingerprints(drone, tmp_path):
    path = tmp_path / "prints"
    drone(drone_secret, {"secrets": [secret()], "update": "changed", "fingerprints": str(path)}, check=True)
    assert not path.exists()


def test_fingerprints_show_neither_values_nor_which_are_equal_and_are_for_the_owner_alone(drone, tmp_path):
    path = tmp_path / "prints"
    old = os.umask(0)
    try:
        drone(drone_secret, {"secrets": [secret("a"), secret("b")], "update": "changed", "fingerprints": str(path)})
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = json.loads(path.read_text())
    assert VALUE not in path.read_text()
    assert len(set(content["fingerprints"].values())) == 2
    assert os.listdir(tmp_path) == ["prints"]
    other = tmp_path / "other"
    drone(drone_secret, {"secrets": [secret("a")], "update": "changed", "fingerprints": str(other)})
    assert not set(json.loads(other.read_text())["fingerprints"].values()) & set(content["fingerprints"].values())


def test_a_loose_file_of_fingerprints_becomes_its_owners_again(tmp_path):
    path = tmp_path / "prints"
    prints = Fingerprints(str(path))
    prints.note("a", VALUE)
    prints.save()
    path.chmod(0o644)
    prints = Fingerprints(str(path))
    assert prints.matches("a", VALUE)
    prints.note("b", VALUE)
    prints.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_of_fingerprints_is_not_written_through_a_link(tmp_path):
    target = tmp_path / "passwd"
    target.write_text("root")
    (tmp_path / "prints").symlink_to(target)
    with pytest.raises(Problem, match="a symbolic link is not followed"):
        Fingerprints(str(tmp_path / "prints"))
    assert target.read_text() == "root"


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "salt": "x", "fingerprints": {}}', "\0"]
)
def test_a_file_that_holds_no_fingerprints_is_left_alone(drone, server, tmp_path, content):
    path = tmp_path / "prints"
    path.write_text(content)
    result = drone(drone_secret, {"secrets": [secret()], "update": "changed", "fingerprints": str(path)})
    assert "holds no fingerprints" in result["msg"]
    assert path.read_text() == content
    assert server.changes == []


@pytest.mark.parametrize("path", ["/nowhere/prints", "/dev/null", "/proc"])
def test_a_path_that_can_hold_no_fingerprints_is_refused_before_anything_is_written(drone, server, path):
    result = drone(drone_secret, {"secrets": [secret()], "update": "changed", "fingerprints": path})
    assert result.failed
    assert result["msg"].startswith("fingerprints: /")
    assert server.changes == []


# Nobody else's eyes


def test_no_value_is_ever_told(drone, server, tmp_path, capsys):
    """Not in results, diffs and errors, even when the server or a proxy says it back."""
    for number, options in enumerate(
        ({"update": "always"}, {"update": "changed", "fingerprints": str(tmp_path / "p")})
    ):
        for check in (True, False):
            result = drone(
                drone_secret, {"secrets": [secret(f"s{number}"), secret(f"t{number}")], **options}, check=check
            )
            assert VALUE not in json.dumps(result)
    server.faults.add(kind="status", status=400, message=f"bad value {VALUE}", method="PATCH")
    result = drone(drone_secret, {"secrets": [secret("s0")], "update": "always"})
    assert result.failed
    assert "bad value ********" in result["msg"]
    assert VALUE not in json.dumps(result)
    other = secret("s0", "another-secret-value")
    result = drone(drone_secret, {"secrets": [secret("s0"), other]})
    assert "octocat/app1 s0 has two entries that disagree: value;" in result["msg"]
    assert VALUE not in json.dumps(result)
    assert "another-secret-value" not in json.dumps(result)
    assert VALUE not in "".join(capsys.readouterr())


# Bad input


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (secret("bad/name"), "'bad/name' is not a valid name for a secret; use letters, digits"),
        (secret("no spaces"), "'no spaces' is not a valid name for a secret"),
        (secret(""), "'' is not a valid name for a secret"),
        (secret(".."), "'..' is not a valid name for a secret"),
        ({"repo": "octocat/a\udc80", "name": "x", "value": VALUE}, "secrets.repo has a character that is not Unicode"),
        ({"namespace": "octo\x00cat", "name": "x", "value": VALUE}, "secrets.namespace has a NUL character"),
        (
            {"repo": "octocat/a", "name": "x", "value": "half \udc80"},
            "secrets.value has a character that is not Unicode",
        ),
        ({"repo": "octocat/a", "name": "x", "value": "a\x00b"}, "secrets.value has a NUL character"),
        ({"namespace": "..", "name": "x", "value": VALUE}, "'..' is not a namespace"),
        (secret(value=""), "octocat/app1 password has an empty value, which Drone refuses"),
        (secret(repo="octocat"), "'octocat' is not a repository; write repo as namespace/name, or say namespace"),
        (secret(repo="a/b/c"), "not a repository's slug: 'a/b/c'"),
        (secret(repo="octocat/*"), "not a repository's slug: 'octocat/*'"),
        ({"namespace": "a/b", "name": "x", "value": VALUE}, "'a/b' is not a namespace; it has no slash; or say repo"),
        ({"namespace": "", "name": "x", "value": "y"}, "'' is not a namespace"),
        ({"name": "x", "value": "y"}, "one of the following is required: repo, namespace"),
        (secret(namespace="octocat"), "mutually exclusive"),
        (secret(value=None), "no such secret yet, and no value to make it with: octocat/app1 password"),
        (secret(repo="Octocat/app1"), "did you mean octocat/app1?; names are case-sensitive"),
        (secret(repo="octocat/app9"), "does not know octocat/app9 (did you mean octocat/app"),
    ],
)
def test_bad_input_is_refused_before_any_change(drone, server, entry, message):
    result = drone(drone_secret, {"secrets": [secret("good"), entry]})
    assert result.failed
    assert message in result["msg"]
    assert server.changes == []


def test_two_entries_that_agree_are_one(drone, server):
    assert drone(drone_secret, {"secrets": [secret(), secret(value=None, pull_request=True)]})["changed"]
    assert len(server.changes) == 1
    assert (stored(server).data, stored(server).pull_request) == (VALUE, True)


def test_a_secret_cannot_be_present_and_absent(drone, server):
    result = drone(drone_secret, {"secrets": [secret(), secret(value=None, state="absent")]})
    assert "octocat/app1 password has two entries that disagree about state" in result["msg"]


def test_an_exclusive_list_that_names_nothing_is_refused(drone):
    assert "the list is empty" in drone(drone_secret, {"secrets": [], "exclusive": True})["msg"]


def test_a_value_that_is_no_text_is_fingerprinted_too(tmp_path):
    prints = Fingerprints(str(tmp_path / "prints"))
    prints.note("a", "\udce9")
    assert prints.matches("a", "\udce9")


def test_fingerprints_are_demanded_where_they_are_needed(drone):
    assert "fingerprints" in drone(drone_secret, {"secrets": [secret()], "update": "changed"})["msg"]


def test_secrets_of_a_repository_that_the_server_does_not_know_are_absent(drone, server):
    result = drone(drone_secret, {"secrets": [secret(value=None, repo="octocat/gone", state="absent")]})
    assert not result.failed
    assert not result["changed"]


# Who may


def test_somebody_elses_secrets_are_out_of_reach(drone, server):
    result = drone(drone_secret, {"secrets": [secret()]}, by="alice")
    assert "does not know octocat/app1 among the 1 that `alice` may see" in result["msg"]
    server.state.host.access["1"]["alice"] = "read"
    server.state.synchronize(server.state.by_login("alice"))
    result = drone(drone_secret, {"secrets": [secret()]}, by="alice")
    assert "`alice` may read octocat/app1, but not what belongs to them; it takes write access" in result["msg"]


@pytest.mark.parametrize("version", ["2.28.1", "2.0.4"])
def test_an_organisations_secrets_are_for_its_members(run_module, no_naps, version):
    with DroneServer(version=version) as server:
        access = {"drone_url": server.url, "drone_token": server.tokens["alice"]}
        wish = {"secrets": [{"namespace": "octocat", "name": "a", "value": VALUE}]}
        result = run_module(drone_secret, {**access, **wish})
    assert "`alice` has no right to it" in result["msg"] or "the token's owner has no right to it" in result["msg"]
    assert "or for an organisation one of its members" in result["msg"]


def test_an_oss_build_says_that_it_has_no_secrets(run_module, no_naps):
    with DroneServer(oss=True) as server:
        access = {"drone_url": server.url, "drone_token": server.tokens["octocat"]}
        assert "`oss` build, which lacks secrets" in run_module(drone_secret, {**access, "secrets": [secret()]})["msg"]


# What goes wrong on the way


def test_a_lost_answer_is_looked_up_and_the_secret_is_not_made_twice(drone, server):
    server.faults.add(kind="cut", method="POST", done=True)
    result = drone(drone_secret, {"secrets": [secret()]})
    assert not result.failed
    assert server.changes == ["POST /api/repos/octocat/app1/secrets"]
    assert stored(server).data == VALUE


def test_too_many_requests_and_a_gateways_errors_are_waited_out(drone, server):
    for status in (429, 502, 503, 504):
        server.faults.add(kind="status", status=status, method="POST")
    assert not drone(drone_secret, {"secrets": [secret()]}).failed
    assert stored(server).data == VALUE


def test_a_name_that_the_database_takes_for_another_is_explained(drone, server):
    assert drone(drone_secret, {"secrets": [{"namespace": "octocat", "name": "Token", "value": VALUE}]})["changed"]
    result = drone(drone_secret, {"secrets": [{"namespace": "octocat", "name": "token", "value": VALUE}]})
    assert "the server has Token, which its database takes for the same; name it so" in result["msg"]


def test_never_two_changes_of_one_repository_at_a_time(drone, server):
    server.state.pace = Pace(write=0.05)  # long enough to meet on a busy machine
    wanted = [secret(f"s{number}", repo=repo) for repo in (APP, "octocat/app2") for number in range(5)]
    drone(drone_secret, {"secrets": wanted, "connections": 4})
    made = [seen for seen in server.requests if seen.method == "POST"]
    together = [{one.path, other.path} for one in made for other in made if one is not other and one.overlaps(other)]
    assert together
    assert all(len(paths) == 2 for paths in together)


@pytest.mark.parametrize("value", ["\ufeffwith a BOM", "\x1b[2J", "line\r\nline", "\U0001f433" * 1000])
def test_a_value_of_odd_characters_is_stored_as_it_is(converge, drone, server, tmp_path, value):
    options = {"update": "changed", "fingerprints": str(tmp_path / "prints")}
    converge(drone_secret, {"secrets": [secret(value=value)], **options})
    if value != "\udc80":  # half a surrogate pair: Go keeps it as U+FFFD
        assert stored(server).data == value
