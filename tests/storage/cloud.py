"""A server for a folder of this machine, in a process of its own, that speaks what is documented of
two interfaces: the JSON API of Google Cloud Storage, and the Hugging Face Hub.

It is no thread of the test: Arrow asks Google's storage while it holds the interpreter.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["COMMIT", "run_server"]

COMMIT: Final = "1" * 40
"""The one commit of every data set."""

_OBJECT: Final = re.compile(r"/(?:download/)?storage/v1/b/([^/]+)/o/(.+)")
_LISTING: Final = re.compile(r"/storage/v1/b/([^/]+)/o")
_INFO: Final = re.compile(r"/api/datasets/([^/]+/[^/]+)(?:/revision/[^/]+)?")
_TREE: Final = re.compile(r"/api/datasets/([^/]+/[^/]+)/tree/[^/]+/?(.*)")
_PATHS: Final = re.compile(r"/api/datasets/([^/]+/[^/]+)/paths-info/[^/]+")
_RESOLVE: Final = re.compile(rf"/datasets/([^/]+/[^/]+)/resolve/{COMMIT}/(.+)")
"""By the name of a branch nothing is sent: what that stands for may change while it is read."""


@contextmanager
def run_server(folder: Path) -> Iterator[str]:
    """Serve a folder, whose folders are buckets and, two deep, data sets; give the endpoint.

    In its file ``asked`` is a line for each piece of a file that was sent: its name and length.
    """
    command = [sys.executable, "-m", "tests.storage.cloud", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def serve(folder: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path, query = unquote(parts.path), parse_qs(parts.query)
            if found := _LISTING.fullmatch(path):
                self._list_objects(found[1], query)
            elif found := _OBJECT.fullmatch(path):
                place = folder / found[1] / found[2]
                if query.get("alt") == ["media"] or path.startswith("/download"):
                    self._send_file(place)
                elif place.is_file():
                    self._send_json(_object(folder / found[1], place))
                else:
                    self._send_json({"error": {"code": 404, "message": "No such object"}}, 404)
            elif found := _TREE.fullmatch(path):
                self._list_tree(folder / found[1], found[2], query)
            elif found := _INFO.fullmatch(path):
                self._send_data_set(found[1])
            elif found := _RESOLVE.fullmatch(path):
                self._send_file(folder / found[1] / found[2])
            else:  # an object by the older interface, as Arrow reads it
                self._send_file(folder / path.lstrip("/"))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            found = _PATHS.fullmatch(unquote(urlsplit(self.path).path))
            assert found is not None
            is_json = "json" in self.headers["Content-Type"]
            paths = json.loads(body)["paths"] if is_json else parse_qs(body)["paths"]
            home = folder / found[1]
            places = [home / path for path in paths]
            self._send_json([_entry(home, place) for place in places if place.exists()])

        def do_HEAD(self) -> None:
            self.do_GET()

        def _list_objects(self, bucket: str, query: dict[str, list[str]]) -> None:
            prefix, home = query.get("prefix", [""])[0], folder / bucket
            files = [path for path in sorted(home.rglob("*")) if path.is_file()]
            named = [(path.relative_to(home).as_posix(), path) for path in files]
            named = [(name, path) for name, path in named if name.startswith(prefix)]
            deeper = [name for name, _ in named if "/" in name[len(prefix) :]]
            answer: dict[str, Any] = {"kind": "storage#objects"}
            if "delimiter" in query:
                firsts = {prefix + name[len(prefix) :].partition("/")[0] + "/" for name in deeper}
                answer["prefixes"] = sorted(firsts)
                named = [(name, path) for name, path in named if name not in deeper]
            answer["items"] = [_object(home, path) for _, path in named]
            self._send_json(answer)

        def _list_tree(self, home: Path, below: str, query: dict[str, list[str]]) -> None:
            place = home / below
            if not place.is_dir():
                self._refuse("EntryNotFound")
                return
            is_deep = query.get("recursive", ["false"])[0].lower() == "true"
            found = sorted(place.rglob("*") if is_deep else place.iterdir())
            self._send_json([_entry(home, path) for path in found])

        def _send_data_set(self, name: str) -> None:
            if (folder / name).is_dir():
                self._send_json({"_id": name, "id": name, "sha": COMMIT, "siblings": []})
            else:
                self._refuse("RepoNotFound")

        def _refuse(self, code: str) -> None:
            self._send(404, b"", {"X-Error-Code": code, "X-Error-Message": code})

        def _send_json(self, value: Any, status: int = 200) -> None:
            self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send_file(self, place: Path) -> None:
            if not place.is_file():
                self._refuse("EntryNotFound")
                return
            data = place.read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            headers = {"ETag": f'"{_hash(data)}"', "X-Repo-Commit": COMMIT}
            whole = len(data)
            if asked:
                first, last = int(asked[1]), min(int(asked[2] or whole), whole - 1)
                data = data[first : last + 1]
                headers["Content-Range"] = f"bytes {first}-{last}/{whole}"
            if self.command == "GET":
                with (folder / "asked").open("a") as asked_for:
                    asked_for.write(f"{place.relative_to(folder)} {len(data)}\n")
            self._send(206 if asked else 200, data, headers)

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


def _hash(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _object(home: Path, place: Path) -> dict[str, Any]:
    """Return what Google's storage says of an object."""
    data = place.read_bytes()
    return {
        "kind": "storage#object",
        "name": place.relative_to(home).as_posix(),
        "bucket": home.name,
        "size": str(len(data)),
        "generation": str(int(_hash(data)[:12], 16)),
        "etag": _hash(data)[:12],
        "updated": datetime.fromtimestamp(place.stat().st_mtime, timezone.utc).isoformat(
            timespec="milliseconds"
        ),
        "timeCreated": "2026-01-02T03:04:05.678Z",
    }


def _entry(home: Path, place: Path) -> dict[str, Any]:
    """Return what the Hub says of a file or folder."""
    path = place.relative_to(home).as_posix()
    if place.is_dir():
        return {"type": "directory", "oid": "2" * 40, "size": 0, "path": path}
    data = place.read_bytes()
    return {"type": "file", "oid": _hash(data), "size": len(data), "path": path}


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
