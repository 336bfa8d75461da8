# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a Dockerfile takes from elsewhere: the images that it names, and what nobody can foresee. No I/O.

Follows moby/buildkit frontend/dockerfile/dockerfile2llb, for every stage: a stage that the target does not need counts as
well. Where something cannot be known before the build, this says so instead of guessing; what BuildKit refuses is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Iterable, Mapping

from .._problem import Problem, suggest
from .dockerfile_lines import Instruction, detect_syntax, options, parse, refusal, too_much
from .reference import Reference
from .shell_words import ANYTHING, NAME, STRIP, UNKNOWN, WORD, BadWord, Unreadable, expand, heredoc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .._platform import Platform
    from .dockerfile_lines import Dockerfile

# The frontends that speak the language that is read here: docker/dockerfile, and copies of it elsewhere.
_READS_DOCKERFILES = re.compile(r"(^|/)dockerfile(-upstream)?([:@]|$)")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*\Z")
_QUOTING = re.compile("[$'\"]")
_NUMBER = re.compile(r"[+-]?[0-9]+\Z")
_SCHEME = re.compile(r"([a-zA-Z0-9]+)://")
_SSH = re.compile(r"[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:[^\n]*\Z")
_USER = re.compile(r"[a-zA-Z0-9_-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_PLAIN_URL = re.compile(
    r"(?:[a-zA-Z]+://(?:[\w.-]+@)?[\w.-]+(?::[0-9]+)?/|[\w-]+@[\w.-]+:)[\w./~@+,=&?#:-]*\Z", re.ASCII
)
_SCHEMES = ("git", "http", "https", "ssh")

FLAGS = {
    "ADD": {"chown": "1", "chmod": "1", "link": "", "keep-git-dir": "", "checksum": "1", "unpack": "", "exclude": "+"},
    "COPY": {"chown": "1", "from": "1", "chmod": "1", "link": "", "exclude": "+", "parents": ""},
    "RUN": {"mount": "+", "network": "1", "security": "1", "device": "+"},
    "FROM": {"platform": "1"},
    "HEALTHCHECK": dict.fromkeys(("interval", "timeout", "start-period", "start-interval", "retries"), "1"),
}
# What has its variables replaced, besides ARG, ENV and the files of ADD and COPY.
_EXPANDED = ("EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
_NEEDS_WORDS = (
    "ADD",
    "ARG",
    "COPY",
    "ENV",
    "EXPOSE",
    "FROM",
    "LABEL",
    "MAINTAINER",
    "SHELL",
    "USER",
    "VOLUME",
    "WORKDIR",
)

TRIGGERS = 1 << 20  # instructions of stages that others are made from, once for each of those
COPIED = 1 << 22  # variables that stages take over from others
EXPANDED = 1 << 26  # characters of all values, for one platform


@dataclass(frozen=True)
class Needs:
    """What a build takes from outside its context: images, and inputs that nobody knows before the build."""

    images: tuple[Reference, ...]
    open: tuple[str, ...]


@dataclass
class _Stage:
    """A stage, or an image that an instruction names."""

    base: str  # as it is named; with a character of UNKNOWN in it, only the build knows
    line: int
    name: str = ""
    parent: _Stage | None = None
    commands: list[Instruction] = field(default_factory=list)
    replaced: bool = False  # by a named context
    registered: bool = True
    sources: list[_Stage] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    complete: bool = False  # nothing but `values` is set

    def get(self, name: str) -> str | None:
        """Return a variable; what is not set here may be set by the base image."""
        return self.values.get(name, None if self.complete else ANYTHING)


def needs(
    content: str,
    build_args: Mapping[str, str],
    platforms: Sequence[Platform],
    contexts: Iterable[str] = (),
    target: str = "",
) -> Needs:
    """Return what this Dockerfile needs; `contexts` are names to which `--build-context` gives another meaning."""
    images: dict[Reference, None] = {}
    unknown: dict[str, None] = {}
    replaced = {_full(name) for name in contexts}
    given = "BUILDKIT_SYNTAX" in build_args
    syntax = build_args["BUILDKIT_SYNTAX"].strip(STRIP) if given else detect_syntax(content)
    frontend = syntax.split(" ", 1)[0]
    if given and not frontend:
        unknown["BUILDKIT_SYNTAX is empty: which frontend that is, only the build knows"] = None
    elif frontend:
        _name(frontend, 1, replaced=set(), images=images)
        if not _READS_DOCKERFILES.search(frontend):
            return Needs(tuple(images), (f"line 1: what {frontend} makes of this file, only it knows",))
    dockerfile = parse(content)
    for instruction in dockerfile.instructions:
        for reason in _check(instruction):
            unknown[f"line {instruction.line}: {reason}"] = None
    if not any(instruction.name == "FROM" for instruction in dockerfile.instructions):
        unknown["no line with FROM is found, so what the build takes is not known"] = None
    wished: list[Platform | None] = list(platforms) or [None]
    for platform in wished:
        try:
            build = _Build(dockerfile, build_args, platform, replaced, target)
        except RecursionError:
            raise Problem("the Dockerfile is nested too deep to be read", "write it flatter") from None
        for name, line in build.images():
            if UNKNOWN.search(name):
                unknown[f"line {line}: which image it names depends on the build"] = None
            else:
                _name(name, line, replaced, images)
        unknown.update(dict.fromkeys(build.unknown))
    return Needs(tuple(images), tuple(unknown))


def _name(name: str, line: int, replaced: set[str], images: dict[Reference, None]) -> None:
    """Add an image, unless a named context takes its place."""
    if _full(name) not in replaced:
        images[_parsed(name, line)] = None


def _parsed(name: str, line: int) -> Reference:
    try:
        return Reference.parse(name)
    except Problem as problem:
        raise Problem(f"the Dockerfile's line {line}: {problem.what}", problem.hint) from None


def _check(instruction: Instruction) -> list[str]:
    """Return why an instruction is not understood here; raise a Problem where BuildKit understands it, and refuses it."""
    if instruction.inner:
        return _check(instruction.inner)
    allowed = FLAGS.get(instruction.name, {})
    words = instruction.words
    try:
        unknown = options(instruction, allowed)[1]
        if instruction.name in ("ADD", "COPY") and len(words) < 2:
            raise BadWord(f"{instruction.name} requires at least two arguments")
        if instruction.name in ("ADD", "COPY") and heredoc(words[-1]):
            raise BadWord(f"{instruction.name} cannot accept a heredoc as a destination")
        if not words and (instruction.name in _NEEDS_WORDS or instruction.name == "ONBUILD"):
            what = "names no image" if instruction.name == "FROM" else "requires at least one argument"
            raise BadWord(what if instruction.name == "FROM" else f"{instruction.name} {what}")
        if instruction.name in ("ENV", "LABEL") and not all(words[::2]):
            raise BadWord(f"{instruction.name} names can not be blank")
        if instruction.name == "ARG" and any(word.startswith("=") for word in words):
            raise BadWord("ARG names can not be blank")
        if instruction.name == "HEALTHCHECK" and (not words or words[0].upper() not in ("CMD", "NONE")):
            raise BadWord(f"HEALTHCHECK has the unknown type {words[0] if words else ''!r} (try CMD)")
        if instruction.name == "SHELL" and not instruction.is_json:
            raise BadWord("SHELL requires the arguments to be in JSON form")
        if instruction.name == "FROM":
            _stage_name(instruction)
    except BadWord as error:
        raise _refused(instruction.line, str(error)) from None
    reasons = [f"{flag} of {instruction.name} is not known here" for flag in unknown]
    # What has no words takes nothing, whatever it is.
    if instruction.name not in _ALL and words:
        reasons.append(f"the instruction {instruction.name!r} is not known here")
    return reasons


_ALL = ("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
        "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")  # fmt: skip


def _stage_name(instruction: Instruction) -> str:
    """Return the name that a FROM gives to its stage, "" where it gives none."""
    words = instruction.words
    if len(words) == 3 and words[1].casefold() == "as":
        name = words[2].lower()
        if not _STAGE_NAME.match(name):
            raise BadWord(
                f"invalid name for build stage: {words[2]!r}, name can't start with a number or contain symbols"
            )
        if not Reference.is_valid(name):  # BuildKit looks for a context of that name
            raise BadWord(f"invalid context name {name}: invalid reference format")
        return name
    if len(words) != 1:
        raise BadWord("FROM requires either one or three arguments")
    return ""


def _refused(line: int, reason: str) -> Problem:
    if reason == "names no image":
        hint = "give its variable a value in build_args, or a default in ARG"
        return Problem(f"the Dockerfile's line {line} names no image", hint)
    return refusal(line, reason)


class _Build:
    """The build of a Dockerfile for one platform."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        build_args: Mapping[str, str],
        platform: Platform | None,
        replaced: set[str],
        target: str,
    ) -> None:
        self.escape = dockerfile.escape
        self.build_args = {name: re.sub("[\ud800-\udfff]", "\ufffd", value) for name, value in build_args.items()}
        self.unknown: dict[str, None] = {}
        self.left = EXPANDED
        self.copied = 0
        self.stages: list[_Stage] = []
        self.by_name: dict[str, _Stage] = {}
        first = next((n for n, each in enumerate(dockerfile.instructions) if each.name == "FROM"), None)
        if first is None:
            return
        froms = [each for each in dockerfile.instructions if each.name == "FROM"]
        last = _stage_name(froms[-1])
        self.values = _automatic(platform, target or last or "default")
        self.values.update({name: value for name, value in self.build_args.items() if name in self.values})
        self._global_arguments(dockerfile.instructions[:first])
        self._epoch()
        for instruction in dockerfile.instructions[first:]:
            if instruction.name == "FROM":
                self._begin_stage(instruction, replaced)
            else:
                self.stages[-1].commands.append(instruction)
        self.registered = list(self.stages)
        self.target = self._find_target(target)
        self.triggers: list[tuple[str, int]] = []  # images that only other builds need
        self._find_sources()
        self._run(self._reachable())

    def images(self) -> Iterator[tuple[str, int]]:
        """Yield name and line of each image, in the file's order."""
        for stage in self.stages:
            if not stage.registered:
                continue
            if stage.parent is None and not stage.replaced and stage.base != "scratch":
                yield stage.base, stage.line
            for source in stage.sources:
                if not source.registered and source.base != "scratch":
                    yield source.base, source.line
        if self.stages:
            yield from self.triggers

    def _expand(self, word: str, get: Callable[[str], str | None]) -> str:
        value = expand(word, get, self.escape)
        self.left -= len(value)
        if self.left < 0:
            raise Unreadable(f"the values of all variables have more than {EXPANDED} characters")
        return value

    def _expand_global(self, word: str, line: int) -> str:
        try:
            return self._expand(word, self.values.get)
        except BadWord as error:
            raise refusal(line, str(error)) from None
        except Unreadable as error:
            raise too_much(line, str(error)) from None

    def _global_arguments(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            if instruction.name != "ARG":
                if instruction.name in _ALL:
                    raise refusal(instruction.line, "no build stage in current context")
                continue
            for word in instruction.words:
                name, equals, default = word.partition("=")
                if name in self.build_args:
                    self.values[name] = self.build_args[name]
                elif equals:
                    self.values[name] = self._expand_global(default, instruction.line)

    def _epoch(self) -> None:
        """Find what dates the image by something else: a stage, a context, a URL."""
        value = self.build_args.get("SOURCE_DATE_EPOCH", self.values.get("SOURCE_DATE_EPOCH", ""))
        if value and not _is_number(value):
            self.unknown[f"SOURCE_DATE_EPOCH is {value!r}: which time that is, only the build knows"] = None

    def _begin_stage(self, instruction: Instruction, replaced: set[str]) -> None:
        line = instruction.line
        base = self._expand_global(instruction.words[0], line)
        if not base:
            raise _refused(line, "names no image")
        flags = options(instruction, FLAGS["FROM"])[0]
        for text in flags.get("platform", []):
            if text and not self._expand_global(text, line):
                raise refusal(line, f"empty platform value from expression {text}")
        stage = _Stage(base, line, _stage_name(instruction))
        stage.parent = self.by_name.get(base)
        if stage.name and stage.name not in ("scratch", "context") and _full(stage.name) in replaced:
            stage.replaced, stage.parent = True, None
            if not UNKNOWN.search(base):
                _parsed(base, line)
        self.stages.append(stage)
        if stage.name:
            self.by_name[stage.name] = stage

    def _find_target(self, target: str) -> _Stage:
        if not target:
            return self.stages[-1]
        found = self.by_name.get(target.lower())
        if not found:
            hint = suggest(target, self.by_name) if self.by_name else "give the stage a name: FROM … AS NAME"
            raise Problem(f"the Dockerfile has no stage {target!r}", hint)
        return found

    def _find_sources(self) -> None:
        """Find the stages and images that instructions take files from; triggers of a stage run in those made from it."""
        for stage in self.registered:
            for instruction in stage.commands:
                stage.sources += self._sources(instruction)
        count = 0
        for stage in self.registered:
            if stage.parent:
                inherited = [each.inner for each in stage.parent.commands if each.name == "ONBUILD" and each.inner]
                count += len(stage.parent.commands)
                if count > TRIGGERS:
                    raise Problem("the Dockerfile has too many stages that inherit too many instructions", "divide it")
                for instruction in inherited:
                    stage.sources += self._sources(instruction)
                stage.commands = inherited + stage.commands
        for stage in self.registered:
            for instruction in stage.commands:
                for kind, name in _named_sources(instruction.inner) if instruction.inner else ():
                    is_number = kind == "COPY" and _is_number(name)
                    if not is_number and name.lower() not in self.by_name and name != "scratch":
                        self.triggers.append((name, instruction.line))

    def _sources(self, instruction: Instruction) -> list[_Stage]:
        """Return the stages that an instruction takes files from; what is no stage is an image."""
        sources = []
        for kind, name in _named_sources(instruction):
            if kind == "COPY" and _is_number(name):
                if not 0 <= int(name) < len(self.stages):
                    raise refusal(instruction.line, f"invalid stage index {name}")
                sources.append(self.stages[int(name)])
                continue
            source = self.by_name.get(name.lower())
            if not source:
                source = _Stage(name, instruction.line, registered=False)
                self.stages.append(source)
            sources.append(source)
        return sources

    def _reachable(self) -> set[int]:
        """Return the ids of the stages that the target needs."""
        found: set[int] = set()
        left = [self.target]
        while left:
            stage = left.pop()
            if id(stage) not in found:
                found.add(id(stage))
                left += [*stage.sources, *([stage.parent] if stage.parent else [])]
        return found

    def _run(self, reachable: set[int]) -> None:
        """Follow ARG, ENV and ADD through every stage; what BuildKit would refuse counts where it gets there."""
        for stage in self.registered:
            if stage.parent:
                stage.values = dict(stage.parent.values)
                stage.complete = stage.parent.complete
                self.copied += len(stage.values)
                if self.copied > COPIED:
                    raise Problem("the Dockerfile has too many stages with too many variables", "divide it")
            elif stage.base == "scratch" and not stage.replaced:
                stage.values, stage.complete = {"PATH": NAME}, True
            for instruction in [] if stage.replaced else stage.commands:
                try:
                    self._step(stage, instruction)
                except BadWord as error:
                    if id(stage) in reachable:
                        raise refusal(instruction.line, str(error)) from None
                    stage.values, stage.complete = {}, False
                except Unreadable as error:
                    raise too_much(instruction.line, str(error)) from None

    def _step(self, stage: _Stage, instruction: Instruction) -> None:
        name, words = instruction.name, instruction.words
        if instruction.inner:
            if instruction.inner.name == "ADD":
                self._add(stage, instruction.inner, instruction.line)
        elif name == "ARG":
            for word in words:
                self._argument(stage, word)
        elif name == "ENV":
            pairs = [self._expand(word, stage.get) for word in words]
            for key, value in zip(pairs[::2], pairs[1::2]):
                if UNKNOWN.search(key):  # it may be any variable
                    stage.values, stage.complete = {}, False
                else:
                    stage.values[key] = value
        elif name == "ADD":
            self._add(stage, instruction, instruction.line)
        elif name == "COPY" or name in _EXPANDED:
            for word in words:
                if _QUOTING.search(word) and not heredoc(word):
                    self._expand(word, stage.get)

    def _argument(self, stage: _Stage, word: str) -> None:
        name, equals, default = word.partition("=")
        value: str | None
        if name in self.build_args:
            value = self.build_args[name]
        elif equals:
            value = self._expand(default, stage.get)
        else:
            value = self.values.get(name)
        if value is not None and name not in ("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"):
            stage.values[name] = value

    def _add(self, stage: _Stage, instruction: Instruction, line: int) -> None:
        """Find the sources of ADD that may be something else with each build."""
        flags = options(instruction, FLAGS["ADD"])[0]
        checksum = self._expand(flags.get("checksum", [""])[0], stage.get)
        checks = bool(UNKNOWN.sub("", checksum) or NAME in checksum)
        for word in instruction.words[:-1]:
            if not heredoc(word) and _is_open(self._expand(word, stage.get)) and not checks:
                self.unknown[f"line {line}: ADD {word} may give something else each time"] = None


def _is_number(text: str) -> bool:
    """Whether Go's Atoi takes a text: a number of 64 bits."""
    digits = text.lstrip("+-").lstrip("0") if _NUMBER.match(text) else "9" * 20
    return len(digits) < 20 and -(1 << 63) <= int(f"{text[:1].strip('+0123456789')}{digits or 0}") < 1 << 63


def _named_sources(instruction: Instruction | None) -> list[tuple[str, str]]:
    """Return kind and name of each --from of an instruction; a variable in it, if anybody, only the build knows."""
    if instruction is None or instruction.name not in ("COPY", "RUN"):
        return []
    flags = options(instruction, FLAGS[instruction.name])[0]
    try:
        if instruction.name == "COPY":
            name = flags.get("from", [""])[0]
            return [("COPY", ANYTHING if expand(name, lambda name: None) != name else name)] if name else []
        # A mount of no image counts, too, where a later COPY --from names stages by number.
        return [("RUN", name or "scratch") for name in map(_mounted, flags.get("mount", []))]
    except BadWord as error:
        raise refusal(instruction.line, str(error)) from None
    except Unreadable as error:
        raise too_much(instruction.line, str(error)) from None


def _mounted(text: str) -> str:
    """Return the `from` of a mount, "" where it has none; BuildKit reads the last one."""
    name = ""
    for part in _csv(text):
        key, equals, value = part.partition("=")
        if equals and key.lower() == "from":
            name = ANYTHING if "$" in value[:-1] else value
    return name


def _csv(text: str) -> list[str]:
    """Return the fields of one line of CSV, as Go's parser reads it."""
    line = text[:-1] if text.endswith("\n") else text
    if not line:
        raise BadWord("failed to parse csv mounts: EOF")
    fields = []
    position = 0
    while True:
        if line[position : position + 1] == '"':
            match = re.compile(r'"((?:[^"]|"")*)"(,|\Z)').match(line, position)
            if not match:
                raise BadWord('failed to parse csv mounts: extraneous or missing " in quoted-field')
            fields.append(match[1].replace('""', '"'))
            if not match[2]:
                return fields
            position = match.end()
            continue
        end = line.find(",", position)
        part = line[position:] if end < 0 else line[position:end]
        if '"' in part:
            raise BadWord('failed to parse csv mounts: bare " in non-quoted-field')
        fields.append(part)
        if end < 0:
            return fields
        position = end + 1


def _automatic(platform: Platform | None, stage: str) -> dict[str, str]:
    """Return the variables that BuildKit sets by itself; what the builder's own platform is, only it knows."""
    unknown = {"PLATFORM": NAME, "OS": NAME, "OSVERSION": WORD, "ARCH": NAME, "VARIANT": WORD}
    target = unknown
    if platform:
        values = (str(platform), platform.os, "", platform.architecture, platform.variant)
        target = dict(zip(unknown, values))
    return {
        **{f"BUILD{name}": value for name, value in unknown.items()},
        **{f"TARGET{name}": value for name, value in target.items()},
        "TARGETSTAGE": stage,
    }


def _is_open(source: str) -> bool:
    """Whether a source of ADD can be a URL or a Git repository that gives something else each time."""
    source = source.replace(WORD, "x").replace(NAME, "x")
    if ANYTHING in source:
        return _may_be_remote(source[: source.index(ANYTHING)], source)
    if source.startswith(("./", "../", "github.com/")):
        return False
    match = _SCHEME.match(source)
    if match and match[1].lower() not in _SCHEMES:
        return False
    if not match:
        return bool(_SSH.match(source)) and not _is_commit(source)
    scheme = match[1].lower()
    if scheme in ("git", "ssh"):
        return not _is_commit(source)
    import urllib.parse

    path = re.split("[?#]", source, maxsplit=1)[0]
    is_git = urllib.parse.unquote(path).endswith(".git")
    if is_git:
        return not _is_commit(source)
    return source.startswith(("http://", "https://"))


def _is_commit(source: str) -> bool:
    """Whether a Git repository's URL names a commit, which cannot change."""
    if not _PLAIN_URL.match(source):  # Go may read it otherwise
        return False
    rest, _hash, fragment = source.partition("#")
    query = rest.partition("?")[2]
    named = [part.partition("=")[2] for part in query.split("&") if part.startswith(("checksum=", "commit="))]
    return bool(named and named[-1]) or bool(_COMMIT.match(fragment.partition(":")[0]))


def _may_be_remote(known: str, source: str) -> bool:
    """Whether a source of ADD that begins so may be remote, whatever follows."""
    if known.startswith(("./", "../", "/")):
        return False
    begins = known.lower()
    if not known or any(f"{scheme}://".startswith(begins) or begins.startswith(f"{scheme}://") for scheme in _SCHEMES):
        return True
    # me@host:path: that an image's variable brings an @ is not believed.
    return bool(_USER.fullmatch(known.partition("@")[0])) and "@" in source


def _full(name: str) -> str:
    return str(Reference.parse(name)) if Reference.is_valid(name) else name
