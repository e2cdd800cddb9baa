"""Ground-truth client: a line of JSON on stdin is one request, a line on stdout is what came of it.

Eight threads, each with a kept-alive http.client connection of its own.
"""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

local = threading.local()
printing = threading.Lock()


def fetch(plan):
    url = urlsplit(plan["url"])
    connections = local.__dict__.setdefault("connections", {})
    connection = connections.get(url.netloc)
    if connection is None:
        connection = connections[url.netloc] = HTTPConnection(url.netloc, timeout=10)
        connection.connect()
    port = connection.sock.getsockname()[1]
    target = url.path + (f"?{url.query}" if url.query else "")
    body = b"b" * plan["body"] if plan["body"] else None
    connection.request(plan["method"], target, body, plan["headers"])
    response = connection.getresponse()
    received = len(response.read())
    if connection.sock is None:
        del connections[url.netloc]
    answer = {"id": plan["id"], "status": response.status, "received": received, "local_port": port}
    with printing:
        print(json.dumps(answer), flush=True)


with ThreadPoolExecutor(8) as pool:
    for line in sys.stdin:
        pool.submit(fetch, json.loads(line)).add_done_callback(lambda done: done.result())
