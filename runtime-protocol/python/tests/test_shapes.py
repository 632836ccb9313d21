"""Handler shapes: `async def`, generators, streams; over both protocols."""

import unittest

from support import Runtime, envelope, wait_until
from v2 import ITEMS, PARTIAL, REPLY, Client, Shared, payloads, touch, wait_for_file


def lines(path):
    try:
        with open(path) as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


class Names(unittest.TestCase):
    """Each way to name a handler, over v1 and v2."""

    def assert_answers(self, handler, payload, *expected, **variables):
        with Runtime(handler, **variables) as runtime, Client(runtime) as client:
            worker = client.worker()
            for number, value in enumerate(expected):
                items = runtime.call(payload) if number % 2 else worker.call(payload)
                self.assertEqual(payloads(items), value)

    def test_methods(self):
        self.assert_answers("sample.Counter.process", None, [{"count": 11}], [{"count": 12}], [{"count": 13}])
        self.assert_answers("sample.Bare.fixed", 1, [{"static": 1}], [{"static": 1}])

    def test_callables(self):
        self.assert_answers("sample.adder", 1, [6], [6])
        self.assert_answers("sample.partial", 1, [4], [4])

    def test_async_methods_and_callables(self):
        self.assert_answers(
            "tasks.Client.process", 1, [{"calls": 1, "payload": 1}], [{"calls": 2, "payload": 1}], [{"calls": 3, "payload": 1}]
        )
        self.assert_answers("tasks.instance", 1, [{"called": 1}], [{"called": 1}])
        self.assert_answers("sample.async_partial", 7, [7], [7])

    def test_generator_methods(self):
        self.assert_answers("generators.Model.process", "p", [1, "p"], [2, "p"], [3, "p"])

    def test_generators_that_are_returned(self):
        # Not a generator function, so it is not a generator handler; what it returns is not JSON, as ever.
        with Runtime("generators.returned") as runtime, Client(runtime) as client:
            for items in (client.worker().call({"values": [1]}), runtime.call({"values": [1]})):
                self.assertEqual((items[0]["error"], items[0]["details"]["type"]), ("processing_error", "TypeError"))

    def test_async_envelope_mode(self):
        with Runtime("tasks.envelope", ASYA_HANDLER_MODE="envelope", ASYA_CONCURRENCY="3") as runtime:
            with Client(runtime) as client:
                expected = envelope({"seen": ["id", "payload", "route"]}, current=1)
                self.assertEqual(client.worker().call(1), [expected])
                self.assertEqual(runtime.call(1), [expected])


class Tasks(Shared):
    handler = "tasks.act"
    variables = {"ASYA_CONCURRENCY": "64"}

    def test_welcome_says_how_many(self):
        self.assertEqual(self.control.welcome["concurrency"], 64)

    def test_64_run_at_the_same_time_and_no_more(self):
        worker = self.client.worker()
        log, go_on = self.path("log"), self.path("go-on")
        tags = [worker.request({"do": "started", "log": log, "file": go_on}) for _ in range(70)]
        wait_until(lambda: len(lines(log)) >= 64, "64 run at once")
        # What is beyond the window is not started before one has ended.
        self.control.ping()
        self.assertEqual(len(lines(log)), 64)
        touch(go_on)
        for tag in tags:
            self.assertEqual(worker.answer(tag).payloads(), [{"waited": True}])
        self.assertEqual(len(lines(log)), 70)

    def test_sleeps_overlap(self):
        worker = self.client.worker()
        worker.call({"do": "most"})
        tags = [worker.request({"do": "sleep", "seconds": 0.05}) for _ in range(128)]
        for tag in tags:
            worker.answer(tag)
        most = payloads(worker.call({"do": "most"}))[0]
        self.assertGreater(most, 32)
        self.assertLessEqual(most, 64)

    def test_answers_come_as_they_are_ready(self):
        worker = self.client.worker()
        go_on = self.path("go-on")
        slow = worker.request({"do": "started", "log": self.path("log"), "file": go_on})
        fast = [worker.request(number) for number in range(10)]
        for tag in fast:
            worker.answer(tag)
        self.assertFalse(worker.answers[slow].ended)
        touch(go_on)
        worker.answer(slow)
        self.assertEqual(worker.ended[-1], slow)

    def test_v1_calls_overlap_as_well(self):
        log, go_on = self.path("log"), self.path("go-on")
        calls = [self.runtime.start_call({"do": "started", "log": log, "file": go_on}) for _ in range(10)]
        wait_until(lambda: len(lines(log)) == 10, "all run at once")
        touch(go_on)
        for call in calls:
            self.assertEqual(call.result()[0]["payload"], {"waited": True})

    def test_each_call_sees_its_own_context(self):
        worker = self.client.worker()
        tags = [
            worker.request({"do": "context", "seconds": 0.02}, attempt=number + 1, budget=1000000 + number, id="id-%d" % number)
            for number in range(30)
        ]
        for number, tag in enumerate(tags):
            for seen in worker.answer(tag).payloads():
                self.assertEqual((seen["id"], seen["attempt"]), ("id-%d" % number, number + 1))
                self.assertLessEqual(seen["time_left"], 1000.03)
        items = worker.answer(worker.request({"do": "context_of_a_task"}, id="mine")).payloads()
        self.assertEqual(items, ["mine"])

    def test_progress_belongs_to_its_request(self):
        worker = self.client.worker()
        tags = [worker.request({"do": "progress", "times": times}) for times in (3, 5)]
        for tag, times in zip(tags, (3, 5)):
            self.assertEqual([note["message"] for note in worker.answer(tag).progress], [str(n) for n in range(times)])

    def test_progress_of_a_thread(self):
        worker = self.client.worker()
        answer = worker.answer(worker.request({"do": "progress_in_thread", "fraction": 0, "message": "m"}))
        self.assertEqual((answer.progress, answer.payloads()), ([{"fraction": 0.0, "message": "m"}], ["done"]))

    def test_one_loop_in_the_main_thread(self):
        worker = self.client.worker()
        seen = [payloads(worker.call({"do": "where"}))[0] for _ in range(2)] + [self.runtime.call({"do": "where"})[0]["payload"]]
        self.assertEqual({each["loop"] for each in seen}, {seen[0]["loop"]})
        self.assertEqual({each["main"] for each in seen}, {True})

    def test_failures(self):
        worker = self.client.worker()
        other = worker.request({"do": "sleep", "seconds": 0.05})
        self.assert_error(worker.call({"do": "raise", "text": "it"}), "processing_error", "ValueError", "it")
        self.assert_error(worker.call({"do": "exit", "code": 3}), "processing_error", "SystemExit", "sys.exit(3)")
        worker.answer(other)
        self.assertEqual(self.control.ready()["incarnation"], 1)

    def test_tasks_that_outlive_their_call_go_on(self):
        worker = self.client.worker()
        go_on, done = self.path("go-on"), self.path("done")
        self.assertEqual(payloads(worker.call({"do": "leave_task", "file": go_on, "done": done})), ["left"])
        touch(go_on)
        # Even while no request comes.
        wait_for_file(done)

    def test_end_while_tasks_run(self):
        with Runtime("tasks.act", ASYA_CONCURRENCY="4") as runtime, Client(runtime) as client:
            worker = client.worker()
            log, go_on = self.path("log"), self.path("go-on")
            tags = [worker.request({"do": "started", "log": log, "file": go_on}) for _ in range(3)]
            wait_until(lambda: len(lines(log)) == 3, "all run")
            runtime.terminate()
            client.control.wait_for(lambda: client.control.stopping, "STOPPING")
            touch(go_on)
            for tag in tags:
                self.assertEqual(worker.answer(tag).payloads(), [{"waited": True}])
            self.assertEqual(runtime.wait(), 0)


class FanOut(Shared):
    handler = "generators.fan_out"

    def numbers(self, items):
        return [item["payload"]["n"] if "payload" in item else item["error"] for item in items]

    def test_items_come_as_they_are_made(self):
        worker = self.client.worker()
        started, go_on = self.path("started"), self.path("go-on")
        tag = worker.request({"items": 4, "wait_before": 2, "started": started, "file": go_on})
        frames = worker.frames_of(tag, 2)
        # The generator waits, and what it has made so far is here.
        self.assertEqual(self.numbers([item for _kind, items in frames for item in items]), [0, 1])
        self.assertEqual({kind for kind, _items in frames}, {ITEMS})
        self.assertFalse(worker.answers[tag].ended)
        touch(go_on)
        answer = worker.answer(tag)
        self.assertEqual(self.numbers(answer.items), [0, 1, 2, 3])
        self.assertEqual({item["route"]["current"] for item in answer.items}, {1})

    def test_no_item_and_one_item(self):
        worker = self.client.worker()
        self.assertEqual(worker.call({"items": 0}), [])
        self.assertEqual(self.numbers(worker.call({"items": 1})), [0])

    def test_many_items_keep_their_order(self):
        worker = self.client.worker()
        tags = [worker.request({"items": 300, "pad": 100}) for _ in range(3)]
        for tag in tags:
            self.assertEqual(self.numbers(worker.answer(tag).items), list(range(300)))

    def test_items_that_are_more_than_one_answer_may_hold(self):
        with Runtime(self.handler, ASYA_MAX_MESSAGE_SIZE="20000") as runtime, Client(runtime) as client:
            items = client.worker().call({"items": 20, "pad": 5000})
            self.assertEqual(self.numbers(items), list(range(20)))

    def test_an_exception_after_some_items(self):
        worker = self.client.worker()
        answer = worker.answer(worker.request({"items": 5, "fail_at": 3}))
        self.assertEqual(self.numbers(answer.items), [0, 1, 2, "processing_error"])
        self.assert_error_item(answer.items[-1], "processing_error", "ValueError", "no more after 3")
        self.assertIn("fan_out", answer.items[-1]["details"]["traceback"])
        self.assert_error(worker.call({"items": 5, "fail_at": 0}), "processing_error", "ValueError", "no more after 0")

    def test_what_a_generator_returns_is_no_item(self):
        worker = self.client.worker()
        self.assertEqual(self.numbers(worker.call({"items": 2, "returns": {"n": "returned"}})), [0, 1])

    def test_bad_argument(self):
        self.assert_error(self.client.worker().call({}), "processing_error", "KeyError", "items")

    def test_v1_gets_all_at_once(self):
        self.assertEqual(self.numbers(self.runtime.call({"items": 3})), [0, 1, 2])
        self.assertEqual(self.runtime.call({"items": 0}), [])
        self.assertEqual(self.numbers(self.runtime.call({"items": 3, "fail_at": 2}))[-1], "processing_error")

    def test_generators_are_closed(self):
        worker = self.client.worker()
        for parts in ({}, {"fail_at": 1}):
            closed = self.path("closed%d" % len(parts))
            worker.call(dict(parts, items=2, closed=closed))
            wait_for_file(closed)


class FanOutAsync(Shared):
    handler = "generators.fan_out_async"
    variables = {"ASYA_CONCURRENCY": "2"}

    def test_items_come_as_they_are_made_and_do_not_mix(self):
        worker = self.client.worker()
        started, go_on = self.path("started"), self.path("go-on")
        tag = worker.request({"items": 3, "wait_before": 1, "started": started, "file": go_on})
        self.assertEqual([kind for kind, _items in worker.frames_of(tag, 1)], [ITEMS])
        self.assertEqual([each["n"] for each in payloads(worker.call({"items": 4}))], [0, 1, 2, 3])
        self.assertFalse(worker.answers[tag].ended)
        touch(go_on)
        self.assertEqual([each["n"] for each in worker.answer(tag).payloads()], [0, 1, 2])

    def test_an_exception_after_some_items(self):
        items = self.client.worker().call({"items": 5, "fail_at": 2})
        self.assertEqual(payloads(items[:2]), [{"n": 0}, {"n": 1}])
        self.assert_error_item(items[2], "processing_error", "ValueError", "no more after 2")

    def test_v1(self):
        self.assertEqual(payloads(self.runtime.call({"items": 2})), [{"n": 0}, {"n": 1}])


class Values(Shared):
    """Each yielded value is one item, whatever it is."""

    handler = "generators.values"

    def test_values(self):
        worker = self.client.worker()
        for value in (0, "", [], {}, [1, 2], False):
            self.assertEqual(payloads(worker.call({"values": [value, "end"]})), [value, "end"], value)
            self.assertEqual(payloads(self.runtime.call({"values": [value, "end"]})), [value, "end"], value)


class NotSendable(Shared):
    handler = "generators.not_sendable"

    def test_an_item_that_is_not_json_keeps_its_place(self):
        for items in (self.client.worker().call(1), self.runtime.call(1)):
            self.assertEqual([item.get("payload") for item in items], [{"n": 0}, None, {"n": 2}])
            self.assert_error_item(items[1], "processing_error", "TypeError", "set")


class Envelopes(unittest.TestCase):
    def test_generators_in_envelope_mode(self):
        with Runtime("generators.envelopes", ASYA_HANDLER_MODE="envelope") as runtime, Client(runtime) as client:
            for items in (client.worker().call("x"), runtime.call("x")):
                self.assertEqual([(item["payload"], item["route"]["current"]) for item in items], [(0, 1), (1, 1), (2, 1)])

    def test_a_bad_envelope_keeps_its_place(self):
        with Runtime("generators.bad_envelopes", ASYA_HANDLER_MODE="envelope") as runtime, Client(runtime) as client:
            for items in (client.worker().call("x"), runtime.call("x")):
                self.assertEqual([item.get("payload") for item in items], [0, None, 2])
                self.assertEqual(items[1]["error"], "processing_error")
                self.assertIn("Missing required field 'route'", items[1]["details"]["message"])

    def test_without_validation(self):
        variables = {"ASYA_HANDLER_MODE": "envelope", "ASYA_ENABLE_VALIDATION": "false"}
        with Runtime("generators.bad_envelopes", **variables) as runtime, Client(runtime) as client:
            items = client.worker().call("x")
            self.assertEqual(items[1], {"payload": "no route"})
            self.assertEqual(items[2], envelope(2))


class Streams(Shared):
    handler = "generators.text"
    variables = {"ASYA_STREAM": "true"}

    def test_welcome_says_so(self):
        self.assertIs(self.control.welcome["stream"], True)

    def test_partials_come_as_they_are_made_and_the_last_value_is_the_result(self):
        worker = self.client.worker()
        started, go_on = self.path("started"), self.path("go-on")
        tag = worker.request({"words": ["a", "b", "wait", "c"], "started": started, "file": go_on})
        # Which of them is the last is not known while more may come.
        frames = worker.frames_of(tag, 1)
        self.assertEqual(frames[0], (PARTIAL, {"text": "a"}))
        wait_for_file(started)
        touch(go_on)
        answer = worker.answer(tag)
        texts = [value["text"] for value in answer.partials]
        self.assertEqual(texts[:3], ["a", "ab", "abwait"])
        self.assertEqual(answer.items, [{"payload": {"text": "abwaitc"}, "route": {"actors": ["a", "b"], "current": 1}}])
        self.assertEqual(answer.types()[-1], REPLY)
        self.assertNotIn(ITEMS, answer.types())

    def test_one_value_and_none(self):
        worker = self.client.worker()
        self.assertEqual(payloads(worker.call({"words": ["a"]})), [{"text": "a"}])
        self.assertEqual(worker.call({"words": []}), [])

    def test_an_exception(self):
        worker = self.client.worker()
        answer = worker.answer(worker.request({"words": ["a", "b", "fail"]}))
        self.assert_error(answer.items, "processing_error", "ValueError", "out of words")

    def test_what_a_generator_returns_is_its_last_value(self):
        worker = self.client.worker()
        answer = worker.answer(worker.request({"words": ["a", "b"], "returns": {"text": "final"}}))
        self.assertEqual([value["text"] for value in answer.partials], ["a", "ab"])
        self.assertEqual(answer.payloads(), [{"text": "final"}])
        self.assertEqual(payloads(self.runtime.call({"words": ["a"], "returns": {"text": "final"}})), [{"text": "final"}])

    def test_v1_gets_the_last_value(self):
        self.assertEqual(payloads(self.runtime.call({"words": ["a", "b"]})), [{"text": "ab"}])
        self.assertEqual(self.runtime.call({"words": []}), [])
        self.assert_error(self.runtime.call({"words": ["a", "fail"]}), "processing_error", "ValueError")


class TooLarge(unittest.TestCase):
    def test_items_and_partials(self):
        text = "ASYA_MAX_MESSAGE_SIZE=4096"
        with Runtime("generators.values", ASYA_MAX_MESSAGE_SIZE="4096") as runtime, Client(runtime) as client:
            items = client.worker().call({"values": [1, "x" * 2000, 3]})
            self.assertEqual(payloads(items), [1, "x" * 2000, 3])
        for stream, expected in (("false", [1, text, 3]), ("true", [text])):
            variables = {"ASYA_MAX_MESSAGE_SIZE": "4096", "ASYA_STREAM": stream}
            with Runtime("generators.large", **variables) as runtime, Client(runtime) as client:
                items = client.worker().call({"size": 5000})
                seen = [text if text in item.get("details", {}).get("message", "") else item.get("payload") for item in items]
                self.assertEqual(seen, expected)


class StreamsOfTasks(Shared):
    handler = "generators.text_async"
    variables = {"ASYA_STREAM": "true", "ASYA_CONCURRENCY": "2"}

    def test_partials_and_the_last_value(self):
        worker = self.client.worker()
        tags = [worker.request({"words": list(words)}) for words in ("abc", "xyz")]
        for tag, words in zip(tags, ("abc", "xyz")):
            answer = worker.answer(tag)
            self.assertEqual([value["text"] for value in answer.partials][:2], [words[0], words[:2]])
            self.assertEqual(answer.payloads(), [{"text": words}])


class StreamsOfValues(Shared):
    handler = "generators.values"
    variables = {"ASYA_STREAM": "true"}

    def test_the_last_value_is_one_item_whatever_it_is(self):
        worker = self.client.worker()
        for value in (0, "", {}, False):
            self.assertEqual(payloads(worker.call({"values": ["partial", value]})), [value])


if __name__ == "__main__":
    unittest.main()
