"""A file server on 127.0.0.1 with range requests, whose failures can be ordered.

    python server.py FOLDER

prints its port. It runs in a process of its own, as a server does: GDAL may ask while it holds the
lock of the interpreter. POST /control with JSON sets `failures` (path to number of coming answers
that fail with 503) and `drops` (whose connection is closed without an answer), and clears the log;
GET /control returns the log of requests. GET or POST /search answers as a STAC API does, from the
file search.json.
"""

import json
import re
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOCK = threading.Lock()
IDLE = {"failures": {}, "drops": {}, "log": []}
STATE = {"failures": {}, "drops": {}, "log": []}


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer_file()

    def do_GET(self):
        if self.path == "/control":
            with LOCK:
                self.reply(200, json.dumps(STATE["log"]).encode())
        elif self.path.startswith("/search"):
            self.search({})
        else:
            self.answer_file()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if self.path == "/control":
            with LOCK:
                STATE.update(json.loads(json.dumps(IDLE)) | body)
            self.reply(200, b"{}")
        else:
            self.search(body)

    def search(self, body):
        with LOCK:
            STATE["log"].append(["SEARCH", self.path, body])
        self.reply(200, (Path(self.directory) / "search.json").read_bytes())

    def answer_file(self):
        asked = self.headers.get("Range")
        with LOCK:
            STATE["log"].append([self.command, self.path, asked])
            fails, drops = self.is_due("failures"), self.is_due("drops")
        if drops:
            self.close_connection = True
            return
        if fails:
            self.reply(503, b"")
            return
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.reply(404, b"")
            return
        content = path.read_bytes()
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        if span is None:
            self.reply(200, content)
            return
        first = int(span[1])
        last = min(int(span[2] or len(content)), len(content) - 1)
        if first > last:
            self.reply(416, b"")
            return
        where = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        self.reply(206, content[first : last + 1], where)

    def is_due(self, kind):
        """Say whether this path fails now, and count it down."""
        left = STATE[kind].get(self.path, 0)
        STATE[kind][self.path] = max(0, left - 1)
        return left > 0

    def reply(self, status, content, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=sys.argv[1]))
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
