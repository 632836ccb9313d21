"""Bytes that are not the protocol: each is answered with ERROR, costs its own connection, and nothing else."""

import json
import struct
import threading
import unittest

from support import envelope
from v2 import (
    CANCEL,
    ERROR,
    GOODBYE,
    HELLO,
    ITEMS,
    KILL,
    MORE,
    PING,
    PONG,
    REPLY,
    REQUEST,
    STOPPING,
    WELCOME,
    WORKER,
    Shared,
    frame_bytes,
    payloads,
    peak_kib,
    request_body,
    touch,
    wait_for_file,
)


class BadFrames(Shared):
    variables = {"ASYA_FRAME_TIMEOUT": "400ms", "ASYA_MAX_MESSAGE_SIZE": "1000000", "ASYA_WORKERS": "2"}

    def open(self, kind):
        """A greeted connection, without the helpers that would check what is sent."""
        if kind == "control":
            connection = self.client.raw()
            connection.write(frame_bytes(HELLO, 0, json.dumps(self.client.hello("control")).encode()))
        else:
            incarnation = self.control.ready(0)["incarnation"]
            hello = self.client.hello("worker", worker=0, incarnation=incarnation)
            connection = self.client.raw()
            connection.write(frame_bytes(HELLO, 0, json.dumps(hello).encode()))
        self.assertEqual(connection.read().type, WELCOME)
        return connection

    def error_of(self, connection):
        """The text of the ERROR that ends this connection."""
        frames = [frame for frame in connection.read_to_end() if frame.type != WORKER]
        self.assertEqual([frame.type for frame in frames], [ERROR], frames)
        return frames[0].body.decode("utf-8")

    def assert_error_for(self, kind, data, text):
        with self.subTest(kind=kind, data=data[:40]):
            connection = self.open(kind)
            connection.write(data)
            self.assertRegex(self.error_of(connection), text)
            connection.close()

    def test_unknown_types(self):
        for kind in ("control", "worker"):
            for number in (0x00, 0x03, 0x11, 0x25, 0x36, 0xFF):
                self.assert_error_for(kind, frame_bytes(number, 1), "type")
        self.check()

    def test_types_that_the_other_side_sends(self):
        for number in (WELCOME, WORKER, PONG, STOPPING):
            self.assert_error_for("control", frame_bytes(number, 0, b"{}"), ".")
        for number in (WELCOME, REPLY, ITEMS, 0x22, 0x23):
            self.assert_error_for("worker", frame_bytes(number, 1, b"{}"), ".")
        self.check()

    def test_types_of_the_other_connection(self):
        self.assert_error_for("control", frame_bytes(REQUEST, 1, request_body(envelope(1))), ".")
        self.assert_error_for("worker", frame_bytes(KILL, 1, struct.pack(">II", 0, 1)), ".")
        self.assert_error_for("worker", frame_bytes(CANCEL, 1, struct.pack(">IIB", 0, 1, 2)), ".")
        self.assert_error_for("worker", frame_bytes(PING, 1), ".")
        self.check()

    def test_a_second_hello(self):
        hello = json.dumps(self.client.hello("control")).encode()
        self.assert_error_for("control", frame_bytes(HELLO, 0, hello), ".")
        self.assert_error_for("worker", frame_bytes(HELLO, 0, hello), ".")
        self.check()

    def test_unknown_flags(self):
        body = request_body(envelope({"do": "exit", "code": 1}))
        for flags in (0x02, 0x80, 0x03, 0xFF):
            self.assert_error_for("worker", frame_bytes(REQUEST, 1, body, flags=flags), "flag")
        self.assert_error_for("worker", frame_bytes(GOODBYE, 0, flags=MORE), "flag")
        self.assert_error_for("control", frame_bytes(PING, 1, flags=MORE), "flag")
        self.assert_error_for("control", frame_bytes(KILL, 1, struct.pack(">II", 0, 1), flags=1), "flag")
        self.check()

    def test_reserved_bytes(self):
        body = request_body(envelope({"do": "exit", "code": 1}))
        for reserved in (1, 0x100, 0xFFFF):
            self.assert_error_for("worker", frame_bytes(REQUEST, 1, body, reserved=reserved), "zero|reserved")
            self.assert_error_for("control", frame_bytes(PING, 1, reserved=reserved), "zero|reserved")
        self.check()

    def test_bodies_of_the_wrong_length(self):
        for length in (0, 1, 4, 7):
            self.assert_error_for("worker", frame_bytes(REQUEST, 1, b"\0" * length), "8|short|length")
        for length in (0, 8, 10, 100):
            self.assert_error_for("control", frame_bytes(CANCEL, 1, b"\0" * length), "CANCEL|0x31")
        for length in (0, 7, 9):
            self.assert_error_for("control", frame_bytes(KILL, 1, b"\0" * length), "KILL|0x32")
        self.assert_error_for("control", frame_bytes(PING, 1, b"x"), "PING|0x33")
        self.assert_error_for("control", frame_bytes(GOODBYE, 0, b"x"), "GOODBYE|0x24")
        self.assert_error_for("worker", frame_bytes(GOODBYE, 0, b"x"), "GOODBYE|0x24")
        self.check()

    def test_unknown_reason_of_a_cancel(self):
        for reason in (0, 4, 255):
            self.assert_error_for("control", frame_bytes(CANCEL, 1, struct.pack(">IIB", 0, 1, reason)), "reason")
        self.check()

    def test_unknown_workers(self):
        for number in (2, 2**32 - 1):
            for kind, body in ((CANCEL, struct.pack(">IIB", number, 1, 2)), (KILL, struct.pack(">II", number, 1))):
                self.open("control").send(kind, 1, body)
        self.check()

    def test_attempt_zero(self):
        # Attempts count from 1.
        body = struct.pack(">II", 0xFFFFFFFF, 0) + json.dumps(envelope(1)).encode()
        self.assert_error_for("worker", frame_bytes(REQUEST, 1, body), "attempt")
        self.check()

    def test_length_prefix_that_is_wrong(self):
        # Too short by one: the next frame begins inside the body.
        whole = frame_bytes(REQUEST, 1, request_body(envelope("x" * 300)))
        body = whole[12:]
        connection = self.open("worker")
        connection.write(frame_bytes(REQUEST, 1, body, length=len(body) - 1) + b"\0" * 40)
        frames = connection.read_to_end()
        self.assertEqual(frames[-1].type, ERROR)
        # Too long: what is missing never comes.
        self.assert_error_for("worker", frame_bytes(REQUEST, 1, body, length=len(body) + 1), "ASYA_FRAME_TIMEOUT")
        self.check()

    def test_half_a_frame_then_silence(self):
        request = frame_bytes(REQUEST, 1, request_body(envelope("x" * 300)))
        for kind, data in (("worker", request[:1]), ("worker", request[:-1])):
            self.assert_error_for(kind, data, "ASYA_FRAME_TIMEOUT")
        for data in (frame_bytes(KILL, 1, b"\0" * 8)[:-1],):
            self.assert_error_for("control", data, "ASYA_FRAME_TIMEOUT")
        self.check()

    def test_silence_between_frames_is_fine(self):
        worker = self.client.worker()
        self.assertTrue(worker.is_quiet(0.5))
        self.assertEqual(payloads(worker.call(1)), [1])
        self.control.ping()

    def test_a_request_before_half_a_frame_is_answered(self):
        connection = self.open("worker")
        connection.write(frame_bytes(REQUEST, 1, request_body(envelope("whole"))) + b"\0\0\0\x10\x10")
        frames = connection.read_to_end()
        self.assertEqual([frame.type for frame in frames], [REPLY, ERROR])
        self.check()

    def test_duplicate_tags(self):
        started, go_on = self.path("started"), self.path("go-on")
        connection = self.open("worker")
        connection.send(REQUEST, 5, request_body(envelope({"do": "wait_for", "started": started, "file": go_on})))
        wait_for_file(started)
        log = self.path("log")
        connection.send(REQUEST, 5, request_body(envelope({"do": "log", "file": log, "word": "twice"})))
        errors = []
        reader = threading.Thread(target=lambda: errors.append(connection.read_to_end()))
        reader.start()
        reader.join(0.2)
        touch(go_on)
        reader.join(20)
        frames = errors[0]
        self.assertEqual([frame for frame in frames if frame.type == ERROR][0].tag in (0, 5), True)
        self.assertRegex(frames[-1].body.decode(), "tag")
        self.check()
        with self.assertRaises(FileNotFoundError):
            open(log).close()

    def test_a_duplicate_of_a_request_that_waits(self):
        started, go_on = self.path("started"), self.path("go-on")
        connection = self.open("worker")
        connection.send(REQUEST, 1, request_body(envelope({"do": "wait_for", "started": started, "file": go_on})))
        wait_for_file(started)
        for _ in range(2):
            connection.send(REQUEST, 2, request_body(envelope("x")))
        touch(go_on)
        frames = connection.read_to_end()
        self.assertEqual(frames[-1].type, ERROR)
        self.assertLessEqual([(frame.type, frame.tag) for frame in frames].count((REPLY, 2)), 1)
        self.check()

    def test_more_unanswered_requests_than_allowed(self):
        started, go_on = self.path("started"), self.path("go-on")
        connection = self.open("worker")
        connection.send(REQUEST, 0, request_body(envelope({"do": "wait_for", "started": started, "file": go_on})))
        wait_for_file(started)
        # The window is 1, so 1025 are allowed.
        with connection.writing():
            for tag in range(1, 1025):
                connection.send(REQUEST, tag, request_body(envelope(tag)))
        self.assertTrue(connection.is_quiet(0.2))
        with connection.writing():
            connection.send(REQUEST, 1025, request_body(envelope(1025)))
        # Whether the running one gets its answer out before the connection is closed is open.
        touch(go_on)
        frames = connection.read_to_end()
        self.assertEqual(frames[-1].type, ERROR)
        self.assertRegex(frames[-1].body.decode(), "1025|1024|unanswered")
        self.check()

    def test_an_announced_length_of_two_gibibytes(self):
        pids = [self.runtime.process.pid] + [self.control.ready(number)["pid"] for number in (0, 1)]
        before = [peak_kib(pid) for pid in pids]
        text = "ASYA_MAX_MESSAGE_SIZE=1000000"
        connection = self.open("worker")
        connection.write(frame_bytes(REQUEST, 1, request_body(b"{" + b"x" * 500000), length=2**31))
        frame = connection.read()
        self.assertEqual((frame.type, frame.tag), (REPLY, 1))
        item = json.loads(frame.body.decode())[0]
        self.assert_error_item(item, "msg_parsing_error", "ValueError", text)
        # The rest is read and thrown away; when it does not come, that is an ERROR as any other.
        connection.write(b"y" * 30000000)
        self.assertRegex(self.error_of(connection), "ASYA_FRAME_TIMEOUT")
        for length in (2**31, 2**32 - 1):
            self.assert_error_for("control", frame_bytes(KILL, 1, b"\0" * 100, length=length), ".")
            self.assert_error_for("worker", frame_bytes(GOODBYE, 0, b"\0" * 100, length=length), ".")
            self.assert_error_for("worker", frame_bytes(0x77, 0, b"\0" * 100, length=length), ".")
        for pid, peak in zip(pids, before):
            self.assertLess(peak_kib(pid) - peak, 20000)
        self.check()

    def test_a_request_that_is_too_large_is_answered_and_the_next_one_too(self):
        worker = self.client.worker()
        first = worker.request("before")
        large = worker.request("x" * 3000000)
        last = worker.request("after")
        self.assertEqual(worker.answer(first).payloads(), ["before"])
        self.assert_error(worker.answer(large).items, "msg_parsing_error", "ValueError", "ASYA_MAX_MESSAGE_SIZE=1000000")
        self.assertEqual(worker.answer(last).payloads(), ["after"])

    def test_the_limit_counts_the_envelope(self):
        worker = self.client.worker()
        start, end = b'{"payload":"', b'","route":{"actors":["a"]}}'
        for size, fits in ((999900, True), (1000000, None), (1000001, False)):
            body = start + b"x" * (size - len(start) - len(end)) + end
            items = worker.answer(worker.request_whole(body)).items
            if fits is False:
                self.assert_error(items, "msg_parsing_error", "ValueError", "1000001 bytes")
            elif fits is None:
                # It is taken; its answer is a few bytes larger than the limit.
                self.assert_error(items, "processing_error", "ValueError", "ASYA_MAX_MESSAGE_SIZE=1000000")
            else:
                self.assertEqual(len(payloads(items)[0]), size - len(start) - len(end))

    def test_error_of_the_client(self):
        for kind in ("control", "worker"):
            connection = self.open(kind)
            connection.send(ERROR, 0, "the server sent \u2603".encode("utf-8"))
            self.assertEqual([frame for frame in connection.read_to_end() if frame.type != WORKER], [])
        self.check()

    def test_garbage_after_the_greeting(self):
        for kind in ("control", "worker"):
            for data in (b"\xff" * 100, b"\0" * 12, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256))):
                self.assert_error_for(kind, data, ".")
        self.check()

    def check(self):
        """Nobody else has noticed: the workers are those of the start, and serve."""
        control = self.client.new_control()
        self.assertEqual([control.ready(number)["incarnation"] for number in (0, 1)], [1, 1])
        self.assert_serves(0)
        self.assert_serves(1)
        self.assertEqual(self.runtime.call(1)[0]["payload"], 1)


class SlowReaders(Shared):
    """A client that announces and never reads does not make the worker hold more than one answer at a time."""

    def test_memory_of_a_worker_whose_client_does_not_read(self):
        worker = self.client.worker()
        pid = self.control.ready()["pid"]
        worker.call({"do": "big", "size": 1 << 20})
        before = peak_kib(pid)
        with worker.writing():
            for _ in range(200):
                worker.request({"do": "big", "size": 1 << 20})
        self.control.ping()
        for tag in range(2, 202):
            worker.answer(tag)
        self.assertLess(peak_kib(pid) - before, 64000)


if __name__ == "__main__":
    unittest.main()
