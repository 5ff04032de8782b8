"""A mail server that takes everything and keeps nothing: `python -m benchmarks.sink --port N`.

It knows just enough SMTP for a client that waits for each answer, so that it costs less than
whoever talks to it.
"""

import argparse
import asyncio
from collections.abc import Sequence

_END = b"\r\n.\r\n"


class _Session(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._tail: bytes | None = None  # of the text under way
        self._line = b""
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        if self._tail is None:
            self._command(data)
            return
        self._tail = (self._tail + data)[-len(_END) :]
        if self._tail == _END:
            self._tail = None
            self._transport.write(b"250 2.0.0 taken\r\n")

    def _command(self, data: bytes) -> None:
        self._line += data
        if not self._line.endswith(b"\r\n"):
            return
        verb, self._line = self._line[:4].upper(), b""
        if verb == b"DATA":
            self._tail = b"\r\n"  # an empty text ends with its first line
            self._transport.write(b"354 go on\r\n")
        elif verb == b"QUIT":
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        else:
            self._transport.write(b"250 ok\r\n")


async def serve(port: int) -> None:
    """Until killed."""
    server = await asyncio.get_running_loop().create_server(_Session, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args(arguments).port))


if __name__ == "__main__":
    main()
