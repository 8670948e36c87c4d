"""A server on loopback that hands out files, breaks off where a test asks for it, and notes what it was asked for."""

import contextlib
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from l2t_ray.published import Published


class Files(ThreadingHTTPServer):
    """A server of files by name that notes what it was asked for.

    Attributes:
        files: content by path.
        asked: path and range of every request.
        breaks: bytes after which the next answers break off, one each.
        has_ranges: whether it knows ranges.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.breaks, self.has_ranges = {}, [], [], True

    def put(self, name, content, what="a file", algorithm="sha256"):
        self.files[f"/{name}"] = content
        digest = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
        address = f"http://127.0.0.1:{self.server_address[1]}/{name}"
        return Published(what, address, len(content), digest, "free")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.has_ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        most = server.breaks.pop(0) if server.breaks else len(content)
        self.wfile.write(content[start : start + most])

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving():
    """A `Files` that answers while the block lasts."""
    with Files() as files:
        thread = threading.Thread(target=files.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield files
        files.shutdown()
        thread.join()
