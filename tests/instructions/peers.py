"""An origin, and clients that ask one request after the other.

Each of them waits a little before it sends. So the proxy has always gone to sleep by the time something comes, and takes
the same way through its event loop for every request, however busy the machine is.
"""

import socket
import ssl
import struct
import threading
import time

# Longer than the proxy needs under valgrind from a write to the next wait.
PAUSE = 0.002
# For whatever should not take long, under valgrind.
PATIENCE = 120

FIELDS = [
    ("host", "shop.test"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "application/json, text/plain, */*"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("cookie", "session=8f2c1d0a9b7e; theme=dark"),
]
PATH = "/api/items/42?page=2"


class Origin:
    """Three servers that answer every GET with the same body."""

    def __init__(self, length):
        head = (
            "HTTP/1.1 200 OK\r\nserver: origin\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-type: text/plain\r\n"
            f"content-length: {length}\r\n\r\n"
        )
        self.answer = head.encode() + b"x" * length
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        self.addresses = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
        for listener in listeners:
            threading.Thread(target=self.accept, args=[listener], daemon=True).start()

    def accept(self, listener):
        while True:
            threading.Thread(target=self.serve, args=[listener.accept()[0]], daemon=True).start()

    def serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
                while b"\r\n\r\n" in received:
                    received = received.partition(b"\r\n\r\n")[2]
                    time.sleep(PAUSE)
                    connection.sendall(self.answer)
        except ConnectionError:
            pass


class Client:
    """One connection, for HTTP/1.1."""

    def __init__(self, port, secure=False):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        self.received = b""
        fields = "".join(f"{name}: {value}\r\n" for name, value in FIELDS)
        self.request = f"GET {PATH} HTTP/1.1\r\n{fields}\r\n".encode()

    def ask(self, times):
        for _ in range(times):
            time.sleep(PAUSE)
            self.socket.sendall(self.request)
            self.read_answer()

    def read_answer(self):
        while b"\r\n\r\n" not in self.received:
            self.receive()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(f"the proxy answered {head.splitlines()[0]}")
        fields = dict(line.lower().split(b": ", 1) for line in head.splitlines()[1:])
        length = int(fields[b"content-length"])
        while len(self.received) < length:
            self.receive()
        self.received = self.received[length:]

    def receive(self):
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the proxy closed the connection")
        self.received += piece


class Http2Client(Client):
    """One connection, for HTTP/2 without TLS. It says all it says of fields in literals, and reads none."""

    DATA, HEADERS, RESET, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
    ACK = END_STREAM = 1
    END_HEADERS = 4
    LARGEST_WINDOW = (1 << 31) - 1

    def __init__(self, port):
        super().__init__(port)
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "shop.test"), (":path", PATH), *FIELDS[1:]]
        # RFC 7541 section 6.2.2; no text here is longer than 126 bytes.
        self.request = b"".join(b"\0%c%b%c%b" % (len(n), n.encode(), len(v), v.encode()) for n, v in fields)
        self.stream = 1
        # A window that lasts, so that there is nothing but requests and answers later.
        window = struct.pack(">I", self.LARGEST_WINDOW - 65535)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self.socket.sendall(preface + frame(self.SETTINGS, 0, 0, b"") + frame(self.WINDOW_UPDATE, 0, 0, window))

    def ask(self, times):
        for _ in range(times):
            time.sleep(PAUSE)
            self.socket.sendall(frame(self.HEADERS, self.END_HEADERS | self.END_STREAM, self.stream, self.request))
            self.read_answer()
            self.stream += 2

    def read_answer(self):
        while True:
            kind, flags, stream = self.read_frame()
            if kind == self.SETTINGS and not flags & self.ACK:
                self.socket.sendall(frame(self.SETTINGS, self.ACK, 0, b""))
            if kind in (self.RESET, self.GOAWAY):
                raise ConnectionError("the proxy gave the stream up")
            if stream == self.stream and kind in (self.DATA, self.HEADERS) and flags & self.END_STREAM:
                return

    def read_frame(self):
        while len(self.received) < 9:
            self.receive()
        length, kind, flags, stream = self.received[:3], *struct.unpack(">BBI", self.received[3:9])
        end = 9 + int.from_bytes(length, "big")
        while len(self.received) < end:
            self.receive()
        self.received = self.received[end:]
        return kind, flags, stream


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload
