# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Dockerfiles and .dockerignore files, read by us and by BuildKit's own code (tests/tools/judge): generated ones and idioms.

`make services` takes a few thousand of each, seeded; `make fuzz` goes on for FUZZ_SECONDS with FUZZ_SEED. Each difference that
was found stands as a test in tests/unit/plugins/module_utils/_image.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.multiarch.drone.plugins.module_utils._image import shell_words
from ansible_collections.multiarch.drone.plugins.module_utils._image.dockerfile import needs
from ansible_collections.multiarch.drone.plugins.module_utils._image.dockerignore import parse
from ansible_collections.multiarch.drone.plugins.module_utils._platform import Platform
from ansible_collections.multiarch.drone.plugins.module_utils._problem import Problem

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("FUZZ_SEED", "0"))
FLEET = ["linux/amd64", "linux/arm/v7"]
COMMIT = "a" * 40


class Judge:
    """BuildKit's own code."""

    def __init__(self, program: str) -> None:
        # Go's scanner complains of each NUL.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([program], **pipes)

    def __call__(self, **request) -> dict:
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def judge():
    judge = Judge(subprocess.check_output([ROOT / "tests/tools/buildkit", "judge"], text=True).strip())
    yield judge
    judge.process.stdin.close()
    judge.process.wait()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()


def rounds(count: int):
    """Yield a source of chance `count` times, or for as long as FUZZ_SECONDS says."""
    seconds = float(os.environ.get("FUZZ_SECONDS", "0"))
    until = time.monotonic() + seconds
    for number in itertools.count():
        if (number >= count) if not seconds else (time.monotonic() > until):
            return
        yield random.Random(f"{SEED}/{number}")


# Words

ATOMS = [
    *("$A", "$B", "${A}", "${B}", "${", "}", "$", "a", "b/c", "/", "//", "'", '"', "\\", "`", " ", "\t", "<<", "<", "-", "+"),
    *("?", ":", "#", "%", "*", "{", "${A:-", "${B:+", "${C:?", "${A#", "${A##", "${B%", "${B%%", "${A/", "${A//", "${C-"),
    *("${C+", "${C?", "ab", "é", "\ufeff", "\udcff", "$1", "$10", "$$", "${-}", "$é", "\\}", "\\/", "\\*", "\\$", "\n", "[a]", "^|"),
]  # fmt: skip
VALUES = [None, "", "x", "abcabc", "a/b/c", "a*b", "é", "x y", "'q'", "\\", "a.b.c", "*", "a\nb", "v1.2.3"]


def test_a_word_is_expanded_as_buildkits_lexer_does(judge):
    for chance in rounds(4000):
        word = "".join(chance.choices(ATOMS, k=chance.randint(1, chance.choice((3, 6, 12)))))
        values = {name: value for name in "ABC" if (value := chance.choice(VALUES)) is not None}
        escape = chance.choice("\\\\`")
        theirs = judge(word=encoded(word), args=values, escape=escape)
        try:
            ours = shell_words.expand(word, values.get, escape)
        except shell_words.BadWord:
            assert theirs["error"], (word, values, escape)
            continue
        if not shell_words.UNKNOWN.search(ours):
            assert (ours, "") == (theirs["word"], theirs["error"]), (word, values, escape)


# Dockerfiles

BASES = [
    *("a", "b:1", "r.io/x", "build", "base", "$A", "${A:-base}", "a-$TARGETARCH", "scratch", "${B:-b}", "x${C}", "x$TARGETOSVERSION"),
    *("a$TARGETSTAGE:1", "b-${TARGETVARIANT:-none}", "$BUILDARCH-y", "${BUILDPLATFORM:+p}", "${A#b}", "${A%e}", "${A/a/b}", "${A?x}"),
    *('"a"', "'b'", "a\\b", "UPPER", f"r.io:5000/n:t@sha256:{'0' * 64}", "context", "\ufeffa", "a:", "${A:-${B:-z}}", "a.b/c"),
]  # fmt: skip
SOURCES = [
    *(
        "f",
        "http://h/f",
        "https://h/f.git",
        "https://h/r.git#main",
        f"https://h/r.git#{COMMIT}",
        f"https://h/r.git?commit={COMMIT}",
    ),
    *(
        "git://h/r",
        "ssh://git@h/r",
        "git@h:r.git",
        "u.v@h:r",
        "github.com/a/b",
        "HTTP://h/f",
        "ftp://h/f",
        "./http://h/f",
        "$U/x",
    ),
    *("$U", "${A}.tar", "http://h/%2egit", "http:/h", "a:b", "file:///x", "h$A://x", "https://h/r.git/", "<<EOF"),
]
FROMS = ["build", "BUILD", "0", "1", "-1", "+0", "img:1", "ctx", "scratch", "'b'", "", "9" * 20, "$A", "a\\$"]
MOUNTS = [
    *(
        "type=bind,from=build,target=/x",
        "from=img:2,target=/x",
        "type=cache,target=/c",
        "type=bind,From=0,target=/x",
        "target=/x,from=",
    ),
    *(
        'target=/x,"from=img:3"',
        "from=a$,target=/x",
        "from=build,from=img:5,target=/x",
        "type=tmpfs,target=/t",
        "target=/x,from=$A",
    ),
]
HEREDOCS = [
    *(
        "<<EOF",
        "<<-EOF",
        "<<'EOF'",
        '<<"EOF"',
        "<< EOF",
        "3<<EOF",
        "<<E\\OF",
        '"<<EOF"',
        "'<<EOF'",
        "\\<<EOF",
        "<<E'O'F",
    ),
    *("x<<EOF", "<<", "<<-", "<<${A:-EOF}", "${A:-b}<<EOF", '"${A:-b}"<<EOF', "$(cat <<EOF", "<<<EOF"),
]
NAMED = [
    {},
    {},
    {},
    {"ctx": "docker-image://busybox"},
    {"build": "docker-image://busybox"},
    {"b:1": "docker-image://busybox"},
]


def instruction(chance: random.Random) -> str:
    choice = chance.choice
    value = choice(
        ["a", "base", "1", "$A", "${B:-c}", '"q"', "x\\ y", "http://h/f", "${A}${A}", "$TARGETARCH", "\\$A", "${Q:-n}"]
    )
    key = choice("ABU")
    command = choice(["x", "echo ok", "x \\\n y", "x \\\\", "[]", '["a"] x', "x`"])
    mount = choice(["", f"--mount={choice(MOUNTS)}"])
    body, end = choice(["FROM evil", "\tx", "$A"]), choice(["EOF", "EOF", "\tEOF", "EOF ", "EOF\r"])
    flag = choice(["", f"--checksum=sha256:{COMMIT:0<64}", "--checksum=$Q", "--keep-git-dir"])
    declared = choice([key, "TARGETARCH", "TARGETSTAGE", "BUILDARCH", "Q", f"{key}={value}", "A='x y' B"])
    trigger = choice(["RUN x", "COPY --from=img:8 / /", "ADD http://h/o /x", "ENV U=http://h", "ARG A=2"])
    other = [
        "# c",
        "  # escape=`",
        "",
        " ",
        "\u00a0",
        "\t\\",
        "LABEL a=b",
        "WORKDIR /x",
        'CMD ["x"]',
        "FOO bar",
        "RUN --nope x",
    ]
    return choice(
        [
            f"RUN {mount} {command}",
            f'RUN {mount} ["a", "<<EOF"]',
            f"RUN cat {choice(HEREDOCS)}\n{body}\n{end}",
            f"COPY --from={choice(FROMS)} a /b",
            choice(["COPY a /b", "COPY <<A <<B /y\n1\nA\n2\nB", 'COPY ["a", "/b"]']),
            f"ADD {flag} {choice(SOURCES)} /x",
            f'ADD ["{choice(SOURCES)}","/x"]',
            f"ENV {key}={value}",
            f"ENV {key} {value} x",
            f"ARG {declared}",
            f"ONBUILD {trigger}",
            choice(other),
        ]
    )


def dockerfile(chance: random.Random) -> str:
    choice = chance.choice
    lines = (
        [choice(["# escape=`", "# syntax=docker/dockerfile:1", "#!/bin/x", " # escape=`", "# foo=bar"])]
        if chance.random() < 0.15
        else []
    )
    for _argument in range(choice([0, 0, 1, 2])):
        lines.append(
            "ARG "
            + choice(
                ["A=base", "B=$A", "A=base B=x$A", "TARGETARCH=mine", "A", "A=$BUILDARCH", "A='b'x", "TARGETSTAGE"]
            )
        )
    for _stage in range(choice([1, 1, 2, 2, 3, 4])):
        keyword = choice(["FROM", "FROM", "from", "From"])
        platform = choice(["", "", "--platform=$BUILDPLATFORM ", "--platform=linux/amd64 "])
        name = choice(["", " AS build", " as Build", " AS base", " aS tools", " AS a", " AS x_"])
        lines.append(f"{keyword} {platform}{choice(BASES[:12]) if chance.random() < 0.7 else choice(BASES)}{name}")
        lines += [instruction(chance) for _instruction in range(choice([0, 1, 1, 2, 3]))]
    text = "\n".join(lines) + choice(["", "\n"])
    if chance.random() < 0.04:
        text = text.replace("\n", "\r\n")
    return "\ufeff" + text if chance.random() < 0.04 else text


def differences(judge: Judge, text: str, args: dict, contexts: dict, target: str, platforms: list[str]) -> str:
    """Return where our reading would let an image grow stale, or refuse what BuildKit takes; "" where it does neither."""
    request = {"dockerfile": encoded(text), "args": args, "platforms": platforms, "contexts": contexts}
    theirs, every = judge(**request, target=target), judge(**request, target="*")
    refused = theirs["error"] or next(iter(theirs["errors"].values()), "")
    try:
        ours = needs(text, args, [Platform.parse(platform) for platform in platforms], contexts, target)
    except Problem as problem:
        return "" if refused or theirs["frontend"] else f"refused: {problem}"
    images = {str(image) for image in ours.images}
    # What contexts name is looked up by itself; and the base image's variables are not known to us.
    used = set(theirs["images"]) - {"docker.io/library/busybox:latest"}
    if theirs["frontend"]:
        return "" if ours.open or any(theirs["frontend"] in image for image in images) else "the frontend is not found"
    if refused:
        return ""
    if not used <= images and not any("which image it names" in reason for reason in ours.open):
        return f"not found: {used - images}"
    if not ours.open and [url for url in theirs["urls"] if not url.endswith(f"#{COMMIT}")]:
        return f"not found: {theirs['urls']}"
    exact = every["named"] is not None and "ONBUILD" not in text and "TARGETSTAGE" not in text
    more = images - set(every["named"] or ()) - set(every["images"])
    if exact and more:
        return f"found, and not there: {more}"
    if exact and text.lower().count("from ") == 1 and not every["urls"]:
        literal = [reason for reason in ours.open if "ADD" in reason and "$" not in reason]
        return f"open, and known: {literal}" if literal else ""
    return ""


def test_a_generated_dockerfile_needs_what_buildkit_takes(judge):
    for chance in rounds(2500):
        text = dockerfile(chance)
        args = {chance.choice("ABQ"): chance.choice(["base", "", "7", "http://h/z"])} if chance.random() < 0.3 else {}
        contexts = chance.choice(NAMED)
        target = chance.choice([*[""] * 12, "build", "Build", "0", "nope"])
        platforms = chance.choice([FLEET, ["linux/arm64"], ["linux/amd64"]])
        assert not differences(judge, text, args, contexts, target, platforms), (
            text,
            args,
            contexts,
            target,
            platforms,
        )


IDIOMS = {
    "cross": """
# syntax=docker/dockerfile:1
ARG GO=1.22
FROM --platform=$BUILDPLATFORM tonistiigi/xx:1.4.0 AS xx
FROM --platform=$BUILDPLATFORM golang:${GO}-alpine AS build
COPY --from=xx / /
ARG TARGETPLATFORM
RUN --mount=type=cache,target=/root/.cache --mount=type=bind,source=.,target=/src <<-EOF
\tset -e
\txx-go build -o /out/app .
EOF
FROM gcr.io/distroless/static:nonroot
COPY --from=build --link /out/app /app
ENTRYPOINT ["/app"]
""",
    "a stage for each architecture": """
FROM debian:12 AS base-amd64
FROM debian:11 AS base-arm
FROM base-$TARGETARCH
RUN true
""",
    "a mirror": """
ARG REGISTRY=docker.io
ARG MIRROR
ARG FROM=${MIRROR:-${REGISTRY}}/library/python:3.12-slim
FROM ${FROM} AS deps
ENV PYTHONUNBUFFERED=1 \\
    # why
    PIP_NO_CACHE_DIR=1

COPY requirements.txt ./
RUN pip install -r requirements.txt
FROM deps
COPY . .
CMD ["python", "-m", "app"]
""",
    "scripts and files in it": """
FROM alpine:3 AS a
RUN <<'ONE' cat && <<TWO sh
FROM one
ONE
FROM two
TWO
COPY <<"CONF" /etc/conf
FROM ${three}
CONF
RUN echo "usage: cat <<EOF" && echo \\<<EOF
FROM a
COPY --from=0 /etc/conf /etc/
COPY --from=registry.example.com:5000/certs:2024 / /certs/
""",
    "windows": """
# escape=`
FROM mcr.microsoft.com/windows/servercore:ltsc2022
WORKDIR C:\\\\app
COPY app.exe `
     C:\\app\\
RUN dir `
    C:\\
""",
    "scratch": "FROM busybox AS files\nFROM scratch\nCOPY --from=files /bin/busybox /bin/\n",
    "tools of other images": """
FROM node:20 AS web
WORKDIR /web
RUN --mount=type=cache,target=/root/.npm,sharing=locked --mount=from=ghcr.io/org/tools:1,source=/bin,target=/tools npm ci
FROM nginx:alpine
COPY --from=web --chown=101:101 /web/dist /usr/share/nginx/html
HEALTHCHECK --interval=30s CMD curl -f http://localhost/ || exit 1
STOPSIGNAL SIGQUIT
""",
    "labels": 'FROM alpine\nLABEL a="<<EOF" b=\'x\' \\\n  c=C:\\\\\nMAINTAINER me <me@example.com>\nVOLUME ["/a b"]\nFROM debian\n',
    "versions": "ARG V=v1.2.3\nARG W=${V#v}\nFROM a:${W} AS x\nFROM b:${W%.*}\nFROM c:${V/v/r}\nFROM d:${V%%.*}-${V##*.}\n",
    "a trigger": "FROM node AS base\nONBUILD COPY --from=busybox /bin/sh /sh\nONBUILD ENV A=1\nFROM base\nRUN x\n",
}


@pytest.mark.parametrize("name", IDIOMS)
def test_an_idiom_is_known_whole(judge, name):
    text = IDIOMS[name].lstrip("\n").replace("# syntax=docker/dockerfile:1\n", "")
    found = needs(text, {}, [Platform.parse(platform) for platform in FLEET])
    theirs = judge(dockerfile=encoded(text), platforms=FLEET, target="*")
    assert not found.open
    assert sorted(map(str, found.images)) == theirs["named"]


# .dockerignore

PARTS = [
    *("a", "b", "foo", ".git", "x y", "/", "/", "*", "*", "**", "**/", "/**", "?", "[", "]", "[a-c]", "[^a]", "[!a]", "[[:alpha:]]"),
    *("[[:foo:]]", "[^[:^digit:]]", "[\\d]", "[]a]", "[a-]", "[z-a]", "\\", "\\*", "\\Q", "\\E", "\\d", "\\b", "\\B", "\\x61", "\\141"),
    *("\\1", "\\é", "\\_", "\\z", "{2}", "{1,2}", "{,2}", "{1001}", "{01}", "|", "^", "$", ".", "+", "(", "!", "..", "./", "../", " "),
    *("\t", "\x1c", "\x85", "\u00a0", "\u3000", "\ufeff", "é", "\udcff", "#", "\r", "-", "*.go", "*{2}", "[*]", "[.]"),
]  # fmt: skip
PATHS = sorted(
    {
        "a",
        "b",
        "foo/a/b",
        "foo/b.go",
        "a/b/c",
        "a/.git/x y",
        "é/a",
        "\udcff/a",
        "a/\udcff",
        "x y/a",
        "aa",
        "ab",
        "a1",
        "b/b",
        "a*b",
    }
    | {
        "a|b",
        "a{2}",
        "a\\b",
        " a",
        "[a]",
        "foo.go",
        "Q",
        "$",
        "a\nb",
        "c/c/c",
        "aab",
        "ac/ab",
        "\ufffd",
        "-",
        "_",
        "foo_bar/1",
        "a+b",
    }
)


def kept(text: str) -> set[bytes]:
    """Return what we would send of PATHS, with the directories that hold it."""
    ignore = parse(text.encode("utf-8", "surrogateescape"), ".dockerignore")
    tree: dict = {}
    for path in PATHS:
        directory = tree
        for part in path.split("/"):
            directory = directory.setdefault(part, {})
    found = set()

    def walk(directory: dict, prefix: str, parent: list[bool]) -> None:
        for name in sorted(directory, key=os.fsencode):
            path = prefix + name
            left_out, matches = ignore.verdict(path, parent)
            if not left_out:
                found.update(os.fsencode("/".join(path.split("/")[:depth])) for depth in range(1, path.count("/") + 2))
            elif ignore.hides_all_below(path):
                continue
            walk(directory[name], f"{path}/", matches)

    walk(tree, "", [])
    return found


def test_a_generated_dockerignore_leaves_out_what_docker_leaves_out(judge):
    for chance in rounds(4000):
        lines = []
        for _line in range(chance.randint(1, 4)):
            line = "".join(chance.choices(PARTS, k=chance.randint(1, chance.choice((1, 2, 3, 5, 8)))))
            lines.append(f"!{line}" if chance.random() < 0.3 else line)
        first = chance.choice(["*", "**", "foo", "a", "a/**"]) + "\n" if chance.random() < 0.5 else ""
        text = chance.choice(["", "", "", "\ufeff"]) + first + "\n".join(lines)
        theirs = judge(ignore=encoded(text), paths=[encoded(path) for path in PATHS])
        try:
            ours: set[bytes] | None = kept(text)
        except Problem:
            ours = None
        assert ours == (None if theirs["error"] else set(map(base64.b64decode, theirs["sent"]))), (
            text,
            theirs["error"],
        )
