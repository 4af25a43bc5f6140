"""Addresses and messages without what may be a password, for errors, logs and displays."""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"((?:^|(?<=[?&;#\s'\"]))[\w.\-]*(?:passw(?:or)?d|passphrase|pwd|token|secret|api_?key|access_?key)[\w.\-]*\s?=\s?)"
    r"('[^']*'|\"[^\"]*\"|[^&#;\s'\"]*)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(bearer\s+)[^\s'\",;]+", re.IGNORECASE)
_ACCOUNT = re.compile(r"(?<![\w:/@.])[^\s:/@'\"]+:[^\s@/'\"]+@(?=[\w.\[])")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://(?:[^\s\"<>]*@)?[^\s'\"<>]+")


def redacted(url: str) -> str:
    """An address without what may be a password or a token, and not longer than 200 characters.

    Errs on the side of hiding: everything before the last ``@`` of what follows the scheme goes, and so do the values
    of parameters that sound secret, in the address or in a list of ``name=value`` words.
    """
    scheme, separator, rest = url.partition("://")
    if separator:
        account, at, host = rest.rpartition("@")
        url = f"{scheme}://***@{host}" if at and account else url
    elif ":" in url.rpartition("@")[0]:
        url = f"***@{url.rpartition('@')[2]}"
    return _SECRET.sub(r"\1***", url)[:200]


def without_secrets(text: str) -> str:
    """A text, such as a message of another library or a traceback, with every address in it ``redacted``."""
    text = _ACCOUNT.sub("***@", _ADDRESS.sub(lambda found: redacted(found[0]), text))
    return _BEARER.sub(r"\1***", _SECRET.sub(r"\1***", text))
