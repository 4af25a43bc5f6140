"""JSON-RPC over standard input and output, as the Model Context Protocol asks for: the handshake and tools, nothing else.

Written out because it is small: one JSON object per line, five methods. Why not the library is said in the decisions of
the documentation.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from tunewright import __version__
from tunewright.errors import TunewrightError

log = logging.getLogger(__name__)
VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
LONGEST = 4 * 1024 * 1024
_PARSE, _REQUEST, _METHOD, _PARAMS, _INTERNAL = -32700, -32600, -32601, -32602, -32603


@dataclass(frozen=True, slots=True)
class Tool:
    """Something that an agent can call.

    Attributes:
        name: Its name.
        takes: The arguments, as a type that ``msgspec`` can read; its docstring says what the tool does.
        call: Does it; what it returns must be plain data.
        writes: Whether it changes anything or runs programs.
    """

    name: str
    takes: type[msgspec.Struct]
    call: Callable[[Any], Any]
    writes: bool = False

    def describe(self) -> dict[str, Any]:
        """As ``tools/list`` has it."""
        return {
            "name": self.name,
            "description": (self.takes.__doc__ or "").strip(),
            "inputSchema": schema(self.takes),
            "annotations": {"readOnlyHint": not self.writes, "openWorldHint": self.writes},
        }


def schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, as one object."""
    whole = msgspec.json.schema(kind)
    root: dict[str, Any] = dict(whole["$defs"][kind.__name__])
    root.pop("title", None)
    root.pop("description", None)
    return root


class _Refused(Exception):
    """A request that gets an error of the protocol."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Server:
    """Answers requests with tools.

    Args:
        tools: What agents can call.
        instructions: What an agent is told when it connects.
    """

    def __init__(self, tools: Sequence[Tool], instructions: str) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._instructions = instructions

    def serve(self, reading: BinaryIO, writing: BinaryIO) -> None:
        """Answers one line after the other until the input ends."""
        while line := reading.readline(LONGEST + 1):
            if len(line) > LONGEST:
                while line and not line.endswith(b"\n"):
                    line = reading.readline(LONGEST)
                answer: dict[str, Any] | None = _error(
                    None, _REQUEST, f"a message may take {LONGEST:,} bytes"
                )
            else:
                answer = self.answer(line)
            if answer is not None:
                writing.write(json.dumps(finite(answer), ensure_ascii=True, allow_nan=False).encode() + b"\n")
                writing.flush()

    def answer(self, line: bytes) -> dict[str, Any] | None:
        """The answer to one message; None for a notification."""
        if not line.strip():
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return _error(None, _PARSE, "a message must be one JSON object on one line")
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return _error(None, _REQUEST, "a message must be a JSON-RPC 2.0 object")
        key = message.get("id")
        if "method" not in message or ("id" in message and not isinstance(key, str | int)):
            # An answer to us, to which there is nothing to say, or an id that no answer could carry.
            return (
                None
                if "method" not in message
                else _error(None, _REQUEST, "an id must be text or a whole number")
            )
        if "id" not in message:
            return None
        try:
            return {
                "jsonrpc": "2.0",
                "id": key,
                "result": self._result(message["method"], message.get("params")),
            }
        except _Refused as error:
            return _error(key, error.code, str(error))
        except Exception:
            log.exception("a request could not be answered")
            return _error(key, _INTERNAL, "an internal error; the server's log has more")

    def _result(self, method: Any, params: Any) -> dict[str, Any]:
        params = {} if params is None else params
        if not isinstance(params, dict):
            raise _Refused(_PARAMS, "params must be an object")
        if method == "initialize":
            wanted = params.get("protocolVersion")
            return {
                "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[0],
                "capabilities": {"tools": {"listChanged": False}},
                "serverInfo": {"name": "tunewright", "title": "Tunewright", "version": __version__},
                "instructions": self._instructions,
            }
        if method == "ping":
            return {}
        if method == "tools/list":
            return {"tools": [tool.describe() for tool in self._tools.values()]}
        if method == "tools/call":
            return self._called(params)
        raise _Refused(_METHOD, f"there is no method {str(method)[:80]!r}")

    def _called(self, params: dict[str, Any]) -> dict[str, Any]:
        tool = self._tools.get(str(params.get("name")))
        if tool is None:
            known = ", ".join(self._tools)
            raise _Refused(_PARAMS, f"there is no tool {str(params.get('name'))[:80]!r}; there are {known}")
        given = params.get("arguments")
        try:
            arguments = msgspec.convert({} if given is None else given, tool.takes)
        except (msgspec.ValidationError, RecursionError) as error:
            # What a model got wrong goes back to the model, which can correct it; so says the protocol.
            return _told({"error": f"{tool.name}: {error}"}, failed=True)
        try:
            return _told(tool.call(arguments))
        except TunewrightError as error:
            return _told({"error": str(error), "code": error.code}, failed=True)


def _told(data: Any, *, failed: bool = False) -> dict[str, Any]:
    """A tool's result: as data and as text, for clients that read only one of them."""
    plain = finite(data)
    found = plain if isinstance(plain, dict) else {"result": plain}
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, default=str)
    return {"content": [{"type": "text", "text": text}], "structuredContent": found, "isError": failed}


def finite(data: Any) -> Any:
    """Data that JSON holds: numbers that are not finite become text, keys become text."""
    if isinstance(data, float):
        return data if math.isfinite(data) else str(data)
    if isinstance(data, dict):
        return {str(k): finite(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [finite(v) for v in data]
    return data if data is None or isinstance(data, bool | int | str) else str(data)


def _error(key: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": key, "error": {"code": code, "message": message}}
