#!/usr/bin/env python3
"""Clients that share no line with the server hold a conversation through it.

`python3 conversation.py HOST PORT` ends with 0 where the server kept the contract. It waits for the
server's timeout once, so the shorter that is, the sooner it ends.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import native
from native import Native
from text import Text

GAP, QUEUED, DUPLICATE = 1, 2, 4
MAX_FRAME = 65_536


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def hellos(server):
    # They are not listened to all the time, so they wish for a heartbeat that bears it.
    ann = Native(*server, "ann", heartbeat_s=60)
    bob = Native(*server, "bob", heartbeat_s=60, crc=True)
    for client, user in ((ann, "ann"), (bob, "bob")):
        welcome = client.welcome
        check(welcome["version"] == 1 and welcome["user"] == user, welcome)
        check(welcome["session"] != 0 and welcome["resume_key"] != 0, welcome)
        check(welcome["heartbeat_s"] == 60 < welcome["timeout_s"], welcome)
        check(welcome["max_frame"] == MAX_FRAME and welcome["flags"] == 0, welcome)
    check(ann.welcome["session"] != bob.welcome["session"], "sessions have identities of their own")
    guests = [Native(*server), Native(*server)]
    names = {guest.welcome["user"] for guest in guests}
    check(len(names) == 2 and "" not in names, f"guests are named: {names}")
    return ann, bob


def pings_and_echoes(ann, bob):
    for client in (ann, bob):
        client.ping(seq=2**32 - 1, time_ms=2**64 - 2)
        node = client.welcome["node"]
        client.expect("pong", node=node, time_ms=2**64 - 2, seq=2**32 - 1)
        for body in (b"", b"\x00\xFB\xFF", bytes(MAX_FRAME)):
            client.send(native.ECHO, body)
            client.expect("echo", body=body)


def rooms(ann, bob):
    ann.join(1, "tea", notify=True)
    epoch = ann.expect("ok", ref=1, flags=0, seq=0)["epoch"]
    check(epoch != 0, "a room has an epoch")
    bob.join(1, "tea")
    bob.expect("ok", ref=1, epoch=epoch, seq=0)
    ann.expect("presence", kind="joined", total=2, room="tea", user="bob")
    bob.publish(2, "tea", b"milk?")
    bob.expect("ok", ref=2, flags=0, epoch=epoch, seq=1)
    heard = ann.expect("message", epoch=epoch, seq=1, room="tea", body=b"milk?", **{"from": "bob"})
    check(heard["time_ms"] > 1_700_000_000_000, heard)
    bob.publish(2, "tea", b"milk?")
    bob.expect("ok", ref=2, flags=DUPLICATE, epoch=epoch, seq=1)
    ann.publish(0, "tea", b"lemon", echo=True)
    for client in (ann, bob):
        client.expect("message", seq=2, room="tea", body=b"lemon", **{"from": "ann"})
    bob.who(3, "tea")
    roster = bob.expect("roster", ref=3, total=2, count=2)
    check(sorted(roster["users"]) == ["ann", "bob"], roster)
    bob.leave(4, "tea")
    bob.expect("ok", ref=4)
    ann.expect("presence", kind="left", total=1, room="tea", user="bob")


def refusals(ann):
    ann.leave(5, "nowhere")
    ann.expect("error", ref=5, code=404)
    ann.join(6, "$server")
    ann.expect("error", ref=6, code=403)
    ann.join(7, "two words")
    ann.expect("error", ref=7, code=400)
    ann.publish(8, "tea", bytes(MAX_FRAME - 8))
    ann.expect("error", ref=8, code=413)
    ann.history(9, "nowhere")
    ann.expect("error", ref=9, code=404)
    ann.history(9, "*")
    ann.expect("error", ref=9, code=403)


def past(server, ann):
    """What was said before is replayed to who comes back, and listed to who asks."""
    said = [f"{number} ".encode() * 60 for number in range(1, 801)]
    for body in said:
        ann.publish(0, "archive", body)
    ann.history(20, "archive", since=0, limit=3)
    first = [ann.expect("message", room="archive", replay=True) for _ in range(3)]
    epoch = ann.expect("ok", ref=20)["epoch"]
    check([told["body"] for told in first] == said[:3], f"the first ones: {first}")
    check([told["seq"] for told in first] == [1, 2, 3], f"in their places: {first}")
    check({told["epoch"] for told in first} == {epoch}, f"of one epoch: {first}")
    for crc in (False, True):
        eve = Native(*server, "eve", heartbeat_s=60, crc=crc)
        eve.join(1, "archive", epoch=epoch, since=5)
        ann.publish(21 + crc, "archive", b"meanwhile")
        head = eve.expect("ok", ref=1, flags=0, epoch=epoch)["seq"]
        last = ann.expect("ok", ref=21 + crc)["seq"]
        check(head in (last - 1, last), f"{head} before or after {last}")
        for seq in range(6, last + 1):
            told = eve.expect("message", epoch=epoch, seq=seq, **{"from": "ann"})
            check(told["body"] == (said[seq - 1] if seq <= len(said) else told["body"]), told)
            check(told["replay"] or seq > head, told)
        eve.join(2, "archive", epoch=epoch ^ 1, since=last)
        eve.expect("ok", ref=2, flags=GAP, epoch=epoch, seq=last)
        for seq in range(1, last + 1):
            eve.expect("message", epoch=epoch, seq=seq, replay=True)
        eve.join(3, "archive", since=last + 1)
        eve.expect("ok", ref=3, flags=GAP, epoch=epoch, seq=last)
        ann.publish(0, "archive", b"live")
        eve.expect("message", epoch=epoch, seq=last + 1, replay=False, body=b"live")
        eve.bye()
        eve.expect_end()
    listed, since = [], 0
    while since < last + 1:
        ann.history(23, "archive", since=since, limit=300)
        while (told := ann.next())["op"] == "message":
            listed.append(told["seq"])
        check(told["op"] == "ok" and told["ref"] == 23, told)
        check(listed and listed[-1] > since, f"a page makes progress: {listed} behind {since}")
        since = listed[-1]
    check(listed == list(range(1, last + 2)), f"each place once: {listed}")
    dan = Text(*server)
    dan.type("/nick dan")
    dan.expect("* welcome dan")
    dan.expect("* you are in lobby")
    dan.type("/history")
    dan.expect("* nothing is kept of what was said in lobby")
    dan.type("/join archive")
    dan.expect("* you are in archive")
    dan.type("/history 2")
    dan.expect("[archive] ann: meanwhile")
    dan.expect("[archive] ann: live")
    dan.type("/quit")
    dan.expect("* bye")


def lobby(server, ann, bob):
    ann.join(10, "lobby", notify=True)
    ann.expect("ok", ref=10)
    bob.join(10, "lobby")
    bob.expect("ok", ref=10)
    ann.expect("presence", kind="joined", room="lobby", user="bob")
    cat = Text(*server)
    cat.type("/nick cat")
    cat.expect("* welcome cat")
    cat.expect("* you are in lobby, 3 members")
    ann.expect("presence", kind="joined", total=3, room="lobby", user="cat")
    cat.type("hello from a terminal")
    for client in (ann, bob):
        client.expect("message", room="lobby", body=b"hello from a terminal", **{"from": "cat"})
    bob.publish(0, "lobby", "grüße".encode())
    cat.expect("[lobby] bob: grüße")
    ann.expect("message", room="lobby", **{"from": "bob"})
    cat.type("/msg ann psst")
    ann.expect("direct", body=b"psst", **{"from": "cat"})
    cat.type("/ping")
    cat.expect("pong")
    bob.bye()
    bob.expect_end()
    ann.expect("presence", kind="left", total=2, room="lobby", user="bob")
    cat.expect("* bob left lobby")
    cat.type("/quit")
    cat.expect("* bye")
    check(cat.next() == "", "the stream ends behind the goodbye")
    ann.expect("presence", kind="left", total=1, room="lobby", user="cat")


def directs(server):
    """Direct messages wait for a user who is offline, until they are acknowledged."""
    ann = Native(*server, "ann2", heartbeat_s=60)
    ids = []
    for ref in range(1, 4):
        ann.direct(ref, "late", b"psst %d" % ref)
        ids.append(ann.expect("ok", ref=ref, flags=QUEUED, epoch=0)["seq"])
    check(ids == sorted(set(ids)) and ids[0] > 0, f"ids grow: {ids}")
    ann.direct(3, "late", b"psst 3")
    ann.expect("ok", ref=3, flags=DUPLICATE, epoch=0, seq=ids[2])
    for acked, first in ((None, 0), (ids[0], 0), (ids[2], 1)):
        late = Native(*server, "late", crc=True, heartbeat_s=60)
        for number in range(first, 3):
            body = b"psst %d" % (number + 1)
            late.expect("direct", id=ids[number], body=body, replay=True, **{"from": "ann2"})
        if acked is not None:
            late.ack(acked)
        late.bye()
        late.expect_end()
    late = Native(*server, "late", heartbeat_s=60)
    # What it says to itself comes back when its home knows that it is there.
    late.direct(1, "late", b"here")
    here = late.expect("direct", body=b"here", replay=False, **{"from": "late"})["id"]
    late.expect("ok", ref=1, flags=0, epoch=0, seq=here)
    ann.direct(4, "late", b"live")
    live = ann.expect("ok", ref=4, flags=0, epoch=0)["seq"]
    late.expect("direct", id=live, body=b"live", replay=False)
    ann.direct(0, "typist", "hör zu".encode())
    ann.ping(seq=2, time_ms=2)
    ann.expect("pong", seq=2)
    for expected in (True, False):
        typist = Text(*server)
        typist.type("/nick typist")
        typist.expect("* welcome typist")
        lines = [typist.next()]
        while not lines[-1].startswith("* you are in lobby"):
            lines.append(typist.next())
        # What one says to oneself comes behind all that has waited.
        typist.type("/msg typist nothing more")
        while lines[-1] != "[typist -> you] nothing more":
            lines.append(typist.next())
        check(("[ann2 -> you] hör zu" in lines) == expected, lines)
        typist.type("/quit")
        typist.expect("* bye")


def told_of(client, user, count):
    """What the next so many events tell about a user's presence."""
    told = [client.expect("presence", user=user) for _ in range(count)]
    return {(each["kind"], each["total"], each["room"]) for each in told}


def sessions(server):
    """A session outlives its connection for whoever has its key, and its user's absence is told."""
    ann = Native(*server, "ann3", heartbeat_s=60)
    ann.join(1, "salon", notify=True)
    epoch = ann.expect("ok", ref=1)["epoch"]
    bob = Native(*server, "bob3", heartbeat_s=60)
    key = (bob.welcome["session"], bob.welcome["resume_key"])
    bob.join(1, "salon", notify=True)
    bob.expect("ok", ref=1, epoch=epoch, seq=0)
    ann.expect("presence", kind="joined", total=2, user="bob3")
    bob.publish(2, "salon", b"mine")
    bob.expect("ok", ref=2, epoch=epoch, seq=1)
    ann.expect("message", seq=1)
    bob.cut()
    ann.publish(2, "salon", b"missed")
    ann.expect("ok", ref=2, epoch=epoch, seq=2)
    ann.direct(3, "bob3", b"to you")
    # While the grace lasts nobody is told; then everybody is, once.
    ann.expect("ok", ref=3, epoch=0)
    absent = {("left", 1, "salon"), ("offline", 0, "")}
    check(told_of(ann, "bob3", 2) == absent, "it left, and is offline")
    # A wrong key, and a wrong name, are answered as a session that nobody knows.
    for user, session, resume_key in (
            ("eve3", key[0], key[1] ^ 1), ("eve3", *key), ("eve3", key[0] ^ 1 << 40, key[1])):
        eve = Native(*server, user, session=session, resume_key=resume_key)
        check(eve.welcome["flags"] == 0 and eve.welcome["user"] == user, eve.welcome)
        check(eve.welcome["session"] != key[0], eve.welcome)
        eve.ping(seq=1, time_ms=1)
        eve.expect("pong", seq=1)
        eve.bye()
        eve.expect_end()
    for crc in (False, True):
        old, bob = bob, Native(*server, "", crc, session=key[0], resume_key=key[1], heartbeat_s=60)
        check(bob.welcome["flags"] == 1 and bob.welcome["user"] == "bob3", bob.welcome)
        check((bob.welcome["session"], bob.welcome["resume_key"]) == key, bob.welcome)
        if crc:
            # The connection that still lived is closed without a word.
            old.expect_end()
        # What was missed and what was said to the user alone come in an order of their own each.
        told = [bob.next() for _ in range(2 if crc else 4)]
        missed = [each["seq"] for each in told if each["op"] == "message"]
        check(missed == ([] if crc else [1, 2]), f"all since it was last told anything: {told}")
        check({each["op"] for each in told} >= {"direct", "presence"}, told)
        check(all(each.get("replay", True) for each in told), told)
        check(all(each.get("kind", "many") == "many" for each in told), told)
        direct = next(each for each in told if each["op"] == "direct")
    present = {("joined", 2, "salon"), ("online", 0, "")}
    check(told_of(ann, "bob3", 2) == present, "it is back")
    bob.publish(2, "salon", b"mine")
    bob.expect("ok", ref=2, flags=DUPLICATE, epoch=epoch, seq=1)
    bob.ack(direct["id"])
    bob.join(4, "salon", epoch=epoch, since=1)
    bob.expect("ok", ref=4, flags=0, epoch=epoch, seq=2)
    bob.expect("message", epoch=epoch, seq=2, replay=True, body=b"missed")
    bob.bye()
    bob.expect_end()
    ann.expect("presence", kind="left", total=1, room="salon", user="bob3")
    # A goodbye ends the session: it is kept for nobody.
    bob = Native(*server, "bob3", session=key[0], resume_key=key[1], heartbeat_s=60)
    check(bob.welcome["flags"] == 0, bob.welcome)
    bob.direct(1, "bob3", b"here")
    bob.expect("direct", body=b"here", replay=False)
    bob.expect("ok", ref=1)
    bob.bye()
    bob.expect_end()


def heartbeats(server):
    """A client that answers its pings outlives one that does not."""
    keen, silent = Native(*server, "keen"), Native(*server, "silent", answers=False)
    with ThreadPoolExecutor() as pool:
        kept = pool.submit(keen.expect, "echo", body=b"still here")
        silent.expect("error", ref=0, code=408)
        silent.expect_end()
        keen.send(native.ECHO, b"still here")
        kept.result()
    check(len(silent.pings) >= 3, f"it was pinged, and probed twice: {silent.pings}")
    seqs = [ping["seq"] for ping in silent.pings]
    check(seqs == sorted(set(seqs)), f"pings are numbered: {seqs}")
    for client in (keen, silent):
        check(client.pings, f"{client.welcome} was never pinged")
        check({ping["node"] for ping in client.pings} == {client.welcome["node"]}, client.pings)


def mistakes(server):
    for wrong in (b"GET / HTTP", native.frame(0x7E), native.frame(native.PING, bytes(16))):
        eve = Native(*server, "eve")
        eve.socket.sendall(wrong)
        eve.expect("error", ref=0, code=400)
        eve.expect_end()
    eve = Native(*server, "eve", crc=True)
    bad = bytearray(native.frame(native.ECHO, b"hi", native.CRC))
    bad[-1] ^= 1
    eve.socket.sendall(bad)
    eve.expect("error", ref=0, code=400)
    eve.expect_end()


def main(host, port):
    server = (host, int(port))
    ann, bob = hellos(server)
    pings_and_echoes(ann, bob)
    rooms(ann, bob)
    refusals(ann)
    past(server, ann)
    lobby(server, ann, bob)
    directs(server)
    sessions(server)
    mistakes(server)
    heartbeats(server)
    print("the server kept the contract")


if __name__ == "__main__":
    main(*sys.argv[1:])
