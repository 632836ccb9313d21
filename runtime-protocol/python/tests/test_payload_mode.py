"""Payload mode: input validation, results, and results that cannot be sent."""

import json
import unittest

from support import Runtime, SharedRuntime, envelope, frame, read_frame


class Results(SharedRuntime):
    def test_one_result_advances_the_route(self):
        whole = envelope({"x": 1}, headers={"trace": "t"}, other="kept by the sidecar")
        whole["route"]["metadata"] = {"step": 3}
        whole["route"]["unknown"] = [1]
        self.assertEqual(
            self.runtime.send(whole),
            [
                {
                    "payload": {"x": 1},
                    "route": {"actors": ["a", "b"], "current": 1, "metadata": {"step": 3}, "unknown": [1]},
                    "headers": {"trace": "t"},
                }
            ],
        )

    def test_no_headers_no_key(self):
        self.assertEqual(set(self.runtime.send(envelope(1))[0]), {"payload", "route"})
        self.assertEqual(set(self.runtime.send(envelope(1, headers=None))[0]), {"payload", "route"})

    def test_nothing_to_send(self):
        self.assertEqual(self.runtime.call({"do": "none"}), [])
        self.assertEqual(self.runtime.call({"do": "return", "value": []}), [])
        self.assertEqual(self.runtime.call({"do": "tuple", "value": []}), [])

    def test_fan_out(self):
        for how in ("return", "tuple"):
            answer = self.runtime.call({"do": how, "value": [1, None, [2]]})
            self.assertEqual([item["payload"] for item in answer], [1, None, [2]])
            self.assertEqual([item["route"]["current"] for item in answer], [1, 1, 1])

    def test_falsy_results_are_results(self):
        for value in (0, False, "", {}):
            self.assertEqual(self.runtime.call({"do": "return", "value": value})[0]["payload"], value)

    def test_numbers_and_text_survive(self):
        text = '{"big":12345678901234567890123,"f":0.1,"e":1e300,"z":-0.0,"u":"\\ud800 \\u2603 \\ud83d\\ude00","n":null}'
        body = '{"id":"i","payload":%s,"route":{"actors":["a"]}}' % text
        self.assertEqual(self.runtime.send_body(body.encode("utf-8"))[0]["payload"], json.loads(text))

    def test_route_current_absent_null_or_true(self):
        for current, expected in ((None, 1), (True, 2), (2, 3)):
            self.assertEqual(self.runtime.send(envelope(1, current=current))[0]["route"]["current"], expected)
        self.assertEqual(self.runtime.send({"payload": 1, "route": {"actors": ["a"]}})[0]["route"]["current"], 1)

    def test_other_spellings_of_keys(self):
        answer = self.runtime.send({"ID": "i", "Payload": 5, "Route": {"Actors": ["a"], "CURRENT": 0}})
        self.assertEqual(answer, [{"payload": 5, "route": {"actors": ["a"], "current": 1}}])
        self.assertEqual(self.runtime.send(envelope(1, Payload=2))[0]["payload"], 1)
        self.assertEqual(self.runtime.send({"payload": 1, "route": {"steps": ["a"]}})[0]["route"]["actors"], ["a"])
        answer = self.runtime.send_body(b'{"PAYLOAD":1,"Payload":2,"payloaD":3,"route":{"actors":["a"]}}')
        self.assertEqual(answer[0]["payload"], 3)


class Validation(SharedRuntime):
    def test_each_rule_in_order(self):
        route = {"actors": ["a"], "current": 0}
        cases = [
            ({}, "Missing required field 'payload' in envelope"),
            ({"payload": None}, "Missing required field 'route' in envelope"),
            ({"payload": 1, "route": []}, "Field 'route' must be a dict"),
            ({"payload": 1, "route": None}, "Field 'route' must be a dict"),
            ({"payload": 1, "route": {}}, "Missing required field 'actors' in route"),
            ({"payload": 1, "route": {"actors": "a"}}, "Field 'route.actors' must be a list"),
            ({"payload": 1, "route": {"actors": [], "current": "0"}}, "Field 'route.current' must be an integer"),
            ({"payload": 1, "route": {"actors": ["a"], "current": 1.0}}, "Field 'route.current' must be an integer"),
            ({"payload": 1, "route": {"actors": [], "current": 5}}, "Field 'route.actors' cannot be empty"),
            ({"payload": 1, "route": {"actors": ["a"], "current": 2}}, "out of bounds for actors of length 1"),
            ({"payload": 1, "route": {"actors": ["a"], "current": -1}}, "Invalid route.current=-1: out of bounds"),
            ({"payload": 1, "route": route, "headers": []}, "Field 'headers' must be a dict"),
            ({"payload": 1, "route": route, "id": 7}, "Field 'id' must be a string"),
        ]
        for whole, text in cases:
            with self.subTest(text):
                self.assert_error(self.runtime.send(whole), "msg_parsing_error", "ValueError", text)
        self.assert_alive()

    def test_not_json(self):
        for body in (b"", b" ", b"{", b"nope", b'{"a":1} x', b"{'a':1}", b"\xef\xbb\xbf{}"):
            with self.subTest(body):
                self.assert_error(self.runtime.send_body(body), "msg_parsing_error", "JSONDecodeError")
        self.assert_alive()

    def test_constants_that_are_not_json(self):
        for name in (b"NaN", b"Infinity", b"-Infinity"):
            body = b'{"payload":' + name + b',"route":{"actors":["a"]}}'
            self.assert_error(self.runtime.send_body(body), "msg_parsing_error", "JSONDecodeError", "not a JSON value")

    def test_not_utf8(self):
        for body in (b"\xff\xfe", b'{"payload":"\xc3\x28"}', b'{"payload":"\xed\xa0\x80"}', '{"a":1}'.encode("utf-16")):
            self.assert_error(self.runtime.send_body(body), "msg_parsing_error", "UnicodeDecodeError")
        self.assert_alive()

    def test_not_an_object(self):
        for body in (b"[]", b"null", b"3", b'"text"', b"true"):
            self.assert_error(self.runtime.send_body(body), "msg_parsing_error", "ValueError", "must be a JSON object")
        self.assert_alive()

    def test_deep_nesting_works_or_is_refused(self):
        for levels in (100, 900, 1000, 5000, 200000):
            payload = b"[" * levels + b"]" * levels
            body = b'{"id":"i","route":{"actors":["a"]},"payload":{"p":' + payload + b"}}"
            with self.runtime.connect() as connection:
                connection.sendall(frame(body))
                answer = read_frame(connection)
            if answer.startswith(b'[{"error"'):
                self.assert_error_item(json.loads(answer.decode())[0], "msg_parsing_error", "ValueError", "nested too deeply")
                self.assertGreater(levels, 900)
            else:
                self.assertIn(payload, answer)
        self.assert_alive()


class Failures(SharedRuntime):
    def test_exception(self):
        answer = self.runtime.call({"do": "raise", "text": "the secret"})
        self.assert_error(answer, "processing_error", "ValueError", "could not use the secret")
        self.assertIn("in do_raise", answer[0]["details"]["traceback"])
        self.assertIn("ValueError: could not use the secret", answer[0]["details"]["traceback"])
        self.assertNotIn("the secret", self.runtime.errors())
        self.assertRegex(self.runtime.errors(), r"ERROR - handler failed: id=e1 ValueError at .*sample\.py:\d+")

    def test_the_classes_of_an_exception_are_named(self):
        cases = [
            ({"do": "raise", "text": "it"}, ["ValueError", "Exception"]),
            (
                {"do": "raise_overload"},
                ["sample.Overload", "sample.Outage", "ConnectionError", "OSError", "LookupError", "Exception"],
            ),
            ({"do": "exit", "code": 3}, ["SystemExit"]),
            # Found by the runtime: under the name that it reports.
            ({"do": "set"}, ["TypeError", "Exception"]),
        ]
        for payload, names in cases:
            details = self.runtime.call(payload)[0]["details"]
            self.assertEqual(details["mro"], names)
            self.assertEqual(details["type"], names[0].split(".")[-1])
        details = self.runtime.send({})[0]["details"]
        self.assertEqual(details["mro"], ["ValueError", "Exception"])

    def test_the_names_of_classes_are_bounded(self):
        names = self.runtime.call({"do": "raise_deep"})[0]["details"]["mro"]
        self.assertEqual((len(names), {len(name) for name in names}), (32, {200}))

    def test_exceptions_that_are_hard_to_report(self):
        answer = self.runtime.call({"do": "raise_long"})
        self.assert_error(answer, "processing_error", "ValueError", "characters left out")
        self.assertLess(len(json.dumps(answer)), 1000000)
        self.assert_error(self.runtime.call({"do": "raise_unprintable"}), "processing_error", "Unprintable")
        self.assert_error(self.runtime.call({"do": "recurse"}), "processing_error", "RecursionError")
        self.assert_alive()

    def test_exit_and_interrupt_end_the_call_only(self):
        for code in (0, 3, "text", None):
            answer = self.runtime.call({"do": "exit", "code": code})
            self.assert_error(answer, "processing_error", "SystemExit", "sys.exit(%s)" % code)
        self.assert_error(self.runtime.call({"do": "interrupt"}), "processing_error", "KeyboardInterrupt")
        self.assert_alive()
        self.assertIsNone(self.runtime.process.poll())

    def test_results_that_are_not_json(self):
        cases = [
            ("set", "TypeError", "['payload']['tags'] is of type set; return sorted(...)"),
            ("datetime", "TypeError", "['payload']['at'][0] is of type datetime; return its .isoformat()"),
            ("bytes", "TypeError", "['payload'] is of type bytes; decode it"),
            ("generator", "TypeError", "of type generator; return list(...)"),
            ("coroutine", "TypeError", "of type coroutine; await it"),
            ("tuple_key", "TypeError", "a dict with a key of type tuple; use strings"),
            ("circular", "ValueError", "Circular reference"),
            ("nan", "ValueError", "['payload']['scores'][1] is the number nan, which JSON does not have"),
            ("deep", "RecursionError", "nested too deeply"),
        ]
        for do, kind, text in cases:
            with self.subTest(do):
                answer = self.runtime.call({"do": do})
                self.assert_error(answer, "processing_error", kind, text)
                self.assertIn("result item 0 cannot be sent as JSON", answer[0]["details"]["message"])
        self.assertNotIn("never awaited", self.runtime.errors())
        self.assert_alive()

    def test_number_beyond_a_double(self):
        answer = self.runtime.send_body(b'{"id":"i","payload":{"n":1e400},"route":{"actors":["a"]}}')
        self.assert_error(answer, "processing_error", "ValueError", "the number inf, which JSON does not have")

    def test_bad_item_does_not_take_the_others_with_it(self):
        answer = self.runtime.call({"do": "some_bad"})
        self.assertEqual([item.get("payload") for item in answer], [{"n": 0}, None, {"n": 2}])
        self.assert_error_item(answer[1], "processing_error", "TypeError", "result item 1 cannot be sent")

    def test_ten_megabytes(self):
        self.assertEqual(len(self.runtime.call({"do": "big", "size": 10000000})[0]["payload"]), 10000000)


class Limits(SharedRuntime):
    variables = {"ASYA_MAX_MESSAGE_SIZE": "4096"}

    def test_result_too_large(self):
        answer = self.runtime.call({"do": "big", "size": 5000})
        self.assert_error(answer, "processing_error", "ValueError", "ASYA_MAX_MESSAGE_SIZE=4096")

    def test_answer_too_large_as_a_whole(self):
        answer = self.runtime.call({"do": "many", "size": 900, "count": 6})
        self.assertEqual([item["payload"] for item in answer[:-1]], ["x" * 900] * (len(answer) - 1))
        self.assertGreaterEqual(len(answer), 3)
        text = "result items %d to 5 do not fit" % (len(answer) - 1)
        self.assert_error_item(answer[-1], "processing_error", "ValueError", text)

    def test_errors_fit_the_limit(self):
        answer = self.runtime.call({"do": "raise_long"})
        self.assert_error(answer, "processing_error", "ValueError")
        self.assertLess(len(json.dumps(answer)), 4096)


class WithoutValidation(SharedRuntime):
    variables = {"ASYA_ENABLE_VALIDATION": "false"}

    def test_only_what_the_call_needs_is_checked(self):
        answer = self.runtime.send({"payload": 1, "route": {"current": 9, "actors": []}, "id": 7})
        self.assertEqual(answer, [{"payload": 1, "route": {"current": 10, "actors": []}}])
        self.assert_error(self.runtime.send({"payload": 1}), "msg_parsing_error", "ValueError", "'route'")
        self.assert_error(self.runtime.send_body(b"[]"), "msg_parsing_error", "ValueError")


class IncludeMetadata(unittest.TestCase):
    def test_added_and_taken_out_again(self):
        with Runtime("sample.metadata", ASYA_INCLUDE_METADATA="yes") as runtime:
            route = {"actors": ["a", "b"], "current": 0}
            first, second = runtime.send(envelope({"x": 1}, headers={"h": 1}))
            self.assertEqual(first, {"payload": {"x": 1}, "route": dict(route, current=1), "headers": {"h": 1}})
            self.assertEqual(second["payload"], {"seen": ["headers", "id", "route", "x"], "route": dict(route, mine=True)})
            self.assertEqual(second["route"], dict(route, current=1))
            # A key that the payload brings itself stays what it is.
            first = runtime.send(envelope({"id": "own", "route": {"mine": 1}}))[0]
            self.assertEqual(first["payload"], {"id": "own", "route": {"mine": 1}})

    def test_edits_of_the_copy_change_only_the_payload(self):
        with Runtime("sample.metadata_edits", ASYA_INCLUDE_METADATA="1") as runtime:
            item = runtime.send(envelope({"x": 1}, headers={"h": 1}))[0]
            self.assertEqual(item["headers"], {"h": 1})
            self.assertEqual(item["payload"], {"x": 1, "headers": {"h": 1, "edited": True}})

    def test_off_by_default(self):
        with Runtime("sample.echo") as runtime:
            self.assertEqual(runtime.call({"x": 1})[0]["payload"], {"x": 1})


if __name__ == "__main__":
    unittest.main()
