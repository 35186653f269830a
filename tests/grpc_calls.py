"""Servers and clients of gRPC's own library, with the proxy between them.

    grpc_calls.py SCENARIO [CA CERT KEY]

Prints its servers' ports in a line, reads the proxy's address from standard input, and ends with 0 if all went well. With
certificates, servers and clients speak TLS.
"""

import hashlib
import sys
import threading
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

# For whatever should not take long.
PATIENCE = 20
SIZES = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]
# Otherwise all channels to one address share a connection.
OWN = [("grpc.use_local_subchannel_pool", 1)]
LARGE = bytes(range(256)) * (16 * 4096)


class Server:
    """A server with a name, whose calls do what their names say."""

    def __init__(self, name, port=0, identity=None, fails=False):
        self.name = name
        self.fails = fails
        self.cancelled = threading.Event()
        self.started = threading.Event()
        self.calls = 0
        self.metadata = {}
        self.server = grpc.server(futures.ThreadPoolExecutor(64), options=SIZES + [("grpc.so_reuseport", 0)])
        kinds = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "Spread": grpc.unary_stream_rpc_method_handler(self.spread),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(self.fail_late),
            "Stall": grpc.unary_unary_rpc_method_handler(self.stall),
            "Remaining": grpc.unary_unary_rpc_method_handler(self.remaining),
            "Name": grpc.unary_unary_rpc_method_handler(self.tell_name),
        }
        handler = grpc.method_handlers_generic_handler("test.Calls", kinds)
        self.server.add_generic_rpc_handlers((handler,))
        self.health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        address = f"127.0.0.1:{port}"
        if identity:
            ca, cert, key = identity
            credentials = grpc.ssl_server_credentials([(key, cert)])
            self.port = self.server.add_secure_port(address, credentials)
        else:
            self.port = self.server.add_insecure_port(address)
        self.server.start()

    def echo(self, request, context):
        self.metadata = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-early", self.metadata.get("x-sent", "")), ("x-early-bin", b"\x00\xff")))
        context.set_trailing_metadata((("x-late-bin", b"\xfe\x01"),))
        return request

    def collect(self, requests, context):
        digest, count = hashlib.sha256(), 0
        for request in requests:
            digest.update(request)
            count += 1
        return f"{count} {digest.hexdigest()}".encode()

    def spread(self, request, context):
        count, size = map(int, request.split())
        for number in range(count):
            yield bytes([number % 256]) * size

    def chat(self, requests, context):
        for request in requests:
            yield request

    def fail(self, request, context):
        code, message = request.decode().split(" ", 1)
        context.set_trailing_metadata((("x-why", "said"),))
        context.abort(grpc.StatusCode[code], message)

    def fail_late(self, request, context):
        yield b"first"
        context.abort(grpc.StatusCode.DATA_LOSS, "afterwards")

    def stall(self, request, context):
        context.add_callback(self.cancelled.set)
        self.started.set()
        self.cancelled.wait(PATIENCE)
        return b""

    def remaining(self, request, context):
        return str(context.time_remaining()).encode()

    def tell_name(self, request, context):
        self.calls += 1
        if self.fails:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return self.name.encode()

    def stop(self, grace=None):
        return self.server.stop(grace)


class Client:
    """The calls of a server at an address."""

    def __init__(self, address, identity=None):
        options = SIZES + OWN
        if identity:
            credentials = grpc.ssl_channel_credentials(identity[0])
            self.channel = grpc.secure_channel(address, credentials, options)
        else:
            self.channel = grpc.insecure_channel(address, options)

    def __getattr__(self, name):
        path = f"/test.Calls/{name}"
        kind = {"Collect": "stream_unary", "Spread": "unary_stream", "Chat": "stream_stream", "FailLate": "unary_stream"}
        return getattr(self.channel, kind.get(name, "unary_unary"))(path)

    def name(self):
        return self.Name(b"", timeout=PATIENCE).decode()


def failure(call, *arguments, timeout=PATIENCE, **more):
    """The error that a call ends with."""
    try:
        answer = call(*arguments, timeout=timeout, **more)
        if not isinstance(answer, bytes):
            list(answer)
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def eventually(claim):
    end = time.monotonic() + PATIENCE
    while not claim():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def calls(server, client):
    """Every kind of call, with what goes before and behind its messages."""
    sent = (("x-sent", "a value"), ("x-sent-bin", b"\x00\x01\xff"))
    answer, call = client.Echo.with_call(b"hello", metadata=sent, timeout=PATIENCE)
    assert answer == b"hello", answer
    assert server.metadata["x-sent"] == "a value" and server.metadata["x-sent-bin"] == b"\x00\x01\xff", server.metadata
    early, late = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert (early["x-early"], early["x-early-bin"]) == ("a value", b"\x00\xff"), early
    assert late["x-late-bin"] == b"\xfe\x01", late
    assert client.Echo(b"", timeout=PATIENCE) == b""

    # The library asks for an end of compression that it undoes itself.
    assert client.Echo(b"x" * 100_000, compression=grpc.Compression.Gzip, timeout=PATIENCE) == b"x" * 100_000

    parts = [bytes([n]) * (n * 1000) for n in range(100)]
    collected = client.Collect(iter(parts), timeout=PATIENCE)
    assert collected == f"100 {hashlib.sha256(b''.join(parts)).hexdigest()}".encode(), collected
    assert client.Collect(iter([]), timeout=PATIENCE).startswith(b"0 ")

    spread = list(client.Spread(b"1000 1000", timeout=PATIENCE))
    assert spread == [bytes([n % 256]) * 1000 for n in range(1000)]
    assert list(client.Spread(b"0 0", timeout=PATIENCE)) == []

    # Each is answered before the next is sent.
    answered = threading.Semaphore(1)

    def talk():
        for n in range(200):
            assert answered.acquire(timeout=PATIENCE)
            yield str(n).encode() * 100

    count = 0
    for answer in client.Chat(talk(), timeout=PATIENCE):
        assert answer == str(count).encode() * 100
        count += 1
        answered.release()
    assert count == 200, count


def large(server, client):
    """Messages far longer than any window, alone and many at a time."""
    assert len(LARGE) == 16 << 20
    assert client.Echo(LARGE, timeout=3 * PATIENCE) == LARGE
    parts = [LARGE[:1 << 20]] * 16
    assert list(client.Chat(iter(parts), timeout=3 * PATIENCE)) == parts
    with futures.ThreadPoolExecutor(16) as pool:
        messages = [bytes([n]) * (n * 20_000) for n in range(64)]
        answers = pool.map(lambda message: client.Echo(message, timeout=3 * PATIENCE), messages)
        assert list(answers) == messages


def outcomes(server, client):
    """What a server says of a call's end is what its client hears."""
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            error = failure(client.Fail, f"{code.name} 100% – of {code.name}".encode())
            assert error.code() is code, error
            assert error.details() == f"100% – of {code.name}", error.details()
            assert dict(error.trailing_metadata())["x-why"] == "said"
    answers = client.FailLate(b"", timeout=PATIENCE)
    assert next(answers) == b"first"
    error = failure(lambda timeout: answers)
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "afterwards"), error
    assert failure(client.channel.unary_unary("/test.Calls/None"), b"").code() is grpc.StatusCode.UNIMPLEMENTED


def deadline(server, client):
    """A client's deadline reaches the server, and a call that outlasts it ends everywhere."""
    remaining = float(client.Remaining(b"", timeout=100))
    assert 50 < remaining <= 100, remaining
    error = failure(client.Stall, b"", timeout=0.3)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert server.cancelled.wait(PATIENCE)


def route_timeout(server, client):
    """The proxy's own deadline is told as one."""
    error = failure(client.Stall, b"")
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert error.details() == "Gateway Timeout", error.details()
    assert server.cancelled.wait(PATIENCE)
    assert client.Echo(b"and on", timeout=PATIENCE) == b"and on"


def cancellation(server, client):
    """A call that its client gives up is over for the server, and for nobody else."""
    chat = client.Chat(iter(lambda: threading.Event().wait(0.01) or b"again", None), timeout=PATIENCE)
    assert next(chat) == b"again"
    call = client.Stall.future(b"", timeout=PATIENCE)
    assert server.started.wait(PATIENCE)
    call.cancel()
    assert server.cancelled.wait(PATIENCE)
    assert next(chat) == b"again"
    chat.cancel()
    assert client.Echo(b"and on", timeout=PATIENCE) == b"and on"


def refused(server, client):
    """A server that is not there is UNAVAILABLE, and a route that is not there UNIMPLEMENTED."""
    error = failure(client.Echo, b"")
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "Bad Gateway"), error
    for call, sent in [(client.Collect, iter([b"a", b"b"])), (client.Echo, LARGE), (client.Chat, iter([LARGE] * 4))]:
        error = failure(call, sent)
        assert error.code() is grpc.StatusCode.UNAVAILABLE, error
    error = failure(client.channel.unary_unary("/nowhere/at/all"), b"")
    assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Not Found"), error


def retry(servers, client):
    """A call that a server ends as UNAVAILABLE is answered by another."""
    bad, good = servers
    for _ in range(10):
        assert client.name() == good.name
    assert bad.calls > 0


def checked(servers, client):
    """A server that says it does not serve gets no calls until it does again."""
    first, second = servers

    def names():
        return {client.name() for _ in range(10)}

    eventually(lambda: names() == {"0", "1"})
    first.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    eventually(lambda: names() == {"1"})
    assert names() == {"1"}
    first.health.set("", health_pb2.HealthCheckResponse.SERVING)
    eventually(lambda: names() == {"0", "1"})


def restart(server, client):
    """A server that goes away lets calls finish, and is found again when it is back."""
    gate = threading.Semaphore(1)

    def talk():
        for n in range(3):
            assert gate.acquire(timeout=PATIENCE)
            yield str(n).encode()

    chat = client.Chat(talk(), timeout=PATIENCE)
    assert next(chat) == b"0"
    stopped = server.stop(PATIENCE)
    for n in (b"1", b"2"):
        gate.release()
        assert next(chat) == n
    assert list(chat) == []
    assert stopped.wait(PATIENCE)
    error = failure(client.Echo, b"")
    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
    again = Server("again", server.port)
    eventually(lambda: attempt(client) == "again")
    for _ in range(20):
        assert client.name() == "again"

    # Under calls of which each may find the connection just closed.
    failed = []
    over = threading.Event()

    def ask():
        while not over.is_set():
            try:
                client.name()
            except grpc.RpcError as error:
                failed.append(error.code())

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    again.stop(PATIENCE).wait(PATIENCE)
    once_more = Server("once more", server.port)
    eventually(lambda: attempt(client) == "once more")
    over.set()
    for thread in asking:
        thread.join(PATIENCE)
    # While nobody listened. A server that stops says CANCELLED itself to what it has not begun.
    assert set(failed) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}, failed
    once_more.stop()


def attempt(client):
    try:
        return client.name()
    except grpc.RpcError:
        return None


# What each needs: how many servers, and whether the first fails.
SCENARIOS = {
    "calls": (calls, 1),
    "large": (large, 1),
    "outcomes": (outcomes, 1),
    "deadline": (deadline, 1),
    "route_timeout": (route_timeout, 1),
    "cancellation": (cancellation, 1),
    "refused": (refused, 1),
    "retry": (retry, 2),
    "checked": (checked, 2),
    "restart": (restart, 1),
}


def main():
    name, *files = sys.argv[1:]
    identity = [open(file, "rb").read() for file in files] or None
    scenario, count = SCENARIOS[name]
    servers = [Server(str(n), 0, identity, fails=name == "retry" and n == 0) for n in range(count)]
    print(*(server.port for server in servers), flush=True)
    client = Client(sys.stdin.readline().strip(), identity)
    scenario(servers if count > 1 else servers[0], client)
    client.channel.close()
    for server in servers:
        server.stop()


main()
