"""Who may do what: tokens, kept as digests in a file that only its owner can read.

A token is ``tw_ID_SECRET`` with 256 random bits; it is shown once. The file holds the SHA-256 of it, which is as good
as a slow hash here, because nobody can try 2**256 secrets.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import hmac
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from tunewright.errors import ConfigError, StoreUnavailable
from tunewright.store.locks import FileLocks

Scope = Literal["read", "worker", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "worker", "admin")
LEVEL = {scope: level for level, scope in enumerate(SCOPES)}
FILE = "tokens.json"
_FORMAT = 1
_LOCK = 10.0


class Token(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A token as it is kept, without its secret.

    Attributes:
        id: What names it in lists and in the log.
        digest: SHA-256 of the whole token, in hexadecimal.
        scope: ``read`` looks, ``worker`` also asks and tells, ``admin`` does everything. Each includes the ones before.
        studies: Patterns of the names that it may see, such as ``team-a-*``.
        created: Seconds since 1970.
        expires: Seconds since 1970 from which it is refused; None for never.
        note: What it is for.
    """

    id: str
    digest: str
    scope: Scope
    studies: list[str]
    created: float
    expires: float | None = None
    note: str = ""

    def expired(self, moment: float) -> bool:
        """Whether it is refused from now on."""
        return self.expires is not None and moment >= self.expires


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    tokens: list[Token]


class Who:
    """Whoever makes a request.

    Attributes:
        id: Id of the token; empty where the server has none.
        level: Place of the scope in ``SCOPES``.
    """

    __slots__ = ("_patterns", "_seen", "id", "level")

    def __init__(self, id: str, scope: Scope, patterns: Sequence[str]) -> None:
        self.id = id
        self.level = LEVEL[scope]
        self._patterns = tuple(patterns)
        self._seen: dict[str, bool] = {}

    def sees(self, name: str) -> bool:
        """Whether a study of that name exists for it."""
        seen = self._seen.get(name)
        if seen is None:
            seen = any(fnmatch.fnmatchcase(name, p) for p in self._patterns)
            if len(self._seen) < 10_000:
                self._seen[name] = seen
        return seen


def digest_of(token: str) -> str:
    """SHA-256 of a token, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class TokenFile:
    """The tokens of one server, in a file of mode 0600.

    Args:
        path: The file; it need not exist.
        clock: Seconds since 1970; replaced in tests.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock

    def read(self) -> list[Token]:
        """All tokens, those that are over included.

        Raises:
            ConfigError: If others can read the file, or it is damaged.
            StoreUnavailable: If it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreUnavailable(
                f"The tokens must be readable by the server; {self.path} gave '{error}'. Check its permissions."
            ) from error
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise ConfigError(
                f"The tokens must be readable by their owner only; {self.path} has mode {stat.S_IMODE(mode):o}. "
                f"Revoke what others may have read, and run: chmod 600 {self.path}"
            )
        try:
            kept = msgspec.json.decode(data, type=_Kept)
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"The file of tokens must be one that 'tunewright token' wrote; {self.path} gave '{error}'. "
                "Move it away and make new tokens."
            ) from error
        return kept.tokens

    def new(
        self, scope: Scope, *, studies: Sequence[str] = ("*",), life: float | None = None, note: str = ""
    ) -> tuple[str, Token]:
        """Makes a token.

        Args:
            scope: What it may do.
            studies: Patterns of the names of studies that it may see.
            life: Seconds until it is over; None for never.
            note: What it is for.

        Returns:
            The token itself, which is kept nowhere, and what is kept of it.

        Raises:
            ConfigError: If a pattern is empty or the note is too long.
        """
        if not studies or not all(0 < len(p) <= 256 and p.isprintable() for p in studies) or len(note) > 256:
            raise ConfigError(
                f"A token needs patterns of names and a note of up to 256 printable characters; got {list(studies)!r:.120} "
                f"and {note!r:.60}. Shorten them; '*' is every study."
            )
        moment = self._clock()
        number = secrets.token_hex(4)
        text = f"tw_{number}_{secrets.token_urlsafe(32)}"
        kept = Token(
            number,
            digest_of(text),
            scope,
            list(studies),
            moment,
            None if life is None else moment + life,
            note,
        )
        with self._changing() as tokens:
            tokens.append(kept)
        return text, kept

    def rotate(self, id: str, *, grace: float = 0.0, life: float | None = None) -> tuple[str, Token]:
        """Makes a token like another one, which is over after a while.

        Args:
            id: The token to replace.
            grace: Seconds for which the old one goes on being accepted.
            life: Seconds until the new one is over; None for never.

        Raises:
            ConfigError: If there is no such token.
        """
        old = self._find(self.read(), id)
        made = self.new(old.scope, studies=old.studies, life=life, note=old.note)
        over = self._clock() + grace
        with self._changing() as tokens:
            place = tokens.index(self._find(tokens, id))
            until = over if old.expires is None else min(over, old.expires)
            tokens[place] = msgspec.structs.replace(old, expires=until)
        return made

    def revoke(self, id: str) -> Token:
        """Removes a token; running servers refuse it within two seconds.

        Raises:
            ConfigError: If there is no such token.
        """
        with self._changing() as tokens:
            found = self._find(tokens, id)
            tokens.remove(found)
        return found

    def _find(self, tokens: Sequence[Token], id: str) -> Token:
        for token in tokens:
            if token.id == id:
                return token
        raise ConfigError(
            f"A token is named by its id; got {id!r:.80}, and there are {len(tokens)}. See 'tunewright token list'."
        )

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """Reads the tokens, lets the caller change the list, and replaces the file by a complete one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        locks = FileLocks(str(self.path) + "-lock")
        try:
            with locks.turn(time.monotonic() + _LOCK) as granted:
                if not granted:
                    raise StoreUnavailable(
                        f"The tokens need their turn within {_LOCK:g} s; {self.path} was kept locked. Try again."
                    )
                tokens = self.read()
                yield tokens
                self._write(msgspec.json.format(msgspec.json.encode(_Kept(_FORMAT, tokens)), indent=2))
        finally:
            locks.close()

    def _write(self, data: bytes) -> None:
        temporary = self.path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreUnavailable(
                f"The tokens must be kept in a file; writing {self.path} gave '{error}'. Check permissions and space."
            ) from error


class Guestbook:
    """The tokens as a running server knows them: by digest, read anew when the file changes.

    Args:
        file: Where they are kept; None for a server that everybody on this machine may use.
        clock: Seconds since 1970.

    Attributes:
        nobody: Who asks for what needs no token, without one; sees no study.
    """

    def __init__(self, file: TokenFile | None, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._known: dict[bytes, tuple[Token, Who]] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._everybody = Who("", "admin", ("*",))
        self.nobody = Who("nobody", "read", ())
        self._lent: dict[bytes, Who] = {}
        self.refresh()

    def lend(self, scope: Scope, studies: Sequence[str] = ("*",), id: str = "browser") -> str:
        """Makes a token that is known to this process alone, and for as long as it runs; from now on one is needed.

        Args:
            scope: What it may do.
            studies: Patterns of the names of studies that it may see.
            id: What names it in the log.
        """
        text = f"tw_{id}_{secrets.token_urlsafe(32)}"
        self._lent[hashlib.sha256(text.encode()).digest()] = Who(id, scope, studies)
        return text

    @property
    def asks(self) -> bool:
        """Whether a token is needed. Once it was, it stays so: revoking the last one lets nobody in."""
        return self._stamp is not None or bool(self._lent)

    def refresh(self) -> None:
        """Reads the file where it has changed.

        Raises:
            ConfigError: If the file cannot be used; what was known stays.
        """
        if self._file is None:
            return
        try:
            found = self._file.path.stat()
        except OSError:
            if self._stamp is not None:
                self._known = {}
            return
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp == self._stamp:
            return
        tokens = self._file.read()
        self._known = {
            bytes.fromhex(t.digest): (t, Who(t.id, t.scope, t.studies)) for t in tokens if len(t.digest) == 64
        }
        self._stamp = stamp

    def who(self, header: bytes | None) -> Who | None:
        """Who presents an ``Authorization`` header, or None for nobody we know."""
        if self._stamp is None and not self._lent:
            return self._everybody
        if header is None or header[:7].lower() != b"bearer ":
            return None
        digest = hashlib.sha256(header[7:].strip()).digest()
        lent = self._lent.get(digest)
        if lent is not None:
            return lent
        found = self._known.get(digest)
        if found is None or not hmac.compare_digest(bytes.fromhex(found[0].digest), digest):
            return None
        return None if found[0].expired(self._clock()) else found[1]
