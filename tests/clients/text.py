"""A text client of corebeat: lines over a socket, as `nc` would send and show them."""

import socket


class Text:
    """One connection."""

    def __init__(self, host, port, patience_s=60):
        self.socket = socket.create_connection((host, port), timeout=patience_s)
        self.stream = self.socket.makefile("r", encoding="utf-8", newline="\n")

    def type(self, line):
        self.socket.sendall(line.encode() + b"\n")

    def next(self):
        """The next line without its end; empty at the end of the stream."""
        return self.stream.readline().removesuffix("\n")

    def expect(self, wanted):
        """The next line, which must begin with these words."""
        line = self.next()
        if not line.startswith(wanted):
            raise AssertionError(f"{line!r} came where {wanted!r} was due")
        return line
