"""A small web server on this machine, which counts what it is asked and can misbehave."""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Web", "serve"]

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Web:
    """What is served by path: bytes, a status, or the URL that a path redirects to.

    ``asked`` are the paths of all requests, ``sent`` how many bytes of bodies went out. Without
    ``wholes`` a range does not say of how many bytes it is.
    """

    port: int = 0
    files: dict[str, bytes | int | str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    ranges: bool = True
    sizes: bool = True
    wholes: bool = True
    drip: float = 0.0
    cut: int = 0
    failures: int = 0
    etag: str = '"1"'

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@contextmanager
def serve(context: ssl.SSLContext | None = None) -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            web.asked.append(self.path)
            found = web.files.get(self.path, 404)
            if web.failures:
                web.failures -= 1
                found = 503
            if isinstance(found, int):
                self.send_error(found)
                return
            if isinstance(found, str):
                self.send_response(302)
                self.send_header("Location", found)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self._send(found)

        def _send(self, data: bytes) -> None:
            asked = _RANGE.fullmatch(self.headers.get("Range", "")) if web.ranges else None
            if asked:
                first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
                self.send_response(206)
                whole = len(data) if web.wholes else "*"
                self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
                data = data[first : last + 1]
            else:
                self.send_response(200)
            self.send_header("ETag", web.etag)
            if web.sizes:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if web.cut:
                web.cut -= 1
                data = data[: len(data) // 2]
            try:
                for start in range(0, len(data), 1 if web.drip else max(1, len(data))):
                    piece = data[start : start + 1] if web.drip else data
                    self.wfile.write(piece)
                    web.sent += len(piece)
                    time.sleep(web.drip)
            except OSError:
                pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    web.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
