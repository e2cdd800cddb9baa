"""Test target: an ASGI application on uvicorn, one event loop, asynchronous outbound calls, no instrumentation.

Usage: app.py PORT (or PORT in the environment; 0 picks a free one). Endpoints: see ../README.md.
"""

import asyncio
import os
import socket
import sys
import time
from urllib.parse import parse_qs, urlsplit

import uvicorn


async def application(scope, receive, send):
    assert scope["type"] == "http"
    query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
    parts = scope["path"].lstrip("/").split("/")
    argument = parts[1] if len(parts) > 1 else ""
    number = lambda key, fallback: int(query.get(key, fallback))
    match parts[0]:
        case "":
            await reply(send, 200, b"hello\n")
        case "hello":
            await reply(send, 200, b"hello %s\n" % argument.encode())
        case "users":
            await reply(send, 200, b'{"id":"%s"}\n' % argument.encode())
        case "work":
            end = time.perf_counter() + number("us", 100) / 1e6
            while time.perf_counter() < end:
                pass
            await reply(send, 200, b"worked\n")
        case "echo":
            body = await read(receive)
            if body is not None:
                await reply(send, 200, body)
        case "status":
            code = int(argument)
            await reply(send, code, b"" if code in (204, 304) else b"status %d\n" % code)
        case "chunked":
            await pieces(send, number("n", 4), b"x" * 1024, 0)
        case "sse":
            await pieces(send, number("n", 5), b"data: tick\n\n", 0.002)
        case "big":
            size = number("mb", 1)
            await pieces(send, size * 16, bytes(65536), 0, size << 20)
        case "call":
            await reply(send, 200, b"called %d\n" % await call(query["url"]))
        case "slow":
            await asyncio.sleep(number("ms", 10) / 1000)
            await reply(send, 200, b"slept\n")
        case _:
            await reply(send, 404, b"not found\n")


async def read(receive):
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def reply(send, code, body):
    headers = [] if code in (204, 304) else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def pieces(send, n, piece, pause, size=None):
    headers = [] if size is None else [(b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(n):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        if pause:
            await asyncio.sleep(pause)
    await send({"type": "http.response.body", "body": b""})


async def call(url):
    """A GET over asyncio streams: no client library needed."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
    head = await reader.readline()
    await reader.read(-1)
    writer.close()
    return int(head.split()[1])


def main():
    port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PORT", 0))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    options = {"log_level": "error", "access_log": False, "lifespan": "off", "http": "h11", "loop": "asyncio"}
    config = uvicorn.Config(application, h11_max_incomplete_event_size=1 << 17, **options)
    uvicorn.Server(config).run(sockets=[listener])


main()
