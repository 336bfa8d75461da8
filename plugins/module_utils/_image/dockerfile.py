# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a Dockerfile takes from elsewhere: the images that it names, and what nobody can foresee. No I/O.

Not a whole parser: it reads what decides on inputs (directives, continued lines, heredocs, ARG, FROM, --from) and, where
it cannot know something before the build, says so instead of guessing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterable, Mapping

from .._problem import Problem
from .reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .._platform import Platform

_DIRECTIVE = re.compile(r"(?:#|//)\s*([a-zA-Z]+)\s*=\s*(.+?)\s*$")
# A shell word, its quotes and escapes kept; `<< EOF` is one (moby/buildkit frontend/dockerfile/shell/lex.go).
_SHELL_WORD = re.compile(r"""(?:<<-?[ \t\r]+|\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s'"\\])+""", re.DOTALL)
_HEREDOC = re.compile(r"\d*<<(-?)\s*([^<]+)")
# The frontends that speak the language that is read here: docker/dockerfile, and copies of it elsewhere.
_READS_DOCKERFILES = re.compile(r"(^|/)dockerfile(-upstream)?([:@]|$)")
_VARIABLE = re.compile(r"\\(?P<escaped>.)|\$(?:\{(?P<braced>\w+)(?:(?P<rule>:?[-+])(?P<word>[^}]*))?\}|(?P<plain>\w+))")

# Besides SCHEME://, what ADD and Docker take for a Git repository; and a repository's commit, which cannot change.
_SSH = re.compile(r"[\w.-]+@[\w.-]+:")
_COMMIT = re.compile(r"\.git#[0-9a-f]{40}(:|$)")

Scope = Mapping[str, "str | None"]  # None: it has a value, but only the build knows it


@dataclass(frozen=True)
class Instruction:
    """One instruction: `COPY --from=build /a /b` has the flag from=build and the text `/a /b`."""

    name: str
    flags: tuple[tuple[str, str], ...]
    text: str
    line: int


@dataclass(frozen=True)
class Needs:
    """What a build takes from outside its context: images, and inputs that nobody knows before the build."""

    images: tuple[Reference, ...]
    open: tuple[str, ...]


def needs(
    content: str, build_args: Mapping[str, str], platforms: Sequence[Platform], contexts: Iterable[str] = ()
) -> Needs:
    """Return what this Dockerfile needs; `contexts` are names to which `--build-context` gives another meaning."""
    directives, instructions = parse(content)
    images: dict[Reference, None] = {}
    unknown: dict[str, None] = {}
    replaced = {_full(name) for name in contexts}
    syntax = build_args.get("BUILDKIT_SYNTAX") or _syntax(content, directives)
    named = [(syntax.split()[0], 1)] if syntax else []
    if syntax and not _READS_DOCKERFILES.search(syntax.split()[0]):
        unknown[f"line 1: what {syntax.split()[0]} makes of this file, only it knows"] = None
    if not any(instruction.name == "FROM" for instruction in instructions):
        unknown["no line with FROM is found, so what the build takes is not known"] = None
    for automatic in [_automatic(platform) for platform in platforms] or [_automatic(None)]:
        for name, line in named + list(_images(instructions, build_args, automatic)):
            if name is None:
                unknown[f"line {line}: which image it names depends on the build"] = None
            elif not name:
                hint = "give its variable a value in build_args, or a default in ARG"
                raise Problem(f"the Dockerfile's line {line} names no image", hint)
            elif _full(name) not in replaced:
                try:
                    images[Reference.parse(name)] = None
                except Problem as problem:
                    raise Problem(f"the Dockerfile's line {line}: {problem.what}", problem.hint) from None
    for number, instruction in enumerate(instructions):
        if instruction.name == "ADD" and not _is_pinned(instructions[:number], instruction, build_args):
            for word in _sources(instruction.text):
                if _may_be_remote(word, _assigned(instructions, build_args)):
                    unknown[f"line {instruction.line}: ADD {word} may give something else each time"] = None
    return Needs(tuple(images), tuple(unknown))


def _syntax(content: str, directives: Mapping[str, str]) -> str:
    """Return the frontend that BuildKit detects: a directive after # or //, or a JSON document's (DetectSyntax)."""
    import json

    if directives.get("syntax"):
        return directives["syntax"]
    text = content.lstrip("\ufeff")
    try:
        document = json.loads(text.partition("\n")[2] if text.startswith("#!") else text)
    except (ValueError, RecursionError):
        return ""
    syntax = document.get("syntax") if isinstance(document, dict) else ""
    return syntax if isinstance(syntax, str) else ""


def parse(content: str) -> tuple[dict[str, str], list[Instruction]]:
    """Return the directives (syntax, escape) and the instructions of a Dockerfile."""
    # As BuildKit does it: str.splitlines would also divide at form feeds and the like.
    lines = [line.rstrip("\r") for line in content.lstrip("\ufeff").split("\n")]
    directives: dict[str, str] = {}
    for line in lines[lines[0].startswith("#!") :]:
        match = _DIRECTIVE.match(line.strip())
        if not match or match[1].lower() not in ("syntax", "escape", "check"):
            break
        directives.setdefault(match[1].lower(), match[2])
    escape = "`" if directives.get("escape") == "`" else "\\"
    instructions = []
    number = 0
    while number < len(lines):
        first = number + 1
        text, number = _logical_line(lines, number, escape)
        if text:
            name, rest = (*text.split(" ", 1), "")[:2]
            if name.upper() == "ONBUILD":  # a stage that is made from this one does it
                name, rest = (*rest.split(None, 1), "", "")[:2]
            flags, rest = _flags(rest)
            instructions.append(Instruction(name.upper(), flags, rest, first))
            if name.upper() in ("RUN", "COPY", "ADD"):
                number = _after_heredocs(lines, number, rest)
    return directives, instructions


def expand(text: str, scope: Scope, escape: str = "\\") -> str | None:
    """Return `text` with its variables replaced and its quotes removed, as Docker does.

    None where the build alone knows a variable, and for substitutions that are not read here (`${A#x}`, `${A/x/y}`).
    """
    expanded, position = _expand(text, 0, scope, escape, inside=False)
    return expanded if position == len(text) else None


def _expand(text: str, position: int, scope: Scope, escape: str, *, inside: bool) -> tuple[str | None, int]:
    """Return the text up to its end, or `inside` of ${} up to the brace, and the position behind it."""
    parts: list[str | None] = []
    quote = ""
    while position < len(text):
        character = text[position]
        if inside and not quote and character == "}":
            return (None if None in parts else "".join(map(str, parts))), position + 1
        if character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        elif character == escape and quote != "'":
            position += 1
            following = text[position : position + 1]
            keeps = quote and following not in ('"', "$", escape)
            parts.append(escape + following if keeps else following)
        elif character == "$" and quote != "'":
            value, position = _variable(text, position + 1, scope, escape)
            parts.append(value)
            continue
        else:
            parts.append(character)
        position += 1
    return (None if inside or quote or None in parts else "".join(map(str, parts))), position


def _variable(text: str, position: int, scope: Scope, escape: str) -> tuple[str | None, int]:
    """Return the value of the variable behind a $, and the position behind it."""
    plain = re.compile(r"\d+|\w+").match(text, position)
    if plain:
        return scope.get(plain[0], ""), plain.end()
    braced = re.compile(r"\{(\w+)(\}|:?[-+?])").match(text, position)
    if not braced:
        return (None, len(text)) if text[position : position + 1] == "{" else ("$", position)
    name, rule = braced[1], braced[2]
    value = scope.get(name, "")
    if rule == "}":
        return value, braced.end()
    word, end = _expand(text, braced.end(), scope, escape, inside=True)
    if name in scope and value is None:
        return None, end
    is_set = bool(value) if rule.startswith(":") else name in scope
    if rule.endswith("+"):
        return (word if is_set else ""), end
    if rule.endswith("-"):
        return (value if is_set else word), end
    return (value if is_set else None), end  # with `?`, BuildKit refuses what is not set


def _images(
    instructions: Sequence[Instruction], build_args: Mapping[str, str], automatic: Scope
) -> Iterator[tuple[str | None, int]]:
    """Yield the name and line of each image that is no stage of this Dockerfile, for one platform."""
    scope: dict[str, str | None] = {**automatic, **{name: build_args[name] for name in automatic if name in build_args}}
    stages: list[str] = []
    known = {_stage(instruction) for instruction in instructions if instruction.name == "FROM"}
    for instruction in instructions:
        if instruction.name == "ARG" and not stages:
            for word in _SHELL_WORD.findall(instruction.text):
                name, equals, default = word.partition("=")
                if name in build_args:
                    scope[name] = build_args[name]
                elif equals:
                    scope[name] = expand(default, scope)
        elif instruction.name == "FROM":
            words = instruction.text.split()
            base = expand(words[0], scope) if words else ""
            if base is None or (base.lower() not in stages and base != "scratch"):
                yield base, instruction.line
            stages.append(_stage(instruction))
        elif instruction.name in ("COPY", "ADD", "RUN"):
            for flag, value in instruction.flags:
                sources = [value] if flag == "from" else []
                if flag == "mount":
                    sources = [part[len("from=") :] for part in value.split(",") if part.lower().startswith("from=")]
                for source in sources:
                    is_number = flag == "from" and source.isdigit()  # of a stage; a mount knows names alone
                    if not is_number and source.lower() not in known and source != "scratch":
                        yield (None if "$" in source else source), instruction.line


def _stage(instruction: Instruction) -> str:
    """Return the name that a FROM gives to its stage, "" where it gives none."""
    words = instruction.text.lower().split()
    return words[2] if len(words) > 2 and words[1] == "as" else ""


def _automatic(platform: Platform | None) -> dict[str, str | None]:
    """Return the variables that BuildKit sets by itself; what the builder's own platform is, only it knows."""
    names = ("PLATFORM", "OS", "ARCH", "VARIANT")
    scope: dict[str, str | None] = {f"{kind}{name}": None for kind in ("BUILD", "TARGET") for name in names}
    if platform:
        values = (str(platform), platform.os, platform.architecture, platform.variant)
        scope.update({f"TARGET{name}": value for name, value in zip(names, values)})
    return scope


def _assigned(instructions: Sequence[Instruction], build_args: Mapping[str, str]) -> dict[str, list[str]]:
    """Return every value that each variable of a Dockerfile is given anywhere in it, unexpanded."""
    values: dict[str, list[str]] = {}
    for instruction in instructions:
        if instruction.name in ("ARG", "ENV"):
            words = _words(instruction.text)
            if instruction.name == "ENV" and words and "=" not in words[0]:
                words = [f"{words[0]}={' '.join(words[1:])}"]
            for word in words:
                name, equals, default = word.partition("=")
                if instruction.name == "ARG" and name in build_args:
                    default = build_args[name]
                elif not equals and name in values:
                    continue  # what it was given before the first FROM
                values.setdefault(name, []).append(default)
    return values


def _values(text: str, assigned: Mapping[str, Sequence[str]], seen: tuple[str, ...] = ()) -> list[str]:
    """Return the text and every value that its variables may have, or theirs; [] where one is set outside the Dockerfile."""
    if re.search(r"\$\{[^}]*\$", text):  # a variable in another's default
        return []
    values = [text]
    for match in _VARIABLE.finditer(text):
        name = match["braced"] or match["plain"]
        if not name:
            continue
        if name in seen:  # ENV A=$A: what A was before
            values.append("")
            continue
        for value in assigned.get(name, ()):
            more = _values(value, assigned, (*seen, name))
            values += more
            if not more:
                return []
        if name not in assigned:
            return []
    return values


def _may_be_remote(word: str, assigned: Mapping[str, Sequence[str]]) -> bool:
    """Whether a source of ADD can be a URL or a Git repository that gives something else each time."""
    if "$" not in word:
        return ("://" in word or bool(_SSH.match(word))) and not _COMMIT.search(word)
    values = _values(word, assigned)
    # Either has a colon, and that of ${NAME:-x} is none.
    return not values or any(":" in re.sub(r"(\$\{\w+):(?=[-+?])", r"\1", value) for value in values)


def _is_pinned(before: Sequence[Instruction], add: Instruction, build_args: Mapping[str, str]) -> bool:
    """Whether ADD has a checksum; one that is empty, or whose variable may be when it gets there, checks nothing."""
    checksum = dict(add.flags).get("checksum", "")
    froms = [number for number, instruction in enumerate(before) if instruction.name == "FROM"]
    stage = before[froms[-1] :] if froms else []
    # What stands before the first FROM is seen in a stage only where that declares it again.
    everything = _assigned([*before[: froms[0]], *stage], build_args) if froms else {}
    visible = {name: everything[name] for name in _assigned(stage, build_args)}
    return bool(checksum) and all(_values(checksum, visible) or [""])


def _json_words(text: str) -> list[str] | None:
    """Return the words of an instruction in its JSON form, None where it is not one."""
    import json

    try:
        words = json.loads(text)
    except ValueError:
        return None
    return [str(word) for word in words] if isinstance(words, list) else None


def _sources(text: str) -> list[str]:
    """Return the sources of ADD, without the destination."""
    words = _json_words(text) if text.startswith("[") else None
    return [word.strip("[\"',") for word in text.split()[:-1]] if words is None else words[:-1]


def _unquoted(text: str) -> str:
    return text.replace('"', "").replace("'", "")


def _logical_line(lines: Sequence[str], number: int, escape: str) -> tuple[str, int]:
    """Return one line with those that continue it, without comments, and the number of the next."""
    text = ""
    while number < len(lines):
        line = lines[number].strip() if not text else lines[number].rstrip()
        number += 1
        if line.lstrip().startswith("#") or (text and not line.strip()):
            if not text:
                return "", number
            continue
        # Two escapes at the end of a line are a character, and no continuation.
        if line.endswith(escape) and not line.endswith(escape * 2):
            text += line[:-1]
            text = text or " "
            continue
        text += line
        break
    return " ".join(text.split(None, 1)).strip(), number


def _flags(rest: str) -> tuple[tuple[tuple[str, str], ...], str]:
    flags = []
    while rest.startswith("--"):
        flag, rest = (*rest.split(None, 1), "")[:2]
        name, value = (*flag[2:].split("=", 1), "")[:2]
        flags.append((name, _unquoted(value)))
    return tuple(flags), rest


def _after_heredocs(lines: Sequence[str], number: int, text: str) -> int:
    """Return the number of the line after the heredocs that `text` begins; what has no end is none."""
    if text.startswith("[") and _json_words(text) is not None:
        return number  # the JSON form has no heredocs
    for word in _SHELL_WORD.findall(text):
        match = _HEREDOC.fullmatch(word)
        if not match:
            continue
        name = re.sub(r"\\(.)", r"\1", _unquoted(match[2]))
        for end in range(number, len(lines)):
            line = lines[end].lstrip("\t") if match[1] else lines[end]
            if line == name:
                number = end + 1
                break
    return number


def _words(text: str) -> list[str]:
    import shlex

    try:
        return shlex.split(text)
    except ValueError:  # a quote without its other: Docker will say so
        return text.split()


def _full(name: str) -> str:
    try:
        return str(Reference.parse(name))
    except Problem:
        return name
