"""What happens at the same moment, or in another order than usual."""

import json
import os
import resource
import signal
import subprocess
import sys
import unittest

from support import SCRIPT, Runtime, environment, envelope, wait_until
from v2 import (
    GOODBYE,
    HELLO,
    PING,
    REPLY,
    REQUEST,
    WELCOME,
    Client,
    Shared,
    descriptors_of,
    frame_bytes,
    payloads,
    process_status,
    request_body,
    touch,
    wait_for_file,
)


def stop(process):
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: process_status(process.pid)["State"].startswith("T"), "the process has stopped")


class Arbiters(unittest.TestCase):
    def start(self, **details):
        runtime = Runtime("workers.act", **details)
        self.addCleanup(runtime.close)
        client = Client(runtime)
        self.addCleanup(client.close)
        return runtime, client

    def test_connections_that_are_closed_with_bytes_unread(self):
        runtime, client = self.start()
        state = client.control.ready()
        before = descriptors_of(runtime.process.pid)
        silent = [client.raw() for _ in range(16)]
        wait_until(lambda: descriptors_of(runtime.process.pid) == before + 16, "all are accepted")
        # In one step: one more connects, so that the oldest is closed, and the oldest has written.
        stop(runtime.process)
        client.raw()
        silent[0].write(b"\0")
        # The same with a control connection that is replaced.
        silent[1].send(HELLO, 0, json.dumps(client.hello("control")).encode())
        client.control.send(PING, 1)
        runtime.process.send_signal(signal.SIGCONT)
        silent[0].read_to_end()
        self.assertEqual(silent[1].read().type, WELCOME)
        self.assertEqual(client.new_control().ready(), state)
        self.assertIsNone(runtime.process.poll())

    def test_sigterm_while_descriptors_are_scarce(self):
        runtime, client = self.start(limits={resource.RLIMIT_NOFILE: 18})
        worker = client.worker()
        started, go_on = (os.path.join(runtime.directory, name) for name in ("started", "go-on"))
        tag = worker.request({"do": "wait_for", "started": started, "file": go_on})
        wait_for_file(started)
        for _ in range(14):
            client.raw()
        wait_until(lambda: "failed to accept" in runtime.errors(), "there are no more descriptors")
        runtime.terminate()
        client.control.wait_for(lambda: client.control.stopping, "STOPPING")
        touch(go_on)
        self.assertEqual(worker.answer(tag).payloads(), [{"waited": True}])
        self.assertEqual(runtime.wait(), 0, runtime.errors())

    def test_no_signal_is_lost(self):
        # In a process of its own, because it takes the signals of the process.
        code = (
            "import os, signal, sys, threading\n"
            "import asya_runtime\n"
            "events = asya_runtime.EventLoop()\n"
            "seen = threading.Event()\n"
            "def send():\n"
            "    for _ in range(2000):\n"
            "        seen.clear()\n"
            "        os.kill(os.getpid(), signal.SIGTERM)\n"
            "        if not seen.wait(5): os._exit(3)\n"
            "    os._exit(0)\n"
            "sys.setswitchinterval(1e-5)\n"
            "threading.Thread(target=send).start()\n"
            "while True:\n"
            "    if signal.SIGTERM in events.take_signals(): seen.set()\n"
        )
        env = environment(PYTHONPATH=os.path.dirname(SCRIPT))
        self.assertEqual(subprocess.run([sys.executable, "-c", code], env=env, timeout=60).returncode, 0)

    def test_idle_workers_survive_their_client_without_any_grace(self):
        runtime, client = self.start(ASYA_CANCEL_GRACE="0")
        state = client.control.ready()
        client.worker().call(1)
        client.control.close()
        with Client(runtime) as other:
            self.assertEqual(payloads(other.worker().call(2)), [2])
            self.assertEqual(other.control.ready(), state)


class Workers(Shared):
    def test_threads_that_ask_all_the_time_take_nothing_from_the_worker(self):
        self.client.worker().call({"do": "ask_in_thread"})
        for number in range(300):
            with self.client.worker() as worker:
                self.assertEqual(payloads(worker.call(number)), [number])
        self.control.replace()

    def test_cancel_before_a_request_that_waits_behind_much(self):
        worker = self.client.worker()
        started, go_on = self.path("started"), self.path("go-on")
        first = worker.request({"do": "wait_for", "started": started, "file": go_on})
        wait_for_file(started)
        with worker.writing():
            large = [worker.request("x" * 900000) for _ in range(3)]
            last = worker.request({"do": "log", "file": self.path("log"), "word": "ran"})
        self.control.cancel(last)
        self.control.ping()
        touch(go_on)
        for tag in [first] + large:
            self.assertEqual(len(worker.answer(tag).payloads()), 1)
        self.assert_error(worker.answer(last).items, "cancelled")
        self.assertFalse(os.path.exists(self.path("log")))

    def test_cancel_inside_of_its_request(self):
        for size in (10, 100000, 600000):
            worker = self.client.worker()
            whole = envelope({"do": "log", "file": self.path("log"), "word": "ran", "more": "x" * size})
            data = frame_bytes(REQUEST, 9, request_body(whole))
            worker.write(data[: len(data) // 2])
            worker.expect(9)
            # Answered before it is whole, or when it is, and never run.
            self.control.cancel(9)
            self.control.ping()
            self.assertTrue(worker.is_quiet(0.1))
            worker.write(data[len(data) // 2 :])
            self.assert_error(worker.answer(9).items, "cancelled")
            # It was said of that one only.
            worker.write(frame_bytes(REQUEST, 9, request_body(envelope("again"))))
            worker.expect(9)
            self.assertEqual(worker.answer(9).payloads(), ["again"])
        self.assertFalse(os.path.exists(self.path("log")))

    def test_goodbye_behind_requests(self):
        worker = self.client.worker()
        started, go_on, log = self.path("started"), self.path("go-on"), self.path("log")
        worker.request({"do": "wait_for", "started": started, "file": go_on})
        wait_for_file(started)
        for _ in range(20):
            worker.request({"do": "log", "file": log, "word": "ran"})
        worker.send(GOODBYE)
        touch(go_on)
        worker.read_to_end()
        self.assert_serves()
        self.assertFalse(os.path.exists(log))

    def test_an_alarm_that_goes_off_between_two_calls(self):
        worker = self.client.worker()
        self.assert_error(worker.call({"do": "leave_alarm", "seconds": 0.05}), "processing_error", "ValueError")
        wait_until(lambda: "TimeoutError" in self.runtime.errors(), "the alarm went off")
        self.assertEqual(payloads(worker.call(1)), [1])


class Tasks(Shared):
    handler = "tasks.act"
    variables = {"ASYA_CONCURRENCY": "2"}

    def test_a_handler_that_asks_takes_nothing_from_the_event_loop(self):
        incarnation = self.control.ready()["incarnation"]
        older = self.client.worker()
        started = self.path("started")
        # It blocks the loop until it hears of the newer connection, which the loop must hear of as well.
        older.request({"do": "sync", "payload": {"do": "poll", "started": started, "cancelled": self.path("cancelled")}})
        wait_for_file(started)
        newer = self.client.worker()
        self.assertEqual(payloads(newer.call(1)), [1])
        self.assertEqual(self.control.ready()["incarnation"], incarnation)

    def test_nothing_more_is_started_while_an_answer_is_not_taken(self):
        worker = self.client.worker()
        log = self.path("log")
        with worker.writing():
            # Less than what the worker would keep of it in memory, more than the socket takes.
            tags = [worker.request({"do": "sync", "payload": {"do": "big", "size": 900000}})]
            for word in "abcdef":
                tags.append(worker.request({"do": "sync", "payload": {"do": "log", "file": log, "word": word}}))
        other = self.runtime.call("so the worker had its time")
        self.assertEqual(len(other), 1)
        started = 0
        if os.path.exists(log):
            with open(log) as file:
                started = len(file.read().split())
        # One had its place in the window beside the large one.
        self.assertLessEqual(started, 1)
        for tag in tags:
            self.assertEqual(worker.answer(tag).types(), [REPLY])

    def test_without_a_client_nothing_more_is_started(self):
        state = self.control.ready()
        started = []
        with Client(self.runtime) as lost:
            worker = lost.worker()
            for number in range(20):
                started.append(self.path("started%d" % number))
                paths = {"started": started[-1], "cancelled": self.path("cancelled"), "file": self.path("never")}
                worker.request(dict(paths, do="wait"))
            wait_for_file(started[1])
            lost.control.close()
            worker.read_to_end()
        self.assertEqual([path for path in started[2:] if os.path.exists(path)], [])
        self.assertEqual(self.client.new_control().ready(), state)
        self.assert_serves()


if __name__ == "__main__":
    unittest.main()
