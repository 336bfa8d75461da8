# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._image.dockerfile import needs
from ansible_collections.multiarch.drone.plugins.module_utils._platform import Platform
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

FLEET = [Platform.parse("amd64"), Platform.parse("arm/v7")]


def images(content, platforms=FLEET, contexts=(), **build_args):
    """Return the images that a Dockerfile needs, without Docker Hub's prefix."""
    found = needs(content, build_args, platforms, contexts)
    assert not found.open
    return [str(image).replace("docker.io/library/", "") for image in found.images]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("FROM alpine", ["alpine:latest"]),
        ("from --platform=$BUILDPLATFORM golang:1 as Build\nFROM build\nFROM scratch", ["golang:1"]),
        ("FROM a AS b\nFROM c\nCOPY --from=b / /\nCOPY --from=0 / /\nCOPY --from=d:2 / /", ["a:latest", "c:latest", "d:2"]),
        ("FROM a\nRUN --mount=type=bind,from=tools,target=/t --mount=type=cache,target=/c make", ["a:latest", "tools:latest"]),
        ("ARG V=3\nFROM alpine:${V}", ["alpine:3"]),
        ("ARG V\nFROM alpine:${V:-3}", ["alpine:3"]),
        ("ARG V=3 W=x$V\nFROM alpine:$W", ["alpine:x3"]),
        ('ARG V="3"\nFROM alpine:${V:+yes}', ["alpine:yes"]),
        ("FROM base-${TARGETARCH}${TARGETVARIANT}", ["base-amd64:latest", "base-armv7:latest"]),
        ("ARG N=base-$TARGETARCH\nFROM $N AS x\nFROM x", ["base-amd64:latest", "base-arm:latest"]),
        ("FROM a AS base-amd64\nFROM b AS base-arm\nFROM base-$TARGETARCH", ["a:latest", "b:latest"]),
        ("# syntax=docker/dockerfile:1\nFROM a", ["docker.io/docker/dockerfile:1", "a:latest"]),
        ("# a comment\n# syntax=docker/dockerfile:1\nFROM a", ["a:latest"]),
        ("FROM \\\n  # a comment\n\n  alpine \\\n  AS x", ["alpine:latest"]),
        ("# escape=`\nFROM `\n alpine", ["alpine:latest"]),
        ("FROM a\nRUN <<EOF\nFROM evil\nEOF\nFROM b", ["a:latest", "b:latest"]),
        ("FROM a\nCOPY <<-'X' <<Y /\n\tFROM evil\n\tX\nFROM evil\nY\nFROM b", ["a:latest", "b:latest"]),
        ('FROM a\nRUN echo "<<EOF"\nFROM b', ["a:latest", "b:latest"]),
        ("FROM a\nRUN cat \\<<EOF\nFROM b", ["a:latest", "b:latest"]),
        ("\ufeffFROM a\r\nFROM b\r\n", ["a:latest", "b:latest"]),
        ("FROM a\nARG V=1\nFROM b:$TARGETOS", ["a:latest", "b:linux"]),
        ("#!/usr/bin/env x\n# syntax=docker/dockerfile:1\nFROM a", ["docker.io/docker/dockerfile:1", "a:latest"]),
        ('FROM a\nRUN --mount=target=/x,"from=b" --mount=target=/y,FROM=c x', ["a:latest", "b:latest", "c:latest"]),
        ("FROM a\nRUN --mount=type=bind,from=0,target=/t x", ["a:latest", "0:latest"]),
        ('ARG B=b\nFROM "a$B"', ["ab:latest"]),
        ("FROM a\nRUN x\u2028FROM b", ["a:latest"]),
        ("FROM a\nONBUILD COPY --from=b / /", ["a:latest", "b:latest"]),
    ],
)  # fmt: skip
def test_the_images_that_a_dockerfile_names_are_found(content, named):
    assert images(content) == named


def test_a_build_argument_wins_over_the_default_and_only_where_it_is_declared():
    assert images("ARG V=3\nFROM a:$V", V="4") == ["a:4"]
    assert images("FROM a-$TARGETARCH", TARGETARCH="mine") == ["a-mine:latest"]
    with pytest.raises(Problem, match="'a:' is not an image reference"):
        images("FROM a:$V", V="4")


def test_a_build_context_of_that_name_takes_the_place_of_an_image():
    assert images("FROM alpine\nCOPY --from=src / /", contexts=["docker.io/library/alpine", "src"]) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("FROM base-$BUILDARCH", "line 1: which image it names depends on the build"),
        ("FROM a\nCOPY --from=$X / /", "line 2: which image it names"),
        ("FROM a:${BUILDARCH#v}", "line 1: which image it names"),
        ("FROM a\nADD https://example.com/x.tar /x", "line 2: ADD https://example.com/x.tar may give"),
        ("FROM a\nADD --keep-git-dir git@example.com:x.git /x", "line 2: ADD git@example.com:x.git may give"),
        ("FROM a\nADD me@example.com:x.git /x", "line 2: ADD me@example.com:x.git may give"),
        ("FROM a\nARG U=https://e.com\nADD $U/x /x", "line 3: ADD $U/x may give"),
        ('FROM a\nENV U https://e.com/x\nADD ["${U}", "/x"]', "may give"),
        ("FROM a\nENV U=https:\nENV W=$U//e.com\nADD $W /x", "line 4: ADD $W may give"),
        ("FROM a\nADD $OF_THE_BASE_IMAGE /x", "line 2: ADD $OF_THE_BASE_IMAGE may give"),
        ("FROM a\nADD --checksum= https://e.com/x /x", "line 2: ADD https://e.com/x may give"),
        ("FROM a\nARG SUM\nADD --checksum=$SUM https://e.com/x /x", "line 3: ADD https://e.com/x may give"),
        ("ARG SUM=sha256:00\nFROM a\nADD --checksum=$SUM https://e.com/x /x", "line 3: ADD https://e.com/x may give"),
        ("FROM a\nONBUILD ADD https://e.com/x /x\nFROM b", "line 2: ADD https://e.com/x may give"),
        ("# syntax=example.com/mine:1\nFROM a", "line 1: what example.com/mine:1 makes of this file"),
        ("// syntax=example.com/mine:1\n{}", "line 1: what example.com/mine:1 makes of this file"),
    ],
)
def test_what_only_the_build_knows_is_said_and_not_guessed(content, reason):
    assert reason in needs(content, {}, FLEET).open[0]


def test_what_add_checks_itself_is_known():
    for content in (
        "FROM a\nADD --checksum=sha256:00 https://example.com/x /x",
        "ARG SUM=sha256:00\nFROM a\nARG SUM\nADD --checksum=$SUM https://example.com/x /x",
        f"FROM a\nADD https://example.com/x.git#{'0' * 40}:dir /x",
    ):
        assert needs(content, {}, FLEET).open == ()


def test_a_file_of_the_context_is_known_by_whatever_variable_it_is_named():
    content = "FROM a\nARG V=1\nARG W\nADD app-$V-${W:-2}-$TARGETARCH.tar a:b /x\nARG TARGETARCH\n"
    assert needs(content, {}, FLEET).open == ()


def test_without_platforms_the_target_is_the_builders_and_unknown():
    assert needs("FROM a-$TARGETARCH", {}, []).open


@pytest.mark.parametrize("content", ["FROM $X", "ARG X\nFROM ${X}", "FROM"])
def test_a_stage_without_image_is_refused_by_line(content):
    with pytest.raises(Problem, match=r"line \d names no image"):
        needs(content, {}, FLEET)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("ARG REGISTRY=r.io\nFROM ${MIRROR:-${REGISTRY}}/a", ["r.io/a:latest"]),
        ('FROM a\nRUN echo "usage: cat <<EOF"\nFROM b\nRUN x\nEOF', ["a:latest", "b:latest"]),
        ("FROM a\nLABEL dir=C:\\\\\nFROM b", ["a:latest", "b:latest"]),
        ('FROM a\nRUN ["cat", "<<EOF"]\nFROM b\nEOF', ["a:latest", "b:latest"]),
    ],
)
def test_lines_quotes_and_nested_defaults_are_read_as_buildkit_reads_them(content, named):
    assert images(content) == named


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('FROM a\nADD ["https://h/f","/f"]', "ADD https://h/f may give"),
        ('{"syntax": "example.com/mine:1"}', "what example.com/mine:1 makes"),
        ("target.dockerfile", "no line with FROM is found"),
    ],
)
def test_a_frontend_in_json_a_source_without_a_space_and_a_text_without_from_are_undecided(content, reason):
    assert any(reason in text for text in needs(content, {}, FLEET).open)
