"""The pages at / and /docs and their files; browsers load nothing from other servers."""

from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
FILES = {
    "/": ("resdet.serve", "static/page.html"),
    "/docs": ("resdet.serve", "static/docs.html"),
    "/static/base.css": ("resdet.results", "base.css"),
    **{
        f"/static/{name}": ("resdet.serve", f"static/{name}")
        for name in ("page.css", "page.js", "request.js", "draw.js", "rle.js", "video.js", "download.js", "docs.js")
    },
}


def routes() -> list[BaseRoute]:
    return [Route(path, serve_file(*place)) for path, place in FILES.items()]


def serve_file(package: str, name: str) -> Callable[[Request], Awaitable[Response]]:
    content = files(package).joinpath(name).read_bytes()
    media_type = TYPES[name.rpartition(".")[2]]

    async def serve(request: Request) -> Response:
        return Response(content, media_type=media_type, headers=HEADERS)

    return serve
