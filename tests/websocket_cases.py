"""Sequences of WebSocket frames, in the order of the Autobahn suite's categories, sent to an echo server of the `websockets`
library: straight, through the proxy by HTTP/1.1, and through it by HTTP/2 (RFC 8441). What comes back must be the same bytes.

Prints the server's port, reads the proxy's address from standard input, and ends with 0 if nothing differs.
"""

import asyncio
import struct
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings
import websockets

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
PATIENCE = 20


def frame(opcode, payload=b"", fin=True, reserved=0, masked=True):
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([mask_bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", len(payload))
    mask = b"\x37\xfa\x21\x3d"
    if not masked:
        return head + payload
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


def messages(data):
    """How many whole messages these frames hold, the last frame perhaps cut short."""
    count, at = 0, 0
    while at + 2 <= len(data):
        first, second = data[at], data[at + 1]
        length, head = second & 0x7F, 2 + (4 if second & 0x80 else 0)
        if length == 126:
            length, head = int.from_bytes(data[at + 2 : at + 4], "big"), head + 2
        elif length == 127:
            length, head = int.from_bytes(data[at + 2 : at + 10], "big"), head + 8
        at += head + length
        count += at <= len(data) and first & 0x80 and first & 0x0F < CLOSE
    return count


def close(code=1000, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


def cases():
    # 1: framing
    for opcode, byte in [(TEXT, b"*"), (BINARY, b"\xfe")]:
        for length in [0, 125, 126, 127, 128, 65535, 65536]:
            yield f"1 {opcode} {length}", [frame(opcode, byte * length), close()]
    # 2: pings and pongs
    for payload in [b"", b"Hello", bytes(range(125)), b"\xff" * 126]:
        yield f"2 ping {len(payload)}", [frame(PING, payload), close()]
    yield "2 unsolicited pong", [frame(PONG, b"x"), frame(PING, b"y"), close()]
    yield "2 ten pings", [frame(PING, bytes([n])) for n in range(10)] + [close()]
    # 3: reserved bits, 4: reserved opcodes
    for reserved in range(1, 8):
        yield f"3 {reserved}", [frame(TEXT, b"before"), frame(TEXT, b"x", reserved=reserved)]
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]:
        yield f"4 {opcode}", [frame(TEXT, b"before"), frame(opcode, b"x")]
    # 5: fragmentation
    yield "5 two", [frame(TEXT, b"frag", fin=False), frame(CONTINUATION, b"ment"), close()]
    yield "5 ping within", [frame(TEXT, b"a", fin=False), frame(PING, b"p"), frame(CONTINUATION, b"b"), close()]
    yield "5 ping in fragments", [frame(PING, b"a", fin=False), frame(CONTINUATION, b"b")]
    yield "5 continuation of nothing", [frame(CONTINUATION, b"x")]
    yield "5 text within", [frame(TEXT, b"a", fin=False), frame(TEXT, b"b"), close()]
    yield "5 many", [frame(BINARY, b"", fin=False)] + [frame(CONTINUATION, b"x" * 100, fin=False)] * 500 + [frame(CONTINUATION), close()]
    # 6: UTF-8
    for text in ["κόσμε", "\U0010ffff", "\u0000"]:
        yield f"6 {text!r}", [frame(TEXT, text.encode()), close()]
    for bad in [b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xff"]:
        yield f"6 {bad.hex()}", [frame(TEXT, b"fine"), frame(TEXT, bad)]
    # 7: closing
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999]:
        yield f"7 {code}", [frame(TEXT, b"bye"), close(code, b"because")]
    for code in [0, 999, 1004, 1005, 1006, 1016, 2999, 5000]:
        yield f"7 invalid {code}", [close(code)]
    yield "7 empty", [frame(CLOSE)]
    yield "7 one byte", [frame(CLOSE, b"x")]
    yield "7 too long", [close(1000, b"x" * 124)]
    yield "7 ping after close", [close(), frame(PING, b"late")]
    yield "unmasked", [frame(TEXT, b"x", masked=False)]
    # 9: size
    yield "9 text 1 MiB", [frame(TEXT, b"*" * (1 << 20)), close()]
    yield "9 binary 4 MiB", [frame(BINARY, bytes(1 << 22)), close()]


async def straight(host, port, before, last):
    """By HTTP/1.1, to whoever listens there. What is last is sent when all before it was answered."""
    reader, writer = await asyncio.open_connection(host, port)
    request = f"GET /chat HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    writer.write((request + f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n").encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head.split(b"\r\n")[0] and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, head

    async def send(pieces):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    wanted = messages(b"".join(before))
    sending = asyncio.create_task(send(before))
    received = b""
    try:
        while True:
            if last and messages(received) >= wanted:
                await sending
                sending = asyncio.create_task(send(last))
                last = []
            if not (piece := await reader.read(1 << 16)):
                break
            received += piece
    except ConnectionResetError:
        pass
    sending.cancel()
    writer.close()
    return received


async def multiplexed(host, port, before, last):
    """The same by HTTP/2 with prior knowledge."""
    reader, writer = await asyncio.open_connection(host, port)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    received, pending, last, stream, ended = b"", b"".join(before), b"".join(last), None, False
    wanted = messages(pending)
    while not ended:
        piece = await reader.read(1 << 16)
        if not piece:
            break
        for event in connection.receive_data(piece):
            if isinstance(event, h2.events.RemoteSettingsChanged):
                enabled = event.changed_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL)
                assert enabled and enabled.new_value == 1, "no extended CONNECT"
                stream = connection.get_next_available_stream_id()
                connection.send_headers(stream, [
                    (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
                    (":path", "/chat"), (":authority", f"{host}:{port}"), ("sec-websocket-version", "13"),
                ])
            elif isinstance(event, h2.events.ResponseReceived):
                head = dict(event.headers)
                assert head[":status"] == "200", head
                assert "upgrade" not in head and "sec-websocket-accept" not in head, head
            elif isinstance(event, h2.events.DataReceived):
                received += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                ended = True
        if last and messages(received) >= wanted:
            pending, last = pending + last, b""
        while stream and pending and not ended:
            room = min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size, len(pending))
            if room <= 0:
                break
            connection.send_data(stream, pending[:room])
            pending = pending[room:]
        writer.write(connection.data_to_send())
    writer.close()
    return received


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    options = {"max_size": None, "compression": None, "ping_interval": None, "close_timeout": 1}
    async with websockets.serve(echo, "127.0.0.1", 0, **options) as server:
        port = server.sockets[0].getsockname()[1]
        print(port, flush=True)
        proxy = await asyncio.to_thread(sys.stdin.readline)
        host, proxy_port = proxy.strip().rsplit(":", 1)
        differing = []
        for name, frames in cases():
            *before, last = frames
            split = [[bytes([byte]) for byte in part] for part in (b"".join(before), last)]
            async with asyncio.timeout(PATIENCE):
                expected = await straight("127.0.0.1", port, before, [last])
                ways = {
                    "HTTP/1.1": straight(host, int(proxy_port), before, [last]),
                    "HTTP/2": multiplexed(host, int(proxy_port), before, [last]),
                }
                if sum(map(len, frames)) <= 300:
                    ways["HTTP/1.1, byte by byte"] = straight(host, int(proxy_port), *split)
                for way, asked in ways.items():
                    print(f"{name}, {way}", file=sys.stderr)
                    got = await asked
                    if got != expected:
                        differing.append(f"{name}, {way}: {got[:40].hex()} instead of {expected[:40].hex()}")
        assert not differing, "\n".join(differing)


asyncio.run(main())
