"""Test target: http.server from the standard library, one thread a connection, no instrumentation.

Usage: server.py PORT (or PORT in the environment; 0 picks a free one). Endpoints: see ../README.md.
"""

import os
import sys
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Target(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        pass

    def route(self):
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        parts = url.path.lstrip("/").split("/")
        argument = parts[1] if len(parts) > 1 else ""
        number = lambda key, fallback: int(query.get(key, fallback))
        match parts[0]:
            case "":
                self.text("hello\n")
            case "hello":
                self.text(f"hello {argument}\n")
            case "users":
                self.text(f'{{"id":"{argument}"}}\n')
            case "work":
                work(number("us", 100))
                self.text("worked\n")
            case "echo":
                self.reply(200, self.body())
            case "status":
                code = int(argument)
                self.reply(code, b"" if code in (204, 304) else b"status %d\n" % code)
            case "chunked":
                self.pieces(number("n", 4), b"x" * 1024, 0)
            case "sse":
                self.pieces(number("n", 5), b"data: tick\n\n", 0.002)
            case "big":
                self.big(number("mb", 1) << 20)
            case "call":
                try:
                    with urllib.request.urlopen(query["url"]) as response:
                        response.read()
                        self.text(f"called {response.status}\n")
                except urllib.error.HTTPError as error:
                    self.text(f"called {error.code}\n")
            case "slow":
                time.sleep(number("ms", 10) / 1000)
                self.text("slept\n")
            case _:
                self.reply(404, b"not found\n")

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = route

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def text(self, body):
        self.reply(200, body.encode())

    def reply(self, code, body):
        self.send_response(code)
        if code not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def pieces(self, n, piece, pause):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(n):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(pause)
        self.wfile.write(b"0\r\n\r\n")

    def big(self, size):
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        block = bytes(65536)
        while size:
            size -= self.wfile.write(block[:size])


def work(us):
    end = time.perf_counter() + us / 1e6
    while time.perf_counter() < end:
        pass


def main():
    port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PORT", 0))
    server = ThreadingHTTPServer(("127.0.0.1", port), Target)
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


main()
