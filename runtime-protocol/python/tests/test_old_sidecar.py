"""The original's sidecar against this runtime: whole responses, byte for byte.

`OldSidecar` does what contract data-plane 6.1 and 6.8 say of the original and nothing else: it looks for the ready file,
connects and closes as a readiness check, then for each message connects, writes length and body in two writes, reads
one response, and closes. It knows of no second socket.
"""

import json
import os
import socket
import struct
import unittest

from support import DEADLINE_SECONDS, Runtime, read_exactly, wait_until


class OldSidecar:
    def __init__(self, directory):
        self._path = os.path.join(directory, "asya-runtime.sock")
        self._ready = os.path.join(directory, "runtime-ready")

    def wait_until_ready(self):
        wait_until(self._is_ready, "the old sidecar finds the runtime ready")

    def _is_ready(self):
        if not os.path.isfile(self._ready):
            return False
        try:
            self._connect().close()
        except OSError:
            return False
        return True

    def _connect(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(DEADLINE_SECONDS)
        connection.connect(self._path)
        return connection

    def call(self, body):
        with self._connect() as connection:
            connection.sendall(struct.pack(">I", len(body)))
            if body:
                connection.sendall(body)
            (size,) = struct.unpack(">I", read_exactly(connection, 4))
            response = read_exactly(connection, size)
            trailing = connection.recv(1)
        assert trailing == b"", "the runtime wrote more than its response: %r" % trailing
        return response


ROUTE = b'"route":{"actors":["a","b"],"current":0}'
NEXT = b'"route":{"actors":["a","b"],"current":1}'


def request(payload, more=b""):
    return b'{"id":"e1",' + ROUTE + b',"payload":' + payload + more + b"}"


def acts(do, **parts):
    return request(json.dumps(dict(parts, do=do)).encode())


class TableOfCases(unittest.TestCase):
    handler = "sample.act"
    variables = {}

    @classmethod
    def setUpClass(cls):
        cls.runtime = Runtime(cls.handler, **cls.variables)

    @classmethod
    def tearDownClass(cls):
        cls.runtime.close()

    def setUp(self):
        self.sidecar = OldSidecar(self.runtime.directory)
        self.sidecar.wait_until_ready()

    def assert_responses(self, cases):
        for body, expected in cases:
            with self.subTest(body=body[:120]):
                self.assertEqual(self.sidecar.call(body), expected)

    def assert_failures(self, cases):
        """Exactly one item with these members in this order; the traceback names the exception."""
        for body, code, kind, message in cases:
            with self.subTest(body=body[:120]):
                response = self.sidecar.call(body).decode("ascii")
                items = json.loads(response)
                self.assertEqual(len(items), 1)
                details = items[0]["details"]
                self.assertEqual((items[0]["error"], details["type"]), (code, kind))
                self.assertIn(message, details["message"])
                if code == "processing_error":
                    self.assertIn(kind, details["traceback"])
                whole = {
                    "error": code,
                    "details": {key: details[key] for key in ("message", "type", "traceback", "mro")},
                }
                self.assertEqual(response, json.dumps([whole], separators=(",", ":")))


class PayloadMode(TableOfCases):
    def test_results(self):
        def one(payload, more=b""):
            return b'{"payload":' + payload + b"," + NEXT + more + b"}"

        self.assert_responses(
            [
                (request(b"5"), b"[" + one(b"5") + b"]"),
                (request(b"null"), b"[]"),
                (request(b"false"), b"[" + one(b"false") + b"]"),
                (request(b'"\xe2\x98\x83"'), b"[" + one(b'"\\u2603"') + b"]"),
                (request(b'{"x":[1,{"y":0.1}]}'), b"[" + one(b'{"x":[1,{"y":0.1}]}') + b"]"),
                (request(b'{"big":123456789012345678901234567890}'), b"[" + one(b'{"big":123456789012345678901234567890}') + b"]"),
                (acts("none"), b"[]"),
                (acts("return", value=[]), b"[]"),
                (acts("tuple", value=[]), b"[]"),
                (acts("return", value=[1, None, [2]]), b"[" + one(b"1") + b"," + one(b"null") + b"," + one(b"[2]") + b"]"),
                (acts("tuple", value=["x"]), b"[" + one(b'"x"') + b"]"),
                (acts("return", value={}), b"[" + one(b"{}") + b"]"),
                (acts("return", value=0), b"[" + one(b"0") + b"]"),
                (request(b"1", b',"headers":{"h":[1]}'), b"[" + one(b"1", b',"headers":{"h":[1]}') + b"]"),
                (request(b"1", b',"headers":null'), b"[" + one(b"1") + b"]"),
                (request(b"1", b',"parent_id":"p","deadline":"x","other":2'), b"[" + one(b"1") + b"]"),
                (b'{"payload":1,"route":{"actors":["a"]}}', b'[{"payload":1,"route":{"actors":["a"],"current":1}}]'),
                (
                    b'{"payload":1,"route":{"actors":["a"],"current":null}}',
                    b'[{"payload":1,"route":{"actors":["a"],"current":1}}]',
                ),
                (
                    b'{"payload":1,"route":{"actors":["a"],"current":1,"metadata":{"asya_step":3},"own":[]}}',
                    b'[{"payload":1,"route":{"actors":["a"],"current":2,"metadata":{"asya_step":3},"own":[]}}]',
                ),
            ]
        )

    def test_refusals(self):
        parsing = "msg_parsing_error"
        self.assert_failures(
            [
                (b"", parsing, "JSONDecodeError", "Expecting value"),
                (b"{", parsing, "JSONDecodeError", "Expecting property name"),
                (b'{"payload":"\xff"}', parsing, "UnicodeDecodeError", "utf-8"),
                (b"[]", parsing, "ValueError", "JSON object"),
                (b"{}", parsing, "ValueError", "Missing required field 'payload' in envelope"),
                (b'{"payload":1}', parsing, "ValueError", "Missing required field 'route' in envelope"),
                (b'{"payload":1,"route":7}', parsing, "ValueError", "Field 'route' must be a dict"),
                (b'{"payload":1,"route":{}}', parsing, "ValueError", "Missing required field 'actors' in route"),
                (b'{"payload":1,"route":{"actors":{}}}', parsing, "ValueError", "Field 'route.actors' must be a list"),
                (
                    b'{"payload":1,"route":{"actors":["a"],"current":"0"}}',
                    parsing,
                    "ValueError",
                    "Field 'route.current' must be an integer",
                ),
                (b'{"payload":1,"route":{"actors":[]}}', parsing, "ValueError", "Field 'route.actors' cannot be empty"),
                (
                    b'{"payload":1,"route":{"actors":["a"],"current":2}}',
                    parsing,
                    "ValueError",
                    "Invalid route.current=2: out of bounds for actors of length 1",
                ),
                (request(b"1", b',"headers":[]'), parsing, "ValueError", "Field 'headers' must be a dict"),
                (b'{"id":7,"payload":1,"route":{"actors":["a"]}}', parsing, "ValueError", "Field 'id' must be a string"),
            ]
        )

    def test_failures_of_the_handler(self):
        processing = "processing_error"
        self.assert_failures(
            [
                (acts("raise", text="it"), processing, "ValueError", "could not use it"),
                (acts("exit", code=3), processing, "SystemExit", "sys.exit(3)"),
                (acts("interrupt"), processing, "KeyboardInterrupt", ""),
                (acts("out_of_memory"), processing, "MemoryError", "no room"),
                (acts("recurse"), processing, "RecursionError", "recursion"),
            ]
        )

    def test_peers_that_leave_early(self):
        for part in (b"", b"\0", b"\0\0\0\x10", b"\0\0\0\x10{"):
            with self.runtime.connect() as connection:
                connection.sendall(part)
        self.assertEqual(self.sidecar.call(request(b"1")), b'[{"payload":1,' + NEXT + b"}]")

    def test_large_messages(self):
        text = b'"' + b"x" * 5000000 + b'"'
        self.assertEqual(self.sidecar.call(request(text)), b'[{"payload":' + text + b"," + NEXT + b"}]")


class EnvelopeMode(TableOfCases):
    handler = "envelopes.act"
    variables = {"ASYA_HANDLER_MODE": "envelope"}

    def test_results(self):
        def case(do, payload=b"", actors=b'["a","b"]', current=0, after=1):
            start = b'{"id":"e1","route":{"actors":' + actors + b',"current":'
            end = b'},"payload":{"do":"' + do + b'"' + payload + b"}}"
            return start + b"%d" % current + end, b"[" + start + b"%d" % after + end + b"]"

        self.assert_responses(
            [
                case(b"same"),
                case(b"same", current=1, after=2),
                case(b"increment"),
                case(b"increment", current=1, after=2),
                case(b"jump", b',"to":0', current=1, after=0),
            ]
        )

    def test_failures(self):
        body = b'{"id":"e1","route":{"actors":["a","b"],"current":1},"payload":{"do":"%s"}}'
        self.assert_failures(
            [
                (body % b"erase", "processing_error", "ValueError", "Invalid output envelope[0/1]: Route modification error"),
                (body % b"rename", "processing_error", "ValueError", "Invalid output envelope[0/1]: Route mismatch"),
                (b'{"payload":1,"route":{}}', "msg_parsing_error", "ValueError", "Missing required field 'actors'"),
            ]
        )


class EndHandler(TableOfCases):
    handler = "envelopes.end"
    variables = {"ASYA_HANDLER_MODE": "envelope", "ASYA_ENABLE_VALIDATION": "false"}

    def test_untouched(self):
        self.assert_responses(
            [
                (b'{"route":{},"payload":1}', b"[{}]"),
                (b'{"id":1,"headers":null,"error":"kept"}', b'[{"id":1,"headers":null,"error":"kept","seen":true}]'),
            ]
        )


if __name__ == "__main__":
    unittest.main()
