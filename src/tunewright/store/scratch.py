"""Where a machine keeps what belongs to a place elsewhere: a private folder, and in it a bounded cache of files.

The folder is ``TUNEWRIGHT_CACHE``, else one of the user's own among the temporary files. Only its owner can look into
it. All processes of the user on the machine share it, so a checkpoint is fetched once however many workers resume from
it, and what killed workers leave behind is within the bound.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path

from tunewright.errors import StoreUnavailable

VARIABLE = "TUNEWRIGHT_CACHE"
CACHE_BYTES = 8 << 30


def private() -> Path:
    """The user's own folder on this machine; made when it is missing.

    Raises:
        StoreUnavailable: If it cannot be made.
    """
    return _private(os.environ.get(VARIABLE), tempfile.gettempdir())


@lru_cache(maxsize=8)
def _private(wanted: str | None, temporary: str) -> Path:
    path = Path(wanted) if wanted else Path(temporary) / f"tunewright-{_user()}"
    try:
        path.mkdir(mode=0o700, parents=bool(wanted), exist_ok=True)
        if _own(path):
            return path
        # Somebody else was there first, by chance or to see what is written there.
        return Path(tempfile.mkdtemp(prefix="tunewright-"))
    except OSError as error:
        raise StoreUnavailable(
            f"Files of places elsewhere need a local folder; {path} gave '{error}'. Set {VARIABLE}."
        ) from error


def _own(path: Path) -> bool:
    """Whether it is a folder, not a link, that belongs to this user and that others cannot look into."""
    state = path.lstat()
    if not stat.S_ISDIR(state.st_mode):
        return False
    if not hasattr(os, "getuid"):
        return True
    if state.st_uid != os.getuid():
        return False
    if stat.S_IMODE(state.st_mode) & 0o077:
        path.chmod(0o700)
    return True


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "cache"


def scratch(address: str) -> Path:
    """A local folder that stands for an address, the same one for all processes of this user on this machine."""
    path = private() / "scratch" / hashlib.sha256(address.encode()).hexdigest()[:16]
    path.mkdir(parents=True, exist_ok=True)
    return path


def cache() -> Path:
    """Folder of the cached files; each is named by its content."""
    path = private() / "cache"
    path.mkdir(exist_ok=True)
    return path


def used(path: Path) -> None:
    """Notes that a cached file was used, so that it stays for longer than others."""
    with contextlib.suppress(OSError):
        os.utime(path)


def trim(most: int | None = None, keep: Path | None = None) -> int:
    """Removes the cached files that were not used for longest, until the rest takes at most ``most`` bytes.

    Args:
        most: Bytes; ``CACHE_BYTES`` by default.
        keep: A file that stays in any case.

    Returns:
        Bytes removed.
    """
    limit = CACHE_BYTES if most is None else most
    found: list[tuple[float, int, Path]] = []
    with contextlib.suppress(OSError):
        for path in cache().iterdir():
            with contextlib.suppress(OSError):
                state = path.stat()
                found.append((state.st_mtime, state.st_size, path))
    total, freed = sum(size for _, size, _ in found), 0
    for _, size, path in sorted(found):
        if total - freed <= limit:
            break
        if path != keep:
            with contextlib.suppress(OSError):
                path.unlink()
                freed += size
    return freed
