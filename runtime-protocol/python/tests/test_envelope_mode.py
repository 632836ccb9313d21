"""Envelope mode: what the handler sees, what it may do to the route, and validation by snapshot."""

import unittest

from support import Runtime, SharedRuntime, envelope


class Validated(SharedRuntime):
    handler = "envelopes.act"
    variables = {"ASYA_HANDLER_MODE": "envelope"}

    def act(self, do, actors=("a", "b"), current=0, more=None, **payload):
        return self.runtime.send(envelope(dict(payload, do=do), actors, current, **(more or {})))

    def current_after(self, do, current, **payload):
        answer = self.act(do, current=current, **payload)
        self.assertEqual(len(answer), 1, answer)
        return answer[0]["route"]["current"]

    def test_unchanged_current_is_advanced(self):
        self.assertEqual(self.current_after("same", 0), 1)
        self.assertEqual(self.current_after("same", 1), 2)

    def test_increment_in_place(self):
        self.assertEqual(self.current_after("increment", 0), 1)
        # On the last actor as well: the comparison is with the route as it came.
        self.assertEqual(self.current_after("increment", 1), 2)

    def test_changed_current_is_left_alone(self):
        self.assertEqual(self.current_after("jump", 1, to=0), 0)
        self.assertEqual(self.current_after("jump", 0, to=2), 2)
        self.assertIs(type(self.current_after("jump", 0, to=True)), int)

    def test_current_out_of_bounds(self):
        answer = self.act("jump", to=3)
        self.assert_error(answer, "processing_error", "ValueError", "Invalid output envelope[0/1]: Invalid route.current=3")

    def test_append_in_place(self):
        answer = self.act("append", current=1)
        self.assertEqual(answer[0]["route"], {"actors": ["a", "b", "extra"], "current": 2})

    def test_erasing_processed_actors_in_place(self):
        text = "already-processed actors cannot be erased"
        self.assert_error(self.act("erase", current=1), "processing_error", "ValueError", text)
        answer = self.act("rename", current=1)
        self.assert_error(answer, "processing_error", "ValueError", "Route mismatch: input route points to 'b'")
        self.assertTrue(answer[0]["details"]["message"].startswith("Invalid output envelope[0/1]: "))

    def test_route_without_current_counts_as_unchanged(self):
        self.assertEqual(self.current_after("fresh_route", 1), 2)

    def test_end_position(self):
        self.assertEqual(self.current_after("same", 2), 3)

    def test_handler_sees_every_key(self):
        answer = self.act("seen", more={"parent_id": None, "headers": None, "x-own": 1, "deadline": "2030-01-01T00:00:00Z"})
        self.assertEqual(
            answer[0]["payload"],
            {"keys": ["deadline", "id", "parent_id", "payload", "route", "x-own"], "current": 0},
        )
        self.assertEqual(answer[0]["x-own"], 1)
        self.assertEqual(self.runtime.send({"payload": {"do": "seen"}, "route": {"actors": ["a"]}})[0]["payload"]["current"], 0)

    def test_unknown_route_keys_are_kept(self):
        whole = envelope({"do": "same"})
        whole["route"]["metadata"] = {"step": 1}
        whole["route"]["own"] = [1]
        self.assertEqual(
            self.runtime.send(whole)[0]["route"], {"actors": ["a", "b"], "current": 1, "metadata": {"step": 1}, "own": [1]}
        )

    def test_headers_may_be_changed(self):
        self.assertEqual(self.act("headers", more={"headers": {"h": 1}})[0]["headers"], {"h": 1, "added": [1]})

    def test_handler_cannot_fake_an_error_item(self):
        item = self.act("error_key")[0]
        self.assertEqual((item["id"], item["extra"]), ("e1", 1))
        self.assertNotIn("error", item)
        self.assertNotIn("details", item)

    def test_fan_out(self):
        answer = self.act("fan_out")
        self.assertEqual([(item["payload"], item["route"]["current"]) for item in answer], [(0, 1), (1, 1), (2, 1)])
        answer = self.act("twice")
        self.assertEqual([item["route"]["current"] for item in answer], [1, 1])

    def test_bad_item_keeps_its_place(self):
        answer = self.act("some_bad")
        self.assertEqual([item.get("id") for item in answer], ["e1", None, "e1"])
        self.assert_error_item(answer[1], "processing_error", "ValueError", "Invalid output envelope[1/3]: Missing required")

    def test_not_an_envelope(self):
        answer = self.act("not_dict")
        self.assert_error(answer, "processing_error", "ValueError", "Invalid output envelope[0/1]: Envelope must be a dict, not str")

    def test_input_is_validated(self):
        answer = self.runtime.send({"payload": {}, "route": {"actors": []}})
        self.assert_error(answer, "msg_parsing_error", "ValueError", "cannot be empty")


class Repeat(unittest.TestCase):
    def test_unchanged_current_loops_when_asked_for(self):
        with Runtime("envelopes.act", ASYA_HANDLER_MODE="envelope", ASYA_ROUTE_UNCHANGED="repeat") as runtime:
            self.assertEqual(runtime.send(envelope({"do": "same"}, current=1))[0]["route"]["current"], 1)
            self.assertEqual(runtime.send(envelope({"do": "increment"}, current=1))[0]["route"]["current"], 2)


class WithoutValidation(unittest.TestCase):
    def test_dicts_stay_untouched(self):
        with Runtime("envelopes.end", ASYA_HANDLER_MODE="envelope", ASYA_ENABLE_VALIDATION="false") as runtime:
            self.assertEqual(runtime.send(envelope(1)), [{}])
            whole = {"id": 1, "headers": None, "Payload": 2, "error": "kept"}
            self.assertEqual(runtime.send(whole), [dict(whole, seen=True)])


if __name__ == "__main__":
    unittest.main()
