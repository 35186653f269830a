"""Asks a proxy by HTTP/3 with the library aioquic, which has nothing in common with what the proxy is made of.

Arguments: the port of the proxy and the file of the authority to trust. The origin behind it answers with the body of
the request and with its method in the field x-method.
"""

import asyncio
import sys
from urllib.parse import urlparse

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset


class Client(QuicConnectionProtocol):
    """A connection with the requests on it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers = {}

    def begin(self, method, path, fields=()):
        """Sends a head, and answers on which stream."""
        stream = self._quic.get_next_available_stream_id()
        head = [(b":method", method), (b":scheme", b"https"), (b":authority", AUTHORITY), (b":path", path)]
        self.http.send_headers(stream, head + list(fields), end_stream=False)
        self.answers[stream] = ([], bytearray(), asyncio.get_running_loop().create_future())
        return stream

    def send(self, stream, data, ends):
        self.http.send_data(stream, data, end_stream=ends)
        self.transmit()

    async def answer(self, stream):
        """The heads, the last of which may be trailers, and the body."""
        heads, body, ended = self.answers[stream]
        await asyncio.wait_for(ended, 10)
        return [dict(head) for head in heads], bytes(body)

    async def ask(self, method, path, body=b"", fields=()):
        stream = self.begin(method, path, fields)
        self.send(stream, body, True)
        return await self.answer(stream)

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            for _, _, ended in self.answers.values():
                if not ended.done():
                    ended.set_exception(ConnectionError(f"{event.error_code:#x} {event.reason_phrase}"))
        if isinstance(event, StreamReset) and event.stream_id in self.answers:
            self.answers[event.stream_id][2].set_exception(ConnectionError(f"reset with {event.error_code:#x}"))
        for happened in self.http.handle_event(event):
            heads, body, ended = self.answers[happened.stream_id]
            if isinstance(happened, HeadersReceived):
                heads.append(happened.headers)
            elif isinstance(happened, DataReceived):
                body.extend(happened.data)
            if happened.stream_ended and not ended.done():
                ended.set_result(None)


async def main():
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN)
    configuration.load_verify_locations(sys.argv[2])
    configuration.server_name = "localhost"
    async with connect("127.0.0.1", int(sys.argv[1]), configuration=configuration, create_protocol=Client) as client:
        heads, body = await client.ask(b"GET", b"/")
        assert heads[0][b":status"] == b"200" and heads[0][b"x-method"] == b"GET" and body == b"", heads
        heads, body = await client.ask(b"HEAD", b"/")
        assert heads[0][b"x-method"] == b"HEAD" and body == b"", heads

        large = bytes(range(256)) * 4096
        heads, body = await client.ask(b"POST", b"/", large)
        assert body == large, len(body)

        several = [client.ask(b"POST", b"/", str(number).encode()) for number in range(50)]
        bodies = [body for _, body in await asyncio.gather(*several)]
        assert bodies == [str(number).encode() for number in range(50)], bodies

        pieces = client.begin(b"PUT", b"/")
        for piece in (b"a", b"b", b"c"):
            client.send(pieces, piece, False)
            await client.ping()
        client.send(pieces, b"", True)
        heads, body = await client.answer(pieces)
        assert body == b"abc", body

        # RFC 9000 section 9: another identifier, and further on.
        client._quic.change_connection_id()
        heads, body = await client.ask(b"POST", b"/", b"again")
        assert body == b"again", body

        # RFC 9114 section 4.3.1: such a request is malformed, and costs its stream only.
        try:
            await client.ask(b"GET", b"/", fields=[(b"connection", b"close")])
            raise AssertionError("a field of the connection was taken")
        except ConnectionError as error:
            assert "reset with 0x10e" in str(error), error
        heads, _ = await client.ask(b"GET", b"/")
        assert heads[0][b":status"] == b"200", heads


AUTHORITY = f"localhost:{urlparse(f'//x:{sys.argv[1]}').port}".encode()
asyncio.run(main())
