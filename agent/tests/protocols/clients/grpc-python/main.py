"""gRPC with grpcio and plain bytes: `server ADDR`, or `client ADDR`, which makes one call of every kind."""

import sys
import time
from concurrent import futures

import grpc


def slow(request, context):
    time.sleep(0.5)
    return b"late"


def refuse(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")


def crash(request, context):
    context.abort(grpc.StatusCode.INTERNAL, "broken")


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(lambda request, context: request + b"!"),
    "Sum": grpc.stream_unary_rpc_method_handler(lambda requests, context: b"".join(requests)),
    "Split": grpc.unary_stream_rpc_method_handler(lambda request, context: (bytes([b]) for b in request)),
    "Chat": grpc.stream_stream_rpc_method_handler(lambda requests, context: (r + r for r in requests)),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    "Crash": grpc.unary_unary_rpc_method_handler(crash),
}


def serve(address):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", HANDLERS),))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def call(make, *arguments, **options):
    try:
        answer = make(*arguments, **options)
        return answer if isinstance(answer, bytes) else list(answer)
    except grpc.RpcError as error:
        return error.code().name


def main(address):
    with grpc.insecure_channel(address) as channel:
        unary = lambda name: channel.unary_unary(f"/test.Service/{name}")
        print(call(unary("Unary"), b"abc"))
        print(call(channel.stream_unary("/test.Service/Sum"), iter([b"a", b"bc", b""])))
        print(call(channel.unary_stream("/test.Service/Split"), b"xyz"))
        print(call(channel.stream_stream("/test.Service/Chat"), iter([b"a", b"b"])))
        print(call(unary("Refuse"), b""))
        print(call(unary("Crash"), b"x"))
        print(call(unary("Nothing"), b"x"))
        print(call(unary("Slow"), b"x", timeout=0.1))
        print(call(unary("Unary"), b"z" * 10000, compression=grpc.Compression.Gzip))


if __name__ == "__main__":
    {"server": serve, "client": main}[sys.argv[1]](sys.argv[2])
