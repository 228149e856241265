"""A real HTTP server on this machine that serves a folder, with ranges, and misbehaves where it is told to."""

import contextlib
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class LocalServer:
    """Serves `folder`; `requests` is what was asked for, as (path, Range header)."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.ranges = True  # whether parts of a file can be asked for
        self.cut: dict[str, list[int]] = {}  # path -> after how many bytes each connection ends, in turn
        self.codes: dict[str, list[int]] = {}  # path -> what it answers at first
        self.content: dict[str, bytes] = {}  # path (with the query) -> what it answers instead of a file
        self.links: dict[str, str] = {}  # path (with the query) -> Link header
        self.lengths = True  # whether it tells how long a file is
        self.requests: list[tuple[str, str]] = []

    @property
    def asked(self) -> Counter:
        """How often each path was asked for."""
        return Counter(path for path, _ in self.requests)

    @contextlib.contextmanager
    def running(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def do_HEAD(self):
                owner.answer(self)

            def log_message(self, *_):
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path).lstrip("/")
        self.requests.append((path, request.headers.get("Range", "")))
        file = self.folder / path
        codes = self.codes.get(path, [])
        code = codes.pop(0) if codes else 200
        full = unquote(request.path).lstrip("/")
        body = self.content.get(full) or (file.read_bytes() if file.is_file() else None)
        if body is None or code != 200:
            request.send_error(code if code != 200 else 404)
            return
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if wanted and self.ranges:
            start = int(wanted[1])
            if start >= len(body):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(body)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(200)
        if self.lengths:
            request.send_header("Content-Length", str(len(body) - start))
        if full in self.links:
            request.send_header("Link", self.links[full])
        request.end_headers()
        if request.command == "HEAD":
            return
        cuts = self.cut.get(path, [])
        end = start + cuts.pop(0) if cuts else len(body)
        with contextlib.suppress(ConnectionError):
            request.wfile.write(body[start:end])
        request.close_connection = True
