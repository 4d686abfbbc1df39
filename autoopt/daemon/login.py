"""What proves who asks over TCP: the token, a login link that works once, and the cookie that it leaves behind."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from autoopt.errors import RunError
from autoopt.files import raise_unwritable, sync_folder

TOKEN_BYTES = 32
LINK_SECONDS = 10 * 60
COOKIE_SECONDS = 30 * 24 * 3600

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43,}")
_MAX_LINKS = 16
"""Links that can be open at once; the oldest goes when one more is asked for."""


class Keys:
    """The token of a daemon, and what is derived from it.

    A cookie is not the token: it is signed with a key derived from it, so it outlives a restart, names the
    day on which it ends, and ends for good when the token is replaced.

    Args:
        token: as in the file; see `read_or_make`.
        now: gives Unix seconds.

    Example:
        >>> keys = Keys("t" * 43)
        >>> link = keys.new_link()
        >>> keys.use_link(link), keys.use_link(link)
        (True, False)
        >>> keys.knows_cookie(keys.new_cookie())
        True
    """

    def __init__(self, token: str, now: Callable[[], float] = time.time) -> None:
        self._digest = _hash(token)
        self._signing = hmac.new(token.encode(), b"autoopt session cookie", hashlib.sha256).digest()
        self._now = now
        # Only digests are kept: looking one up tells nothing, however long it takes.
        self._links: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def knows_token(self, given: str) -> bool:
        """Whether this is the token, in a time that does not depend on what was given."""
        return hmac.compare_digest(_hash(given), self._digest)

    def new_link(self) -> str:
        """The secret part of a login link; works once, within `LINK_SECONDS`."""
        secret = secrets.token_urlsafe(TOKEN_BYTES)
        with self._lock:
            now = self._now()
            self._links = {key: end for key, end in self._links.items() if end > now}
            while len(self._links) >= _MAX_LINKS:
                del self._links[next(iter(self._links))]
            self._links[_hash(secret)] = now + LINK_SECONDS
        return secret

    def use_link(self, secret: str) -> bool:
        """Whether the link is good; it is not from now on."""
        with self._lock:
            end = self._links.pop(_hash(secret), None)
        return end is not None and end > self._now()

    def new_cookie(self) -> str:
        """The value of a session's cookie."""
        body = f"{int(self._now()) + COOKIE_SECONDS}.{secrets.token_urlsafe(16)}"
        return f"{body}.{self._sign(body)}"

    def knows_cookie(self, value: str) -> bool:
        """Whether the cookie was given out with this token and has not ended."""
        body, _, signature = value.rpartition(".")
        if not hmac.compare_digest(self._sign(body).encode(), signature.encode()):
            return False
        return int(body.split(".")[0]) > self._now()

    def _sign(self, body: str) -> str:
        return hmac.new(self._signing, body.encode(), hashlib.sha256).hexdigest()


def read_or_make(path: Path) -> str:
    """The token in the file at `path`; a new one of 256 bits when there is no file.

    Raises:
        RunError: others may read the file, it belongs to somebody else, or holds no token.
    """
    with suppress(FileExistsError):
        _make(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor) as stream:
            status = os.fstat(stream.fileno())
            token = stream.read(1024).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(
            f"The token in {path} cannot be read: {error}.", "Remove that file; a new token is made then."
        ) from error
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise RunError(
            f"The token in {path} can be read by others.",
            "It may be known to them: remove that file; a new token is made then.",
        )
    if not _TOKEN.fullmatch(token):
        raise RunError(f"{path} holds no token.", "Remove that file; a new token is made then.")
    return token


def _make(path: Path) -> None:
    # Under another name first, so that a reader finds the whole token or none.
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            os.link(beside, path)
            sync_folder(path.parent)
        finally:
            beside.unlink()
    except FileExistsError:
        raise
    except OSError as error:
        raise_unwritable(error, path, "The daemon was not started.")


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
