# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Pipelines into directories and real git repositories, over paths, file:// and HTTP; with races, hooks and protection."""

from __future__ import annotations

import base64
import http.server
import json
import os
import socketserver
import stat
import subprocess
import threading
import time
import urllib.parse

import pytest
import yaml
from ansible_collections.multiarch.drone.plugins.module_utils._drone.client import Drone
from ansible_collections.multiarch.drone.plugins.module_utils._pipeline import to_repositories
from ansible_collections.multiarch.drone.plugins.modules import drone_pipeline

BUILD = {"repo": "octocat/example", "tags": ["latest"], "platforms": ["linux/amd64", "linux/arm64"]}
ARTICLE = {
    "name": "default",
    "plugin": "thegeeklab",
    "step": "docker",
    "privileged": True,
    "repo": "octocat/example",
    "tags": ["latest"],
    "platforms": ["linux/amd64", "linux/arm64"],
    "settings": {"username": "octocat", "password": "secure"},
}
THEIRS = "# ours\nkind: pipeline\nname: default\n\nsteps:\n- name: test   # first\n  image: golang\n"


def git(*arguments, stdin=None):
    """Run git as a person of the test's own."""
    names = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    done = subprocess.run(
        ["git", *map(str, arguments)], input=stdin, capture_output=True, check=False, env={**os.environ, **names}
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout.decode()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """No configuration and no server of the machine's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("DRONE_SERVER", "DRONE_TOKEN", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(run_module):
    """Run the module: in check mode, for real, and again; the three must agree."""

    def go(arguments, *, check=None, thrice=True, **more):
        arguments = {"pipeline": BUILD, **arguments, **more}
        if check is not None:
            return run_module(drone_pipeline, arguments, check=check)
        if not thrice:
            return run_module(drone_pipeline, arguments)
        foreseen = run_module(drone_pipeline, arguments, check=True)
        done = run_module(drone_pipeline, arguments)
        for key in ("changed", "steps", "diff", "failed", "skipped_checks"):
            assert foreseen.get(key) == done.get(key), key
        again = run_module(drone_pipeline, arguments)
        if not done.failed:
            assert not again["changed"], again
        return done

    return go


@pytest.fixture
def bare(tmp_path):
    """Make a bare repository: bare("app", {".drone.yml": "…"}) returns its path."""

    def make(name="octocat/app", files=None, branch="main"):
        path = tmp_path / "repos" / f"{name}.git"
        path.parent.mkdir(parents=True, exist_ok=True)
        git("init", "--quiet", "--bare", f"--initial-branch={branch}", path)
        git("-C", path, "config", "http.receivepack", "true")
        if files is not None:
            write(path, files, branch)
        return path

    return make


def write(path, files, branch="main", message="theirs"):
    """Commit files into a bare repository, as somebody else."""
    files = {"README": "x", **files} if not heads(path) else files
    stream = [f"commit refs/heads/{branch}\ncommitter a <a@b> now\ndata {len(message)}\n{message}\n".encode()]
    if f"refs/heads/{branch}" in heads(path):
        stream.append(f"from refs/heads/{branch}^0\n".encode())
    for name, content in files.items():
        mode, content = content if isinstance(content, tuple) else ("100644", content)
        data = content if isinstance(content, bytes) else content.encode()
        stream.append(f"M {mode} inline {name}\ndata {len(data)}\n".encode() + data + b"\n")
    git("-C", path, "fast-import", "--quiet", "--date-format=now", stdin=b"".join(stream))


def heads(path):
    return dict(
        line.split()[::-1] for line in git("-C", path, "for-each-ref", "--format=%(objectname) %(refname)").splitlines()
    )


def show(path, file=".drone.yml", branch="main"):
    return git("-C", path, "show", f"{branch}:{file}")


def count(path, branch="main"):
    return int(git("-C", path, "rev-list", "--count", branch))


def hook(path, name, body):
    script = path / "hooks" / name
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)


@pytest.fixture
def web(tmp_path, monkeypatch):
    """Serve the repositories over HTTP with git's own backend; `web.login` demands a user and a password."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.seen.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}")
            if (
                self.server.login
                and self.headers.get("Authorization")
                != "Basic " + base64.b64encode(self.server.login.encode()).decode()
            ):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            url = urllib.parse.urlsplit(self.path)
            done = subprocess.run(
                ["git", "http-backend"],
                input=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
                capture_output=True,
                check=False,
                env={
                    "PATH": os.environ["PATH"],
                    "GIT_PROJECT_ROOT": str(tmp_path / "repos"),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "GIT_CONFIG_COUNT": "1",
                    "GIT_CONFIG_KEY_0": "uploadpack.allowFilter",
                    "GIT_CONFIG_VALUE_0": self.server.filter,
                    "PATH_INFO": url.path,
                    "QUERY_STRING": url.query,
                    "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "REMOTE_USER": "octocat",
                },
            )
            head, body = done.stdout.split(b"\r\n\r\n", 1)
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True
        login = ""
        filter = "true"

    with Server(("127.0.0.1", 0), Handler) as server:
        server.seen = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


# A directory


def test_the_articles_call_writes_the_articles_pipeline(run, tmp_path):
    result = run({"path": str(tmp_path), "config_path": ".drone.yml", "allow_plaintext": True, "pipeline": ARTICLE})
    assert result["changed"]
    assert result["steps"] == ["write .drone.yml"]
    assert yaml.safe_load((tmp_path / ".drone.yml").read_text()) == {
        "kind": "pipeline",
        "name": "default",
        "steps": [
            {
                "name": "docker",
                "image": "thegeeklab/drone-docker-buildx:23",
                "privileged": True,
                "settings": {
                    "username": "octocat",
                    "password": "secure",
                    "repo": "octocat/example",
                    "tags": "latest",
                    "platforms": ["linux/amd64", "linux/arm64"],
                },
            }
        ],
    }


def test_a_password_in_clear_text_is_refused_and_where_it_is_allowed_it_is_in_the_file_alone(run, tmp_path):
    refused = run({"path": str(tmp_path), "pipeline": ARTICLE}, thrice=False)
    assert refused.failed
    assert "settings.password" in refused["msg"]
    assert not (tmp_path / ".drone.yml").exists()
    pipeline = {**ARTICLE, "settings": {"password": "hunter2-xyzzy"}}
    for check in (True, False):
        result = run({"path": str(tmp_path), "pipeline": pipeline, "allow_plaintext": True}, check=check)
        assert "hunter2-xyzzy" not in json.dumps(result)
    assert "hunter2-xyzzy" in (tmp_path / ".drone.yml").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        {"pipeline": {**BUILD, "settings": {"password": "hunter2-xyzzy", "misspelt": "x"}}},
        {"pipeline": {**BUILD, "password": "hunter2-xyzzy"}},
        {"pipeline": {**BUILD, "build_args": ["NPM_TOKEN=hunter2-xyzzy"]}},
        {"pipeline": {**BUILD, "steps": [{"name": "x", "environment": {"PASSWORD": "hunter2-xyzzy"}}]}},
        {"repos": [{"url": "https://me:hunter2-xyzzy@h.invalid/a/b"}], "git_password": "other-xyzzy", "at_a_time": 0},
        {"repos": [{"url": "https://me:hunter2%2dxyzzy@h.invalid/a/b", "pipeline": {"repo": "A"}}]},
        {"repos": ["https://me:hunter2-xyzzy@h.invalid/a/b"]},
    ],
)
def test_what_is_refused_is_hidden_all_the_same(run, tmp_path, arguments):
    where = {} if "repos" in arguments else {"path": str(tmp_path)}
    result = run({**where, **arguments}, thrice=False)
    assert result.failed
    assert "hunter2" not in json.dumps(result)


def test_a_file_that_is_there_keeps_its_other_bytes_and_its_mode(run, tmp_path):
    file = tmp_path / ".drone.yml"
    file.write_text(THEIRS)
    file.chmod(0o640)
    result = run({"path": str(tmp_path)})
    assert file.read_text().startswith(THEIRS)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    (difference,) = result["diff"]
    assert difference["before"] == THEIRS
    assert difference["after"] == file.read_text()
    assert difference["after_header"] == str(file)


def test_a_new_file_has_the_mode_that_the_umask_says(run, tmp_path):
    run({"path": str(tmp_path), "config_path": "ci/build/.drone.yml"})
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "ci/build/.drone.yml").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"kind: [\n", "not valid YAML"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"kind: pipeline\nx: &x [*x]\nsteps: [{name: docker}]\n", "holds itself"),
        (b"kind: pipeline\nsteps: text\n", "not a list"),
    ],
)
def test_a_file_that_cannot_be_changed_is_left_alone(run, tmp_path, content, says):
    file = tmp_path / ".drone.yml"
    file.write_bytes(content)
    result = run({"path": str(tmp_path)}, thrice=False)
    assert result.failed
    assert says in result["msg"]
    assert str(tmp_path) in result["msg"]
    assert file.read_bytes() == content
    assert os.listdir(tmp_path) == [".drone.yml"]


@pytest.mark.parametrize(
    "config_path", ["../x.yml", "/etc/x.yml", "a/../../x", ".", "a\nb", "./x.yml", ".drone.star", "ci/.drone.jsonnet"]
)
def test_a_config_path_out_of_the_directory_is_refused(run, tmp_path, config_path):
    result = run({"path": str(tmp_path), "config_path": config_path}, thrice=False)
    assert result.failed
    assert "config_path" in result["msg"]


def test_a_link_out_of_the_directory_is_not_followed_and_one_inside_is(run, tmp_path):
    outside, root = tmp_path / "outside.yml", tmp_path / "root"
    outside.write_text("")
    root.mkdir()
    (root / ".drone.yml").symlink_to(outside)
    result = run({"path": str(root)}, thrice=False)
    assert result.failed
    assert "leads out of" in result["msg"]
    assert outside.read_text() == ""
    (root / ".drone.yml").unlink()
    (root / ".drone.yml").symlink_to("real.yml")
    run({"path": str(root)})
    assert (root / ".drone.yml").is_symlink()
    assert (root / "real.yml").read_text().startswith("---\nkind: pipeline")


def test_a_directory_that_is_none_is_refused(run, tmp_path):
    assert "is not a directory" in run({"path": str(tmp_path / "nope")}, thrice=False)["msg"]


def test_a_trigger_that_scope_step_leaves_is_warned_of(run, tmp_path):
    (tmp_path / ".drone.yml").write_text(THEIRS)
    result = run({"path": str(tmp_path), "pipeline": {**BUILD, "trigger": {"branch": ["main"]}}}, thrice=False)
    assert result["changed"]
    assert "leaves trigger of pipeline default as it is" in str(result["warnings"])
    again = run({"path": str(tmp_path), "pipeline": {**BUILD, "trigger": {"branch": ["main"]}}, "scope": "pipeline"})
    assert again["changed"]
    assert yaml.safe_load((tmp_path / ".drone.yml").read_text())["trigger"] == {"branch": ["main"]}


def test_native_into_a_pipeline_of_another_shape_wants_scope_pipeline(run, tmp_path):
    (tmp_path / ".drone.yml").write_text(THEIRS)
    pipeline = {**BUILD, "strategy": "native"}
    result = run({"path": str(tmp_path), "pipeline": pipeline}, thrice=False)
    assert "set scope to pipeline" in result["msg"]
    run({"path": str(tmp_path), "pipeline": pipeline, "scope": "pipeline"})
    names = [document["name"] for document in yaml.safe_load_all((tmp_path / ".drone.yml").read_text())]
    assert names == ["default", "default-amd64", "default-arm64"]


def test_cross_looks_at_the_dockerfile(run, tmp_path):
    pipeline = {**BUILD, "strategy": "cross", "dockerfile": "docker/Dockerfile"}
    assert "no docker/Dockerfile" in run({"path": str(tmp_path), "pipeline": pipeline}, thrice=False)["msg"]
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/Dockerfile").write_text("FROM golang\nRUN go build\n")
    assert "line 2: RUN" in run({"path": str(tmp_path), "pipeline": pipeline}, thrice=False)["msg"]
    (tmp_path / "docker/Dockerfile").write_text(
        "FROM --platform=$BUILDPLATFORM golang\nRUN go build\nFROM scratch\nCOPY --from=0 /a /\n"
    )
    # Nothing of the target is executed: no host has to.
    assert run({"path": str(tmp_path), "pipeline": pipeline, "runner_platforms": ["amd64"]})["changed"]


def test_a_platform_that_no_host_has_is_refused_and_without_the_hosts_it_is_said(run, tmp_path):
    result = run({"path": str(tmp_path), "runner_platforms": ["amd64"]}, thrice=False)
    assert "no host builds linux/arm64; they build linux/amd64" in result["msg"]
    result = run({"path": str(tmp_path), "runner_platforms": ["amd64", "aarch64"]}, check=True)
    assert result["skipped_checks"] == ["secrets", "trust"]
    assert run({"path": str(tmp_path)}, check=True)["skipped_checks"] == ["platforms", "secrets", "trust"]


# Repositories


@pytest.mark.parametrize("way", ["path", "file", "http"])
def test_a_repository_gets_one_commit_and_then_none(run, bare, web, way):
    path = bare(files={".drone.yml": THEIRS, "big": "x" * 100000})
    url = {"path": str(path), "file": f"file://{path}", "http": f"{web.url}/octocat/app.git"}[way]
    result = run({"repos": [{"url": url}]}, commit_author="Jane Doe <jane@example.com>", commit_message="Build\n\nWhy")
    assert result["changed"]
    (row,) = result["repos"]
    assert row["commit"] == heads(path)["refs/heads/main"]
    assert row["branch"] == "main"
    assert count(path) == 2
    assert show(path).startswith(THEIRS)
    assert show(path, "big") == "x" * 100000
    assert (
        git("-C", path, "log", "-1", "--format=%an <%ae> %cn %B").strip()
        == "Jane Doe <jane@example.com> Jane Doe Build\n\nWhy"
    )
    git("-C", path, "fsck", "--strict")


@pytest.mark.parametrize("kind", ["sha256", "borrower", "shallow", "with its history packed", "reached through a link"])
def test_a_repository_of_another_kind_on_this_machine_gets_its_commit(run, bare, tmp_path, kind):
    path = bare(files={".drone.yml": THEIRS})
    write(path, {"more": "x"})
    other = tmp_path / "other.git"
    if kind == "sha256":
        git("init", "--quiet", "--bare", "--object-format=sha256", "--initial-branch=main", other)
        write(other, {".drone.yml": THEIRS})
        write(other, {"more": "x"})
    elif kind == "borrower":
        git("clone", "--quiet", "--bare", "--shared", path, other)
    elif kind == "shallow":
        git("clone", "--quiet", "--bare", "--depth=1", f"file://{path}", other)
    elif kind == "reached through a link":
        other.symlink_to(path)
    else:
        git("-C", path, "gc", "--quiet")
        other = path
    before = count(other)
    assert run({"repos": [{"url": str(other)}]})["changed"]
    assert count(other) == before + 1
    git("-C", other, "fsck", "--strict")


def test_in_check_mode_nothing_is_pushed(run, bare):
    path = bare(files={})
    result = run({"repos": [{"url": str(path)}]}, check=True)
    assert result["changed"]
    assert count(path) == 1
    assert "kind: pipeline" in result["diff"][0]["after"]


@pytest.mark.parametrize("way", ["path", "http"])
@pytest.mark.parametrize("branch", [None, "trunk"])
def test_an_empty_repository_gets_its_first_commit(run, bare, web, way, branch):
    path = bare(branch="main")
    url = str(path) if way == "path" else f"{web.url}/octocat/app.git"
    result = run({"repos": [{"url": url}], "branch": branch})
    assert result["repos"][0]["branch"] == (branch or "main")
    assert list(heads(path)) == [f"refs/heads/{branch or 'main'}"]
    assert git("-C", path, "ls-tree", "-r", "--name-only", branch or "main") == ".drone.yml\n"


@pytest.mark.parametrize("way", ["path", "http"])
def test_a_branch_is_named_and_one_that_does_not_exist_is_an_error_with_the_near_match(run, bare, web, way):
    path = bare(files={})
    write(path, {"a": "b"}, branch="develop")
    before = heads(path)
    url = str(path) if way == "path" else f"{web.url}/octocat/app.git"
    result = run({"repos": [{"url": url, "branch": "devlop"}]}, thrice=False)
    assert "has no branch devlop; did you mean develop?" in result["msg"]
    assert heads(path) == before
    run({"repos": [{"url": url, "branch": "develop"}]})
    assert heads(path)["refs/heads/main"] == before["refs/heads/main"]
    assert "kind: pipeline" in show(path, branch="develop")


def test_a_branch_of_each_repository_wins_over_the_general_one(run, bare):
    one, two = bare("o/one", {}), bare("o/two", {}, branch="trunk")
    run({"repos": [{"url": str(one)}, {"url": str(two), "branch": "trunk"}], "branch": "main"})
    assert count(one) == 2
    assert count(two, "trunk") == 2


def test_each_repository_has_what_it_has_otherwise(run, bare):
    one, two = bare("o/one", {}), bare("o/two", {})
    repos = [
        {"url": str(one), "pipeline": {"repo": "o/one"}},
        {"url": str(two), "pipeline": {"repo": "o/two", "tags": ["2"]}, "config_path": "ci.yml"},
    ]
    run({"repos": repos, "pipeline": {"platforms": ["arm64"], "tags": ["1"]}})
    settings = yaml.safe_load(show(one))["steps"][0]["settings"]
    assert (settings["repo"], settings["tags"]) == ("o/one", "1")
    settings = yaml.safe_load(show(two, "ci.yml"))["steps"][0]["settings"]
    assert (settings["repo"], settings["tags"]) == ("o/two", "2")


@pytest.mark.parametrize("hooked", ["pre-receive", "update"])
@pytest.mark.parametrize("way", ["path", "http"])
def test_a_hook_that_refuses_is_repeated_in_its_own_words_and_nothing_is_lost(run, bare, web, way, hooked):
    path, other = bare("o/one", {".drone.yml": THEIRS}), bare("o/two", {})
    hook(path, hooked, "echo 'no signed-off-by, no push' >&2; exit 1")
    before = heads(path)
    url = str(path) if way == "path" else f"{web.url}/o/one.git"
    result = run({"repos": [{"url": url}, {"url": str(other)}]}, thrice=False)
    assert result.failed
    assert "1 of 2 failed" in result["msg"]
    assert "no signed-off-by, no push" in result["msg"]
    assert "hook declined" in result["msg"]
    assert heads(path) == before
    assert [row["changed"] for row in result["repos"]] == [False, True]
    assert count(other) == 2


def test_a_protected_branch_is_not_forced(run, bare):
    path = bare(files={})
    git("-C", path, "config", "receive.denyCurrentBranch", "refuse")
    hook(
        path,
        "pre-receive",
        'while read old new ref; do test "$ref" != refs/heads/main || { echo "GH006: protected branch" >&2; exit 1; }; done',
    )
    write(path, {"a": "b"}, branch="develop")
    result = run({"repos": [{"url": str(path)}]}, thrice=False)
    assert "protected" in result["msg"]
    assert count(path) == 1
    assert run({"repos": [{"url": str(path)}], "branch": "develop"})["changed"]


def test_the_checked_out_branch_of_a_working_copy_is_refused(run, tmp_path, bare):
    clone = tmp_path / "clone"
    git("clone", "--quiet", bare(files={}), clone)
    result = run({"repos": [{"url": str(clone)}]}, thrice=False)
    assert result.failed
    assert "checked out" in result["msg"]
    assert not (clone / ".drone.yml").exists()


@pytest.mark.parametrize("way", ["path", "http"])
def test_a_push_that_races_is_made_again_on_top_of_theirs(run, bare, web, monkeypatch, way):
    path = bare(files={".drone.yml": THEIRS})
    url = str(path) if way == "path" else f"{web.url}/octocat/app.git"
    races = iter(range(3))
    push = to_repositories.Branch.push

    def raced(self, commit):
        number = next(races, None)
        if number is not None:
            write(path, {f"theirs-{number}": "x", ".drone.yml": show(path) + f"# {number}\n"})
        push(self, commit)

    monkeypatch.setattr(to_repositories.Branch, "push", raced)
    result = run({"repos": [{"url": url}]}, thrice=False)
    assert result["changed"], result
    assert count(path) == 5
    text = show(path)
    assert "# 0\n# 1\n# 2" in text
    assert yaml.safe_load(text)["steps"][1]["name"] == "docker"
    assert show(path, "theirs-2") == "x"


def test_a_race_that_somebody_else_won_with_the_same_change_is_no_commit(run, bare, monkeypatch):
    path = bare(files={})
    push = to_repositories.Branch.push
    done = []

    def raced(self, commit):
        if not done:
            done.append(1)
            write(path, {".drone.yml": git("--git-dir", self.directory, "show", f"{commit}:.drone.yml")})
        push(self, commit)

    monkeypatch.setattr(to_repositories.Branch, "push", raced)
    result = run({"repos": [{"url": str(path)}]}, thrice=False)
    assert not result.failed
    assert count(path) == 2


def test_a_race_without_end_gives_up_and_says_so(run, bare, monkeypatch):
    path = bare(files={})
    push = to_repositories.Branch.push

    def raced(self, commit):
        write(path, {"theirs": str(count(path))})
        push(self, commit)

    monkeypatch.setattr(to_repositories.Branch, "push", raced)
    monkeypatch.setattr(to_repositories.time, "sleep", lambda seconds: None)
    result = run({"repos": [{"url": str(path)}]}, thrice=False)
    assert "somebody else pushed to main first" in result["msg"]


def test_a_real_race_of_eight_loses_nothing(bare, run_module, tmp_path):
    path = bare(files={})
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in __import__("sys").path if p))
    processes = []
    for number in range(8):
        arguments = {
            "repos": [{"url": str(path)}],
            "pipeline": {**BUILD, "name": f"p{number}"},
            "_ansible_check_mode": False,
        }
        processes.append(
            subprocess.Popen(
                [__import__("sys").executable, "-m", drone_pipeline.__name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        )
        processes[-1].stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        processes[-1].stdin.close()
    said = [process.stdout.read() for process in processes]
    assert [process.wait() for process in processes] == [0] * 8, said
    assert sorted(document["name"] for document in yaml.safe_load_all(show(path))) == [f"p{n}" for n in range(8)]
    assert count(path) == 9


def test_an_executable_files_mode_stays(run, bare):
    path = bare(files={".drone.yml": ("100755", "kind: pipeline\nname: a\n")})
    run({"repos": [{"url": str(path)}], "scope": "pipeline"})
    assert git("-C", path, "ls-tree", "main", ".drone.yml").startswith("100755")


@pytest.mark.parametrize("way", ["path", "http"])
@pytest.mark.parametrize(
    ("mode", "entry", "config_path", "says"),
    [
        ("120000", ".drone.yml", ".drone.yml", ".drone.yml is a symbolic link"),
        ("160000", ".drone.yml", ".drone.yml", "is a submodule"),
        ("120000", "ci", "ci/.drone.yml", "ci is a symbolic link"),
        ("120000", "ci", "ci/a/.drone.yml", "ci is a symbolic link"),
        ("160000", "vendor/x", "vendor/x/.drone.yml", "is a submodule"),
        ("100644", "ci", "ci/.drone.yml", "ci is a file"),
        ("100644", "ci/x", "ci", "ci is a directory"),
    ],
)
def test_what_a_commit_would_replace_is_refused_in_check_mode_too(run, bare, web, way, mode, entry, config_path, says):
    path = bare(files={})
    if mode == "160000":
        git("-C", path, "fast-import", "--quiet", "--date-format=now", stdin=(
            "commit refs/heads/main\ncommitter a <a@b> now\ndata 1\nx\nfrom refs/heads/main^0\n"
            f"M 160000 {'1' * 40} {entry}\n"
        ).encode())  # fmt: skip
    else:
        write(path, {entry: (mode, "elsewhere")})
    url = {"path": str(path), "http": f"{web.url}/octocat/app.git"}[way]
    for check in (True, False):
        result = run({"repos": [{"url": url}], "config_path": config_path}, check=check)
        assert result.failed
        assert says in result["msg"]
    assert count(path) == 2


def test_a_file_in_directories_that_are_not_there_yet_is_committed(run, bare, web):
    path = bare(files={"a/b/x": "y"})
    run({"repos": [{"url": f"{web.url}/octocat/app.git"}], "config_path": "a/b/c/d.yml"})
    assert "kind: pipeline" in show(path, "a/b/c/d.yml")
    assert show(path, "a/b/x") == "y"


def test_names_that_are_no_utf8_and_paths_with_blanks_and_quotes_are_kept(run, bare):
    path = bare(files={})
    write(path, {'"caf\\351"': "latin", '"a \\"b\\".yml"': "kind: pipeline\nname: x\n"})
    before = git("-C", path, "ls-tree", "main")
    run({"repos": [{"url": str(path)}], "config_path": 'a "b".yml'})
    after = git("-C", path, "ls-tree", "main")
    assert [line for line in before.splitlines() if "caf" in line] == [
        line for line in after.splitlines() if "caf" in line
    ]
    assert show(path, 'a "b".yml').startswith("kind: pipeline\nname: x\n")
    git("-C", path, "fsck", "--strict")


def test_hundreds_in_one_call_have_a_result_each(run, bare):
    paths = [bare(f"o/r{number:02}", {} if number % 3 else None) for number in range(24)]
    repos = [{"url": str(path)} for path in paths] + [{"url": str(paths[0]) + "-nope"}]
    result = run({"repos": repos, "at_a_time": 3}, thrice=False)
    assert result.failed
    assert [row["changed"] for row in result["repos"]] == [True] * 24 + [False]
    assert all(count(path) in (1, 2) for path in paths)
    again = run({"repos": repos[:-1], "at_a_time": 3}, thrice=False)
    assert not again["changed"]
    assert len(again["unchanged"]) == 24


def test_a_file_that_is_no_yaml_is_left_alone_and_the_others_are_done(run, bare):
    one, two = bare("o/one", {".drone.yml": "kind: [\n"}), bare("o/two", {})
    result = run({"repos": [{"url": str(one)}, {"url": str(two)}]}, thrice=False)
    assert "not valid YAML" in result["repos"][0]["msg"]
    assert count(one) == 1
    assert count(two) == 2


@pytest.mark.parametrize("how", ["options", "url"])
def test_a_login_over_http_is_taken_and_never_shown(run, bare, web, how, monkeypatch):
    path = bare(files={})
    web.login = "octocat:hunter2-xyzzy"
    seen = []
    popen = subprocess.Popen
    module = __import__(to_repositories.Remote.__module__, fromlist=["subprocess"])

    def watched(arguments, **more):
        seen.append(arguments)
        return popen(arguments, **more)

    monkeypatch.setattr(module.subprocess, "Popen", watched)
    url = f"{web.url}/octocat/app.git"
    if how == "url":
        arguments = {"repos": [{"url": url.replace("//", "//octocat:hunter2-xyzzy@")}]}
    else:
        arguments = {"repos": [{"url": url}], "git_username": "octocat", "git_password": "hunter2-xyzzy"}
    result = run(arguments, thrice=False)
    assert result["changed"], result
    assert count(path) == 2
    assert "hunter2-xyzzy" not in json.dumps([seen, result])


def test_a_wrong_password_and_none_at_all_are_told_apart_and_nobody_is_asked(run, bare, web):
    bare(files={})
    web.login = "octocat:right"
    url = f"{web.url}/octocat/app.git"
    result = run({"repos": [{"url": url}]}, thrice=False)
    assert "set git_username and git_password" in result["msg"]
    result = run({"repos": [{"url": url}], "git_username": "octocat", "git_password": "wrong-xyzzy"}, thrice=False)
    assert "Authentication failed" in result["msg"]
    assert "wrong-xyzzy" not in json.dumps(result)


def test_only_one_commit_without_its_files_is_fetched(run, bare, web, monkeypatch):
    path = bare(files={"big": "x" * 1000000})
    for number in range(5):
        write(path, {"big": str(number) * 1000000})
    sizes = []
    drop = to_repositories.Branch.drop

    def weighed(self):
        if self.directory:
            sizes.append(
                int(subprocess.run(["du", "-sk", self.directory], capture_output=True, check=True).stdout.split()[0])
            )
        drop(self)

    monkeypatch.setattr(to_repositories.Branch, "drop", weighed)
    run({"repos": [{"url": f"{web.url}/octocat/app.git"}]}, check=True)
    assert sizes
    assert max(sizes) < 300


def test_nothing_of_the_clones_stays_behind(run, bare, web, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    bare(files={})
    refusing = bare("o/no", {})
    hook(refusing, "update", "exit 1")
    broken = bare("o/broken", {".drone.yml": "["})
    repos = [
        {"url": f"{web.url}/octocat/app.git"},
        {"url": str(refusing)},
        {"url": str(broken)},
        {"url": f"{web.url}/nope.git"},
    ]
    run({"repos": repos}, thrice=False)
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "not the URL of a git repository"),
        ("--upload-pack=touch /tmp/pwned", "not the URL of a git repository"),
        ("a\nb", "not the URL of a git repository"),
        ("relative/path", "relative path"),
        ("ext::sh -c touch% /tmp/pwned", "not allowed"),
        ("/nowhere/at/all.git", "check the path"),
        ("http://127.0.0.1:1/x.git", "git clone"),
    ],
)
def test_a_url_that_is_none_is_refused(run, url, says):
    result = run({"repos": [{"url": url}]}, thrice=False)
    assert result.failed
    assert says in result["msg"]


@pytest.mark.parametrize("branch", ["-x", "a b", "a..b", "a^", "x.lock", "/a", "a:b"])
def test_a_branch_that_is_none_is_refused(run, bare, branch):
    assert (
        "not a valid branch name"
        in run({"repos": [{"url": str(bare(files={}))}], "branch": branch}, thrice=False)["msg"]
    )


def test_bad_words_are_refused_before_any_repository_is_looked_at(run, bare):
    one = bare("o/one", {})
    repos = [{"url": str(one)}, {"url": str(one) + "2", "pipeline": {"auto_tag": True}}]
    result = run({"repos": repos}, thrice=False)
    assert "auto_tag makes the tags itself" in result["msg"]
    assert count(one) == 1
    assert "named twice" in run({"repos": [repos[0], repos[0]]}, thrice=False)["msg"]
    assert "at_a_time" in run({"repos": repos[:1], "at_a_time": 0}, thrice=False)["msg"]
    assert "not an author" in run({"repos": repos[:1], "commit_author": "Jane"}, thrice=False)["msg"]


def test_a_git_that_hangs_ends_at_its_time_limit(run, bare, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/git"
    fake.write_text("#!/bin/sh\nsleep 60 &\nwait\n")
    fake.chmod(0o755)
    path = bare(files={})
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    result = run({"repos": [{"url": str(path)}], "git_timeout": 1}, thrice=False)
    assert "no answer within 1 s" in result["msg"]


# Taken out again


@pytest.mark.parametrize("way", ["path", "http"])
def test_what_was_added_to_a_repository_is_taken_out_again(run, bare, web, way):
    path = bare(files={".drone.yml": THEIRS})
    url = str(path) if way == "path" else f"{web.url}/octocat/app.git"
    run({"repos": [{"url": url}]})
    result = run({"repos": [{"url": url}], "state": "absent"})
    assert result["steps"] == [f"{url}: commit .drone.yml to the default branch"]
    assert show(path) == THEIRS
    assert count(path) == 3


def test_a_file_goes_with_its_last_pipeline(run, bare, tmp_path):
    path = bare(files={})
    run({"repos": [{"url": str(path)}]})
    result = run({"repos": [{"url": str(path)}], "state": "absent"})
    assert "the removal of .drone.yml" in result["steps"][0]
    assert git("-C", path, "ls-tree", "--name-only", "main") == "README\n"
    work = tmp_path / "work"
    work.mkdir()
    run({"path": str(work)})
    assert run({"path": str(work), "state": "absent"})["steps"] == ["remove .drone.yml"]
    assert os.listdir(work) == []


# With a Drone server


@pytest.fixture
def with_drone(server, run, bare):
    """Run with the stand-in's administrator, on a bare repository octocat/app1; options as for the module."""
    path = bare("octocat/app1", {})

    def go(arguments=None, *, by="octocat", **more):
        access = {"drone_url": server.url, "drone_token": server.tokens[by]}
        where = {} if {"path", "template"} & set(arguments or {}) else {"repos": [{"url": str(path)}]}
        return run({**access, **where, **(arguments or {})}, **more)

    go.path = path
    go.server = server
    return go


def drone_of(server, by="octocat"):
    return Drone(server.url, server.tokens[by])


SLUG = "repos/octocat/app1"


def test_a_privileged_step_in_a_repository_that_is_not_trusted_is_refused_before_anything_is_pushed(with_drone):
    result = with_drone(thrice=False)
    assert "octocat/app1 is not trusted, and step docker has privileged" in result["msg"]
    assert "drone_repo_trust" in result["msg"]
    assert count(with_drone.path) == 1
    drone_of(with_drone.server).patch(SLUG, {"trusted": True})
    result = with_drone()
    assert result["changed"]
    assert result["skipped_checks"] == ["platforms"]


def test_an_image_that_runners_privilege_needs_no_trust_and_says_nothing_of_privilege(with_drone):
    result = with_drone(privileged_images=["docker.io/thegeeklab/drone-docker-buildx"])
    assert result["changed"]
    assert "privileged" not in yaml.safe_load(show(with_drone.path))["steps"][0]
    told = with_drone(
        privileged_images=["thegeeklab/drone-docker-buildx:23"], pipeline={**BUILD, "privileged": True}, thrice=False
    )
    assert "set privileged to false" in told["msg"]


def test_strategy_remote_needs_no_trust(with_drone):
    for name in ("buildkit_ca", "buildkit_cert", "buildkit_key"):
        drone_of(with_drone.server).post(f"{SLUG}/secrets", {"name": name, "data": "x"})
    assert with_drone(pipeline={**BUILD, "strategy": "remote", "builders": [{"endpoint": "tcp://b:1234"}]})["changed"]


def test_another_step_that_takes_trust_is_found_too(with_drone):
    steps = [{"name": "x", "image": "y", "network_mode": "host"}]
    result = with_drone(
        privileged_images=["thegeeklab/drone-docker-buildx"], pipeline={**BUILD, "steps": steps}, thrice=False
    )
    assert "step x has network_mode" in result["msg"]


def test_a_repository_that_an_earlier_task_trusts_counts_as_trusted(with_drone):
    assert "is not trusted" in with_drone(thrice=False, known_trusted=["octocat/app2"])["msg"]
    assert with_drone(known_trusted=["octocat/app1"])["changed"]


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"volumes": [{"name": "cache", "host": {"path": "/x"}}]}, "volume cache is the host's"),
        ({"volumes": [{"name": "cache", "temp": {"medium": "memory"}}]}, "volume cache is the host's"),
        ({"services": [{"name": "dind", "image": "docker:dind", "privileged": True}]}, "step dind has privileged"),
    ],
)
def test_what_else_of_a_pipeline_takes_trust_is_found(with_drone, extra, says):
    images = ["thegeeklab/drone-docker-buildx"]
    result = with_drone(privileged_images=images, pipeline={**BUILD, "extra": extra}, thrice=False)
    assert says in result["msg"]
    extra = {"volumes": [{"name": "cache", "temp": {}}]}
    assert with_drone(privileged_images=images, pipeline={**BUILD, "extra": extra})["changed"]


LOGIN = {"username": {"from_secret": "docker_username"}, "password": {"from_secret": "docker_password"}}


def test_a_secret_that_does_not_exist_is_named_with_the_near_match_before_anything_is_pushed(with_drone):
    drone = drone_of(with_drone.server)
    drone.patch(SLUG, {"trusted": True})
    drone.post(f"{SLUG}/secrets", {"name": "docker_usename", "data": "x"})
    result = with_drone(pipeline={**BUILD, **LOGIN}, thrice=False)
    assert "no secret docker_password, docker_username" in result["msg"]
    assert count(with_drone.path) == 1
    drone.post(f"{SLUG}/secrets", {"name": "docker_username", "data": "x"})
    drone.post("secrets/octocat", {"name": "docker_password", "data": "x"})
    assert with_drone(pipeline={**BUILD, **LOGIN})["changed"]


def test_a_secret_of_the_file_or_of_another_source_counts(with_drone):
    drone_of(with_drone.server).patch(SLUG, {"trusted": True})
    write(with_drone.path, {".drone.yml": "kind: secret\nname: docker_username\nget: {path: a, name: b}\n"})
    assert with_drone(pipeline={**BUILD, **LOGIN}, known_secrets=["docker_password"])["changed"]


def test_where_the_organisations_secrets_cannot_be_seen_it_is_said_and_not_guessed(with_drone, server, bare):
    path = bare("alice/svc", {})
    drone_of(server).patch("repos/alice/svc", {"trusted": True})
    pipeline = {**BUILD, **LOGIN}
    result = with_drone(
        {"repos": [{"url": str(path), "slug": "alice/svc"}]}, by="alice", pipeline=pipeline, thrice=False
    )
    if result.failed:  # a server that shows alice her own namespace's
        assert "no secret" in result["msg"]
    else:
        assert "secrets" in result["skipped_checks"]


def test_the_file_of_a_protected_repository_is_signed_and_the_signature_renewed(with_drone):
    drone = drone_of(with_drone.server)
    drone.patch(SLUG, {"trusted": True, "protected": True})
    write(with_drone.path, {".drone.yml": THEIRS})
    assert with_drone()["changed"]
    first = list(yaml.safe_load_all(show(with_drone.path)))
    assert [document["kind"] for document in first] == ["pipeline", "signature"]
    text = show(with_drone.path)
    assert drone.post(f"{SLUG}/sign", {"data": text})["data"] == first[-1]["hmac"]
    assert with_drone(pipeline={**BUILD, "tags": ["2"]})["changed"]
    second = list(yaml.safe_load_all(show(with_drone.path)))
    assert second[-1]["hmac"] != first[-1]["hmac"]
    # Somebody edits the file and not the signature: a run without a change of ours mends it.
    write(with_drone.path, {".drone.yml": show(with_drone.path).replace("golang", "golang:1")})
    result = with_drone(pipeline={**BUILD, "tags": ["2"]})
    assert result["changed"]


def test_without_the_server_a_signature_that_breaks_is_said(run, bare):
    path = bare(files={".drone.yml": THEIRS + "---\nkind: signature\nhmac: abc\n"})
    result = run({"repos": [{"url": str(path)}]}, thrice=False)
    assert "signature" in result["skipped_checks"]
    assert "signature is not renewed" in str(result["warnings"])


def test_a_repository_that_the_server_does_not_know_is_named_with_the_near_match(with_drone, bare):
    path = bare("octocat/app11", {})
    result = with_drone({"repos": [{"url": str(path)}]}, thrice=False)
    assert "knows no repository octocat/app11" in result["msg"]
    assert "did you mean octocat/app1" in result["msg"]
    assert count(path) == 1


def test_the_checks_of_many_repositories_take_one_listing(with_drone, server, bare):
    for name in ("app1", "app2", "app3"):
        drone_of(server).patch(f"repos/octocat/{name}", {"trusted": True})
    repos = [{"url": str(bare(f"octocat/{name}", {}))} for name in ("app2", "app3")]
    server.forget_requests()
    with_drone({"repos": [*repos, {"url": str(with_drone.path)}]}, check=True)
    assert len([request for request in server.requests if "/sign" not in str(request)]) == 2, server.requests


@pytest.mark.parametrize(
    ("url", "slug"),
    [
        ("https://git.example.com/octocat/app.git", "octocat/app"),
        ("git@git.example.com:octocat/app.git", "octocat/app"),
        ("ssh://git@git.example.com:22/octocat/app", "octocat/app"),
        ("/srv/git/octocat/app.git/", "octocat/app"),
        ("https://git.example.com/a/b/octocat/app/.git", "octocat/app"),
    ],
)
def test_the_slug_is_the_last_two_parts_of_the_url(url, slug):
    remote = to_repositories.Remote.parse(url, to_repositories.Login())
    assert to_repositories.slug_of(remote) == slug


def test_a_directory_is_checked_where_its_repository_is_named(with_drone, tmp_path):
    directory = tmp_path / "work"
    directory.mkdir()
    result = with_drone({"path": str(directory), "slug": "octocat/app1"}, thrice=False)
    assert "is not trusted" in result["msg"]
    assert os.listdir(directory) == []


# A template


@pytest.mark.parametrize("version", ["2.28.1", "2.0.4"])
def test_a_template_is_created_changed_and_then_left(run, no_naps, version):
    from ansible_collections.multiarch.drone.tests.standins.drone import DroneServer

    with DroneServer(version=version) as server:
        access = {"drone_url": server.url, "drone_token": server.tokens["octocat"]}
        template = {"template": {"namespace": "octocat", "name": "multiarch.yaml"}}
        created = run({**access, **template, "pipeline": {**BUILD, "repo": "${DRONE_REPO}"}})
        assert created["steps"] == ["create template octocat/multiarch.yaml"]
        data = drone_of(server).get("templates/octocat/multiarch.yaml")["data"]
        assert data == created["text"]
        assert yaml.safe_load(data)["steps"][0]["settings"]["repo"] == "${DRONE_REPO}"
        changed = run({**access, **template})
        assert changed["steps"] == ["change template octocat/multiarch.yaml"]
        assert "dockerfile" not in changed["skipped_checks"]
        assert run({**access, **template, "state": "absent"})["steps"] == ["delete template octocat/multiarch.yaml"]


def test_the_examples_template_takes_its_input_and_no_repository_does(with_drone, run, tmp_path):
    pipeline = {
        "repo": "{{ .input.repo }}",
        "tags": ["{{ .input.tag }}"],
        "platforms": ["linux/amd64", "linux/arm64"],
        "strategy": "remote",
        "builders": [{"endpoint": "tcp://b:1"}],
    }
    template = {"template": {"namespace": "octocat", "name": "remote.yaml"}}
    text = with_drone(template, pipeline=pipeline)["text"]
    filled = text.replace("{{ .input.repo }}", "octocat/app").replace("{{ .input.tag }}", "1.0")
    assert "{{" not in filled
    step = yaml.safe_load(filled)["steps"][0]
    assert "octocat/app" in step["environment"].values()
    assert all("octocat/app" not in command for command in step["commands"])
    assert "for templates alone" in run({"path": str(tmp_path), "pipeline": pipeline}, thrice=False)["msg"]


def test_concurrent_changes_of_several_files_of_one_repository_are_all_made(run, bare):
    path = bare(files={})
    repos = [{"url": str(path), "config_path": f"{name}.yml"} for name in "abcd"]
    assert [row["changed"] for row in run({"repos": repos}, at_a_time=4)["repos"]] == [True] * 4
    assert count(path) == 5
    assert git("-C", path, "ls-tree", "--name-only", "main").split() == ["README", "a.yml", "b.yml", "c.yml", "d.yml"]


def test_a_template_that_would_be_ignored_is_refused(with_drone, run):
    template = {"template": {"namespace": "octocat", "name": "multiarch.txt"}}
    assert "end it in .yaml" in with_drone(template, thrice=False)["msg"]
    assert "drone_url is not set" in run({"template": {"namespace": "o", "name": "a.yaml"}}, thrice=False)["msg"]


def test_a_server_without_a_token_and_a_wrong_token_are_errors_before_anything_is_pushed(with_drone, server):
    result = with_drone({"drone_token": ""}, thrice=False)
    assert "drone_token is not" in result["msg"]
    result = with_drone({"drone_token": "wrong-xyzzy"}, thrice=False)
    assert result.failed
    assert "wrong-xyzzy" not in json.dumps(result)
    assert count(with_drone.path) == 1


def fsck(path, directory):
    """Return what git says of a commit with a file at a path."""
    git("init", "-q", "-b", "main", directory)
    blob = git("-C", directory, "hash-object", "-w", "--stdin", stdin=b"kind: pipeline\n").strip()
    tree = b"100644 %s\0%s" % (path.split("/")[-1].encode(), bytes.fromhex(blob))
    for part in [*path.split("/")[:-1][::-1], None]:
        made = git("-C", directory, "hash-object", "-w", "--literally", "-t", "tree", "--stdin", stdin=tree).strip()
        if part is not None:
            tree = b"40000 %s\0%s" % (part.encode(), bytes.fromhex(made))
    commit = git("-C", directory, "commit-tree", "-m", "x", made).strip()
    git("-C", directory, "update-ref", "refs/heads/main", commit)
    done = subprocess.run(["git", "-C", directory, "fsck", "--strict"], capture_output=True, check=False)
    return done.stderr.decode()


REFUSED_BY_GIT = [
    ".git",
    ".git/config",
    ".GIT/x",
    "ci/.git/x",
    "ci/.Git",
    "git~1",
    "GIT~1/x",
    ".git /x",
    ".git.",
    ".git. . /x",
    ".git::$INDEX_ALLOCATION/x",
    ".g\u200cit/x",
    "\ufeff.git",
    ".gi\u206ft",
    ".git\u200d/x",
    "ci/.git\\x",
    ".gitmodules",
    "GITMOD~1",
    "gi7eba~1",
    ".gitm\u200codules",
    "a\\.git\\b",
]


@pytest.mark.parametrize("path", REFUSED_BY_GIT)
def test_what_git_fsck_refuses_is_no_config_path(run, bare, tmp_path, path):
    assert fsck(path, str(tmp_path / "judge")), "git itself takes it"
    result = run({"repos": [{"url": str(bare(files={".drone.yml": THEIRS}))}], "config_path": path}, thrice=False)
    assert result.failed
    assert "config_path" in result["msg"]


@pytest.mark.parametrize(
    "path",
    [".", "..", "../x", "a/../../x", "/x", "a//b", "a/", "a/./b", "a\0b", "a\nb", "a\x7f", "C:\\x", "a. /b", "x" * 300, ""],
)  # fmt: skip
def test_what_is_no_path_of_a_file_is_no_config_path(run, tmp_path, path):
    result = run({"path": str(tmp_path), "config_path": path}, thrice=False)
    assert result.failed
    assert "config_path" in result["msg"]


@pytest.mark.parametrize(
    "path", ["ci/.drone.yml", ".github/x.yml", "git/x.yml", ".gitlab-ci.yml", "日本/é.yml", "a b/c.yml"]
)
def test_other_paths_of_files_are_taken(run, bare, tmp_path, path):
    assert not fsck(path, str(tmp_path / "judge"))
    url = str(bare(files={".drone.yml": THEIRS}))
    assert not run({"repos": [{"url": url}], "config_path": path}, thrice=False).failed
    assert not subprocess.run(["git", "-C", url, "fsck", "--strict"], capture_output=True, check=True).stderr


@pytest.mark.parametrize(
    "theirs",
    [
        "kind: pipeline\nx: 0x_\ny: 1_\nz: 2001-99-99\n",
        "kind: pipeline\na: &a [1]\n" + "".join(f"b{n}: &b{n} [*{'a' if not n else f'b{n - 1}'}, *{'a' if not n else f'b{n - 1}'}]\n" for n in range(40)),
        "kind: pipeline\nx: " + "[" * 50000,
        "kind: pipeline\n" + "x: y\n" * 500000,
    ],
    ids=["values", "aliases", "nesting", "size"],
)  # fmt: skip
def test_every_repository_is_an_island(run, bare, theirs):
    bad, good = bare("o/bad", {".drone.yml": theirs}), bare("o/good", {".drone.yml": THEIRS})
    result = run({"repos": [{"url": str(bad)}, {"url": str(good)}]}, thrice=False)
    assert count(good) == 2
    assert [row["changed"] for row in result["repos"]][1:] == [True]
    assert "Traceback" not in str(result)


@pytest.mark.parametrize("form", ["{token}@", "{token}:@", "{token}:x-oauth-basic@", "x:{token}@"])
@pytest.mark.parametrize("failing", [False, True])
def test_a_token_in_a_url_is_in_no_argument_and_no_word(run_module, bare, web, monkeypatch, form, failing):
    token = "ghp_s3cr%2Ft"
    repository = bare("o/app", {".drone.yml": THEIRS})
    user, _colon, password = form.format(token=urllib.parse.unquote(token)).rstrip("@").partition(":")
    web.login = f"{user}:{password}" if not failing else "nobody:x"
    spoken, popen = [], subprocess.Popen

    def spy(arguments, *more, **options):
        spoken.append(str(arguments))
        return popen(arguments, *more, **options)

    monkeypatch.setattr(to_repositories.Remote.run.__globals__["subprocess"], "Popen", spy)
    url = f"{web.url.replace('//', '//' + form.format(token=token))}/o/app.git"
    result = run_module(drone_pipeline, {"pipeline": BUILD, "repos": [{"url": url}]})
    assert result.failed == failing, result
    assert count(repository) == (1 if failing else 2)
    for secret in ("ghp_s3cr", "s3cr/t"):
        assert secret not in str(dict(result))
        assert secret not in str([one for one in spoken if "git" in one.split(",")[0]])


@pytest.mark.parametrize(
    "url",
    ["https://[::1", "https://[::1]:x/a", "http://h:99999999/x", "https://", "https:///x", "http://T0KEN12345@[x/y", "-u", "", "a\nb", "a\0b", "\ud800", "relative/x", "https://T0KEN12345@h:port/x"],
)  # fmt: skip
def test_a_malformed_url_is_a_sentence(run_module, url):
    result = run_module(drone_pipeline, {"pipeline": BUILD, "repos": [{"url": url}]})
    assert result.failed
    assert "Traceback" not in result["msg"]
    assert "T0KEN" not in str(dict(result))


@pytest.mark.parametrize(
    "options",
    [{"git_timeout": -1}, {"git_timeout": 0}, {"git_timeout": 10**30}, {"at_a_time": -1}, {"git_password": "a\nb"}, {"commit_message": "\0"}, {"commit_author": "x"}, {"branch": "a..b"}, {"git_ssh_key": "/a\0b"}, {"git_username": "a\0"}],
)  # fmt: skip
def test_an_option_that_git_cannot_take_is_a_sentence(run_module, bare, options):
    result = run_module(drone_pipeline, {"pipeline": BUILD, "repos": [{"url": str(bare(files={"a": "b"}))}], **options})
    assert result.failed
    assert "Traceback" not in result["msg"]


@pytest.mark.parametrize("way", ["hangs", "floods"])
def test_a_git_that_does_not_end_is_ended(run_module, bare, tmp_path, monkeypatch, way):
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    body = "sleep 600" if way == "hangs" else "exec cat /dev/zero"
    # A helper in a session of its own keeps the pipe open.
    program.write_text(f"#!/bin/sh\nsetsid sleep 20 &\n{body}\n")
    program.chmod(0o755)
    repository = bare(files={"a": "b"})
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    begun = time.monotonic()
    result = run_module(
        drone_pipeline,
        {"pipeline": BUILD, "repos": [{"url": str(repository)}], "git_timeout": 1 if way == "hangs" else 60},
    )
    assert result.failed
    assert ("git_timeout" if way == "hangs" else "MiB") in result["msg"]
    assert time.monotonic() - begun < 15
