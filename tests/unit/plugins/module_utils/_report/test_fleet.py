# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of a fleet: what becomes a finding, in which order, and in which form it is shown."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._report import fleet, page, prometheus, text, words

TEMPLATE = (Path(__file__).parents[5] / "playbooks/templates/report.html.j2").read_text()
PLATFORMS = ["linux/amd64", "linux/arm64", "linux/s390x"]


def platform(name, **changes):
    native = name == "linux/amd64"
    handler = {
        "name": None if native else "qemu-x",
        "kernel_version": None if native else "10.0.13",
        "persistent": not native,
    }
    return {"platform": name, "native": native, **handler, "verified": True, "problems": [], **changes}


def host(**changes):
    engine = {
        "running": True,
        "enabled": True,
        "version": "26.1.5",
        "containerd_store": True,
        "images": 1,
        "containers": 0,
    }
    return {
        "host": {"distribution": {"name": "Debian 13"}, "kernel": "6.12", "architecture": "x86_64", "docker": engine},
        "config": {"steps": []},
        "qemu": {"platforms": [platform(name) for name in PLATFORMS]},
        "builders": [
            {
                "item": {"name": "default", "user": "ci"},
                "steps": [],
                "builder": {"driver": "docker", "nodes": [{"name": "default", "status": "running"}]},
            }
        ],
        "builder_info": {"ci": {"builders": [{"name": "default", "nodes": [{"cache_bytes": 5000}]}]}},
        "runner": {
            "steps": [],
            "runner": {"name": "one", "server": "https://d", "healthy": True, "reaches_server": True, "builds": []},
        },
        **changes,
    }


def document(before=None, **raw):
    return fleet.report(
        {"version": "1.2.3", "generated": "2026-11-28T04:00:00Z", "duration_seconds": 3.2, **raw}, before
    )


def findings(**raw):
    return [(row["severity"], row["layer"], row["subject"], row["text"]) for row in document(**raw)["findings"]]


def test_a_fleet_as_declared_has_no_finding():
    assert findings(hosts={"a": host(), "b": host()}) == []
    assert words.verdict(document(hosts={"a": host(), "b": host()})) == "2 hosts: everything is as declared"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"unreachable": True}, ("broken", "host", "a", "The host cannot be reached.")),
        ({"failed": {"engine": "no rights"}}, ("broken", "engine", "a", "no rights")),
        ({"config": {"steps": ["reload"]}}, ("drift", "engine", "a", "A run would: reload")),
        ({"missing_packages": ["docker.io"]}, ("drift", "engine", "a", "A run would: install docker.io")),
        (
            {"qemu": {"platforms": [platform("linux/arm64", problems=["old", "lost"])]}},
            ("broken", "qemu", "a", "linux/arm64: old; lost"),
        ),
        (
            {"qemu": {"platforms": [platform("linux/arm64", verified=False)]}},
            ("broken", "qemu", "a", "linux/arm64 cannot be executed."),
        ),
        (
            {"qemu": {"platforms": [platform("linux/arm64", persistent=False)]}},
            ("drift", "qemu", "a", "linux/arm64 is not there after the next start."),
        ),
        (
            {"builders": [{"item": {"name": "x", "user": "ci"}, "failed": True, "msg": "no node answers"}]},
            ("broken", "builder", "a", "builder x of ci: no node answers"),
        ),
        (
            {"builders": [{"item": {"name": "x", "user": "ci"}, "steps": ["create it"], "builder": None}]},
            ("drift", "builder", "a", "A run would: x of ci: create it"),
        ),
        (
            {"runner": {"steps": [], "runner": {"server": "https://d", "healthy": True, "reaches_server": False}}},
            ("broken", "runner", "a", "The runner does not reach https://d."),
        ),
    ],
)
def test_what_is_not_as_declared_is_a_finding(changes, expected):
    assert findings(hosts={"a": host(**changes)}) == [expected]


def test_an_engine_that_does_not_start_at_boot_is_broken():
    stopped = host()
    stopped["host"]["docker"]["enabled"] = False
    assert findings(hosts={"a": stopped}) == [("broken", "engine", "a", "The Docker engine does not start at boot.")]


def test_what_needs_a_person_first_comes_first_and_new_findings_before_known_ones():
    hosts = {"a": host(config={"steps": ["reload"]}), "b": host(unreachable=True), "c": host(unreachable=True)}
    before = document(hosts={"b": host(unreachable=True), "d": host(unreachable=True)})
    after = document(before, hosts=hosts)
    assert [(row["subject"], row["new"]) for row in after["findings"]] == [("c", True), ("b", False), ("a", True)]
    assert [row["subject"] for row in after["since"]["gone"]] == ["d"]
    assert after["summary"]["new"] == 2


@pytest.mark.parametrize("before", [{}, {"findings": None}, {"findings": [3, {"severity": "x"}]}, {"findings": "text"}])
def test_a_report_of_another_shape_is_no_reason_to_fail(before):
    assert document(before, hosts={"a": host()})["findings"] == []


@pytest.mark.parametrize("found", [None, {}, {"host": "text"}, {"qemu": {"platforms": [None, 3]}}, {"builders": [{}]}])
def test_results_of_another_shape_are_shown_as_nothing(found):
    document(hosts={"a": found or {}})


def test_trust_is_shown_with_the_line_of_the_inventory_that_declares_it():
    drone = {
        "server": "https://d",
        "trusted": ["octocat/base", "platform/*"],
        "declared": [{"slug": "octocat/app", "trusted": True}],
        "repos": [{"slug": slug, "active": True, "trusted": True} for slug in ("octocat/app", "platform/x", "other/y")],
    }
    made = document(drone=drone)
    assert {row["slug"]: row["declared_by"] for row in made["drone"]["repos"]} == {
        "octocat/app": "drone_repos_repos: octocat/app",
        "other/y": "",
        "platform/x": "drone_repos_trusted: platform/*",
    }
    assert [(row["severity"], row["subject"]) for row in made["findings"]] == [("note", "other/y")]


def test_an_image_that_lacks_a_declared_platform_is_broken():
    pipelines = [{"pipeline": {"repo": "r/app", "platforms": PLATFORMS}}]
    results = [{"item": 0, "repos": [{"name": "https://git/app", "changed": False}]}]
    images = [{"reference": "r/app", "digest": "sha256:0", "platforms": [{"platform": "linux/amd64"}]}]
    assert findings(pipelines=pipelines, pipeline_results=results, images=images) == [
        ("broken", "images", "r/app", "The registry does not have linux/arm64, linux/s390x.")
    ]


def test_a_certificate_that_ended_is_broken_and_one_that_ends_soon_is_drift():
    rows = [
        {"daemon": "main", "kind": "server", "name": name, "days_left": days}
        for name, days in (("a", -1), ("b", 3), ("c", 90))
    ]
    assert [(severity, said) for severity, _layer, _subject, said in findings(certificates=rows)] == [
        ("broken", "The certificate of server a ended."),
        ("drift", "The certificate of server b ends in 3 days."),
    ]


class Page(HTMLParser):
    """What a page shows, and whether its elements are closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.texts, self.tags = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_is_whole_and_takes_nothing_from_elsewhere():
    html = page.render(TEMPLATE, document(hosts={"a": host(), "b": host(unreachable=True)}))
    shown = Page(html)
    assert shown.open == []
    assert not re.search(r"""(src|href)=|url\(|@import""", html)
    assert {"html", "main", "h1", "table", "details"} <= {tag for tag, _attrs in shown.tags}
    assert "QEMU 10.0.13" in shown.texts


def test_words_of_hosts_and_servers_are_text_and_never_markup():
    evil = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
    html = page.render(
        TEMPLATE,
        document(hosts={evil: host(failed={"engine": evil})}, drone={"server": evil, "failed": evil}),
        [{"title": evil, "text": evil}],
    )
    assert "<script>alert" not in html
    assert "{{ 7 * 7 }}" in html
    assert [tag for tag, _attrs in Page(html).tags].count("script") == 1


def test_the_text_form_obeys_no_control_character():
    told = text.render(document(hosts={"a": host(failed={"engine": "red \x1b[31m\r\nnext"})}))
    assert "\x1b" not in told
    assert "\r" not in told


def test_metrics_are_lines_that_prometheus_reads():
    made = prometheus.render(document(hosts={'a"\\\n': host(), "b": host(unreachable=True)}))
    line = re.compile(
        r'multiarch_drone_[a-z_]+(\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"(,[a-z]+="(?:[^"\\\n]|\\["\\n])*")*\})? -?[0-9.e+]+'
    )
    samples = [row for row in made.splitlines() if not row.startswith("#")]
    assert all(line.fullmatch(row) for row in samples), samples
    names = re.findall(r"^# TYPE (\S+) gauge$", made, re.MULTILINE)
    assert len(names) == len(set(names))
    assert {row.partition("{")[0].partition(" ")[0] for row in samples} <= set(names)
    assert 'multiarch_drone_host_up{host="b"} 0' in made


def test_three_hundred_hosts_and_a_thousand_repositories_fit_into_two_megabytes():
    repos = [{"slug": f"octocat/app{number}", "active": True, "trusted": True} for number in range(1000)]
    results = [
        {"item": 0, "repos": [{"name": f"https://git.example.com/octocat/app{number}.git"} for number in range(1000)]}
    ]
    begun = time.process_time()
    made = document(
        hosts={f"runner-{number}.example.com": host() for number in range(300)},
        drone={"server": "https://d", "trusted": ["octocat/*"], "repos": repos},
        pipelines=[{"pipeline": {"repo": "registry.example.com/octocat/app", "platforms": PLATFORMS}}],
        pipeline_results=results,
    )
    html = page.render(TEMPLATE, made)
    assert len(html.encode()) < 2_000_000
    assert json.loads(json.dumps(made)) == made
    assert time.process_time() - begun < 60  # a hang, not a speed: it takes half a second


@pytest.mark.parametrize(
    ("value", "shown"), [(None, ""), (True, ""), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e13, "25.0 TB")]
)
def test_a_size_is_told_as_people_read_it(value, shown):
    assert words.size(value) == shown


def test_a_host_without_the_mark_of_a_run_that_marks_its_hosts_was_not_looked_at_to_the_end():
    assert [row[1:3] for row in findings(hosts={"a": host(looked=True), "b": host(), "c": {}})] == [
        ("host", "b"),
        ("host", "c"),
    ]


def test_what_a_role_says_of_a_layer_is_left_out_where_the_layer_says_it_by_itself():
    broken = host(config={"steps": ["reload"]}, failed={"engine": "a run would: reload", "builder": "no daemon"})
    assert findings(hosts={"a": broken}) == [
        ("broken", "builder", "a", "no daemon"),
        ("drift", "engine", "a", "A run would: reload"),
    ]


def test_the_cache_that_the_proof_measured_is_shown_where_nothing_else_told_it():
    caches = [{"name": "default", "user": "ci", "bytes": 7000}]
    (one,) = document(hosts={"a": host(builder_info={}, caches=caches)})["hosts"]
    assert one["builders"][0]["cache_bytes"] == 7000


def test_a_secret_that_a_pipeline_takes_and_nobody_has_is_broken():
    repos = [
        {"name": f"https://git/{slug}", "slug": slug, "secrets": ["mine", "shared", "lost"]}
        for slug in ("octocat/app", "hidden/app")
    ]
    secrets = {"octocat/app": ["mine"], "octocat": ["shared"], "hidden/app": []}  # hidden's own may not be seen
    told = findings(
        pipelines=[{"pipeline": {"repo": "r/app"}}],
        pipeline_results=[{"item": 0, "repos": repos}],
        drone={"secrets": secrets},
    )
    assert told == [
        (
            "broken",
            "pipelines",
            "https://git/octocat/app",
            "The pipeline takes lost, and neither the repository nor its namespace has such a secret.",
        )
    ]


def test_a_pipeline_that_was_just_deployed_is_no_drift_and_its_commit_is_known_to_later_reports():
    results = [{"item": 0, "repos": [{"name": "https://git/app", "changed": True, "commit": "c0ffee"}]}]
    pipelines = [{"pipeline": {"repo": "r/app"}}]
    first = document(pipelines=pipelines, pipeline_results=results, pipelines_deployed=True)
    assert first["findings"] == []
    same = [{"item": 0, "repos": [{"name": "https://git/app", "changed": False}]}]
    later = document(first, pipelines=pipelines, pipeline_results=same)
    assert later["pipelines"][0]["commit"] == "c0ffee"
    drifted = document(
        later,
        pipelines=pipelines,
        pipeline_results=[{"item": 0, "repos": [{"name": "https://git/app", "changed": True}]}],
    )
    assert drifted["pipelines"][0]["commit"] == ""


def test_each_repository_of_a_pipeline_has_its_own_image_and_platforms():
    entry = {
        "pipeline": {"platforms": "amd64,aarch64"},
        "repos": [{"pipeline": {"repo": "octocat/a"}}, {"pipeline": {"repo": "octocat/b", "platforms": ["arm64"]}}],
    }
    results = [{"item": 0, "repos": [{"name": "a"}, {"name": "b"}]}]
    images = [
        {"reference": f"octocat/{name}:latest", "platforms": [{"platform": "linux/amd64", "bytes": 1}]} for name in "ab"
    ]
    assert [row[2:] for row in findings(pipelines=[entry], pipeline_results=results, images=images)] == [
        ("octocat/a:latest", "The registry does not have linux/arm64."),
        ("octocat/b:latest", "The registry does not have linux/arm64."),
    ]


def test_an_image_that_could_not_be_read_is_told_with_its_own_reason():
    told = findings(
        images=[{"reference": "octocat/a", "platforms": []}],
        images_named=["octocat/a", "octocat/b", "octocat/c", "NO"],
        images_failed="docker.io/octocat/b:latest is not there\nno answer",
    )
    assert [row[2] for row in told] == ["NO", "octocat/b", "octocat/c"]
    assert "lower case" in told[0][3]
    assert told[1][3] == "docker.io/octocat/b:latest is not there"


def test_a_pattern_of_trust_ends_at_the_slash_as_it_does_for_the_module():
    repos = [{"slug": "platform/x/y", "trusted": True}, {"slug": "platform/x", "trusted": True}]
    made = document(drone={"trusted": ["plat*"], "repos": repos})
    assert [row["declared_by"] for row in made["drone"]["repos"]] == ["", ""]
