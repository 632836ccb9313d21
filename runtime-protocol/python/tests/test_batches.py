"""Batch handlers: one call for many requests, and each request answered by itself."""

import json
import os
import tempfile
import unittest

from support import Runtime, envelope
from v2 import GOODBYE, MORE, REQUEST, WITHDRAWN, Client, Shared, payloads, request_body, touch, wait_for_file


class Batches(Shared):
    handler = "batches.act"
    size = 8

    @classmethod
    def setUpClass(cls):
        descriptor, cls.calls_path = tempfile.mkstemp(prefix="asya-calls-")
        os.close(descriptor)
        settings = dict(cls.variables, ASYA_BATCH_SIZE=str(cls.size), CALLS=cls.calls_path)
        cls.runtime = Runtime(cls.handler, **settings)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.calls_path)

    def setUp(self):
        super().setUp()
        with open(self.calls_path, "w"):
            pass

    def calls(self):
        with open(self.calls_path) as file:
            return [json.loads(line) for line in file]

    def numbered(self, count, **special):
        """`count` payloads; special={"n3": {...}} adds to the one with that number."""
        return [dict(special.get("n%d" % number, {}), n=number) for number in range(count)]


class Act(Batches):
    variables = {"ASYA_BATCH_WAIT": "20ms"}

    def test_welcome_says_so(self):
        self.assertEqual(self.control.welcome["batch"], {"size": 8, "wait_ms": 20})

    def test_one_call_and_each_is_answered(self):
        answers = self.client.worker().batch(self.numbered(8))
        self.assertEqual([answer.payloads() for answer in answers], [[{"n": n, "done": True}] for n in range(8)])
        self.assertEqual(self.calls(), [list(range(8))])

    def test_sizes(self):
        worker = self.client.worker()
        for count in (1, 3, 8, 2):
            worker.batch(self.numbered(count))
        self.assertEqual(self.calls(), [list(range(count)) for count in (1, 3, 8, 2)])

    def test_a_call_waits_for_the_last_of_its_batch(self):
        worker = self.client.worker()
        first = worker.request({"n": 0}, more=True)
        self.control.ping()
        self.assertTrue(worker.is_quiet(0.1))
        self.assertEqual(self.calls(), [])
        last = worker.request({"n": 1})
        self.assertEqual([worker.answer(tag).payloads()[0]["n"] for tag in (first, last)], [0, 1])
        self.assertEqual(self.calls(), [[0, 1]])

    def test_batches_written_ahead_stay_apart(self):
        worker = self.client.worker()
        with worker.writing():
            tags = [worker.request({"n": number}, more=number % 4 < 3) for number in range(80)]
        for number, tag in enumerate(tags):
            self.assertEqual(worker.answer(tag).payloads()[0]["n"], number)
        self.assertEqual(self.calls(), [list(range(batch * 4, batch * 4 + 4)) for batch in range(20)])

    def test_each_element_is_as_if_returned_alone(self):
        special = {
            "n0": {"answer": "none"},
            "n1": {"answer": "fan out"},
            "n2": {"answer": "exception"},
            "n3": {"answer": "set"},
        }
        answers = self.client.worker().batch(self.numbered(5, **special))
        self.assertEqual(answers[0].items, [])
        self.assertEqual(answers[1].payloads(), [1, 2])
        self.assert_error(answers[2].items, "processing_error", "ValueError", "not this one: 2")
        self.assert_error(answers[3].items, "processing_error", "TypeError", "set")
        self.assertEqual(answers[4].payloads(), [{"n": 4, "done": True}])
        self.assertEqual(len(self.calls()), 1)

    def test_each_keeps_its_own_route_and_headers(self):
        worker = self.client.worker()
        first = worker.request(1, more=True, actors=("x", "y", "z"), headers={"h": 1})
        last = worker.request(2, actors=("p", "q"), current=1)
        self.assertEqual(worker.answer(first).items[0]["route"], {"actors": ["x", "y", "z"], "current": 1})
        self.assertEqual(worker.answer(first).items[0]["headers"], {"h": 1})
        self.assertEqual(worker.answer(last).items[0], {"payload": 2, "route": {"actors": ["p", "q"], "current": 2}})

    def test_one_poison_item_fails_alone(self):
        for place in (0, 3, 7):
            with self.subTest(place):
                self.setUp()
                answers = self.client.worker().batch(self.numbered(8, **{"n%d" % place: {"poison": "raise"}}))
                for number, answer in enumerate(answers):
                    if number == place:
                        self.assert_error(answer.items, "processing_error", "ValueError", "poison %d" % place)
                    else:
                        self.assertEqual(answer.payloads(), [{"n": number, "done": True}])
                # All eight, then a good and a bad half of each bad one.
                sizes = sorted(len(call) for call in self.calls())
                self.assertEqual(sizes, [1, 1, 2, 2, 4, 4, 8])
                self.assertEqual([call for call in self.calls() if len(call) == 1 and call == [place]], [[place]])

    def test_all_poison(self):
        special = {"n%d" % number: {"poison": "raise"} for number in range(8)}
        answers = self.client.worker().batch(self.numbered(8, **special))
        for number, answer in enumerate(answers):
            self.assert_error(answer.items, "processing_error", "ValueError", "poison %d" % number)
        self.assertEqual(len(self.calls()), 15)

    def test_a_batch_of_one_is_not_repeated(self):
        answers = self.client.worker().batch(self.numbered(1, n0={"poison": "raise"}))
        self.assert_error(answers[0].items, "processing_error", "ValueError", "poison 0")
        self.assertEqual(self.calls(), [[0]])

    def test_want_of_memory_halves_as_well(self):
        answers = self.client.worker().batch(self.numbered(4, n1={"poison": "memory"}))
        self.assert_error(answers[1].items, "oom", "MemoryError", "no room for 1")
        self.assertEqual([len(answer.items) and "payload" in answer.items[0] for answer in answers], [True, False, True, True])

    def test_what_cannot_be_read_is_not_in_the_call(self):
        worker = self.client.worker()
        tags = [
            worker.request({"n": 0}, more=True),
            worker.request_whole(b"{", more=True),
            worker.request_whole({"payload": 1, "route": {"actors": []}}, more=True),
            worker.request({"n": 3}),
        ]
        answers = [worker.answer(tag).items for tag in tags]
        self.assert_error(answers[1], "msg_parsing_error", "JSONDecodeError")
        self.assert_error(answers[2], "msg_parsing_error", "ValueError", "cannot be empty")
        self.assertEqual([payloads(answers[0])[0]["n"], payloads(answers[3])[0]["n"]], [0, 3])
        self.assertEqual(self.calls(), [[0, 3]])

    def test_nothing_that_can_be_read(self):
        worker = self.client.worker()
        tags = [worker.request_whole(b"{", more=True), worker.request_whole(b"[]")]
        for tag in tags:
            self.assert_error(worker.answer(tag).items, "msg_parsing_error")
        self.assertEqual(self.calls(), [])
        # The last one of a batch may be the bad one, too.
        tags = [worker.request({"n": 0}, more=True), worker.request_whole(b"{")]
        self.assertEqual(worker.answer(tags[0]).payloads()[0]["n"], 0)
        self.assert_error(worker.answer(tags[1]).items, "msg_parsing_error")
        self.assertEqual(self.calls(), [[0]])

    def test_more_than_the_size_is_an_error(self):
        worker = self.client.raw()
        incarnation = self.control.ready()["incarnation"]
        worker.send(1, 0, json.dumps(self.client.hello("worker", worker=0, incarnation=incarnation)).encode())
        worker.read()
        # By a thread, which may find the connection closed.
        with worker.writing():
            for tag in range(9):
                worker.send(REQUEST, tag, request_body(envelope({"n": tag})), MORE if tag < 8 else 0)
        frames = worker.read_to_end()
        self.assertEqual([frame.type for frame in frames], [0x0F])
        self.assertIn("ASYA_BATCH_SIZE", frames[0].body.decode())
        self.assertEqual(self.calls(), [])
        self.assert_serves()

    def test_v1_peers_get_lists_of_one(self):
        calls = [self.runtime.start_call({"n": number}) for number in range(3)]
        for number, call in enumerate(calls):
            self.assertEqual(call.result()[0]["payload"], {"n": number, "done": True})
        self.assertEqual(sorted(self.calls()), [[0], [1], [2]])
        self.assert_error(self.runtime.call({"n": 0, "poison": "raise"}), "processing_error", "ValueError", "poison")

    def test_cancel_of_one_before_the_call(self):
        worker = self.client.worker()
        started, go_on = self.path("started"), self.path("go-on")
        running = worker.request({"n": 9, "wait": {"started": started, "file": go_on}})
        wait_for_file(started)
        tags = [worker.request({"n": number}, more=number < 2) for number in range(3)]
        self.control.cancel(tags[1], reason=WITHDRAWN)
        self.control.cancel(running, reason=WITHDRAWN)
        self.control.ping()
        self.assertTrue(worker.is_quiet(0.1))
        touch(go_on)
        worker.answer(running)
        self.assert_error(worker.answer(tags[1]).items, "cancelled")
        self.assertEqual([worker.answer(tags[n]).payloads()[0]["n"] for n in (0, 2)], [0, 2])
        self.assertEqual(self.calls(), [[9], [0, 2]])

    def test_cancel_of_all_before_the_last_has_come(self):
        worker = self.client.worker()
        tag = worker.request({"n": 0}, more=True)
        # Answered although its batch is not complete; what comes later is a batch of its own.
        self.control.ping()
        self.control.cancel(tag)
        self.assertEqual(worker.answer(tag).types(), [0x20])
        last = worker.request({"n": 1})
        self.assertEqual(worker.answer(last).payloads()[0]["n"], 1)

    def test_cancel_of_a_running_batch(self):
        worker = self.client.worker()
        poll = {"started": self.path("started"), "cancelled": self.path("cancelled")}
        tags = [worker.request({"n": 0, "poll": poll}, more=True), worker.request({"n": 1})]
        wait_for_file(poll["started"])
        for tag in tags:
            self.control.cancel(tag)
        wait_for_file(poll["cancelled"])
        for tag in tags:
            self.assertEqual(worker.answer(tag).types(), [0x20])

    def test_what_is_cancelled_in_a_call_that_fails_is_not_in_its_halves(self):
        worker = self.client.worker()
        started, go_on = self.path("started"), self.path("go-on")
        special = {"n0": {"wait": {"started": started, "file": go_on}}, "n1": {"poison": "raise"}}
        tags = [worker.request(payload, more=payload["n"] < 3) for payload in self.numbered(4, **special)]
        wait_for_file(started)
        for tag in tags[1:]:
            self.control.cancel(tag)
        self.control.ping()
        touch(go_on)
        self.assertEqual(worker.answer(tags[0]).payloads()[0]["n"], 0)
        for tag in tags[1:]:
            self.assert_error(worker.answer(tag).items, "cancelled")
        self.assertEqual(self.calls(), [[0, 1, 2, 3], [0]])

    def test_a_batch_whose_last_never_comes_is_never_run(self):
        worker = self.client.worker()
        worker.request({"n": 0}, more=True)
        worker.close()
        self.assertEqual(payloads(self.client.worker().call({"n": 1})), [{"n": 1, "done": True}])
        self.assertEqual(self.calls(), [[1]])

    def test_death_in_a_batch(self):
        worker = self.client.worker()
        incarnation = self.control.workers[0]["incarnation"]
        for number in range(3):
            worker.request({"n": number, "poison": "exit"} if number == 1 else {"n": number}, more=number < 2)
        self.assertEqual(self.control.gone(0, incarnation)["exit_code"], 5)
        self.assertEqual(worker.read_to_end(), [])
        self.control.ready(0, incarnation + 1)
        self.assert_serves()


class WrongLength(Batches):
    handler = "batches.wrong_length"

    def test_an_error_for_this_batch_only(self):
        worker = self.client.worker()
        for answer in worker.batch([1, 2, 3]):
            self.assertEqual(len(answer.items), 1)
            self.assert_error(answer.items, "processing_error")
            self.assertRegex(answer.items[0]["details"]["message"], "list")
        self.assertEqual([answer.payloads() for answer in worker.batch(["right", 2])], [["right"], [2]])


class NotBatches(unittest.TestCase):
    def outcome(self, handler):
        with Runtime(handler, ASYA_BATCH_SIZE="4", CALLS=os.devnull) as runtime, Client(runtime) as client:
            answers = [answer.items for answer in client.worker().batch([1, 2, 3])]
            return answers + [runtime.call(1)]

    def test_answers_that_are_no_list_of_that_length(self):
        for handler, text in (("too_long", "list"), ("not_a_list", "list"), ("nothing", "list")):
            with self.subTest(handler):
                for items in self.outcome("batches." + handler):
                    self.assertEqual(len(items), 1)
                    self.assertEqual(items[0]["error"], "processing_error")
                    self.assertIn(text, items[0]["details"]["message"])

    def test_a_tuple_is_a_list(self):
        self.assertEqual([payloads(items) for items in self.outcome("batches.as_tuple")], [[1], [2], [3], [1]])

    def test_async_batches(self):
        expected = [[{"later": number}] for number in (1, 2, 3, 1)]
        self.assertEqual([payloads(items) for items in self.outcome("batches.later")], expected)

    def test_end_while_a_batch_is_not_complete(self):
        with Runtime("batches.act", ASYA_BATCH_SIZE="4", CALLS=os.devnull) as runtime, Client(runtime) as client:
            worker = client.worker()
            worker.request({"n": 0}, more=True)
            client.control.ping()
            runtime.terminate()
            self.assertEqual([frame.type for frame in worker.read_to_end()], [GOODBYE])
            self.assertEqual(runtime.wait(), 0)

    def test_async_batches_run_at_the_same_time(self):
        with Runtime("batches.gathered", ASYA_BATCH_SIZE="2", ASYA_CONCURRENCY="3", CALLS=os.devnull) as runtime:
            with Client(runtime) as client:
                worker = client.worker()
                self.assertEqual((client.control.welcome["concurrency"], client.control.welcome["batch"]["size"]), (3, 2))
                # None of the three is answered before all of them have begun.
                tags = [worker.request(number, more=number % 2 == 0) for number in range(6)]
                for number, tag in enumerate(tags):
                    self.assertEqual(worker.answer(tag).payloads(), [{"most": 3, "payload": number}])

    def test_methods(self):
        seen = [payloads(items) for items in self.outcome("batches.Model.predict")]
        self.assertEqual(seen, [[{"calls": 1, "size": 3}]] * 3 + [[{"calls": 2, "size": 1}]])

    def test_envelope_mode(self):
        with Runtime("batches.envelopes", ASYA_BATCH_SIZE="4", ASYA_HANDLER_MODE="envelope", CALLS=os.devnull) as runtime:
            with Client(runtime) as client:
                items = [answer.items[0] for answer in client.worker().batch([10, 11])]
                self.assertEqual([item["payload"] for item in items], [{"seen": 2, "n": 10}, {"seen": 2, "n": 11}])
                self.assertEqual([item["route"]["current"] for item in items], [1, 1])
                self.assertEqual(runtime.call(5)[0]["payload"], {"seen": 1, "n": 5})

    def test_contexts(self):
        with Runtime("batches.contexts", ASYA_BATCH_SIZE="4", CALLS=os.devnull) as runtime, Client(runtime) as client:
            worker = client.worker()
            tags = [
                worker.request(None, budget=100000 * (number + 1), attempt=number + 1, more=number < 2, id=str(number))
                for number in range(3)
            ]
            for number, tag in enumerate(tags):
                seen = worker.answer(tag).payloads()[0]
                self.assertEqual((seen["id"], seen["attempt"], seen["cancelled"]), (str(number), number + 1, False))
                self.assertLessEqual(seen["time_left"], 100 * (number + 1))
                self.assertGreater(seen["time_left"], 100 * (number + 1) - 50)
            self.assertEqual(runtime.call(1)[0]["payload"]["id"], "e1")

    def test_progress(self):
        with Runtime("batches.progress", ASYA_BATCH_SIZE="4", CALLS=os.devnull) as runtime, Client(runtime) as client:
            answers = client.worker().batch([1, 2])
            for number, answer in enumerate(answers):
                messages = [note.get("message") for note in answer.progress]
                self.assertEqual(messages[-1], "only %d" % number)
                # What is said of the call is said of each request in it.
                self.assertEqual(messages[0], "all")


if __name__ == "__main__":
    unittest.main()
