"""What handlers do to the process that they run in."""

import os
import resource
import signal
import unittest

from support import Runtime, wait_until
from v2 import Client, Shared, is_running, payloads, peak_kib, touch, wait_for_file


class BadHandlers(Shared):
    def call(self, **payload):
        return payloads(self.client.worker().call(payload))[0]

    def test_output_is_never_taken_for_an_answer(self):
        worker = self.client.worker()
        tags = [worker.request({"do": "print", "word": "tulip%d" % number}) for number in range(5)]
        for tag in tags:
            self.assertEqual(worker.answer(tag).payloads(), [{"printed": True}])
        self.assertEqual(self.runtime.call({"do": "print", "word": "rose"})[0]["payload"], {"printed": True})
        with open(os.path.join(self.runtime.directory, "stdout"), "rb") as file:
            output = file.read()
        for number in range(5):
            self.assertIn(b"printed tulip%d\n" % number, output)
        self.assertIn(b"without an end of line", output)
        self.assertIn(b"[]\xff\xfe", output)
        with open(os.path.join(self.runtime.directory, "stderr"), "rb") as file:
            self.assertIn(b"to stderr \xff\n", file.read())
        self.assert_serves()

    def test_standard_descriptors_closed(self):
        self.assertEqual(self.call(do="close_standard"), {"closed": True})
        # What is opened next may get the numbers 0, 1 and 2; what is printed must not end up there.
        for number in range(4):
            worker = self.client.worker()
            self.assertEqual(len(worker.call({"do": "print", "word": "x"})), 1)
            self.assertEqual(payloads(worker.call(number)), [number])
            self.assertEqual(len(self.runtime.call({"do": "print", "word": "x"})), 1)
        self.control.replace()
        self.assert_serves()

    def test_python_streams_closed(self):
        self.assertEqual(self.call(do="close_python_streams"), {"closed": True})
        worker = self.client.worker()
        # Whoever logs must bear that as well.
        self.assert_error(worker.call({"do": "raise", "text": "after"}), "processing_error", "ValueError", "after")
        self.assertEqual(payloads(worker.call(1)), [1])
        self.assertEqual(self.runtime.call(2)[0]["payload"], 2)
        self.control.replace()

    def test_descriptors_that_become_other_files(self):
        worker = self.client.worker()
        incarnation = self.control.workers[0]["incarnation"]
        worker.request({"do": "close_and_open"})
        worker.read_to_end()
        self.control.gone(0, incarnation)
        self.control.ready(0, incarnation + 1)
        self.assert_serves()

    def test_commands_and_pools(self):
        self.assertEqual(self.call(do="command", code=3), {"code": 3})
        for method in ("fork", "spawn"):
            self.assertEqual(self.call(do="pool", method=method), {"squares": [0, 1, 4, 9, 16]})
            # What children tell goes nowhere; they need not know that.
            self.assertEqual(self.call(do="pool_that_tells", method=method), {"squares": [0, 1, 4, 9, 16]})
        self.assertEqual(self.call(do="event_loop"), {"ran": True})
        self.assertEqual(self.control.workers[0]["state"], "ready")

    def test_a_fork_that_returns_or_raises_answers_nothing(self):
        worker = self.client.worker()
        for child in ("return", "raise"):
            tag = worker.request({"do": "fork", "child": child})
            self.assertEqual(set(worker.answer(tag).payloads()[0]), {"child"})
            self.assertEqual(payloads(worker.call(child)), [child])

    def test_a_fork_that_lives_on_holds_no_connection(self):
        worker = self.client.worker()
        child = payloads(worker.call({"do": "fork", "child": "live"}))[0]["child"]
        self.addCleanup(lambda: is_running(child) and os.kill(child, signal.SIGKILL))
        incarnation = self.control.workers[0]["incarnation"]
        worker.request({"do": "exit", "code": 1})
        # The end comes although the child lived when the worker died.
        worker.read_to_end()
        self.control.ready(0, incarnation + 1)
        self.assert_serves()

    def test_a_fork_of_a_thread_does_not_end_with_the_thread(self):
        self.assertEqual(self.call(do="fork_in_thread"), {"signal": 0, "code": 7})

    def test_logging_that_raises_or_is_switched_off(self):
        for how in ("filter", "config"):
            worker = self.client.worker()
            incarnation = self.control.workers[0]["incarnation"]
            self.assertEqual(payloads(worker.call({"do": "spoil_logging", "how": how})), [{"spoiled": True}])
            self.assert_error(worker.call({"do": "raise", "text": "after"}), "processing_error", "ValueError", "after")
            # Our own lines are written all the same.
            name = "spoiled-by-%s" % how
            worker.call({"do": "raise", "text": "x"}, id=name)
            wait_until(lambda: "handler failed: id=%s" % name in self.runtime.errors(), "the line of " + name)
            self.assertEqual(self.control.workers[0]["incarnation"], incarnation)
            self.control.replace()

    def test_an_exception_that_cannot_be_shown(self):
        worker = self.client.worker()
        self.assert_error(worker.call({"do": "raise_unspeakable"}), "processing_error", "Unspeakable", "turned into text")
        self.assertEqual(payloads(worker.call(1)), [1])

    def test_another_directory(self):
        self.assertEqual(self.call(do="chdir", to="/"), "/")
        self.assert_serves()
        self.control.replace()
        self.assertNotEqual(self.call(do="pid"), None)
        self.assertEqual(self.runtime.call(1)[0]["payload"], 1)

    def test_signal_handlers(self):
        for ignore in (True, False):
            with self.subTest(ignore=ignore):
                self.assertEqual(self.call(do="install_signals", ignore=ignore), {"installed": True})
                worker = self.client.worker()
                self.assertEqual([payloads(worker.call(number)) for number in range(3)], [[0], [1], [2]])
                pid = self.control.workers[0]["pid"]
                self.control.replace()
                self.assertFalse(is_running(pid))
        self.assert_serves()

    def test_memory_limit(self):
        worker = self.client.worker()
        incarnation = self.control.ready()["incarnation"]
        items = worker.call({"do": "allocate", "bytes": 64 << 20, "lift": True})
        self.assert_error(items, "oom", "MemoryError")
        self.assertEqual(payloads(worker.call(1)), [1])
        self.control.ping()
        self.assertEqual(self.control.workers[0]["incarnation"], incarnation)

    def test_memory_limit_that_stays(self):
        # With little left, the worker answers, or it ends and is replaced; the arbiter is not affected.
        worker = self.client.worker()
        incarnation = self.control.ready()["incarnation"]
        tag = worker.request({"do": "allocate", "bytes": 64 << 20})
        try:
            self.assert_error(worker.answer(tag).items, "oom", "MemoryError")
        except EOFError:
            self.control.ready(0, incarnation + 1)
        self.control.replace()
        self.assert_serves()

    def test_memory_of_answers_is_given_back(self):
        worker = self.client.worker()
        pid = self.control.ready()["pid"]
        for _ in range(10):
            worker.call({"do": "big", "size": 8 << 20})
        self.assertLess(peak_kib(pid), 200 * 1024)
        self.assertLess(peak_kib(self.runtime.process.pid), 100 * 1024)


class BadTasks(Shared):
    """The same with an event loop in the worker."""

    handler = "tasks.act"
    variables = {"ASYA_CONCURRENCY": "4"}

    def do(self, do, **payload):
        return {"do": "sync", "payload": dict(payload, do=do)}

    def test_descriptors_closed(self):
        for how in ("close_all", "close_and_open"):
            with self.subTest(how):
                worker = self.client.worker()
                incarnation = self.control.workers[0]["incarnation"]
                worker.request(self.do(how))
                worker.read_to_end()
                self.control.gone(0, incarnation)
                self.control.ready(0, incarnation + 1)
                self.assert_serves()

    def test_forks(self):
        worker = self.client.worker()
        for child in ("return", "raise"):
            items = worker.call(self.do("fork", child=child))
            self.assertEqual(set(payloads(items)[0]), {"child"})
            self.assertEqual(payloads(worker.call(child)), [child])
        child = payloads(worker.call(self.do("fork", child="live")))[0]["child"]
        self.addCleanup(lambda: is_running(child) and os.kill(child, signal.SIGKILL))
        self.control.replace()
        # The child that lives holds no connection.
        worker.read_to_end()

    def test_commands_and_pools(self):
        worker = self.client.worker()
        self.assertEqual(payloads(worker.call(self.do("command", code=3))), [{"code": 3}])
        self.assertEqual(payloads(worker.call(self.do("pool", method="fork"))), [{"squares": [0, 1, 4, 9, 16]}])
        self.assertEqual(payloads(worker.call(self.do("print", word="x"))), [{"printed": True}])

    def test_memory_limit(self):
        worker = self.client.worker()
        self.assert_error(worker.call(self.do("allocate", bytes=64 << 20, lift=True)), "oom", "MemoryError")
        self.assertEqual(payloads(worker.call(1)), [1])

    def test_signal_handlers(self):
        worker = self.client.worker()
        for ignore in (True, False):
            self.assertEqual(payloads(worker.call(self.do("install_signals", ignore=ignore))), [{"installed": True}])
            self.assertEqual(payloads(worker.call(1)), [1])
        self.control.replace()

    def test_held_gil(self):
        worker = self.client.worker()
        started = self.path("started")
        tag = worker.request(self.do("hold_the_gil", started=started))
        wait_for_file(started)
        self.control.cancel(tag)
        self.control.ping()
        self.assertEqual(self.control.replace()[0]["signal"], 9)


class WholeProcess(unittest.TestCase):
    def test_sigterm_with_signal_handlers_of_the_handler(self):
        for ignore in (True, False):
            with Runtime("workers.act", ASYA_WORKERS="2") as runtime, Client(runtime) as client:
                for number in (0, 1):
                    client.worker(number).call({"do": "install_signals", "ignore": ignore})
                runtime.terminate()
                self.assertEqual(runtime.wait(), 0)

    def test_sigterm_to_the_group(self):
        # A terminal, or `kill -- -pid`, signals workers as well: they must not die of it before the arbiter says so.
        for number in (signal.SIGINT, signal.SIGTERM):
            with Runtime("workers.act", new_session=True) as runtime, Client(runtime) as client:
                worker = client.worker()
                started, go_on = (os.path.join(runtime.directory, name) for name in ("started", "go-on"))
                tag = worker.request({"do": "wait_for", "started": started, "file": go_on})
                wait_for_file(started)
                os.killpg(runtime.process.pid, number)
                client.control.wait_for(lambda: client.control.stopping, "STOPPING")
                touch(go_on)
                self.assertEqual(worker.answer(tag).payloads(), [{"waited": True}])
                self.assertEqual(runtime.wait(), 0)

    def test_few_descriptors(self):
        # Connections beyond the limit wait or are refused; those that are there go on, and later ones are served.
        with Runtime("workers.act", limits={resource.RLIMIT_NOFILE: 20}) as runtime, Client(runtime) as client:
            worker = client.worker()
            with Client(runtime) as silent:
                for _ in range(40):
                    silent.raw()
                self.assertEqual(payloads(worker.call(1)), [1])
                client.control.ping()
            self.assertEqual(runtime.call(2)[0]["payload"], 2)
            self.assertEqual(payloads(worker.call(3)), [3])
            self.assertEqual(payloads(client.worker().call(4)), [4])

    def test_silent_v1_peers(self):
        # They cost a worker nothing before they have said something.
        with Runtime("workers.act") as runtime, Client(runtime) as client:
            worker = client.worker()
            peers = [runtime.connect() for _ in range(30)]
            try:
                self.assertEqual(payloads(worker.call(1)), [1])
                self.assertEqual(runtime.call(2)[0]["payload"], 2)
            finally:
                for peer in peers:
                    peer.close()


if __name__ == "__main__":
    unittest.main()
