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


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("FROM a$TARGETSTAGE:1", ["adefault:1"]),
        ("FROM a$TARGETSTAGE:1 AS Last", ["alast:1"]),
        ("FROM a$TARGETOSVERSION:1", ["a:1"]),
        ("FROM a${BUILDARCH:+-any}", ["a-any:latest"]),
        ("ARG TARGETSTAGE=mine\nFROM a$TARGETSTAGE", ["amine:latest"]),
        ("ARG V=v1.2.3\nFROM a:${V#v}", ["a:1.2.3"]),
        ("ARG V=v1.2.3\nFROM a:${V##*.}", ["a:3"]),
        ("ARG V=1.2.3\nFROM a:${V%.*}", ["a:1.2"]),
        ("ARG V=1.2.3\nFROM a:${V%%.*}", ["a:1"]),
        ("ARG V=1.2.3\nFROM a:${V/./-}", ["a:1-2.3"]),
        ("ARG V=1.2.3\nFROM a:${V//./-}", ["a:1-2-3"]),
        ("ARG V=1.2.3\nFROM a:${V/2*/x}", ["a:1.x"]),
        ("ARG V=1\nFROM a:${V?none}", ["a:1"]),
        ("ARG V\nFROM a:${V+x}${V-y}", ["a:y"]),
        ("ARG V=\nFROM a:${V+x}${V:+y}", ["a:x"]),
        ("# escape=`\nARG V=\\x`$Y\nFROM a\nFROM b${V#*Y}", ["a:latest", "b:latest"]),
        ("#!/bin/x\n# escape=`\nFROM a\\\n-b", ["a-b:latest"]),
        (" # escape=`\nFROM a`\n-b", ["a-b:latest"]),
        ("FROM a AS B\nFROM b", ["a:latest"]),
        ("FROM b AS x\nFROM x AS x\nFROM c AS x\nCOPY --from=X / /", ["b:latest", "c:latest"]),
        ("FROM a\nCOPY --from=b / /\nCOPY --from=1 / /", ["a:latest", "b:latest"]),
        ("FROM a\nRUN --mount=type=cache,target=/c x\nCOPY --from=1 / /", ["a:latest"]),
        ("FROM a\nCOPY --from=99999999999999999999 / /", ["a:latest", "99999999999999999999:latest"]),
        ("FROM a\nRUN --mount=from=b,from=c,target=/x y", ["a:latest", "c:latest"]),
        ('FROM a\nCOPY --from="b" / /', ["a:latest", "b:latest"]),
        ("FROM a AS x\nONBUILD COPY --from=b / /\nFROM x", ["a:latest", "b:latest"]),
        ("FROM \ufeffa", ["a:latest"]),
        ("FROM a\nRUN <<A <<-B\nFROM x\nA\nFROM y\n\tB\nFROM b", ["a:latest", "b:latest"]),
        ("FROM a\nRUN 'x <<EOF'\nFROM b", ["a:latest", "b:latest"]),
        ("FROM a\nONBUILD RUN <<E\nFROM x\nE\nFROM b", ["a:latest", "b:latest"]),
        ("FROM a\nLABEL x='<<E'\nENV A=<<E\nFROM b", ["a:latest", "b:latest"]),
        ("FROM a\nRUN x \\\n# c \\\n\n y\nFROM b", ["a:latest", "b:latest"]),
        ("FROM a\nRUN x\\\r\n  y\r\nFROM b\r\n", ["a:latest", "b:latest"]),
        ("FROM a\nFROM b\x0bas\x0cc\nFROM c", ["a:latest", "b:latest"]),
    ],
)  # fmt: skip
def test_what_buildkits_own_code_says_of_a_dockerfile_is_said_here(content, named):
    """Differences that tests/buildkit/test_readers.py found, and others of their kinds."""
    assert images(content, platforms=FLEET[:1]) == named


def test_the_target_names_itself_and_must_be_there():
    found = needs("FROM a AS One\nFROM b-$TARGETSTAGE AS two\nFROM c", {}, FLEET, target="one")
    assert [image.repository for image in found.images] == ["library/a", "library/b-one", "library/c"]
    assert images("FROM a\nFROM b-$TARGETSTAGE AS two") == ["a:latest", "b-two:latest"]
    with pytest.raises(Problem, match="has no stage 'tow'; did you mean two"):
        needs("FROM a AS two", {}, FLEET, target="tow")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("ARG V\nFROM a:${V:?no-version}", "line 2: V: no-version"),
        ("FROM a:${V?}", "line 1: V: is not allowed to be unset"),
        ("ARG V=\nFROM a:${V:?}", "line 2: V: is not allowed to be empty"),
        ("FROM a:${V", r"line 1: unsupported modifier"),
        ("FROM ${}", "line 1: syntax error: bad substitution"),
        ('FROM "a', "line 1: unexpected end of statement while looking for matching double-quote"),
        ("FROM a\nRUN cat <<EOF\nFROM b", "line 2: unterminated heredoc"),
        ("# escape=x\nFROM a", "line 1: invalid escape token 'x'"),
        ("# escape=`\n# escape=`\nFROM a", "line 2: only one escape parser directive can be used"),
        ("FROM a AS 1x", "line 1: invalid name for build stage"),
        ("FROM a AS x_", "line 1: invalid context name x_"),
        ("FROM a b", "line 1: FROM requires either one or three arguments"),
        ("FROM --platform=$X a", r"line 1: empty platform value from expression \$X"),
        ("FROM a\nCOPY --from=3 / /", "line 2: invalid stage index 3"),
        ("FROM a\nCOPY --from=b --from=c / /", "line 2: duplicate flag specified: --from"),
        ("FROM a\nCOPY /a", "line 2: COPY requires at least two arguments"),
        ('FROM a\nRUN ["a", 1]', "line 2: when using JSON array syntax, arrays must be comprised of strings only"),
        ("RUN x\nFROM a", "line 1: no build stage in current context"),
        ("FROM a\nENV A", "line 2: ENV must have two arguments"),
        ("FROM scratch\nENV A=${B:?no-B}", "line 2: B: no-B"),
        ('FROM a\nEXPOSE 80"', "line 2: unexpected end of statement while looking for matching double-quote"),
        ("FROM a:${V#v}", "line 1: 'a:' is not an image reference"),
        ("FROM a\nONBUILD ONBUILD RUN x", "line 2: Chaining ONBUILD"),
        ('FROM a\nRUN --mount="from=b"c,target=/x y', None),
    ],
)
def test_what_buildkit_refuses_is_refused_with_its_own_reason(content, reason):
    if reason is None:
        assert "b" not in str(needs(content, {}, FLEET).images[-1].tag)
        return
    with pytest.raises(Problem, match=f"the Dockerfile's {reason}"):
        needs(content, {}, FLEET)


def test_an_error_in_a_stage_that_the_target_does_not_need_is_none():
    assert images("FROM scratch AS x\nENV A=${B:?no-B}\nFROM a") == ["a:latest"]


@pytest.mark.parametrize(
    ("content", "is_open"),
    [
        ("FROM a\nADD git://h/r /x", True),
        ("FROM a\nADD ssh://git@h/r /x", True),
        ("FROM a\nADD HTTPS://h/r.git /x", True),
        ("FROM a\nADD http://h/%2egit /x", True),
        ("FROM a\nADD https://h/r.git#main /x", True),
        ("FROM a\nADD https://h/r.git?ref=v1 /x", True),
        (f"FROM a\nADD https://h/r.git?commit={'a' * 40} /x", False),
        (f"FROM a\nADD git@h:r.git#{'a' * 40} /x", False),
        (f"FROM a\nADD https://h/r.tar#{'a' * 40} /x", True),
        ("FROM a\nADD --checksum=sha256:00 git@h:r.git /x", False),
        ("FROM a\nADD ftp://h/f ./http://h/f github.com/a/b file:///x a:b /x", False),
        ("FROM a\nADD HTTP://h/f /x", False),
        ("FROM a\nADD <<http://h/f /x\nx\nhttp://h/f", False),
        ("FROM scratch\nADD $UNSET/x h$UNSET /x", False),
        ("FROM scratch\nENV U=http://h\nFROM 0", False),
        ("FROM a AS x\nENV U=http://h\nFROM x\nADD $U/f /x", True),
        ("ARG U=http://h\nFROM scratch\nADD $U/f /x", False),
        ("ARG U=http://h\nFROM scratch\nARG U\nADD $U/f /x", True),
        ("FROM scratch AS x\nONBUILD ADD http://h/f /x\nFROM x", True),
        ("FROM a\nARG BUILDARCH\nADD tool-$BUILDARCH.tar $BUILDARCH/x /x", False),
        ("FROM a\nADD x$UNKNOWN /x", False),
        ("FROM a\nADD git@$HOST:r.git /x", True),
        ("FROM a\nADD htt$X /x", True),
        ("FROM a\nADD --no-such-flag f /x", True),
        ("FROM a\nFETCH http://h/f", True),
        ("ARG SOURCE_DATE_EPOCH=build\nFROM a AS build", True),
        ("ARG SOURCE_DATE_EPOCH=5\nFROM a AS build", False),
    ],
)
def test_what_may_be_another_thing_with_each_build_is_open(content, is_open):
    assert bool(needs(content, {}, FLEET).open) is is_open


def test_a_stage_that_a_context_replaces_takes_nothing():
    content = "FROM a AS src\nADD http://h/f /x\nFROM b\nCOPY --from=src / /"
    assert images(content, contexts=["src"]) == ["b:latest"]


def test_a_frontend_that_only_its_option_names_is_not_known():
    assert needs("FROM a", {"BUILDKIT_SYNTAX": ""}, FLEET).open
    assert needs("FROM $X", {"BUILDKIT_SYNTAX": " r.io/mine:1 x"}, FLEET).open == (
        "line 1: what r.io/mine:1 makes of this file, only it knows",
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("ARG A=x\n" + "ARG A=${A}${A}\n" * 60 + "FROM $A", "line 22: its value is longer than 1048576 characters"),
        ("FROM a\nENV A=x\n" + "ENV A=${A}${A}\n" * 60, "its value is longer than 1048576 characters"),
        ("ARG A=x\n" + "ARG A=$A$A\n" * 19 + "ARG B=x$A\n" * 500 + "FROM a", "the values of all variables have more than"),
        ("FROM " + "${A:-" * 10000 + "x" + "}" * 10000, "line 1: its variables are nested more than 60 deep"),
        ("FROM a\nRUN <<E " + "${A:-" * 10000 + "}" * 10000 + "\nE", "line 2: its variables are nested more than 60 deep"),
        ("FROM a\nRUN " + "x" * 65536, "line 2: dockerfile line greater than max allowed size of 65535"),
        ("FROM a\n" + "ONBUILD " * 8000 + "RUN x", "line 2: Chaining ONBUILD"),
        ("FROM a AS s\n" + "ENV A=1\n" * 3000 + "FROM s\n" * 3000, "too many stages that inherit too many instructions"),
        ("ARG A=" + "a" * 60000 + "\nFROM a${A//*a*a*a*a*b/x}", "line 2: its pattern and its value are too long"),
        ("FROM a\0b", "'a\\\\x00b' is not an image reference"),
        ("FROM a\udcff", "is not an image reference"),
    ],
)  # fmt: skip
def test_a_hostile_dockerfile_ends_with_a_sentence(content, reason):
    with pytest.raises(Problem, match=reason):
        needs(content, {}, FLEET)


def test_a_large_dockerfile_is_read():
    content = "\ufeffFROM a AS s0\r\n" + "".join(f"FROM s{number} AS s{number + 1}\r\n" for number in range(3000))
    assert images(content + "RUN x \\\r\n" + "y '<<' $A \\\r\n" * 20000 + "z\r\n") == ["a:latest"]
