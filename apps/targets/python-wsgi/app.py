"""Test target: Flask on Werkzeug's threaded server, blocking outbound calls, no instrumentation.

Usage: app.py PORT (or PORT in the environment; 0 picks a free one). Endpoints: see ../README.md.
`application` is plain WSGI, so that gunicorn and others can serve it too.
"""

import logging
import os
import sys
import time
import urllib.error
import urllib.request

from flask import Flask, Response, request
from werkzeug.serving import WSGIRequestHandler, make_server

application = Flask(__name__)


@application.route("/")
def root():
    return text("hello\n")


@application.route("/hello/<name>")
def hello(name):
    return text(f"hello {name}\n")


@application.route("/users/<user>")
def users(user):
    return text(f'{{"id":"{user}"}}\n')


@application.route("/work")
@application.route("/work/<tag>")
def work(tag=""):
    end = time.perf_counter() + number("us", 100) / 1e6
    while time.perf_counter() < end:
        pass
    return text("worked\n")


@application.route("/echo", methods=["POST", "PUT"])
@application.route("/echo/<tag>", methods=["POST", "PUT"])
def echo(tag=""):
    return text(request.get_data())


@application.route("/status/<int:code>")
@application.route("/status/<int:code>/<tag>")
def status(code, tag=""):
    return text("" if code in (204, 304) else f"status {code}\n", code)


@application.route("/chunked")
@application.route("/chunked/<tag>")
def chunked(tag=""):
    return Response(pieces(number("n", 4), b"x" * 1024, 0))


@application.route("/sse")
@application.route("/sse/<tag>")
def sse(tag=""):
    return Response(pieces(number("n", 5), b"data: tick\n\n", 0.002), mimetype="text/event-stream")


@application.route("/big")
@application.route("/big/<tag>")
def big(tag=""):
    size = number("mb", 1)
    return Response(pieces(size * 16, bytes(65536), 0), headers={"Content-Length": str(size << 20)})


@application.route("/call")
@application.route("/call/<tag>")
def call(tag=""):
    try:
        with urllib.request.urlopen(request.args["url"]) as response:
            response.read()
            return text(f"called {response.status}\n")
    except urllib.error.HTTPError as error:
        return text(f"called {error.code}\n")


@application.route("/slow")
@application.route("/slow/<tag>")
def slow(tag=""):
    time.sleep(number("ms", 10) / 1000)
    return text("slept\n")


def number(key, fallback):
    return int(request.args.get(key, fallback))


def text(body, code=200):
    return Response(body, status=code, mimetype="text/plain")


def pieces(n, piece, pause):
    for _ in range(n):
        yield piece
        time.sleep(pause)


class KeepAlive(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PORT", 0))
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=KeepAlive)
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
