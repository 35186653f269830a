"""An echo server and a client of the `websockets` library, with the proxy between them.

Prints the server's port, reads the proxy's address from standard input, and ends with 0 if all went well.
"""

import asyncio
import sys

import websockets

MESSAGES = ["hello", "", "\N{SNOWMAN}" * 1000, b"\x00\xff" * 10, bytes(1 << 20), "x" * (1 << 20)]


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        proxy = await asyncio.to_thread(sys.stdin.readline)
        url = f"ws://{proxy.strip()}/chat"
        async with asyncio.timeout(10):
            async with websockets.connect(url, max_size=None) as connection:
                for message in MESSAGES:
                    await connection.send(message)
                    assert await connection.recv() == message
                await (await connection.ping())
            assert connection.close_code == 1000, connection.close_code

            several = await asyncio.gather(*(websockets.connect(url) for _ in range(20)))
            for number, connection in enumerate(several):
                await connection.send(str(number))
            for number, connection in enumerate(several):
                assert await connection.recv() == str(number)
            await asyncio.gather(*(connection.close() for connection in several))


asyncio.run(main())
