"""A native client of corebeat: says hello in the lobby, prints what others say, answers pings."""
import socket, struct, sys

host, port, user = sys.argv[1:] if len(sys.argv) == 4 else ("127.0.0.1", "8080", "python")
server = socket.create_connection((host, int(port)))
stream = server.makefile("rb")


def send(kind, payload):
    server.sendall(struct.pack(">BBHI", 0xFB, kind, 0, len(payload)) + payload)


def name(text):
    return bytes([len(text.encode())]) + text.encode()


send(0x01, struct.pack(">BHQQ", 1, 0, 0, 0) + name(user) + bytes(2))           # HELLO
send(0x10, struct.pack(">IIQ", 1, 0, 0) + name("lobby"))                       # JOIN
send(0x12, struct.pack(">I", 2) + name("lobby") + b"hello from Python")        # PUBLISH
while header := stream.read(8):
    _, kind, _, length = struct.unpack(">BBHI", header)
    payload = stream.read(length)
    if kind == 0x02:                                                           # PING: answer PONG
        send(0x03, payload)
    elif kind == 0x92:                                                         # MESSAGE
        user_at = 21 + payload[20]
        body_at = user_at + 1 + payload[user_at]
        print(payload[user_at + 1:body_at].decode(), "says", payload[body_at:].decode(), flush=True)
