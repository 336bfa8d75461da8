# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.modules import drone_template
from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer

DATA = "kind: pipeline\nname: default\n"


def template(name="images.yaml", data=DATA, namespace="octocat", **more):
    return {"namespace": namespace, "name": name, **({} if data is None else {"data": data}), **more}


@pytest.fixture(params=["2.28.1", "2.0.4"])
def server(request, monkeypatch, no_naps):
    """Both generations of the API."""
    with DroneServer(version=request.param) as running:
        yield running


def stored(server, name="images.yaml"):
    return next((row.data for row in server.state.templates if row.name == name), None)


def test_a_template_is_made_by_either_generation(converge, server):
    result, made = converge(drone_template, {"templates": [template()]})
    old = ["POST /api/templates/octocat", "POST /api/templates"]
    assert made == old[: 1 if server.state.version.new else 2]
    assert stored(server) == DATA
    assert result["diff"] == {"before": {"octocat images.yaml": {}}, "after": {"octocat images.yaml": {"data": DATA}}}


def test_a_changed_template_is_changed_and_its_diff_shows_the_content(converge, drone, server):
    drone(drone_template, {"templates": [template()]})
    result, made = converge(drone_template, {"templates": [template(data="kind: secret\n")]})
    assert made == ["PATCH /api/templates/octocat/images.yaml"]
    assert result["diff"]["before"] == {"octocat images.yaml": {"data": DATA}}
    assert stored(server) == "kind: secret\n"


def test_a_template_without_data_stays_as_it_is(drone, server):
    drone(drone_template, {"templates": [template()]})
    assert not drone(drone_template, {"templates": [template(data=None)]})["changed"]


def test_a_template_is_deleted_and_exclusive_deletes_what_is_not_listed(converge, drone, server):
    names = ["a.yaml", "b.jsonnet", "c.star"]
    drone(drone_template, {"templates": [*map(template, names), template("d.yml", namespace="acme")]})
    wish = [template("a.yaml", None, state="absent"), template("b.jsonnet")]
    _result, made = converge(drone_template, {"templates": wish, "exclusive": True})
    assert sorted(made) == ["DELETE /api/templates/octocat/a.yaml", "DELETE /api/templates/octocat/c.star"]
    assert stored(server, "d.yml")


def test_a_lost_answer_is_looked_up(drone, server):
    server.faults.add(kind="cut", method="POST", path="/api/templates*", done=True)
    result = drone(drone_template, {"templates": [template()]})
    assert not result.failed
    assert stored(server) == DATA


def test_an_older_server_takes_a_name_once_and_says_so(drone, server):
    drone(drone_template, {"templates": [template(namespace="acme")]})
    result = drone(drone_template, {"templates": [template()]})
    if server.state.version.new:
        assert not result.failed
    else:
        assert "has a template of this name in another namespace, and its version takes only one" in result["msg"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (template("images.txt"), "octocat images.txt: Drone cannot tell what it is; let its name end with .yml"),
        (template("images"), "Drone cannot tell what it is"),
        (template(""), "'' is not a valid name for a template"),
        (template("..", state="absent"), "'..' is not a valid name for a template"),
        (template("a/b.yaml"), "'a/b.yaml' is not a valid name for a template"),
        (template(data=""), "octocat images.yaml is empty, which Drone refuses"),
        (template(data=None), "octocat images.yaml does not exist yet, and has no data"),
        (template(namespace="octocat/app1"), "'octocat/app1' is not a namespace"),
        (template("a\udc80.yaml"), "templates.name has a character that is not Unicode"),
        (template(namespace=""), "'' is not a namespace"),
    ],
)
def test_bad_input_is_refused_before_any_change(drone, server, entry, message):
    result = drone(drone_template, {"templates": [template("good.yaml"), entry]})
    assert result.failed
    assert message in result["msg"]
    assert server.changes == []


def test_a_template_with_a_wrong_extension_can_still_be_deleted(drone, server):
    assert not drone(drone_template, {"templates": [template("old.txt", None, state="absent")]}).failed


def test_templates_of_a_namespace_are_for_its_members(drone, server):
    result = drone(drone_template, {"templates": [template()]}, by="alice")
    assert "or for an organisation one of its members" in result["msg"]
