#!/usr/bin/env python3
"""Random and mutated bytes against the frame decoder and against a real runtime.

    python3 fuzz_frames.py --seconds 600 --seed 1

Two halves take turns. Both decoders are fed the same stream whole and in random pieces, must say what the tables of
the protocol say, hold no more than they may, and raise nothing but their own exception. The runtime gets streams on new
connections to both sockets; after each round it must answer a well-formed request over v1 and v2, in the same processes
and within a deadline, and their memory must stay below a bound. What fails is shown with its seed.

Not collected by unittest; `test_fuzz.py` runs it briefly over the kept corpus.
"""

import argparse
import json
import os
import random
import socket
import struct
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CORPUS = os.path.join(HERE, "corpus")
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import asya_runtime  # noqa: E402
from support import Runtime, envelope, frame, parse, read_frame  # noqa: E402
from v2 import ERROR, GOODBYE, HEADER, HELLO, MORE, REQUEST, Client, frame_bytes, process_status  # noqa: E402

LIMIT = 100000
# What a process may grow by, beyond the limit: buffers, fragmentation, tracebacks.
CONSTANT_KIB = 40 * 1024
KNOWN_TYPES = (0x01, 0x02, 0x0F, 0x10, 0x20, 0x21, 0x22, 0x23, 0x24, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35)


def corpus():
    """The kept streams, by name: each begins on a connection that has said HELLO, or with a HELLO of its own."""
    found = {}
    for name in sorted(os.listdir(CORPUS)):
        with open(os.path.join(CORPUS, name), "rb") as file:
            found[name] = file.read()
    return found


class Streams:
    """Makes streams of bytes out of a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.seeds = list(corpus().values())

    def stream(self):
        choose = self.random.random()
        if choose < 0.15:
            return self.noise()
        if choose < 0.5:
            return b"".join(self.frame() for _ in range(self.random.randrange(1, 8)))
        return self.mutate(self.random.choice(self.seeds))

    def noise(self):
        return bytes(self.random.getrandbits(8) for _ in range(self.random.randrange(0, 200)))

    def frame(self):
        """Mostly a frame that is right in all but one thing."""
        pick = self.random
        kind = pick.choice(KNOWN_TYPES) if pick.random() < 0.9 else pick.randrange(256)
        if pick.random() < 0.5:
            kind = REQUEST
        body = self.body(kind)
        length = len(body) if pick.random() < 0.9 else pick.choice((0, 1, len(body) + 1, LIMIT + 9, 2**31, 2**32 - 1))
        flags = 0 if pick.random() < 0.85 else pick.choice((1, 1, 1, 2, 0x80, 0xFF))
        reserved = 0 if pick.random() < 0.97 else pick.randrange(65536)
        tag = pick.choice((0, 1, 2, 3, pick.randrange(2**32)))
        return frame_bytes(kind, tag, body, flags, reserved, length)

    def body(self, kind):
        pick = self.random
        if kind == REQUEST:
            payload = pick.choice((1, None, "x" * pick.choice((1, 100, 70000)), {"n": [1, {}]}))
            whole = pick.choice((json.dumps(envelope(payload)).encode(), b"{}", b"", b"{", b"[" * 3000, b"\xff", self.noise()))
            budget = pick.choice((0, 1, 1000, 0xFFFFFFFF))
            return struct.pack(">II", budget, pick.choice((1, 1, 1, 0, 7))) + whole
        if kind == 0x31:
            return struct.pack(">IIB", pick.choice((0, 0, 1, 2**32 - 1)), pick.choice((1, 2, 0)), pick.choice((1, 2, 0, 9)))
        if kind == 0x32:
            # Of an incarnation that is not there: a kill that works is no fault.
            return struct.pack(">II", pick.choice((0, 1, 2**32 - 1)), 2**31 + pick.randrange(1000))
        if pick.random() < 0.5:
            return b""
        return pick.choice((b"{}", b"[]", b"null", self.noise(), b"x" * 70000))

    def mutate(self, data):
        data = bytearray(data)
        for _ in range(self.random.randrange(1, 6)):
            if not data:
                break
            at = self.random.randrange(len(data))
            choose = self.random.randrange(6)
            if choose == 0:
                data[at] ^= 1 << self.random.randrange(8)
            elif choose == 1:
                data[at] = self.random.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif choose == 2:
                del data[at : at + self.random.randrange(1, 16)]
            elif choose == 3:
                data[at:at] = self.noise()[:16]
            elif choose == 4:
                data[at:at] = data[at : at + self.random.randrange(1, 64)]
            else:
                del data[at:]
        return bytes(data)

    def pieces(self, data):
        """The same bytes, cut at random places."""
        cuts = sorted(self.random.randrange(len(data) + 1) for _ in range(self.random.randrange(0, 6)))
        return [data[start:end] for start, end in zip([0] + cuts, cuts + [len(data)])]


# === small frames: HELLO and the control connection ===

SMALL = 64 * 1024


class Arriving:
    """Stands for a socket on which these pieces arrive one after the other."""

    def __init__(self, pieces):
        self._pieces = [piece for piece in pieces if piece]

    def recv(self, most):
        if not self._pieces:
            raise BlockingIOError
        piece = self._pieces.pop(0)
        if len(piece) > most:
            self._pieces.insert(0, piece[most:])
        return piece[:most]

    def __bool__(self):
        return bool(self._pieces)


def decode(pieces):
    """(frames, whether the rest was refused)."""
    arriving = Arriving(pieces)
    decoder = asya_runtime.Frames(arriving)
    frames = []
    try:
        while arriving:
            assert decoder.read(SMALL)
            while True:
                frame = decoder.take()
                if frame is None:
                    break
                frames.append(frame)
            # What it holds is one frame at most, never what was announced.
            assert len(decoder._data) < SMALL + HEADER.size
    except asya_runtime.Violation as refusal:
        assert str(refusal)
        return frames, True
    return frames, False


def expected_frames(data):
    """The same by the table of the protocol."""
    frames, at = [], 0
    while len(data) - at >= HEADER.size:
        length, kind, flags, reserved, tag = HEADER.unpack_from(data, at)
        if length > SMALL or reserved or flags:
            return frames, True
        if len(data) - at < HEADER.size + length:
            break
        frames.append((kind, tag, data[at + HEADER.size : at + HEADER.size + length]))
        at += HEADER.size + length
    return frames, False


def check_decoder(streams):
    data = streams.stream()
    expected = expected_frames(data)
    for pieces in ([data], streams.pieces(data)):
        found = decode(pieces)
        assert found == expected, "%r instead of %r for %r" % (found, expected, pieces)
    for kind, tag, body in expected[0]:
        try:
            asya_runtime.parse_hello(kind, tag, body, "0" * 32)
        except asya_runtime.Violation as refusal:
            assert str(refusal)


# === requests ===


def read_requests(pieces, batch_size=1):
    """What a worker makes of a stream: (requests, the text of the refusal or None, whether GOODBYE came)."""
    reader = asya_runtime.RequestReader(LIMIT, batch_size, 1025)
    requests = []
    for piece in pieces:
        piece = memoryview(piece)
        while piece and not reader.closed:
            space = reader.space()
            count = min(len(space), len(piece))
            assert count > 0, "the reader takes nothing more, and is not closed"
            space[:count] = piece[:count]
            piece = piece[count:]
            reader.received(count)
            requests += [plain(request) for request in reader.ready]
            while reader.ready:
                reader.take()
    return requests, None if reader.violation is None else str(reader.violation), reader.goodbye


def plain(request):
    tag, flags, _budget, attempt, body = request
    return tag, flags, attempt, str(body) if isinstance(body, Exception) else bytes(body)


def expected_requests(data, batch_size):
    """The same by the tables of the protocol: (requests, whether it is refused, whether GOODBYE came)."""
    requests, at, tags, in_batch = [], 0, set(), 0
    while len(data) - at >= HEADER.size:
        length, kind, flags, reserved, tag = HEADER.unpack_from(data, at)
        if reserved or kind not in (REQUEST, GOODBYE, ERROR):
            return requests, True, False
        if kind == ERROR:
            return requests, False, True
        if kind == GOODBYE:
            wrong = bool(flags or length or tag)
            return requests, wrong, not wrong
        if flags > MORE or length < 8 or tag in tags or in_batch + 1 + flags > batch_size:
            return requests, True, False
        if len(data) - at < HEADER.size + 8:
            break
        start, end = at + HEADER.size + 8, at + HEADER.size + length
        (attempt,) = struct.unpack_from(">I", data, start - 4)
        if attempt == 0:
            return requests, True, False
        if length - 8 > LIMIT:
            body = "The message has %d bytes, more than ASYA_MAX_MESSAGE_SIZE=%d allows" % (length - 8, LIMIT)
        elif len(data) < end:
            break
        else:
            body = data[start:end]
        tags.add(tag)
        in_batch = in_batch + 1 if flags else 0
        requests.append((tag, flags, attempt, body))
        at = end
    return requests, False, False


def check_requests(streams):
    data = streams.stream()
    for batch_size in (1, 3):
        expected = expected_requests(data, batch_size)
        for pieces in ([data], streams.pieces(data)):
            requests, refusal, goodbye = read_requests(pieces, batch_size)
            found = requests, refusal is not None, goodbye
            assert found == expected, "%r (%r) instead of %r for %r" % (found, refusal, expected, pieces)


# === the runtime ===


class Target:
    """A real runtime, and whether it still does its work."""

    def __init__(self):
        self.runtime = Runtime(
            "workers.act", ASYA_WORKERS="2", ASYA_MAX_MESSAGE_SIZE=str(LIMIT), ASYA_FRAME_TIMEOUT="200ms", ASYA_CANCEL_GRACE="1h"
        )
        self.rounds = 0
        with Client(self.runtime) as client:
            self.pids = [client.control.ready(number)["pid"] for number in (0, 1)]
        self.check()
        self.first = self.memory()

    def memory(self):
        return [int(process_status(pid)["VmRSS"].split()[0]) for pid in [self.runtime.process.pid] + self.pids]

    def attack(self, streams):
        data = streams.stream()
        with Client(self.runtime) as client:
            how = streams.random.randrange(4)
            if how == 0:
                connection = self.runtime.connect()
            else:
                connection = client.raw().socket
                if how == 1:
                    connection.sendall(frame_bytes(HELLO, 0, json.dumps(client.hello("control")).encode()))
                elif how == 2:
                    number = streams.random.randrange(2)
                    hello = client.hello("worker", worker=number, incarnation=1)
                    connection.sendall(frame_bytes(HELLO, 0, json.dumps(hello).encode()))
                elif streams.random.random() < 0.5:
                    data = data.replace(b"NONCE", client.nonce.encode())
            self.send(connection, streams, data)
            connection.close()
        self.rounds += 1

    def send(self, connection, streams, data):
        connection.settimeout(5)
        try:
            for piece in streams.pieces(data):
                connection.sendall(piece)
            if streams.random.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
            if streams.random.random() < 0.3:
                connection.settimeout(1)
                connection.recv(65536)
        except (BrokenPipeError, ConnectionResetError, socket.timeout):
            pass  # It hung up, as it should, or it waits for more.

    def check(self):
        assert self.runtime.process.poll() is None, "the arbiter ended:\n%s" % self.runtime.errors()
        with Client(self.runtime) as client:
            for number, pid in enumerate(self.pids):
                assert client.control.ready(number)["pid"] == pid, "worker %d was replaced" % number
                items = client.worker(number).call({"well": "formed"})
                assert items[0]["payload"] == {"well": "formed"}, items
            client.control.ping()
        with self.runtime.connect() as connection:
            connection.sendall(frame(json.dumps(envelope(5)).encode()))
            assert parse(read_frame(connection))[0]["payload"] == 5
        assert "Traceback" not in self.runtime.errors(), self.runtime.errors()

    def check_memory(self):
        # The write-ahead of one connection is a part of the limit, too.
        most = [before + LIMIT // 1024 * 20 + CONSTANT_KIB for before in self.first]
        now = self.memory()
        assert all(a <= b for a, b in zip(now, most)), "memory grew from %r to %r KiB" % (self.first, now)

    def close(self):
        self.runtime.close()


def fuzz(seconds, seed, report=lambda text: None):
    """Runs for so long, and returns (decoder streams, request streams, rounds against the runtime)."""
    counts = [0, 0, 0]
    target = Target()
    ends = time.monotonic() + seconds
    try:
        number = seed
        told = time.monotonic()
        while not counts[2] or time.monotonic() < ends:
            number += 1
            try:
                streams = Streams(number)
                for _ in range(30):
                    check_decoder(streams)
                    check_requests(streams)
                counts[0] += 30
                counts[1] += 30
                target.attack(streams)
                target.check()
                counts[2] += 1
                if counts[2] % 20 == 0:
                    target.check_memory()
            except BaseException:
                report("failed with --seed %d" % (number - 1))
                raise
            if time.monotonic() - told > 30:
                told = time.monotonic()
                report("%d streams, %d rounds, memory %r KiB" % (counts[0] + counts[1], counts[2], target.memory()))
        target.check_memory()
    finally:
        target.close()
    return tuple(counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    arguments = parser.parse_args()
    print("seed %d" % arguments.seed, flush=True)
    counts = fuzz(arguments.seconds, arguments.seed, lambda text: print(text, flush=True))
    print("ok: %d streams decoded, %d read as requests, %d rounds against a runtime" % counts)


if __name__ == "__main__":
    main()
