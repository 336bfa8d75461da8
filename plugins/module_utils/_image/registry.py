# SPDX-FileCopyrightText: The multiarch.drone authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images as a registry has them: manifests by reference, platforms told apart from attestations.

The protocol is that of the OCI distribution specification, with the token service of Docker's registries.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Callable, Mapping, TypeVar
from urllib.parse import urlencode

from .._http import Answer, Url, check_timeout
from .._problem import Problem, printable
from .._schema import Damaged, parse_json
from . import manifest
from .reference import HUB, Reference, check_registry, is_digest
from .transport import PlainHttp, Transport, each

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .credentials import Credentials
    from .manifest import Document, Entry

R = TypeVar("R")

ACCEPT = ", ".join(manifest.ACCEPTED)
THREADS = 4
DEPTH = 3  # indexes in indexes
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?")


class Absent(Problem):
    """The registry has no such image."""


class Denied(Problem):
    """The registry does not show this image to us: many say so of what is not there."""


@dataclass(frozen=True)
class Image:
    """An image: its manifest or index, and, of the things that it lists, what can run and what only attests."""

    reference: Reference
    document: Document
    platforms: tuple[Entry, ...]
    attestations: tuple[Entry, ...]
    others: tuple[Entry, ...]

    @property
    def digest(self) -> str:
        return self.document.digest

    def facts(self, text: str) -> dict[str, Any]:
        """Return the image as a module shows it; `text` is how the user named it."""
        by_digest = {entry.digest: entry.platform for entry in self.platforms}
        return {
            "reference": text,
            "name": str(self.reference),
            "digest": self.digest,
            "media_type": self.document.media_type,
            "annotations": dict(self.document.annotations),
            "platforms": [
                {
                    "platform": entry.platform,
                    **_descriptor(entry),
                    "bytes": entry.image_bytes,
                    "os_version": entry.os_version,
                }
                for entry in self.platforms
            ],
            "attestations": [
                {"platform": by_digest.get(entry.attests, ""), "attests": entry.attests, **_descriptor(entry)}
                for entry in self.attestations
            ],
            "others": [{**_descriptor(entry), "artifact_type": entry.artifact_type} for entry in self.others],
        }


def _descriptor(entry: Entry) -> dict[str, Any]:
    return {"digest": entry.digest, "size": entry.size, "media_type": entry.media_type}


@dataclass
class Access:
    """How registries are reached, and what was learned about each on the way: shared by the threads of one call."""

    timeout: float
    deadline: float
    insecure: frozenset[str] = frozenset()
    ca_path: str = ""
    schemes: dict[str, str] = field(default_factory=dict)
    challenges: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    authorization: dict[tuple[str, str], str] = field(default_factory=dict)
    credentials: dict[str, Credentials | None] = field(default_factory=dict)

    @classmethod
    def of(cls, *, timeout: float, insecure_registries: Iterable[str] = (), ca_path: str | None = None) -> Access:
        """Return the access that a module's options describe; raise a Problem where they make no sense."""
        check_timeout(timeout)
        if ca_path and not os.access(ca_path, os.R_OK):
            raise Problem(f"{ca_path}, which ca_path names, cannot be read on this host", "copy the certificate there")
        insecure = frozenset(check_registry(registry) for registry in insecure_registries)
        return cls(timeout, time.monotonic() + timeout, insecure, ca_path or "")

    def renewed(self) -> Access:
        """Return this access with its whole timeout ahead; what was learned about the registries is shared."""
        return replace(self, deadline=time.monotonic() + self.timeout)

    def is_insecure(self, registry: str) -> bool:
        """Whether the registry may speak HTTP or show any certificate: as for Docker, the loopback's may."""
        return registry in self.insecure or bool(_LOOPBACK.fullmatch(registry))


def read_all(
    references: Sequence[Reference], access: Access, known: Callable[[Document], str] = lambda _document: ""
) -> list[Image | Problem]:
    """Return each image, or the Problem of reading it, in order; a few connections serve them all.

    A manifest that stands alone names no platform: its configuration does, which costs a second question. `known` answers
    it for a manifest that the caller knows.
    """
    return _ask(lambda client, reference: client.image(reference, known), references, access)


def with_sizes(images: Sequence[Image], access: Access) -> list[Image | Problem]:
    """Return each image with the bytes of each of its platforms, or the Problem of asking: one question for each manifest.

    What the registry does not have, as in a copy of some platforms of an index, keeps no size.
    """
    listed = [(image, entry) for image in images for entry in image.platforms if image.document.is_index]
    asked = list(dict.fromkeys(replace(image.reference, tag="", digest=entry.digest) for image, entry in listed))
    answers: dict[Reference, int | Problem | None] = dict(zip(asked, _ask(Client.size, asked, access)))
    return [_with_sizes(image, answers) for image in images]


def _with_sizes(image: Image, answers: Mapping[Reference, int | Problem | None]) -> Image | Problem:
    entries = []
    for entry in image.platforms:
        if image.document.is_index:
            size = answers[replace(image.reference, tag="", digest=entry.digest)]
        else:
            size = _size(image.document, str(image.reference))
        if isinstance(size, Problem) and not isinstance(size, Absent):
            return size
        entries.append(replace(entry, image_bytes=None if isinstance(size, Problem) else size))
    return replace(image, platforms=tuple(entries))


def _size(document: Document, where: str) -> int | Problem | None:
    try:
        return manifest.image_bytes(document)
    except Damaged as damaged:
        return Problem(f"{where}: its manifest is damaged: {damaged}", "push it again")


def digests(references: Sequence[Reference], access: Access) -> list[str | Problem]:
    """Return the digest that each reference means now, or the Problem of asking, by one HEAD for each tag."""
    return _ask(lambda client, reference: reference.digest or client.digest(reference), references, access)


def _ask(
    question: Callable[[Client, Reference], R], references: Sequence[Reference], access: Access
) -> list[R | Problem]:
    local = threading.local()

    def ask(reference: Reference) -> R:
        if not hasattr(local, "client"):
            local.client = Client(access)
        return question(local.client, reference)

    return each(ask, references, deadline=access.deadline, threads=THREADS)


def missing(image: Image, required: Iterable[object]) -> list[str]:
    """Return which of the required platforms the image lacks."""
    has = {entry.platform for entry in image.platforms}
    return [str(platform) for platform in required if str(platform) not in has]


class Client:
    """Reads images for one thread."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.transport = Transport(access.deadline, access.ca_path)

    def image(self, reference: Reference, known: Callable[[Document], str] = lambda _document: "") -> Image:
        """Return the image that a registry has under this reference."""
        document = self.document(reference)
        platform = "" if document.is_index else known(document)
        if platform:
            entry = manifest.Entry(document.digest, document.size, document.media_type, platform)
            return Image(reference, document, (replace(entry, annotations=document.annotations),), (), ())
        platforms, attestations, others = self._sort(reference, document, DEPTH)
        return Image(reference, document, tuple(platforms), tuple(attestations), tuple(others))

    def document(self, reference: Reference) -> Document:
        """Return the index or manifest of this reference, proven to be what its digest says."""
        answer = self._get(reference, f"manifests/{reference.version}", ACCEPT)
        digest = _proven(answer, reference.digest or answer.headers.get("docker-content-digest", ""), str(reference))
        return manifest.parse(answer.body, digest, answer.headers.get("content-type", ""), str(reference))

    def digest(self, reference: Reference) -> str:
        """Return the digest that a tag means now, by one HEAD; by the manifest itself where that does not tell."""
        path = f"manifests/{reference.version}"
        answer = self._get(reference, path, ACCEPT, method="HEAD", good=(200, 405, 501))
        digest = answer.headers.get("docker-content-digest", "")
        return digest if answer.status == 200 and is_digest(digest) else self.document(reference).digest

    def size(self, reference: Reference) -> int | None:
        """Return the bytes of an image of one platform: its configuration and its layers, as they are transferred."""
        size = _size(self.document(reference), str(reference))
        if isinstance(size, Problem):
            raise size
        return size

    def blob(self, reference: Reference, entry: Entry) -> Any:
        """Return a blob of JSON, such as an image's configuration."""
        answer = self._get(reference, f"blobs/{entry.digest}", "*/*")
        _proven(answer, entry.digest, f"{reference}: {entry.digest}")
        try:
            return parse_json(answer.body)
        except Damaged as damaged:
            raise Problem(f"{reference}: {entry.digest} is not valid JSON: {damaged}", "push the image again") from None

    def _sort(
        self, reference: Reference, document: Document, depth: int
    ) -> tuple[list[Entry], list[Entry], list[Entry]]:
        """Return the platforms, the attestations and everything else of a document."""
        if not document.is_index:
            entry = self._manifest_as_entry(reference, document)
            return ([entry], [], []) if entry.platform else ([], [], [entry])
        platforms: list[Entry] = []
        attestations: list[Entry] = []
        others: list[Entry] = []
        for entry in document.entries:
            if entry.attests:
                attestations.append(entry)
            elif entry.platform:
                platforms.append(entry)
            elif entry.artifact_type or entry.media_type not in manifest.ACCEPTED or not depth:
                others.append(entry)
            else:
                # The specification lets an index leave the platform out: what is listed knows it.
                inner = self.document(replace(reference, tag="", digest=entry.digest))
                for found, more in zip((platforms, attestations, others), self._sort(reference, inner, depth - 1)):
                    found.extend(more)
        return platforms, attestations, others

    def _manifest_as_entry(self, reference: Reference, document: Document) -> Entry:
        """Return a single manifest as an index would list it: its platform stands in its configuration."""
        if document.config is None:
            raise ValueError("only a single manifest has a configuration")
        entry = manifest.Entry(document.digest, document.size, document.media_type, annotations=document.annotations)
        artifact_type = str(document.content.get("artifactType") or "")
        kind = document.config.media_type
        if artifact_type or (kind not in manifest.CONFIGS and "image" not in kind):
            return replace(entry, artifact_type=artifact_type or kind)
        try:
            config = self.blob(reference, document.config)
            platform, os_version = manifest.platform_of(config)
        except (Problem, Damaged) as error:
            if kind in manifest.GUESSED_CONFIGS and not isinstance(error, (Absent, Denied)):
                return replace(entry, artifact_type=kind)  # of anything: it may well be no image
            if isinstance(error, Problem):
                raise
            raise Problem(f"{reference}: its configuration is damaged: {error}", "push the image again") from None
        guessed = kind in manifest.GUESSED_CONFIGS and not platform
        return replace(entry, platform=platform, os_version=os_version, artifact_type=kind if guessed else "")

    def _get(
        self, reference: Reference, path: str, accept: str, method: str = "GET", good: Sequence[int] = (200,)
    ) -> Answer:
        """Return the registry's good answer, logged in where it wants that."""
        registry = reference.registry
        scope = f"repository:{reference.repository}:pull"
        headers = {"Accept": accept}
        known = self._authorize(registry, scope) if registry in self.access.challenges else ""
        answer = self._send(reference, path, {**headers, **({"Authorization": known} if known else {})}, method)
        if answer.status == 401:
            answer = self._logged_in(reference, path, headers, method, answer, known)
        if answer.status in good:
            return answer
        raise self._refusal(reference, answer)

    def _logged_in(
        self, reference: Reference, path: str, headers: dict[str, str], method: str, answer: Answer, known: str
    ) -> Answer:
        """Return the answer to the first login, of those that the registry takes, that opens it."""
        registry, scope = reference.registry, f"repository:{reference.repository}:pull"
        problem = None
        for challenge in _challenges(answer, registry):
            self.access.challenges[registry] = challenge
            # The scope is ours; a registry below another path may know the repository by another name.
            for wanted in dict.fromkeys((scope, challenge[1].get("scope") or scope)):
                self.access.authorization.pop((registry, scope), None)
                try:
                    login = self._authorize(registry, scope, wanted)
                except Problem as error:
                    problem = problem or error
                    continue
                if login and login != known:
                    answer = self._send(reference, path, {**headers, "Authorization": login}, method)
                    if answer.status != 401:
                        return answer
        if problem:
            raise problem
        return answer

    def _send(self, reference: Reference, path: str, headers: dict[str, str], method: str) -> Answer:
        """Send a request by TLS, or as an insecure registry wants it."""
        registry = reference.registry
        host = "registry-1.docker.io" if registry == HUB else registry
        insecure = self.access.is_insecure(registry)
        scheme = self.access.schemes.get(registry, "https")
        url = f"://{host}/v2/{reference.repository}/{path}"
        try:
            answer = self.transport.request(scheme + url, headers, method=method, verify=not insecure)
        except PlainHttp:
            if not insecure or scheme == "http":
                raise
            scheme = "http"
            answer = self.transport.request(scheme + url, headers, method=method)
        self.access.schemes[registry] = scheme
        return answer

    def _authorize(self, registry: str, scope: str, wanted: str = "") -> str:
        """Return the Authorization header that answers the registry's challenge, "" where there is nothing to show.

        It is kept for `scope`, and asked for as `wanted`, where the registry calls it so.
        """
        kind, parameters = self.access.challenges[registry]
        known = self.access.authorization.get((registry, scope))
        if known is not None:
            return known
        if registry not in self.access.credentials:
            from . import credentials as _credentials  # a public image needs none

            self.access.credentials[registry] = _credentials.find(registry, self.access.deadline)
        credentials = self.access.credentials[registry]
        if kind == "basic":
            header = credentials.basic if credentials and credentials.username else ""
        elif credentials and credentials.registry_token:
            header = f"Bearer {credentials.registry_token}"
        else:
            header = f"Bearer {self._token(registry, parameters, wanted or scope, credentials)}"
        self.access.authorization[registry, scope] = header
        return header

    def _token(self, registry: str, parameters: dict[str, str], scope: str, credentials: Credentials | None) -> str:
        """Return a token from the service that the registry names."""
        text = parameters.get("realm", "")
        try:
            realm = Url.parse(text)
        except ValueError as error:
            what = f"{registry} names a token service that cannot be trusted with a login: {text[:200]!r}: {error}"
            raise Problem(what, "is it the registry, or something in between?") from None
        if realm.scheme == "http" and self.access.schemes.get(registry) != "http":
            what = (
                f"{registry} names a token service that cannot be trusted with a login: {realm} is not protected by TLS"
            )
            raise Problem(what, "is it the registry, or something in between?")
        query = {"service": parameters["service"]} if parameters.get("service") else {}
        verify = not (realm.authority == registry and self.access.is_insecure(registry))
        url = f"{realm.scheme}://{realm.authority}{realm.target}"
        if credentials and credentials.identity_token:
            form = {**query, "scope": scope, "grant_type": "refresh_token", "client_id": "multiarch.drone"}
            body = urlencode({**form, "refresh_token": credentials.identity_token}).encode()
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self.transport.request(url, kind, method="POST", body=body, verify=verify)
        else:
            login = {"Authorization": credentials.basic} if credentials and credentials.username else {}
            url += ("&" if "?" in realm.target else "?") + urlencode({**query, "scope": scope})
            answer = self.transport.request(url, login, verify=verify)
        if answer.status in (401, 403):
            raise _no_access(registry, f"its token service {answer.url} says {answer.status}", credentials)
        try:
            content = parse_json(answer.body) if answer.status == 200 else {}
            token = content.get("token") or content.get("access_token")
        except (Damaged, AttributeError):
            token = None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise Problem(
                f"{registry}: its token service {answer.url} gave no token ({answer.status})", "try again later"
            )
        return token

    def _refusal(self, reference: Reference, answer: Answer) -> Problem:
        registry, status = reference.registry, answer.status
        said = _said(answer)
        if status == 404:
            what = f"{reference} does not exist: {registry} says {said}"
            return Absent(what, "check the repository's name and the tag, and that the push was to this registry")
        if status in (401, 403):
            return _no_access(str(reference), f"{registry} says {said}", self.access.credentials.get(registry))
        if status == 429:
            wait = answer.headers.get("retry-after", "")
            when = f"in {wait} seconds" if wait.isdigit() else "later"
            hint = f"try again {when}, log in (docker login {registry}), or name a mirror's image"
            return Problem(f"{reference}: {registry} has had too many requests from here ({said})", hint)
        hint = "try again later" if status >= 500 else "is it a registry, or a proxy's page?"
        return Problem(f"{reference}: {answer.url} says {said}", hint)


def _no_access(what: str, said: str, credentials: Credentials | None) -> Problem:
    registry = what.split("/")[0]
    login = f"`docker login{'' if registry == HUB else ' ' + registry}` as the user who runs this"
    if credentials is None:
        from . import credentials as _credentials

        where = _credentials.config_path()
        hint = f"there are no credentials for it in {where}: {login}, or check the name"
        return Denied(f"{what}: no access: {said}", hint)
    who = f"{credentials.username or 'a token'} from {credentials.source}"
    return Denied(f"{what}: no access for {who}: {said}", f"check the name and the user's rights, or {login} again")


def _proven(answer: Answer, digest: str, where: str) -> str:
    """Return the digest of the answer's body; raise a Problem where it is not the one that it should be."""
    algorithm = digest.partition(":")[0] if digest else "sha256"
    if algorithm not in ("sha256", "sha512"):
        raise Problem(f"{where}: the registry names a digest of an unknown kind, {algorithm!r}", "is it a registry?")
    actual = f"{algorithm}:{hashlib.new(algorithm, answer.body).hexdigest()}"
    if digest and actual != digest:
        what = f"{where}: the answer is not what its digest promises: {actual} instead of {digest}"
        raise Problem(what, "a proxy or a broken registry changed or cut it: try again, then ask who runs it")
    return actual


_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf"""({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))""")
_SCHEME = re.compile(
    rf"({_WORD})(?:\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|\Z)))?"
)  # with a token68, which neither of ours has


def _challenges(answer: Answer, registry: str) -> list[tuple[str, dict[str, str]]]:
    """Return how the registry wants to be shown credentials, in its order: ("bearer", {"realm": …}), ("basic", {…}).

    One field may hold several challenges, and commas between these as well as between the parameters of each (RFC 7235).
    """
    header = answer.headers.get("www-authenticate", "")
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(header):
        match = _PARAMETER.match(header, position) if found else None
        if match:
            value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
            found[-1][1].setdefault(match[1].lower(), value)
        else:
            match = _SCHEME.match(header, position)
            if match:
                found.append((match[1].lower(), {}))
        position = match.end() if match else position + 1
    known = [challenge for challenge in found if challenge[0] in ("bearer", "basic")]
    if not known:
        what = (
            f"{registry} wants a login of a kind that Docker does not know: {header[:100] or 'it does not say which'}"
        )
        raise Problem(what, "is it a registry?")
    return known


def _said(answer: Answer) -> str:
    """Return the status and the registry's own words, as far as a person can read them."""
    try:
        errors = parse_json(answer.body)["errors"]
        words = "; ".join(str(error.get("message") or error.get("code")) for error in errors[:5])
    except (Damaged, LookupError, TypeError, AttributeError):
        words = ""
    words = printable(" ".join(words.split()))[:200]
    return f"{answer.status} ({words})" if words else str(answer.status)
