# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one gate to git: read a file of a branch, put another in its place with one commit, push it. No work tree.

To see that nothing changes costs one process for a repository on this machine, and a blobless clone of one commit for
another. git never asks here: what would be a prompt is an error. A password goes to git through its environment and a
credential helper bound to the one server, never through an argument, a URL or a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field, replace
from typing import IO, Any, Callable, Iterable, Iterator, Sequence
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from .._arguments import texts
from .._files import make_directory, make_temporary_directory, remove_temporary_directory
from .._passwords import without_passwords
from .._problem import Problem, suggest

_URL = "write ssh://, https://, file://, user@host:path or an absolute path"

REGULAR = ("100644", "100755")
_KINDS = {
    **dict.fromkeys(REGULAR, "a file"),
    "40000": "a directory",
    "120000": "a symbolic link",
    "160000": "a submodule",
}
# What a server says when somebody else pushed in the meantime; all else that it refuses, it will refuse again.
_RACE = re.compile(
    r"fetch first|non-fast-forward|stale info|cannot lock ref|failed to update ref|failed to lock|"
    r"incorrect old value|reference already exists|but expected"
)
_HELPER = '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$MULTIARCH_GIT_USER" "$MULTIARCH_GIT_PASSWORD"; }; f'

_COMMANDS = (
    "clone",
    "ls-remote",
    "cat-file",
    "for-each-ref",
    "symbolic-ref",
    "ls-tree",
    "fast-import",
    "rev-parse",
    "push",
)
# (what git says, what to do)
_HINTS = (
    ("could not read Username", "set git_username and git_password, or a credential helper of the user's"),
    ("could not read Password", "set git_password, or a credential helper of the user's"),
    ("Authentication failed", "check git_username and git_password: many hosts want a token for a password"),
    ("Permission denied (publickey", "set git_ssh_key, or load the key into the agent"),
    ("Host key verification failed", "add the host's key to known_hosts (ansible.builtin.known_hosts)"),
    ("dubious ownership", "run the task as the repository's owner (become_user), or set git's safe.directory"),
    ("Could not resolve host", "check the URL and the name servers"),
    ("does not appear to be a git repository", "check the URL"),
    ("not a git repository", "check the path"),
    ("does not exist", "check the URL; hosts also answer so where the login may not see it"),
    ("not our ref", "is a submodule on the way to the file? set config_path to a file of the repository itself"),
    ("not found", "check the URL; hosts also answer so where the login may not see it"),
    ("transport 'ext' not allowed", "name a repository, not a command"),
    ("No such file or directory", "check the path"),
)


_OPTIONS = {"username": "git_username", "password": "git_password", "ssh_key": "git_ssh_key", "author": "commit_author"}
MAX_TIMEOUT = 24 * 3600
# How much git may say: a file of a repository is far smaller, and a hostile server could say more than memory holds.
MAX_OUTPUT = 16 << 20


class Raced(Problem):
    """Somebody else pushed first: fetch, look again, and try again."""


@dataclass(frozen=True)
class Login:
    """How git proves who it is, and what the commits say."""

    username: str = ""
    password: str = ""
    ssh_key: str = ""
    author: str = "multiarch.drone <multiarch.drone@localhost>"
    timeout: float = 120
    token: str = ""  # what a URL has for its user, and no password: https://TOKEN@HOST/…

    def __post_init__(self) -> None:
        if not 0 < self.timeout <= MAX_TIMEOUT:
            raise Problem(f"git_timeout is {self.timeout}", f"give seconds, from 1 to {MAX_TIMEOUT}")
        for name in ("username", "password", "ssh_key", "author", "token"):
            if re.search(r"[\x00-\x1f\ud800-\udfff]", getattr(self, name)):
                raise Problem(
                    f"{name if name == 'token' else _OPTIONS.get(name, name)} has a control character",
                    "git takes one line of text: does the variable end in a newline?",
                )
        if not re.fullmatch(r"[^<>\n\x00]*[^<>\n\x00 ] <[^<>\n\x00 ]+>", self.author):
            raise Problem(f"{self.author!r} is not an author", "write: Jane Doe <jane@example.com>")


@dataclass(frozen=True)
class Remote:
    """A repository's URL, without the password that may have stood in it."""

    url: str
    login: Login
    path: str = ""  # where it is, if on this machine

    @classmethod
    def parse(cls, url: str, login: Login) -> Remote:
        """Return the repository of a URL as git takes it: ssh, https, file, a path, or host:path."""
        text = url.strip()
        if not text or text.startswith("-") or re.search(r"[\x00-\x1f\ud800-\udfff]", text):
            raise Problem(f"{without_userinfo(url)!r} is not the URL of a git repository", _URL)
        try:
            parts = urlsplit(text)
            parts.port  # noqa: B018  # a number, or a ValueError
        except ValueError as error:
            # The error quotes the part that it does not understand, which may be half a password.
            said = "" if "@" in text else f": {error}"
            raise Problem(f"{without_userinfo(url)!r} is not the URL of a git repository{said}", _URL) from error
        if parts.scheme in ("http", "https"):
            if not parts.hostname:
                raise Problem(f"{without_userinfo(url)!r} names no host", _URL)
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
            login = replace(
                login,
                username=login.username or user,
                password=login.password or password,
                token="" if login.password or password or login.username else user,
            )
            # What stands before the @ may be a token: git gets it through its environment, as a password.
            text = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        if parts.scheme == "file":
            return cls(text, login, unquote(parts.path))
        local = not re.match(r"[^/]+:", text)  # git's own rule for host:path
        if local and not os.path.isabs(text):
            raise Problem(f"{url!r} is a relative path", "give an absolute path, or a URL")
        return cls(text, login, text if local else "")

    def __str__(self) -> str:
        return self.url

    def environment(self) -> dict[str, str]:
        """Return the environment in which git neither asks nor finds another repository than this one."""
        result = {name: value for name, value in os.environ.items() if not re.match(r"GIT_(?!SSH|SSL|TRACE)", name)}
        for name in ("HOME", "PATH"):
            result.setdefault(name, {"HOME": "/", "PATH": os.defpath}[name])
        ssh = result.get("GIT_SSH_COMMAND", "ssh") + " -o BatchMode=yes"
        if self.login.ssh_key:
            ssh += f" -o IdentitiesOnly=yes -i {shlex.quote(self.login.ssh_key)}"
        result.update(LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_SSH_COMMAND=ssh, GIT_ASKPASS="", SSH_ASKPASS="")
        if self.path:
            result["GIT_CEILING_DIRECTORIES"] = os.path.dirname(os.path.abspath(self.path))
        parts = urlsplit(self.url)
        if (self.login.password or self.login.token) and parts.scheme in ("http", "https"):
            server = f"{parts.scheme}://{parts.netloc}"
            # With a password, forget the helpers that the user has. A user alone may be a token, whose password is
            # empty, or a name for which the user's helpers know the password: these are asked first.
            first = ("helper", "") if self.login.password else ("username", self.login.token)
            result.update(
                GIT_CONFIG_COUNT="2",
                GIT_CONFIG_KEY_0=f"credential.{server}.{first[0]}",
                GIT_CONFIG_VALUE_0=first[1],
                GIT_CONFIG_KEY_1=f"credential.{server}.helper",
                GIT_CONFIG_VALUE_1=_HELPER,
                MULTIARCH_GIT_USER=self.login.username or "git",
                MULTIARCH_GIT_PASSWORD=self.login.password,
            )
        return result

    def git(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        """Run git and return what it says; raise a Problem with its own words and what to do."""
        said, errors, code = self.run(*arguments, stdin=stdin)
        if code:
            raise self.problem(arguments, said + errors)
        return said

    def run(self, *arguments: str, stdin: bytes | None = None) -> tuple[bytes, bytes, int]:
        """Run git; return its output, its errors and its exit code."""
        try:
            # In a session of its own: it finds no terminal to ask on, and its helpers can be ended with it. And several
            # at a time, from threads, while run_command changes the environment and the umask of the whole process.
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                ["git", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.environment(),
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise Problem("git is not there", "install the package git where the module runs") from error
        return self._ended(process, stdin)

    def _ended(self, process: subprocess.Popen[bytes], stdin: bytes | None) -> tuple[bytes, bytes, int]:
        """Return what a process says once it has ended; end it where it takes too long, or says too much."""
        said: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        full = threading.Event()

        def listen(number: int, stream: IO[bytes]) -> None:
            while True:
                piece = os.read(stream.fileno(), 1 << 16)
                said[number] += piece
                if len(said[number]) > MAX_OUTPUT:
                    full.set()
                if not piece or full.is_set():
                    return

        def feed(stream: IO[bytes]) -> None:
            with contextlib.suppress(OSError):
                stream.write(stdin or b"")
                stream.close()

        assigned: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
            (listen, (1, process.stdout)),
            (listen, (2, process.stderr)),
            (feed, (process.stdin,)),
        ]
        threads = [threading.Thread(target=work, args=given, daemon=True) for work, given in assigned]
        for thread in threads:
            thread.start()
        until = time.monotonic() + self.login.timeout
        try:
            while any(thread.is_alive() for thread in threads) and not full.is_set() and time.monotonic() < until:
                next(thread for thread in (*threads, threads[0]) if thread.is_alive() or thread is threads[0]).join(0.2)
            if not full.is_set() and time.monotonic() < until:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, until - time.monotonic()))
        finally:
            if process.poll() is None:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                for thread in threads:  # a helper in a session of its own may still hold a pipe: it is not waited for
                    thread.join(1)
                late = True
            else:
                late = any(thread.is_alive() for thread in threads)
        if full.is_set():
            raise Problem(
                f"{self}: git says more than {MAX_OUTPUT >> 20} MiB",
                "is the file that large? set config_path to another",
            )
        if late:
            raise Problem(
                f"{self}: git gave no answer within {self.login.timeout:g} s", "set git_timeout to wait longer"
            )
        return bytes(said[1]), bytes(said[2]), process.returncode

    def problem(self, arguments: Sequence[str], said: bytes) -> Problem:
        """Return the Problem of a git that failed: its words, without secrets, and what to do about them."""
        text = self.scrub(said)
        lines = [line.strip() for line in text.splitlines() if re.search(r"fatal|error|^remote: |denied|failed", line)]
        words = "; ".join((lines or text.strip().splitlines() or ["git said nothing"])[:6])
        hint = next((hint for sign, hint in _HINTS if sign in text), "see what git says")
        command = next((word for word in arguments if word in _COMMANDS), "git")
        return Problem(f"{self}: git {command}: {words}", hint)

    def scrub(self, said: bytes) -> str:
        """Return what git said without the password, should a server or a helper repeat it."""
        text = said.decode("utf-8", "replace")
        for secret in (
            one
            for given in (self.login.password, self.login.token, self.login.username)
            for one in (given, quote(given, safe=""))
            if given != self.login.username or len(given) > 8
        ):
            text = text.replace(secret, "********") if secret else text
        return text


@dataclass
class Branch:
    """A branch of a repository as it is now: some of its files, and one commit more."""

    remote: Remote
    name: str  # "": the repository's own default, until the name must be known
    head: str = ""  # the commit; "" in an empty repository
    files: dict[str, bytes | None] = field(default_factory=dict)  # None: there is none at that path
    modes: dict[str, str] = field(default_factory=dict)  # of those that are there: 100644, 120000 …
    directory: str = ""  # our bare clone; "" while a repository on this machine is read in place

    @classmethod
    def read(cls, remote: Remote, name: str, paths: Iterable[str]) -> Branch:
        """Return a branch with the files at these paths."""
        branch = cls(remote, name)
        try:
            if not remote.path:
                branch._clone()
            branch._look(list(paths))
        except BaseException:
            branch.drop()
            raise
        return branch

    def commit(self, path: str, content: bytes | None, message: str) -> str:
        """Put a file's content, None to remove it, on top of the branch, in our clone; return the commit."""
        mode = self.modes.get(path, REGULAR[0])
        if not self.directory:
            self._clone()
        ref = f"refs/heads/{self.name}"
        text = message.encode()
        begin = f"commit {ref}\nmark :1\ncommitter {self.remote.login.author} now\ndata {len(text)}\n".encode()
        parent = f"\nfrom {self.head}\n" if self.head else "\n"
        file = f"D {_quoted(path)}\n"
        if content is not None:
            file = f"M {mode} inline {_quoted(path)}\ndata {len(content)}\n"
        stream = b"".join((begin, text, parent.encode(), file.encode(), content or b"", b"\nget-mark :1\n"))
        # As the pack that it is: git would unpack it here, and pack it again for the push.
        packed = ("-c", "fastimport.unpackLimit=1")
        said = self._git(*packed, "fast-import", "--quiet", "--date-format=now", "--force", stdin=stream)
        return said.decode().strip()

    def push(self, commit: str) -> None:
        """Push a commit onto the branch, never over somebody else's; raise Raced where one came first."""
        where = self.remote.path or self.remote.url
        arguments = ("--git-dir", self.directory, "push", "--porcelain", "--no-verify", "--", where)
        said, errors, code = self.remote.run(*arguments, f"{commit}:refs/heads/{self.name}")
        refused = next((line for line in self.remote.scrub(said).splitlines() if line.startswith("!\t")), "")
        if not code and not refused:
            return
        if not refused:
            raise self.remote.problem(arguments, errors)
        reason = refused.split("\t")[-1]
        if _RACE.search(reason):
            raise Raced(f"{self.remote}: somebody else pushed to {self.name} first ({reason})", "run again")
        told = [line[7:].strip() for line in self.remote.scrub(errors).splitlines() if line.startswith("remote:")]
        words = "; ".join([reason, *[line for line in told if line][:4]])
        raise Problem(
            f"{self.remote}: the push to {self.name} was refused: {words}",
            "is the branch protected, or does a hook want another author or message? nothing was changed there",
        )

    def drop(self) -> None:
        """Remove our clone."""
        if self.directory:
            remove_temporary_directory(self.directory)
            self.directory = ""

    def _git(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        where = ["--git-dir", self.directory] if self.directory else ["-C", self.remote.path]
        return self.remote.git(*where, *arguments, stdin=stdin)

    def _look(self, paths: list[str]) -> None:
        """Read the head, the files and the directories that say their modes, all in one process."""
        ref = f"refs/heads/{self.name}" if self.name else "HEAD"
        directories = sorted({directory for path in paths for directory in _directories(path)})
        asked = [ref, *(f"{ref}:{path}" for path in (*directories, *paths))]
        said = self._git("cat-file", "--batch", stdin="".join(f"{one}\n" for one in asked).encode())
        answers: list[tuple[bytes, bytes] | None] = []
        for one in asked:
            line, said = said.split(b"\n", 1)
            words = line.split(b" ")
            if len(words) < 3 or not words[-1].isdigit():  # "REF missing", "REF submodule"
                answers.append(None)
                continue
            if one == ref:
                self.head = words[0].decode()
            answers.append((words[1], said[: int(words[2])]))
            said = said[int(words[2]) + 1 :]
        trees = dict(zip(directories, answers[1:]))
        for path, answer in zip(paths, answers[1 + len(directories) :]):
            self.files[path] = None if answer is None else answer[1]
            for part in (
                *_directories(path)[1:],
                path,
            ):  # each on the way there: a commit would replace a link or a submodule
                directory, name = os.path.split(part)
                mode = _mode(trees[directory], name, len(self.head) // 2)
                if mode and mode not in (REGULAR if part == path else ("40000",)):
                    raise Problem(
                        f"{self.remote}: {part} is {_KINDS.get(mode, f'of mode {mode}')}",
                        "name the file itself (config_path)",
                    )
            if mode:
                self.modes[path] = mode
        if not self.head:
            heads = self._git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").decode().split()
            if heads:
                raise self._no_branch(heads)

    def _no_branch(self, heads: list[str]) -> Problem:
        if self.name:
            return Problem(f"{self.remote} has no branch {self.name}", suggest(self.name, heads))
        return Problem(
            f"{self.remote}: its default branch has no commit", f"set branch; it has: {', '.join(heads[:9])}"
        )

    def _clone(self) -> None:
        """Make our bare repository: one that borrows a local one's objects, else a clone of one commit without its blobs."""
        lender = _lender(self.remote.path)
        self.name = self.name or (_head_of(lender) if lender else "")
        directory = make_temporary_directory(large=True)
        try:
            if lender and self.name:
                self._borrow(lender, directory)
            else:
                self._fetch(directory)
        except BaseException:
            remove_temporary_directory(directory)
            raise
        self.directory = directory
        self.name = self.name or _head_of(directory) or self._git("symbolic-ref", "--short", "HEAD").decode().strip()

    def _borrow(self, lender: str, directory: str) -> None:
        """Make an empty repository on another one's objects, file by file (gitrepository-layout(5)): `git init` takes thrice as long."""
        make_directory(os.path.join(directory, "objects/info"))
        make_directory(os.path.join(directory, "refs"))
        form = (1, "[extensions]\n\tobjectFormat = sha256\n") if len(self.head) == 64 else (0, "")
        texts = {
            "HEAD": f"ref: refs/heads/{self.name}\n",
            "config": "[core]\n\trepositoryformatversion = {}\n\tbare = true\n{}".format(*form),
            "objects/info/alternates": os.path.join(lender, "objects") + "\n",
        }
        for name, text in texts.items():
            with open(os.path.join(directory, name), "w", encoding="utf-8") as stream:
                stream.write(text)

    def _fetch(self, directory: str) -> None:
        how = ["--shared"] if self.remote.path else ["--depth=1", "--filter=blob:none"]
        # An empty repository has no branch that one could name.
        which = ["--branch", self.name] if self.name and (self.head or not self.remote.path) else []
        where = ("--", self.remote.path or self.remote.url, directory)
        clone = ("clone", "--quiet", "--bare", "--single-branch", "--no-tags", "--template=", *how)
        said, errors, code = self.remote.run(*clone, *which, *where)
        if code and which and b"Remote branch" in errors:
            heads = self.remote.git("ls-remote", "--heads", "--", self.remote.url).decode().split()[1::2]
            if heads:
                raise self._no_branch([head[len("refs/heads/") :] for head in heads])
            said, errors, code = self.remote.run(*clone, *where)
        if code:
            raise self.remote.problem(clone, said + errors)


def without_userinfo(text: str) -> str:
    """Return a text without what stands before the @ of its URLs."""
    return without_passwords(re.sub(r"(https?://)[^/\s]*@", r"\1", text, flags=re.IGNORECASE))


def tokens_within(value: object) -> Iterator[str]:
    """Yield what URLs have for their user, as it is written and as it is meant: it may be a token.

    A name that is in the URL's path as well (https://octocat@host/octocat/app) is nobody's token, nor is a short one.
    """
    for text in texts(value):
        for user, path in re.findall(r"https?://([^/@:\s]+)(?::[^/@\s]*)?@([^\s]*)", text, re.IGNORECASE):
            if len(user) > 3 and user not in ("oauth2", "x-access-token", "x-token-auth", *path.split("/")):
                yield from (user, unquote(user))


def _lender(path: str) -> str:
    """Return the git directory at a path if its objects can simply be borrowed; "" where git itself must look."""
    if not path or '"' in path or "\n" in path:
        return ""
    for directory in (os.path.abspath(path), os.path.join(os.path.abspath(path), ".git")):
        if os.path.isfile(os.path.join(directory, "HEAD")) and os.path.isdir(os.path.join(directory, "objects")):
            # Shallow, or a borrower itself: not a whole history that another one may build upon.
            special = ("shallow", "objects/info/alternates", "commondir")
            return "" if any(os.path.exists(os.path.join(directory, name)) for name in special) else directory
    return ""


def _head_of(directory: str) -> str:
    """Return the branch that a git directory's HEAD names; "" where it names none, or keeps references in tables."""
    with open(os.path.join(directory, "HEAD"), encoding="utf-8") as stream:
        match = re.fullmatch(r"ref: refs/heads/(.+)", stream.read().strip())
    return match.group(1) if match and match.group(1) != ".invalid" else ""


def _mode(tree: tuple[bytes, bytes] | None, name: str, size: int) -> str:
    """Return the mode of a name in a tree object, as its entries are: `MODE NAME`, NUL and the hash."""
    if tree is None or tree[0] != b"tree":
        return ""
    content, at = tree[1], 0
    while at < len(content):
        end = content.index(b"\0", at)
        mode, found = content[at:end].split(b" ", 1)
        if found == name.encode():
            return mode.decode()
        at = end + 1 + size
    return ""


def _directories(path: str) -> list[str]:
    """Return the directories on the way to a file, from the root's "" on: "", "ci" and "ci/build"."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:length]) for length in range(len(parts) + 1)]


def _quoted(path: str) -> str:
    """Return a path as fast-import reads it."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
