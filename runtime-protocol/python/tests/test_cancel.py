"""Cancellation: asked first, killed later, and never more than the one that was meant."""

import json
import os
import signal
import unittest

from support import wait_until
from v2 import (
    DEADLINE,
    GOODBYE,
    HELLO,
    REPLY,
    WELCOME,
    WITHDRAWN,
    Client,
    Shared,
    payloads,
    touch,
    wait_for_file,
    wait_for_text,
)


class Paths:
    """The payload of a handler that waits, with files of this test."""

    def waiting(self, do, name="it"):
        return {
            "do": do,
            "started": self.path(name + "-started"),
            "cancelled": self.path(name + "-cancelled"),
            "file": self.path(name + "-go-on"),
        }


class Plain(Paths, Shared):
    def running(self, do="poll"):
        """A worker connection, the tag of its running request, and the files of that."""
        worker = self.client.worker()
        payload = self.waiting(do)
        tag = worker.request(payload)
        wait_for_file(payload["started"])
        return worker, tag, payload

    def test_a_handler_that_asks_ends_early(self):
        worker, tag, payload = self.running()
        self.control.cancel(tag)
        self.assertEqual(wait_for_text(payload["cancelled"]), "asked")
        self.assertEqual(worker.answer(tag).types(), [REPLY])
        self.assertEqual(payloads(worker.call("next")), ["next"])

    def test_cancelled_speaks_of_one_request_only(self):
        worker, tag, _payload = self.running()
        after = worker.request({"do": "context"})
        self.control.cancel(tag)
        worker.answer(tag)
        self.assertFalse(worker.answer(after).payloads()[0]["cancelled"])

    def test_a_handler_that_raises_after_it_was_asked(self):
        worker, tag, _payload = self.running("poll_and_raise")
        self.control.cancel(tag)
        self.assertEqual(worker.answer(tag).types(), [REPLY])
        self.assertEqual(payloads(worker.call("next")), ["next"])

    def test_a_request_that_was_not_started_never_is(self):
        worker, running, payload = self.running("wait_for")
        log = self.path("log")
        tags = [worker.request({"do": "log", "file": log, "word": str(number)}) for number in range(3)]
        self.control.cancel(tags[1])
        self.control.cancel(tags[2], reason=DEADLINE)
        self.control.ping()
        # One thread runs the handler and reads: it hears of this when the running call has ended, if that took a while.
        self.assertTrue(worker.is_quiet(0.1))
        touch(payload["file"])
        self.assertEqual(worker.answer(running).payloads(), [{"waited": True}])
        self.assert_error(worker.answer(tags[1]).items, "cancelled")
        self.assert_error(worker.answer(tags[2]).items, "timeout")
        self.assertEqual(worker.answer(tags[0]).payloads(), ["0"])
        with open(log) as file:
            self.assertEqual(file.read(), "0\n")

    def test_a_request_that_was_not_started_is_answered_while_the_running_one_asks(self):
        worker, running, _payload = self.running("poll")
        tag = worker.request(1)
        self.control.cancel(tag)
        self.control.cancel(running)
        self.assertEqual(worker.answer(running).payloads(), ["ended early"])
        self.assert_error(worker.answer(tag).items, "cancelled")

    def test_cancel_that_overtakes_its_request(self):
        # The two travel on different connections, so the order in which they arrive is anybody's guess.
        # Whatever comes first, the request has one answer.
        worker = self.client.worker()
        for number in range(20):
            self.control.cancel(worker._next + 1)
            tag = worker.request(number)
            answer = worker.answer(tag)
            self.assertEqual(answer.types(), [REPLY])
            self.assertTrue(answer.items[0].get("error") == "cancelled" or answer.payloads() == [number])

    def test_withdrawal_is_for_what_was_not_started(self):
        worker, running, payload = self.running("wait_and_tell")
        log = self.path("log")
        late = worker.request({"do": "log", "file": log, "word": "ran"})
        for tag in (running, late, late + 1):
            self.control.cancel(tag, reason=WITHDRAWN)
        self.control.ping()
        # One for which it has come before its request.
        early = worker.request({"do": "log", "file": log, "word": "ran"})
        last = worker.request("last")
        touch(payload["file"])
        self.assertEqual(worker.answer(running).payloads(), [{"cancelled": False}])
        for tag in (late, early):
            self.assert_error(worker.answer(tag).items, "cancelled")
        self.assertEqual(worker.answer(last).payloads(), ["last"])
        self.assertFalse(os.path.exists(log))

    def test_cancel_of_an_ended_tag_changes_nothing(self):
        worker = self.client.worker()
        tag = worker.request(1)
        worker.answer(tag)
        self.control.cancel(tag)
        self.control.cancel(12345)
        self.control.ping()
        self.assertEqual(payloads(worker.call(2)), [2])
        self.assertEqual(payloads(worker.call({"do": "context"}))[0]["cancelled"], False)

    def test_cancel_of_another_incarnation_changes_nothing(self):
        worker, tag, payload = self.running("ignore")
        now = self.control.workers[0]["incarnation"]
        for number, incarnation in ((0, now + 1), (0, now - 1), (0, 2**32 - 1)):
            self.control.cancel(tag, number, incarnation)
        self.control.ping()
        self.assertFalse(os.path.exists(payload["cancelled"]))
        touch(payload["file"])
        self.control.cancel(tag)
        self.assertEqual(worker.answer(tag).types(), [REPLY])

    def test_cancel_of_an_old_incarnation_after_a_kill(self):
        old = self.control.ready()["incarnation"]
        self.control.replace()
        worker, tag, payload = self.running("poll")
        self.control.cancel(tag, 0, old)
        self.control.ping()
        self.assertFalse(os.path.exists(payload["cancelled"]))
        self.control.cancel(tag)
        worker.answer(tag)

    def test_an_answer_that_comes_late_is_one_answer(self):
        worker, tag, payload = self.running("ignore")
        self.control.cancel(tag)
        self.control.cancel(tag)
        self.control.cancel(tag, reason=DEADLINE)
        wait_for_file(payload["cancelled"])
        touch(payload["file"])
        self.assertEqual(worker.answer(tag).types(), [REPLY])
        self.assertEqual([payloads(worker.call(number)) for number in range(3)], [[0], [1], [2]])

    def test_handlers_with_signal_handlers_of_their_own_are_asked_and_killed(self):
        for ignore in (True, False):
            with self.subTest(ignore=ignore):
                worker = self.client.worker()
                self.assertEqual(payloads(worker.call({"do": "install_signals", "ignore": ignore}))[0]["installed"], True)
                payload = self.waiting("poll", "ignoring%d" % ignore)
                tag = worker.request(payload)
                wait_for_file(payload["started"])
                self.control.cancel(tag)
                worker.answer(tag)
                hung = self.path("hung%d" % ignore)
                worker.request({"do": "hang", "started": hung})
                wait_for_file(hung)
                self.assertTrue(self.control.replace()[0]["killed"])
        self.assert_serves()


class WithoutClient(Paths, Shared):
    """A control connection that ends without GOODBYE: nobody waits for answers."""

    variables = {"ASYA_CANCEL_GRACE": "300ms", "ASYA_WORKERS": "2"}

    def start(self, client, do, name="it", number=0):
        worker = client.worker(number)
        payload = self.waiting(do, name)
        worker.request(payload)
        wait_for_file(payload["started"])
        return payload

    def test_asked_then_replaced_after_the_grace(self):
        with Client(self.runtime) as lost:
            pids = [lost.control.ready(number)["pid"] for number in (0, 1)]
            before = lost.control.workers[0]["incarnation"]
            stubborn = self.start(lost, "ignore", "stubborn", 0)
            polite = self.start(lost, "poll", "polite", 1)
            lost.control.close()
            for payload in (stubborn, polite):
                wait_for_file(payload["cancelled"])
            # Only its control connection is gone; the worker connections are open still.
            wait_until(lambda: not os.path.exists("/proc/%d" % pids[0]), "the stubborn worker was replaced")
        self.control.ready(0, before + 1)
        self.assertEqual(self.control.workers[1]["pid"], pids[1])
        self.assert_serves(0)
        self.assert_serves(1)

    def test_worker_that_holds_the_gil_is_replaced(self):
        with Client(self.runtime) as lost:
            state = lost.control.ready()
            started = self.path("started")
            lost.worker().request({"do": "hold_the_gil", "started": started})
            wait_for_file(started)
        wait_until(lambda: not os.path.exists("/proc/%d" % state["pid"]), "the worker was replaced")
        self.control.ready(0, state["incarnation"] + 1)
        self.assert_serves()

    def test_goodbye_lets_requests_run(self):
        with Client(self.runtime) as client:
            worker = client.worker()
            payload = self.waiting("ignore")
            tag = worker.request(payload)
            wait_for_file(payload["started"])
            client.control.send(GOODBYE)
            client.control.read_to_end()
            self.control.replace(1)
            self.assertFalse(os.path.exists(payload["cancelled"]))
            self.control.cancel(tag)
            touch(payload["file"])
            worker.answer(tag)

    def test_v1_calls_are_not_asked_to_end(self):
        with Client(self.runtime) as earlier:
            # Whoever had a connection of this kind is asked to end what runs for it.
            for number in (0, 1):
                earlier.worker(number).call(1)
        payload = self.waiting("wait_and_tell", "v1")
        call = self.runtime.start_call(payload)
        pid = int(wait_for_text(payload["started"]))
        with Client(self.runtime) as lost:
            pids = {number: lost.control.ready(number)["pid"] for number in (0, 1)}
            (other,) = [number for number in (0, 1) if pids[number] != pid]
            self.start(lost, "ignore", "v2", other)
        wait_until(lambda: not os.path.exists("/proc/%d" % pids[other]), "the grace is over")
        touch(payload["file"])
        self.assertEqual(call.result()[0]["payload"], {"cancelled": False})


class Tasks(Paths, Shared):
    handler = "tasks.act"
    variables = {"ASYA_CONCURRENCY": "4"}

    def start(self, do, name="it", worker=None):
        worker = worker or self.client.worker()
        payload = self.waiting(do, name)
        tag = worker.request(payload)
        wait_for_file(payload["started"])
        return worker, tag, payload

    def test_cancelled_error(self):
        for reason, code in ((2, "cancelled"), (DEADLINE, "timeout")):
            worker, tag, payload = self.start("wait", str(reason))
            self.control.cancel(tag, reason=reason)
            self.assertEqual(wait_for_text(payload["cancelled"]), "CancelledError True")
            self.assert_error(worker.answer(tag).items, code)
            self.assertEqual(payloads(worker.call("next")), ["next"])

    def test_only_the_one_that_was_meant(self):
        worker = self.client.worker()
        starts = [self.start("wait", str(number), worker) for number in range(3)]
        self.control.cancel(starts[1][1])
        worker.answer(starts[1][1])
        for number in (0, 2):
            self.assertFalse(os.path.exists(starts[number][2]["cancelled"]))
            touch(starts[number][2]["file"])
            self.assertEqual(worker.answer(starts[number][1]).payloads(), [{"waited": True}])

    def test_not_started_ones(self):
        worker = self.client.worker()
        starts = [self.start("wait", str(number), worker) for number in range(4)]
        log = self.path("log")
        tag = worker.request({"do": "started", "log": log, "file": log})
        self.control.cancel(tag)
        self.assert_error(worker.answer(tag).items, "cancelled")
        self.assertFalse(os.path.exists(log))
        for _worker, running, payload in starts:
            touch(payload["file"])
            self.assertEqual(worker.answer(running).payloads(), [{"waited": True}])

    def test_withdrawal_is_for_what_was_not_started(self):
        worker = self.client.worker()
        starts = [self.start("wait", str(number), worker) for number in range(4)]
        log = self.path("log")
        late = worker.request({"do": "started", "log": log, "file": log})
        self.control.cancel(late + 1, reason=WITHDRAWN)
        self.control.cancel(late, reason=WITHDRAWN)
        for _worker, running, _payload in starts:
            self.control.cancel(running, reason=WITHDRAWN)
        self.control.ping()
        early = worker.request({"do": "started", "log": log, "file": log})
        self.assert_error(worker.answer(late).items, "cancelled")
        # It has come, and need not wait for its place.
        self.assert_error(worker.answer(early).items, "cancelled")
        for _worker, running, payload in starts:
            self.assertFalse(os.path.exists(payload["cancelled"]))
            touch(payload["file"])
            self.assertEqual(worker.answer(running).payloads(), [{"waited": True}])
        self.assertFalse(os.path.exists(log))

    def test_a_handler_that_swallows_it_has_an_answer(self):
        worker, tag, _payload = self.start("swallow")
        self.control.cancel(tag)
        self.assertEqual(worker.answer(tag).types(), [REPLY])

    def test_a_handler_that_ignores_it_is_killed_by_the_client(self):
        worker, tag, payload = self.start("stubborn")
        other, _tag, _payload = worker, *self.start("wait", "other", worker)[1:]
        self.control.cancel(tag)
        self.assertEqual(wait_for_text(payload["cancelled"]), "ignored")
        incarnation = self.control.workers[0]["incarnation"]
        self.control.kill(tag)
        self.assertEqual(self.control.gone(0, incarnation)["signal"], signal.SIGKILL)
        self.assertEqual(other.read_to_end(), [])
        self.control.ready(0, incarnation + 1)
        self.assert_serves()

    def test_cancelled_error_of_its_own_making(self):
        worker = self.client.worker()
        items = worker.call({"do": "cancel_itself"})
        self.assert_error(items, "processing_error", "CancelledError")
        self.assertEqual(payloads(worker.call(1)), [1])

    def test_a_blocked_loop_still_answers_what_was_not_started(self):
        worker, tag, payload = self.start("block")
        late = worker.request(5)
        self.control.cancel(late)
        # It cannot tell before the loop goes on, unless it listens elsewhere; both are right.
        touch(payload["file"])
        self.assertEqual(worker.answer(tag).payloads(), ["blocked"])
        self.assertEqual(worker.answer(late).types(), [REPLY])


    def test_newer_connection_replaces_older_and_waits_for_its_requests(self):
        older, _tag, payload = self.start("stubborn")
        _older, _tag, polite = self.start("wait", "polite", older)
        newer = self.client.raw()
        incarnation = self.control.workers[0]["incarnation"]
        newer.send(HELLO, 0, json.dumps(self.client.hello("worker", worker=0, incarnation=incarnation)).encode())
        self.assertEqual(wait_for_text(payload["cancelled"]), "ignored")
        self.assertEqual(wait_for_text(polite["cancelled"]), "CancelledError True")
        self.assertTrue(newer.is_quiet(0.1))
        touch(payload["file"])
        self.assertEqual(newer.read().type, WELCOME)
        older.read_to_end()

    def test_client_that_leaves(self):
        worker, _tag, payload = self.start("wait")
        worker.close()
        self.assertEqual(wait_for_text(payload["cancelled"]), "CancelledError True")
        self.assert_serves()


class TasksWithoutClient(Paths, Shared):
    handler = "tasks.act"
    variables = {"ASYA_CONCURRENCY": "4", "ASYA_CANCEL_GRACE": "300ms"}

    def lose(self, *handlers):
        """A client with these calls running is lost: (state of the worker then, the files of the calls)."""
        with Client(self.runtime) as lost:
            state = lost.control.ready()
            worker = lost.worker()
            files = [self.waiting(do, do) for do in handlers]
            for payload in files:
                worker.request(payload)
                wait_for_file(payload["started"])
            lost.control.close()
            for payload in files:
                wait_for_file(payload["cancelled"])
        return state, files

    def test_those_that_end_keep_their_worker(self):
        state, _files = self.lose("wait", "swallow")
        self.assert_serves()
        self.assertEqual(self.control.workers[0], state)

    def test_those_that_do_not_lose_it(self):
        state, _files = self.lose("stubborn", "wait")
        self.control.ready(0, state["incarnation"] + 1)
        self.assertFalse(os.path.exists("/proc/%d" % state["pid"]))
        self.assert_serves()


class Generators(Paths, Shared):
    handler = "generators.fan_out"

    def test_a_generator_is_closed_where_it_stands(self):
        worker = self.client.worker()
        payload = dict(self.waiting("-"), items=5, wait_before=2, closed=self.path("closed"))
        tag = worker.request(payload)
        wait_for_file(payload["started"])
        self.control.cancel(tag)
        wait_for_file(payload["closed"])
        answer = worker.answer(tag)
        self.assertEqual(answer.types()[-1], REPLY)
        self.assertEqual(payloads(worker.call({"items": 1}))[0]["n"], 0)


class EndlessGenerators(Paths, Shared):
    handler = "generators.endless"

    def test_one_that_never_ends_by_itself(self):
        worker = self.client.worker()
        closed = self.path("closed")
        tag = worker.request({"closed": closed})
        worker.frames_of(tag, 3)
        self.control.cancel(tag)
        worker.answer(tag)
        wait_for_file(closed)
        self.assertEqual([item["payload"]["n"] for item in worker.answers[tag].items[:3] if "payload" in item], [0, 1, 2])

    def test_one_whose_client_does_not_read(self):
        # The worker waits for the reader; its memory does not grow, and it can still be cancelled and killed.
        worker = self.client.worker()
        closed = self.path("closed")
        worker.request({"closed": closed})
        worker.read()
        incarnation = self.control.workers[0]["incarnation"]
        self.control.ping()
        self.control.kill(1)
        self.control.gone(0, incarnation)
        self.control.ready(0, incarnation + 1)

    def test_one_whose_client_leaves(self):
        worker = self.client.worker()
        closed = self.path("closed")
        worker.request({"closed": closed})
        worker.read()
        worker.close()
        wait_for_file(closed)
        incarnation = self.control.workers[0]["incarnation"]
        other = self.client.worker()
        tag = other.request({"closed": self.path("other")})
        other.frames_of(tag, 1)
        other.close()
        wait_for_file(self.path("other"))
        self.assertEqual(self.control.workers[0]["incarnation"], incarnation)


class AsyncGenerators(Paths, Shared):
    handler = "generators.fan_out_async"
    variables = {"ASYA_CONCURRENCY": "2"}

    def test_cancelled_error_inside(self):
        worker = self.client.worker()
        payload = dict(self.waiting("-"), items=5, wait_before=2, closed=self.path("closed"))
        tag = worker.request(payload)
        wait_for_file(payload["started"])
        self.control.cancel(tag)
        wait_for_file(payload["cancelled"])
        wait_for_file(payload["closed"])
        self.assertEqual(worker.answer(tag).types()[-1], REPLY)
        self.assertEqual(payloads(worker.call({"items": 1})), [{"n": 0}])


if __name__ == "__main__":
    unittest.main()
