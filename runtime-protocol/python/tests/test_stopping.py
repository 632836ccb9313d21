"""The end: SIGTERM, grace, draining, and what is left in the directory."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

from support import SCRIPT, Runtime, envelope, environment, frame, parse, read_frame, run_script
from v2 import GOODBYE, Client, is_running, payloads, touch, wait_for_file


class Ending(unittest.TestCase):
    """What the tests of the end share."""

    def start(self, handler="workers.act", **variables):
        runtime = Runtime(handler, **variables)
        self.addCleanup(runtime.close)
        client = Client(runtime)
        self.addCleanup(client.close)
        return runtime, client

    def start_waiting(self, runtime, client, number=0):
        worker = client.worker(number)
        started, go_on = (os.path.join(runtime.directory, "%s%d" % (name, number)) for name in ("started", "go-on"))
        tag = worker.request({"do": "wait_for", "started": started, "file": go_on})
        wait_for_file(started)
        return worker, tag, go_on

    def wait_for_stopping(self, client):
        client.control.wait_for(lambda: client.control.stopping, "STOPPING")

    def assert_ended(self, runtime):
        self.assertEqual(runtime.wait(), 0, runtime.errors())
        left = set(os.listdir(runtime.directory))
        self.assertFalse(left & {"asya-runtime.sock", "asya-runtime.sock.v2", "runtime-ready"}, left)
        self.assertNotIn("Traceback", runtime.errors())


class Stopping(Ending):
    def test_idle(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            runtime, client = self.start(ASYA_WORKERS="2")
            pids = [client.control.ready(each)["pid"] for each in (0, 1)]
            workers = [client.worker(each) for each in (0, 1)]
            runtime.process.send_signal(number)
            self.wait_for_stopping(client)
            for worker in workers:
                self.assertEqual([frame.type for frame in worker.read_to_end()], [GOODBYE])
            client.control.read_to_end()
            self.assert_ended(runtime)
            self.assertFalse(any(map(is_running, pids)))

    def test_running_request_is_answered_and_waiting_ones_are_given_back(self):
        runtime, client = self.start()
        worker, tag, go_on = self.start_waiting(runtime, client)
        log = os.path.join(runtime.directory, "log")
        waiting = [worker.request({"do": "log", "file": log, "word": str(number)}) for number in range(3)]
        runtime.terminate()
        self.wait_for_stopping(client)
        touch(go_on)
        self.assertEqual(worker.answer(tag).payloads(), [{"waited": True}])
        while not worker.goodbye:
            worker.step()
        self.assertEqual(worker.read_to_end(), [])
        # GOODBYE: of what is unanswered nothing was started.
        answered = [number for number in range(3) if worker.answers[waiting[number]].ended]
        started = []
        if os.path.exists(log):
            with open(log) as file:
                started = [int(line) for line in file]
        self.assertEqual(started, answered)
        self.assert_ended(runtime)

    def test_serves_on_within_the_grace_until_goodbye(self):
        runtime, client = self.start(ASYA_SHUTDOWN_GRACE="1h", ASYA_WORKERS="2")
        worker = client.worker()
        runtime.terminate()
        self.wait_for_stopping(client)
        self.assertEqual(payloads(worker.call("late")), ["late"])
        self.assertEqual(payloads(client.worker(1).call("new connection")), ["new connection"])
        self.assertEqual(runtime.call("v1")[0]["payload"], "v1")
        self.assertTrue(os.path.exists(runtime.ready_path))
        # A second signal changes nothing.
        runtime.terminate()
        client.control.ping()
        self.assertEqual(payloads(worker.call("later")), ["later"])
        # A worker that is lost now is replaced as ever.
        client.control.replace(1)
        client.control.send(GOODBYE)
        self.assertEqual([frame.type for frame in worker.read_to_end()], [GOODBYE])
        self.assert_ended(runtime)

    def test_a_control_connection_that_is_made_while_stopping_hears_of_it(self):
        runtime, client = self.start(ASYA_SHUTDOWN_GRACE="1h")
        client.control.ping()
        runtime.terminate()
        self.wait_for_stopping(client)
        later = client.new_control()
        later.wait_for(lambda: later.stopping, "STOPPING")
        later.send(GOODBYE)
        self.assert_ended(runtime)

    def test_goodbye_before_the_signal_does_not_count(self):
        # A client that said goodbye may be followed by another one.
        runtime, client = self.start(ASYA_SHUTDOWN_GRACE="1h")
        client.control.send(GOODBYE)
        client.control.read_to_end()
        other = client.new_control()
        runtime.terminate()
        other.wait_for(lambda: other.stopping, "STOPPING")
        self.assertEqual(payloads(client.worker().call(1)), [1])
        other.send(GOODBYE)
        self.assert_ended(runtime)

    def test_serves_on_within_the_grace_until_the_sidecar_has_drained(self):
        runtime, client = self.start(ASYA_SHUTDOWN_GRACE="1h")
        worker = client.worker()
        runtime.terminate()
        self.wait_for_stopping(client)
        self.assertEqual(payloads(worker.call("late")), ["late"])
        touch(os.path.join(runtime.directory, "sidecar-drained"))
        self.assertEqual([frame.type for frame in worker.read_to_end()], [GOODBYE])
        self.assert_ended(runtime)

    def test_grace_ends_by_itself(self):
        runtime, client = self.start(ASYA_SHUTDOWN_GRACE="200ms")
        worker, tag, go_on = self.start_waiting(runtime, client)
        runtime.terminate()
        self.wait_for_stopping(client)
        # The running one may still end after the grace: it is what a pod's grace period is for.
        touch(go_on)
        self.assertEqual(worker.answer(tag).payloads(), [{"waited": True}])
        self.assert_ended(runtime)

    def test_drained_file_of_an_earlier_life_is_removed(self):
        directory = tempfile.mkdtemp(prefix="asya-")
        self.addCleanup(shutil.rmtree, directory, True)
        touch(os.path.join(directory, "sidecar-drained"))
        runtime, client = self.start(directory=directory, ASYA_SHUTDOWN_GRACE="1h")
        self.assertFalse(os.path.exists(os.path.join(directory, "sidecar-drained")))
        runtime.terminate()
        self.wait_for_stopping(client)
        self.assertEqual(payloads(client.worker().call(1)), [1])
        client.control.send(GOODBYE)
        self.assert_ended(runtime)

    def test_worker_that_dies_while_stopping(self):
        runtime, client = self.start()
        worker, _tag, _go_on = self.start_waiting(runtime, client)
        runtime.terminate()
        self.wait_for_stopping(client)
        os.kill(client.control.workers[0]["pid"], signal.SIGKILL)
        self.assertNotIn(GOODBYE, [frame.type for frame in worker.read_to_end()])
        self.assert_ended(runtime)

    def test_kill_while_stopping(self):
        runtime, client = self.start(ASYA_WORKERS="2")
        hung = client.worker(0)
        started = os.path.join(runtime.directory, "hung")
        tag = hung.request({"do": "hold_the_gil", "started": started})
        wait_for_file(started)
        worker, running, go_on = self.start_waiting(runtime, client, 1)
        runtime.terminate()
        self.wait_for_stopping(client)
        incarnation = client.control.workers[0]["incarnation"]
        client.control.kill(tag, 0)
        self.assertEqual(client.control.gone(0, incarnation)["signal"], 9)
        touch(go_on)
        self.assertEqual(worker.answer(running).payloads(), [{"waited": True}])
        self.assert_ended(runtime)

    def test_silent_v1_peers_hold_nothing_up(self):
        for handler, variables in (("workers.act", {}), ("tasks.act", {"ASYA_CONCURRENCY": "200"})):
            runtime, client = self.start(handler, **variables)
            self.assertEqual(payloads(client.worker().call(1)), [1])
            peers = []
            for _ in range(141):
                peers.append(socket.socket(socket.AF_UNIX))
                self.addCleanup(peers[-1].close)
                peers[-1].connect(runtime.socket_path)  # Waits for its place in the backlog.
            # The last one has something to say.
            peers[-1].sendall(frame(json.dumps(envelope("waiting")).encode()))
            runtime.terminate()
            self.assertEqual(parse(read_frame(peers[-1]))[0]["payload"], "waiting")
            self.assert_ended(runtime)

    def test_v1_calls_that_run_or_wait_are_answered(self):
        runtime, _client = self.start()
        started, go_on = (os.path.join(runtime.directory, name) for name in ("started", "go-on"))
        calls = [runtime.start_call({"do": "wait_for", "started": started, "file": go_on})]
        wait_for_file(started)
        calls += [runtime.start_call(number) for number in range(3)]
        runtime.terminate()
        touch(go_on)
        answers = [call.result()[0]["payload"] for call in calls]
        self.assertEqual(answers, [{"waited": True}, 0, 1, 2])
        self.assert_ended(runtime)

    def test_sigterm_while_a_worker_is_loading_again(self):
        directory = tempfile.mkdtemp(prefix="asya-")
        self.addCleanup(shutil.rmtree, directory, True)
        module = os.path.join(directory, "mine.py")
        with open(module, "w") as file:
            file.write("def process(payload): return payload\n")
        path = os.pathsep.join((directory, environment()["PYTHONPATH"]))
        os.mkdir(os.path.join(directory, "run"))
        runtime, client = self.start("mine.process", directory=os.path.join(directory, "run"), PYTHONPATH=path)
        client.control.ready()
        with open(module, "w") as file:
            file.write("raise RuntimeError('broken')\n")
        client.control.kill()
        client.control.gone(0, 2)
        runtime.terminate()
        self.assertEqual(runtime.wait(), 0)


class UntilDone(Ending):
    """ASYA_RUN_UNTIL=done: pods that end by themselves, whose exit code tells whether the work is done."""

    def start_until_done(self, **variables):
        return self.start(ASYA_RUN_UNTIL="done", **variables)

    def leave_mark(self, directory):
        touch(os.path.join(directory, "work-done"))

    def test_ends_when_the_work_is_done(self):
        runtime, client = self.start_until_done(ASYA_WORKERS="2", ASYA_SHUTDOWN_GRACE="1h")
        worker = client.worker()
        self.assertEqual(payloads(worker.call("first")), ["first"])
        self.assertIsNone(runtime.process.poll())
        self.leave_mark(runtime.directory)
        self.assertEqual([frame.type for frame in worker.read_to_end()], [GOODBYE])
        self.assert_ended(runtime)

    def test_a_goodbye_or_a_drained_sidecar_is_not_the_end_of_the_work(self):
        runtime, client = self.start_until_done()
        client.control.send(GOODBYE)
        client.control.read_to_end()
        touch(os.path.join(runtime.directory, "sidecar-drained"))
        self.assertEqual(payloads(client.worker().call(1)), [1])
        self.leave_mark(runtime.directory)
        self.assert_ended(runtime)

    def test_stopped_before_the_work_is_done_is_no_success(self):
        runtime, client = self.start_until_done()
        self.assertEqual(payloads(client.worker().call(1)), [1])
        runtime.terminate()
        self.assertEqual(runtime.wait(), 143, runtime.errors())

    def test_stopped_when_the_work_is_done_is_a_success(self):
        runtime, client = self.start_until_done()
        worker, tag, go_on = self.start_waiting(runtime, client)
        self.leave_mark(runtime.directory)
        runtime.terminate()
        touch(go_on)
        self.assertEqual(worker.answer(tag).payloads(), [{"waited": True}])
        self.assert_ended(runtime)

    def test_a_mark_that_was_there_before_ends_it_at_once(self):
        directory = tempfile.mkdtemp(prefix="asya-")
        self.addCleanup(shutil.rmtree, directory, True)
        self.leave_mark(directory)
        code, _output, errors = run_script(
            ASYA_HANDLER="workers.act", ASYA_SOCKET_DIR=directory, ASYA_RUN_UNTIL="done"
        )
        self.assertEqual(code, 0, errors)
        self.assertTrue(os.path.exists(os.path.join(directory, "work-done")))

    def test_without_the_variable_the_mark_means_nothing(self):
        runtime, client = self.start()
        self.leave_mark(runtime.directory)
        with self.assertRaises(subprocess.TimeoutExpired):
            runtime.process.wait(0.5)
        self.assertEqual(payloads(client.worker().call(1)), [1])

    def test_other_words_are_refused(self):
        code, _output, errors = run_script(
            ASYA_HANDLER="workers.act", ASYA_SOCKET_DIR="/nowhere", ASYA_RUN_UNTIL="empty"
        )
        self.assertEqual(code, 1)
        self.assertIn("ASYA_RUN_UNTIL must be stopped or done", errors)


class Drain(unittest.TestCase):
    """--drain is what a preStop hook calls: it returns when the sidecar needs the runtime no longer."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="asya-")
        self.addCleanup(shutil.rmtree, self.directory, True)

    def drain(self, **variables):
        return subprocess.Popen(
            [sys.executable, SCRIPT, "--drain"],
            env=environment(ASYA_SOCKET_DIR=self.directory, **variables),
            stdout=subprocess.DEVNULL,
        )

    def test_returns_when_the_sidecar_has_drained(self):
        with Runtime("workers.act", directory=self.directory) as runtime:
            process = self.drain(ASYA_SHUTDOWN_GRACE="1h")
            try:
                with self.assertRaises(subprocess.TimeoutExpired):
                    process.wait(0.5)
                touch(os.path.join(self.directory, "sidecar-drained"))
                self.assertEqual(process.wait(20), 0)
                # It only waits: the runtime itself serves on.
                self.assertEqual(runtime.call(1)[0]["payload"], 1)
            finally:
                process.kill()
                process.wait()

    def test_waits_only_for_a_sidecar_that_drains(self):
        with Runtime("workers.act", directory=self.directory):
            touch(os.path.join(self.directory, "sidecar-draining"))
            draining = self.drain(ASYA_SHUTDOWN_GRACE="1h")
            try:
                other = tempfile.mkdtemp(prefix="asya-")
                self.addCleanup(shutil.rmtree, other, True)
                with Runtime("workers.act", directory=other):
                    alone = subprocess.Popen(
                        [sys.executable, SCRIPT, "--drain"],
                        env=environment(ASYA_SOCKET_DIR=other, ASYA_SHUTDOWN_GRACE="1h"),
                    )
                    self.assertEqual(alone.wait(20), 0, "this sidecar goes on")
                self.assertIsNone(draining.poll(), "this one is awaited")
                touch(os.path.join(self.directory, "sidecar-drained"))
                self.assertEqual(draining.wait(20), 0)
            finally:
                draining.kill()
                draining.wait()

    def test_returns_when_there_is_no_runtime(self):
        self.assertEqual(self.drain(ASYA_SHUTDOWN_GRACE="1h").wait(20), 0)

    def test_returns_when_the_grace_is_over(self):
        with Runtime("workers.act", directory=self.directory):
            self.assertEqual(self.drain(ASYA_SHUTDOWN_GRACE="100ms").wait(20), 0)

    def test_bad_grace(self):
        code, _output, errors = run_script("--drain", ASYA_SOCKET_DIR=self.directory, ASYA_SHUTDOWN_GRACE="soon")
        self.assertEqual(code, 1)
        self.assertIn("ASYA_SHUTDOWN_GRACE", errors)


if __name__ == "__main__":
    unittest.main()
