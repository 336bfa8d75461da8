# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._image import build as _build
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

DEFAULTS = {
    **{name: {} for name in ("add_hosts", "annotations", "build_args", "build_contexts", "labels")},
    **{name: [] for name in ("allow", "attests", "cache_from", "cache_to", "no_cache_filters", "outputs")},
    **{name: [] for name in ("platforms", "secrets", "ssh", "tags", "ulimit")},
    **dict.fromkeys(("builder", "cgroup_parent", "file", "network", "provenance", "sbom", "shm_size", "target"), None),
    **dict.fromkeys(("load", "no_cache", "pull", "push"), False),
    "call": "build",
    "timeout": 60,
}


@pytest.fixture
def context(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return str(tmp_path)


def wish(context, **options):
    return _build.wish({**DEFAULTS, "context": context, **options})


def arguments(build):
    return build.arguments(input_digest="sha256:1", metadata_file="/m")


def test_options_become_the_arguments_of_buildx(context):
    build = wish(
        context,
        tags=["r.example/app:1", "r.example/app:1", "app"],
        platforms=["arm64,armhf"],
        push=True,
        builder="fleet",
        build_args={"A": "1 2", "B": True, "C": None},
        labels={"l": "x"},
        annotations={"index:k": "v"},
        add_hosts={"h": "10.0.0.1", "six": "::1"},
        cache_from=["r.example/app:cache"],
        target="t",
        provenance="False",
    )
    text = "\0".join(arguments(build))
    for part in (
        ["--builder", "fleet"],
        ["--platform", "linux/arm64,linux/arm/v7"],
        ["--tag", "r.example/app:1", "--tag", "docker.io/library/app:latest", "--build-arg"],
        ["--build-arg", "A=1 2", "--build-arg", "B=true", "--build-arg", "C="],
        ["--annotation", "index:k=v", "--annotation", f"index:{_build.KEY}=sha256:1"],
        ["--add-host", "h:10.0.0.1", "--add-host", "six=::1"],
        ["--provenance", "false"],
        ["--file", f"{context}/Dockerfile"],
        ["--output=type=image,push=", "--", context],
    ):
        assert "\0".join(part) in text


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"platforms": ["arm64"]}, "index"),
        ({"platforms": ["arm64"], "provenance": "False"}, "manifest"),
        ({"provenance": "false"}, "manifest"),
        ({"provenance": "false", "sbom": "true"}, "index"),
        ({"provenance": "false", "attests": ["type=sbom"]}, "index"),
        ({"platforms": ["arm64", "amd64"], "provenance": "false"}, "index"),
    ],
)
def test_the_annotation_goes_where_buildkit_takes_it(context, options, where):
    assert f"{where}:{_build.KEY}=sha256:1" in arguments(wish(context, **options))


@pytest.mark.parametrize(
    ("same", "other"),
    [
        ({"cache_to": ["type=inline"]}, {"target": "x"}),
        ({"builder": "x"}, {"build_args": {"a": "b"}}),
        ({"provenance": None}, {"provenance": "mode=max"}),
        ({"tags": ["a"]}, {"add_hosts": {"a": "10.0.0.1"}}),
        ({"allow": ["network.host"]}, {"ulimit": ["nofile=64"]}),
        ({"cgroup_parent": "x"}, {"shm_size": "1m"}),
        ({"platforms": []}, {"platforms": ["arm64"]}),
        ({"ssh": ["default"]}, {"network": "none"}),
    ],
)
def test_only_options_that_decide_on_the_image_are_inputs(context, same, other):
    plain = wish(context).decisive()
    assert wish(context, **same).decisive() == plain
    assert wish(context, **other).decisive() != plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": "relative"}, "give the absolute path of a directory on the host, or the URL"),
        ({"context": "-"}, "give the absolute path"),
        ({"context": "/nowhere/app"}, "/nowhere/app is not there on this host; a context is on the host: copy it"),
        ({"context": "/etc/passwd"}, "is not a directory"),
        ({"file": "Dockerfil"}, "there is no Dockerfile .*/Dockerfil; did you mean Dockerfile?"),
        ({"file": "sub/Dockerfile"}, "there is no Dockerfile .*sub/Dockerfile; give it in file"),
        ({"push": True}, "push is set, and tags is empty"),
        ({"tags": ["App:1"]}, "'App:1' is not an image reference"),
        ({"tags": ["a@sha256:" + "0" * 64]}, "names a digest, which no push can choose"),
        ({"platforms": ["linux/arm9"]}, r"did you mean linux/arm64\?"),
        ({"cache_to": ["type=registri,ref=x"]}, r"'registri' is not a cache backend; did you mean registry\?"),
        ({"cache_from": [""]}, "cache_from has an empty entry"),
        ({"outputs": ["type=tarball"]}, r"'tarball' is not a kind of output; known are|did you mean"),
        ({"annotations": {f"index:{_build.KEY}": "x"}}, "which this module sets itself"),
        ({"build_contexts": {"src": "/nowhere"}}, "src is /nowhere, which is not there on this host"),
        ({"secrets": [{"id": "a"}]}, "'a' has no source; give exactly one of src, env, value"),
        ({"secrets": [{"id": "a", "env": "X", "value": "v"}]}, "'a' has env and value; give exactly one"),
        ({"secrets": [{"id": "a,src=/etc/shadow", "value": "v"}]}, "is not a valid id"),
        ({"secrets": [{"id": "a", "src": "/nowhere"}]}, "/nowhere cannot be read on this host"),
        ({"secrets": [{"id": "a", "src": "/a,env=HOME"}]}, "has a comma or a quote in it"),
        ({"secrets": [{"id": "a", "env": "NOT_SET_HERE"}]}, "the variable NOT_SET_HERE is not set"),
        ({"timeout": 0}, "timeout is 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(context, options, message):
    with pytest.raises(Problem, match=message):
        _build.wish({**DEFAULTS, "context": context, **options})


def test_a_lower_case_dockerfile_is_found_as_docker_does(tmp_path):
    (tmp_path / "dockerfile").write_text("FROM scratch\n")
    assert wish(str(tmp_path)).file == str(tmp_path / "dockerfile")


@pytest.mark.parametrize(
    ("text", "git"),
    [
        ("https://example.com/a/b.git", True),
        ("https://example.com/a/b.git#main:dir", True),
        ("git@example.com:a/b", True),
        ("ssh://git@example.com/a/b", True),
        ("git://example.com/a", True),
        ("github.com/a/b", True),
        ("https://example.com/a.tar.gz", False),
    ],
)
def test_a_url_is_a_repository_where_docker_takes_it_for_one(text, git):
    assert _build.is_url(text)
    assert _build.is_git(text) is git
    assert wish(text).context == text


@pytest.mark.parametrize(
    ("options", "provenance"),
    [
        ({"load": True}, "false"),
        ({"load": True, "push": True, "tags": ["a"]}, ""),
        ({"load": True, "provenance": "mode=max"}, "mode=max"),
        ({"outputs": ["type=oci,dest=/o"]}, ""),
        ({"push": True, "tags": ["a"], "outputs": ["dest=/o, type=oci"]}, "mode=min"),
        ({"push": True, "tags": ["a"], "outputs": ["type=oci,dest=/o"], "provenance": "false"}, "false"),
    ],
)
def test_an_engine_gets_no_provenance_and_an_archive_what_the_registry_gets_unless_told_otherwise(
    context, options, provenance
):
    assert wish(context, **options).options["provenance"] == provenance


@pytest.mark.parametrize(
    ("output", "unwritten"),
    [
        ("type=tar,dest=HERE/new", ["HERE/new"]),
        ("type=tar,dest=HERE/Dockerfile", []),
        ("type=local, dest=HERE/empty", ["HERE/empty"]),
        ("HERE/empty", ["HERE/empty"]),
        ("HERE", []),
        ('type=tar,"dest=HERE/a,b"', ["HERE/a,b"]),
        ("type=docker", []),
        ("type=image,compression=zstd", []),
    ],
)
def test_an_output_is_unwritten_where_nothing_is_at_its_place(context, tmp_path, output, unwritten):
    (tmp_path / "empty").mkdir()
    build = wish(context, outputs=[output.replace("HERE", context)])
    assert build.unwritten() == [place.replace("HERE", context) for place in unwritten]


def test_a_secret_is_not_shown_when_a_build_is_printed(context):
    build = wish(context, secrets=[{"id": "a", "value": "s3cret"}])
    assert "s3cret" not in repr(build.secrets) + " ".join(arguments(build))


def test_what_may_be_a_secret_is_no_argument_of_the_process(context, monkeypatch):
    for name in [name for name in _build.os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    s3 = "type=s3,region=eu,access_key_id=marked1,secret_access_key=marked2,bucket=b"
    build = wish(
        context,
        build_args={"A_TOKEN": "marked3", "HTTP_PROXY": "http://joe:marked4@proxy:3128", "A": "b"},
        build_contexts={"other": "https://joe:marked5@git.example.com:8443/a.git#main"},
        cache_from=[s3],
        cache_to=[f"{s3},mode=max", "type=inline"],
    )
    text = "\0".join(arguments(build))
    assert "marked" not in text
    for part in (
        ["--build-arg", "A_TOKEN", "--build-arg", "HTTP_PROXY", "--build-arg", "A=b"],
        ["--build-context", "other=https://git.example.com:8443/a.git#main"],
        ["--cache-from", "type=s3,region=eu,bucket=b", "--cache-to", "type=s3,region=eu,bucket=b,mode=max"],
        ["--secret", "id=GIT_AUTH_HEADER.git.example.com:8443,env=MULTIARCH_GIT_AUTH_0"],
    ):
        assert "\0".join(part) in text
    assert build.environment() == {
        "A_TOKEN": "marked3",
        "HTTP_PROXY": "http://joe:marked4@proxy:3128",
        "NO_PROXY": "*",  # it is the build's proxy, and not the CLI's own
        "no_proxy": "*",
        "AWS_ACCESS_KEY_ID": "marked1",
        "AWS_SECRET_ACCESS_KEY": "marked2",
        "AWS_SESSION_TOKEN": "",
        "MULTIARCH_GIT_AUTH_0": "basic am9lOm1hcmtlZDU=",
    }
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    assert "HTTP_PROXY" not in build.environment()


def test_caches_with_two_logins_keep_them(context):
    texts = [f"type=s3,region=eu,bucket=b,access_key_id={name},secret_access_key=x" for name in ("one", "two")]
    build = wish(context, cache_from=texts)
    assert build.environment() == {}
    assert [text for text in arguments(build) if text.startswith("type=s3")] == texts


def test_a_context_that_is_a_download_with_a_password_is_refused():
    with pytest.raises(Problem, match="has a password, which every user") as caught:
        wish("https://joe:marked@files.example.com/context.tar.gz")
    assert "marked" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://octocat@git.example.com/a.git", "https://git@git.example.com/a.git", "git@h:a.git"]
)
def test_a_name_alone_is_nobodys_password(url):
    assert _build.split_login(url) == (url, "", "")
