#!/usr/bin/env python3
"""A small native client of corebeat, written from the wire contract alone.

As a module: `ann = Native("127.0.0.1", 8080, "ann"); ann.join(1, "lobby"); print(ann.next())`.
As a script: `python3 native.py [HOST [PORT [USER]]]` prints what is said in the lobby.
It needs nothing but Python's standard library, and shares no line with the server.
"""

import socket
import struct
import sys
import zlib

MAGIC = 0xFB
CRC, ECHO_FLAG, NOTIFY, REPLAY, OPTIONAL = 1, 2, 4, 8, 1 << 15

HELLO, PING, PONG, BYE, ECHO = 0x01, 0x02, 0x03, 0x04, 0x05
JOIN, LEAVE, PUBLISH, DIRECT, ACK, HISTORY, WHO = range(0x10, 0x17)
WELCOME = 0x81
OK, ERROR, MESSAGE, DIRECT_MESSAGE, PRESENCE, ROSTER, GOAWAY, GAP, TEMPO = range(0x90, 0x99)

PRESENCE_KINDS = {1: "joined", 2: "left", 3: "online", 4: "offline", 5: "many"}


class Broken(Exception):
    """The server said something that the contract does not allow."""


def frame(kind, payload=b"", flags=0):
    """A frame; with the flag CRC it gets its checksum."""
    bytes_ = struct.pack(">BBHI", MAGIC, kind, flags, len(payload)) + payload
    return bytes_ + struct.pack(">I", zlib.crc32(bytes_)) if flags & CRC else bytes_


def str8(text):
    return struct.pack(">B", len(text.encode())) + text.encode()


def str16(text):
    return struct.pack(">H", len(text.encode())) + text.encode()


class Fields:
    """Reads the fields of a payload one after the other."""

    def __init__(self, payload):
        self.rest = payload

    def take(self, length):
        if len(self.rest) < length:
            raise Broken("a field reaches beyond the payload")
        taken, self.rest = self.rest[:length], self.rest[length:]
        return taken

    def numbers(self, layout):
        layout = ">" + layout
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def number(self, layout):
        return self.numbers(layout)[0]

    def str8(self):
        return self.take(self.number("B")).decode()

    def str16(self):
        return self.take(self.number("H")).decode()


def event(kind, flags, payload):
    """What a frame from the server says, as a dictionary with the names of the contract."""
    fields = Fields(payload)

    def told(op, names="", layout="", **more):
        values = dict(zip(names.split(), fields.numbers(layout))) if names else {}
        return {"op": op, **values, **more}

    if kind == WELCOME:
        names = "version node session resume_key heartbeat_s timeout_s max_frame flags"
        return {**told("welcome", names, "BIQQHHIB"), "user": fields.str8()}
    if kind in (PING, PONG):
        op = "ping" if kind == PING else "pong"
        return told(op, "node time_ms status seq", "IQBI")
    if kind == BYE:
        return {**told("bye", "code", "H"), "reason": fields.str16()}
    if kind == ECHO:
        return told("echo", body=payload)
    if kind == OK:
        return told("ok", "ref flags epoch seq", "IBIQ")
    if kind == ERROR:
        return {**told("error", "ref code", "IH"), "text": fields.str16()}
    if kind == MESSAGE:
        head = told("message", "epoch seq time_ms", "IQQ")
        room, user = fields.str8(), fields.str8()
        replay = bool(flags & REPLAY)
        return {**head, "room": room, "from": user, "body": fields.rest, "replay": replay}
    if kind == DIRECT_MESSAGE:
        head = told("direct", "id time_ms", "QQ")
        replay = bool(flags & REPLAY)
        return {**head, "from": fields.str8(), "body": fields.rest, "replay": replay}
    if kind == PRESENCE:
        number, total = fields.numbers("BI")
        room, user = fields.str8(), fields.str8()
        what = PRESENCE_KINDS.get(number)
        return told("presence", kind=what, total=total, room=room, user=user)
    if kind == ROSTER:
        head = told("roster", "ref total count", "IIH")
        return {**head, "users": [fields.str8() for _ in range(head["count"])]}
    if kind == GOAWAY:
        head = told("goaway", "reconnect_after_ms", "I")
        return {**head, "reason": fields.str16(), "address": fields.str16()}
    if kind == GAP:
        return {**told("gap", "epoch from to", "IQQ"), "room": fields.str8()}
    if kind == TEMPO:
        return told("tempo", "heartbeat_s timeout_s", "HH")
    if flags & OPTIONAL:
        return told("skipped")
    raise Broken(f"a frame of unknown type {kind:#x}")


class Native:
    """One connection. It answers pings while it waits, unless told not to."""

    def __init__(self, host, port, user="", crc=False, heartbeat_s=0, answers=True, patience_s=60,
                 session=0, resume_key=0):
        self.socket = socket.create_connection((host, port), timeout=patience_s)
        self.stream = self.socket.makefile("rb")
        self.crc = crc
        self.answers = answers
        self.pings = []
        head = struct.pack(">BHQQ", 1, heartbeat_s, session, resume_key)
        self.send(HELLO, head + str8(user) + str16(""))
        self.welcome = self.expect("welcome")

    def send(self, kind, payload=b"", flags=0):
        self.socket.sendall(frame(kind, payload, flags | (CRC if self.crc else 0)))

    def join(self, ref, room, notify=False, epoch=0, since=0):
        payload = struct.pack(">IIQ", ref, epoch, since) + str8(room)
        self.send(JOIN, payload, NOTIFY if notify else 0)

    def history(self, ref, room, since=0, limit=0):
        self.send(HISTORY, struct.pack(">I", ref) + str8(room) + struct.pack(">QH", since, limit))

    def leave(self, ref, room):
        self.send(LEAVE, struct.pack(">I", ref) + str8(room))

    def publish(self, ref, room, body, echo=False):
        payload = struct.pack(">I", ref) + str8(room) + body
        self.send(PUBLISH, payload, ECHO_FLAG if echo else 0)

    def direct(self, ref, user, body):
        self.send(DIRECT, struct.pack(">I", ref) + str8(user) + body)

    def ack(self, direct):
        self.send(ACK, struct.pack(">Q", direct))

    def who(self, ref, room):
        self.send(WHO, struct.pack(">I", ref) + str8(room))

    def ping(self, seq, time_ms):
        self.send(PING, struct.pack(">IQBI", 0, time_ms, 0, seq))

    def bye(self):
        self.send(BYE, struct.pack(">H", 0) + str16("done"))

    def cut(self):
        """Resets the connection, as a network does that has lost it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.close()
        self.socket.close()

    def next_frame(self):
        """Type, flags and payload of the next frame; `None` at the end of the stream."""
        header = self.stream.read(8)
        if not header:
            return None
        magic, kind, flags, length = struct.unpack(">BBHI", header)
        if magic != MAGIC:
            raise Broken(f"a frame begins with {magic:#x}")
        payload = self.stream.read(length)
        if len(payload) < length:
            raise Broken("the stream ends within a frame")
        if bool(flags & CRC) != self.crc:
            raise Broken("checksums belong on every frame, or on none")
        if self.crc and self.stream.read(4) != struct.pack(">I", zlib.crc32(header + payload)):
            raise Broken("the checksum does not match")
        return kind, flags, payload

    def next(self):
        """The next event that is no ping; `None` at the end of the stream."""
        while found := self.next_frame():
            told = event(*found)
            if told["op"] == "skipped":
                continue
            if told["op"] != "ping":
                return told
            self.pings.append(told)
            if self.answers:
                self.send(PONG, struct.pack(">IQBI", 0, told["time_ms"], 0, told["seq"]))
        return None

    def expect(self, op, **fields):
        """The next event, which must be this one as far as it is described."""
        told = self.next()
        if told is None:
            raise Broken(f"the end of the stream came where {op} {fields} was due")
        if any(told.get(name) != value for name, value in {"op": op, **fields}.items()):
            raise Broken(f"{told} came where {op} {fields} was due")
        return told

    def expect_end(self):
        if (told := self.next()) is not None:
            raise Broken(f"{told} came where the stream should end")


def main(host="127.0.0.1", port="8080", user=""):
    client = Native(host, int(port), user, patience_s=None)
    print("welcome", client.welcome["user"], flush=True)
    client.join(1, "lobby", notify=True)
    while told := client.next():
        if told["op"] == "message":
            body = told["body"].decode(errors="replace")
            print(f"[{told['room']}] {told['from']}: {body}", flush=True)
        else:
            print(told, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
