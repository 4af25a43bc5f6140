"""The pages for people: one page with its programs and styles, from the package alone.

The page's addresses are ``/``, ``/s/STUDY``, ``/s/STUDY/PAGE``, ``/s/STUDY/trial/NUMBER``, ``/compare`` and ``/methods``;
anything else gets the same page with the status 404. Programs are sent from ``/static/@MARK/...``, where the mark is a
digest of all of them, so that a browser keeps them for good and still sees the next version at once; programs find each
other by relative addresses, which stay below that mark. Without the mark the same files are there too, to be asked for
anew each time.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunewright.errors import StudyMissing
from tunewright.web.doors import SECURITY, carried, cookie
from tunewright.web.lanes import aside
from tunewright.web.packing import Packed
from tunewright.web.refusals import Headers, Refused
from tunewright.web.replies import Call, Reply, problem
from tunewright.web.sending import sent
from tunewright.web.tokens import Who

if TYPE_CHECKING:
    from tunewright.web.state import State

STATIC = Path(__file__).parent / "static"
PAGES = frozenset({
    "explore", "trials", "parameters", "curves", "pareto", "timeline", "lineage", "inside", "surrogate", "stopping", "transfer",
    "report",
})  # fmt: skip
_KINDS = {
    ".js": b"text/javascript; charset=utf-8", ".mjs": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8", ".html": b"text/html; charset=utf-8", ".json": b"application/json",
    ".svg": b"image/svg+xml", ".png": b"image/png", ".ico": b"image/x-icon", ".woff2": b"font/woff2",
    ".txt": b"text/plain; charset=utf-8", ".map": b"application/json",
}  # fmt: skip
_POLICY = (
    "default-src 'self'; script-src 'self'{scripts}; style-src 'self'{styles}; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; worker-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_INLINE = re.compile(rb"<(script|style)\b([^>]*)>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
_ALWAYS = (b"cache-control", b"public, max-age=31536000, immutable")
_BARE = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Tunewright</title>"
    b"<p>This installation has no pages. The studies are at <a href=/api/v1/board>/api/v1/board</a>."
)


class Site:
    """The files of the pages; read when asked for, and again when they change.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path = STATIC) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._stamp: tuple[tuple[str, int, int], ...] | None = None
        self._files: dict[str, Path] = {}
        self._packed: dict[str, Packed] = {}
        self._page = Packed(_BARE, "none", _KINDS[".html"])
        self.mark = ""
        self.policy = b""

    def file(self, name: str) -> Packed | None:
        """A file by its name below the folder, None for one that is not there."""
        with self._lock:
            self._look()
            found = self._packed.get(name)
            path = self._files.get(name)
            if found is None and path is not None:
                data = path.read_bytes()
                mark = hashlib.sha256(data).hexdigest()[:16]
                found = self._packed[name] = Packed(data, mark, _KINDS[path.suffix.lower()], 9)
            return found

    def page(self) -> Packed:
        """The page itself."""
        with self._lock:
            self._look()
            return self._page

    def _look(self) -> None:
        paths = sorted(p for p in self._folder.rglob("*") if p.suffix.lower() in _KINDS and p.is_file())
        stats = [(p, p.stat()) for p in paths]
        stamp = tuple((str(p), s.st_mtime_ns, s.st_size) for p, s in stats)
        if stamp == self._stamp:
            return
        self._files = {p.relative_to(self._folder).as_posix(): p for p in paths}
        self._packed = {}
        digest = hashlib.sha256()
        for name, path in self._files.items():
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        self.mark = digest.hexdigest()[:12]
        page = self._files.get("index.html")
        body = _BARE if page is None else marked(page.read_bytes(), self.mark)
        self._page = Packed(body, hashlib.sha256(body).hexdigest()[:16], _KINDS[".html"], 9)
        self.policy = policy(body)
        self._stamp = stamp


def marked(page: bytes, mark: str) -> bytes:
    """The page with the addresses of its files below the mark."""
    return re.sub(rb"([\"'])/static/", rb"\1/static/@" + mark.encode() + b"/", page)


def policy(page: bytes) -> bytes:
    """What a browser may load for a page: from this server, and what stands in the page itself, by its digest."""
    scripts, styles = "", ""
    for tag, attributes, text in _INLINE.findall(page):
        if re.search(rb"\bsrc\s*=", attributes):
            continue
        source = f" 'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
        if tag.lower() == b"style":
            styles += source
        else:
            scripts += source
    return _POLICY.format(scripts=scripts, styles=styles).encode()


def routes(state: State, site: Site | None = None) -> list[Route]:
    """What answers the addresses of pages and their files.

    Args:
        state: The server.
        site: The files; those of the package when None.
    """
    files = site or Site()

    async def static(request: Request) -> Response:
        return await _static(state, files, request)

    async def page(request: Request) -> Response:
        return await _shown(state, files, request)

    return [Route("/static/{path:path}", static), Route("/{path:path}", page)]


async def _static(state: State, site: Site, request: Request) -> Response:
    call = _call(state, request)
    name: str = request.path_params["path"]
    mark = ""
    if name.startswith("@"):
        mark, _, name = name[1:].partition("/")
    packed = await aside(state.pools.looking, lambda: site.file(name))
    if packed is None:
        return _response(problem(Refused(404, "HTTP", "There is no such file here. Load the page again.")))
    headers: Headers = [_ALWAYS] if mark and mark == site.mark else [(b"cache-control", b"public, no-cache")]
    return _response(sent(call, packed, headers))


async def _shown(state: State, site: Site, request: Request) -> Response:
    """The page, after a token in its address was put into a cookie."""
    call = _call(state, request)
    if "token=" in request.url.query:
        return _signed_in(state, request)
    packed = await aside(state.pools.looking, site.page)
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    parts = raw.decode("latin-1").split("/")[1:]
    status = 200 if await _there(state, call.who, parts) else 404
    return _response(sent(call, packed, [(b"content-security-policy", site.policy)], status))


def _signed_in(state: State, request: Request) -> Response:
    """Puts a token into a cookie and leads to the same address without it."""
    pairs = parse_qsl(request.url.query, keep_blank_values=True, max_num_fields=50)
    token = next((value for name, value in pairs if name == "token"), "")
    rest = urlencode([pair for pair in pairs if pair[0] != "token"])
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    # Two slashes, or what browsers take for some, would lead to another server.
    path = raw.decode("latin-1").lstrip("/").replace("\\", "%5C")
    headers: Headers = [(b"location", f"/{path}{'?' + rest if rest else ''}".encode())]
    fits = re.fullmatch(r"[A-Za-z0-9_-]{1,200}", token) is not None
    if fits and state.guests.asks:
        if state.guests.who(b"Bearer " + token.encode()) is None:
            client = request.client.host if request.client else ""
            if not state.failures.take(client):
                return _response(
                    problem(Refused(429, "HTTP", "Too many wrong tokens from this address. Wait.", retry=10))
                )
        else:
            name = cookie(request.headers.get("host", "").encode()).decode()
            safe = "; Secure" if request.url.scheme == "https" else ""
            value = f"{name}={token}; Path=/; HttpOnly; SameSite=Strict{safe}"
            headers.append((b"set-cookie", value.encode()))
    return _response(Reply(303, b"", headers))


async def _there(state: State, who: Who, parts: list[str]) -> bool:
    """Whether there is a page at an address, as far as the caller may know."""
    if parts in ([""], ["compare"], ["methods"]):
        return True
    if parts[0] != "s" or len(parts) < 2:
        return False
    fits = (
        len(parts) == 2
        or (len(parts) == 3 and parts[2] in PAGES)
        or (len(parts) == 4 and parts[2] == "trial" and re.fullmatch(r"[0-9]{1,18}", parts[3]) is not None)
    )
    if not fits:
        return False
    if who is state.guests.nobody:
        # Who has not signed in yet learns nothing about what there is.
        return True
    try:
        info = await state.shelf.info(unquote(parts[1], errors="strict"), who)
    except (StudyMissing, UnicodeDecodeError):
        return False
    if len(parts) < 4:
        return True
    held = state.board.held(info)

    def begun() -> int:
        with held.lock:
            return held.sync().n

    return int(parts[3]) < await aside(state.pools.looking, begun)


def _call(state: State, request: Request) -> Call:
    headers = request.headers
    authorization = headers.get("authorization", "").encode() or carried(
        headers.get("cookie", "").encode("latin-1"), headers.get("host", "").encode("latin-1")
    )
    who = state.guests.who(authorization)
    return Call(state, who or state.guests.nobody, dict(request.scope), _nothing, "", "")


async def _nothing() -> Any:
    raise AssertionError("a page has no body to read")


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status)
    for name, value in reply.headers:
        if name == b"set-cookie":
            response.headers.append(name.decode(), value.decode())
        else:
            response.headers[name.decode()] = value.decode("latin-1")
    given = {name for name, _ in reply.headers}
    for name, value in SECURITY:
        if name not in given:
            response.headers[name.decode()] = value.decode()
    return response
