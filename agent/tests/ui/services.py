"""A service of the scene: a thread for each connection, so that the parent of what it asks is certain.

`services.py [ADDRESS]`: prints where it listens; `/relay` asks the service at ADDRESS. Raw sockets, so that nothing but
what is meant goes over the wire.
"""

import socket
import sys
import threading
import time


def get(address, path):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as peer:
        peer.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        while peer.recv(4096):
            pass


def serve(stream, relay):
    head = b""
    while True:
        while not head.endswith(b"\r\n\r\n"):
            part = stream.recv(4096)
            if not part:
                return
            head += part
        path = head.split(b" ")[1].decode("latin-1")
        status = "200 OK"
        if path == "/fail":
            status = "500 Internal Server Error"
        elif path == "/relay" and relay:
            get(relay, "/ok")
        elif path == "/slow":
            time.sleep(0.06)
        stream.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode())
        if b"connection: close" in head.lower():
            stream.close()
            return
        head = b""


listener = socket.create_server(("127.0.0.1", 0), backlog=64)
print("%s:%d" % listener.getsockname(), flush=True)
while True:
    accepted, _ = listener.accept()
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=serve, args=(accepted, (sys.argv + [None])[1]), daemon=True).start()
