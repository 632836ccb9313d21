"""Worker processes: how they end, how they are replaced, and what must not be left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from support import SCRIPT, Runtime, environment, run_script, wait_until
from v2 import Client, Shared, children_of, descriptors_of, is_running, payloads, process_status, touch, wait_for_file


class Ends(Shared):
    """One runtime, one worker after the other: each test ends one in its own way."""

    def end(self, payload):
        """Lets a request end the worker: what the server says of it."""
        worker = self.client.worker()
        incarnation = self.control.workers[0]["incarnation"]
        worker.request(payload)
        gone = self.control.gone(0, incarnation)
        worker.read_to_end()
        self.control.ready(0, incarnation + 1)
        self.assert_serves()
        return gone

    def assert_gone(self, gone, **expected):
        details = {"signal": None, "signal_name": None, "exit_code": None, "oom": False, "killed": False}
        details.update(expected)
        self.assertEqual({key: gone[key] for key in details}, details)
        self.assertTrue(gone["reason"])
        self.assertEqual(set(gone), set(details) | {"worker", "incarnation", "state", "reason"})

    def test_exit_code(self):
        self.assert_gone(self.end({"do": "exit", "code": 3}), exit_code=3)

    def test_exit_code_zero_is_an_end_as_well(self):
        self.assert_gone(self.end({"do": "exit", "code": 0}), exit_code=0)

    def test_segfault(self):
        self.assert_gone(self.end({"do": "segfault"}), signal=11, signal_name="SIGSEGV")

    def test_signals(self):
        for name in ("SIGKILL", "SIGABRT", "SIGBUS"):
            number = int(getattr(signal, name))
            # A SIGKILL of somebody else is not ours.
            self.assert_gone(self.end({"do": "signal", "number": number}), signal=number, signal_name=name)

    def test_sys_exit_is_an_answer(self):
        worker = self.client.worker()
        incarnation = self.control.workers[0]["incarnation"]
        self.assertEqual(worker.call({"do": "sys_exit", "code": 3})[0]["error"], "processing_error")
        self.control.ping()
        self.assertEqual(self.control.workers[0]["incarnation"], incarnation)

    def test_all_descriptors_closed(self):
        worker = self.client.worker()
        incarnation = self.control.workers[0]["incarnation"]
        worker.request({"do": "close_all"})
        worker.read_to_end()
        self.control.gone(0, incarnation)
        self.control.ready(0, incarnation + 1)
        self.assert_serves()

    def test_kill(self):
        worker = self.client.worker()
        state = self.control.workers[0]
        started = self.path("started")
        tag = worker.request({"do": "hang", "started": started})
        wait_for_file(started)
        self.control.kill(tag)
        gone = self.control.gone(0, state["incarnation"])
        self.assert_gone(gone, signal=9, signal_name="SIGKILL", killed=True)
        self.assertIn(str(tag), gone["reason"])
        self.assertEqual(worker.read_to_end(), [])
        after = self.control.ready(0, state["incarnation"] + 1)
        self.assertEqual(after["incarnation"], state["incarnation"] + 1)
        self.assertNotEqual(after["pid"], state["pid"])
        self.assertFalse(is_running(state["pid"]))
        # The states of one worker come in their order.
        states = [event["state"] for event in self.control.events if event["incarnation"] >= state["incarnation"]]
        self.assertEqual(states, ["ready", "gone", "starting", "ready"])
        self.assertEqual(set(self.control.events[-2]), {"worker", "incarnation", "state"})
        self.assertEqual(set(self.control.events[-1]), {"worker", "incarnation", "state", "pid"})

    def test_kill_of_another_incarnation_changes_nothing(self):
        worker = self.client.worker()
        incarnation = self.control.workers[0]["incarnation"]
        for other in (incarnation - 1, incarnation + 1, 0, 2**32 - 1):
            self.control.kill(1, 0, other)
        self.control.ping()
        self.assertEqual(payloads(worker.call(1)), [1])
        self.assertEqual(self.control.workers[0]["incarnation"], incarnation)

    def test_kill_twice(self):
        incarnation = self.control.ready()["incarnation"]
        self.control.kill()
        self.control.kill()
        self.control.gone(0, incarnation)
        self.assertEqual(self.control.ready(0, incarnation + 1)["incarnation"], incarnation + 1)
        self.control.ping()
        self.assertEqual(self.control.workers[0]["state"], "ready")
        self.assert_serves()

    def test_worker_that_dies_idle(self):
        state = self.control.ready()
        worker = self.client.worker()
        os.kill(state["pid"], signal.SIGKILL)
        self.assert_gone(self.control.gone(0, state["incarnation"]), signal=9, signal_name="SIGKILL")
        worker.read_to_end()
        self.control.ready(0, state["incarnation"] + 1)
        self.assert_serves()

    def test_stopped_worker_is_killed(self):
        state = self.control.ready()
        os.kill(state["pid"], signal.SIGSTOP)
        self.control.replace()
        self.assert_serves()

    def test_v1_peer_of_a_worker_that_dies(self):
        incarnation = self.control.ready()["incarnation"]
        with self.assertRaises((EOFError, ConnectionResetError)):
            self.runtime.call({"do": "exit", "code": 4})
        self.assert_gone(self.control.gone(0, incarnation), exit_code=4)
        # The next one waits for the next worker.
        self.assertEqual(self.runtime.call(1)[0]["payload"], 1)

    def test_user_code_is_imported_in_workers_only(self):
        seen = payloads(self.client.worker().call({"do": "pid"}))[0]
        self.assertEqual(seen["pid"], seen["imported_by"])
        self.assertEqual(seen["pid"], self.control.workers[0]["pid"])
        self.assertNotEqual(seen["pid"], self.runtime.process.pid)


class Three(Shared):
    variables = {"ASYA_WORKERS": "3"}

    def test_one_hangs_and_the_others_go_on(self):
        for payload in ({"do": "hang"}, {"do": "hold_the_gil"}, {"do": "block_signals"}):
            with self.subTest(payload["do"]):
                started = self.path(payload["do"])
                hung = self.client.worker(0)
                others = [self.client.worker(number) for number in (1, 2)]
                hung.request(dict(payload, started=started))
                wait_for_file(started)
                for worker in others:
                    self.assertEqual(payloads(worker.call("on")), ["on"])
                # A v1 peer is not given to a worker that is busy.
                self.assertEqual(self.runtime.call("v1")[0]["payload"], "v1")
                gone, _state = self.control.replace(0)
                self.assertEqual((gone["signal"], gone["killed"]), (9, True))
                for worker in others:
                    self.assertEqual(payloads(worker.call("still")), ["still"])
                self.assertEqual(payloads(self.client.worker(0).call("again")), ["again"])

    def test_greeting_of_a_worker_that_holds_the_gil(self):
        # Its connection waits; everything else goes on.
        started = self.path("started")
        self.client.worker(2).request({"do": "hold_the_gil", "started": started})
        wait_for_file(started)
        newer = self.client.raw()
        incarnation = self.control.workers[2]["incarnation"]
        newer.send(1, 0, json.dumps(self.client.hello("worker", worker=2, incarnation=incarnation)).encode())
        self.assertEqual(payloads(self.client.worker(1).call(1)), [1])
        self.control.ping()
        self.control.replace(2)
        # Without a WELCOME nothing has run.
        self.assertNotIn(2, [frame.type for frame in newer.read_to_end()])


class Loading(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="asya-")
        self.addCleanup(shutil.rmtree, self.directory, True)
        self.module = os.path.join(self.directory, "mine.py")
        self.log = os.path.join(self.directory, "imports")

    def write(self, text):
        with open(self.module + ".new", "w") as file:
            file.write('with open(%r, "a") as f: f.write("x")\n%s\n' % (self.log, text))
        os.replace(self.module + ".new", self.module)

    def imports(self):
        return os.path.getsize(self.log) if os.path.exists(self.log) else 0

    def start(self, **variables):
        path = os.pathsep.join((self.directory, environment()["PYTHONPATH"]))
        runtime = Runtime("mine.process", directory=os.path.join(self.directory, "run"), PYTHONPATH=path, **variables)
        self.addCleanup(runtime.close)
        return runtime

    def test_worker_that_no_longer_loads_is_tried_again_until_it_does(self):
        os.mkdir(os.path.join(self.directory, "run"))
        self.write("def process(payload): return payload")
        runtime = self.start()
        with Client(runtime) as client:
            control = client.control
            control.ready()
            self.write("raise RuntimeError('no licence left')")
            control.kill()
            control.gone(0, 1)
            gone = control.gone(0, 2)
            self.assertEqual((gone["killed"], gone["oom"]), (False, False))
            self.assertIn("no licence left", gone["reason"])
            waiting = runtime.start_call("waiting")
            control.wait_for(lambda: self.imports() >= 4, "further attempts")
            # Paused in between, not spinning: growing pauses leave room for few attempts.
            self.assertLess(self.imports(), 20)
            control.ping()
            self.assertTrue(os.path.exists(runtime.ready_path))
            self.assertIsNone(runtime.process.poll())
            self.write("def process(payload): return ['mended', payload]")
            control.ready(0, 3)
            self.assertEqual(payloads(client.worker().call(1)), ["mended", 1])
            self.assertEqual([item["payload"] for item in waiting.result()], ["mended", "waiting"])
            self.assertEqual([number for number, state in children_of(runtime.process.pid).items() if state == "Z"], [])

    def test_worker_that_dies_again_and_again_before_it_has_done_anything(self):
        os.mkdir(os.path.join(self.directory, "run"))
        self.write("def process(payload): return payload")
        runtime = self.start()
        with Client(runtime) as client:
            client.control.ready()
            # It loads, and a thread of its own ends it.
            self.write(
                "import os, threading\n"
                "threading.Timer(0.05, os._exit, (7,)).start()\n"
                "def process(payload): return payload"
            )
            client.control.kill()
            client.control.wait_for(lambda: self.imports() >= 5, "attempts")
            attempts = self.imports()
            with self.assertRaises(AssertionError):
                client.control.wait_for(lambda: self.imports() >= attempts + 6, "attempts without pauses", 1.2)
            self.assertEqual(client.control.gone(0, 2)["exit_code"], 7)
            self.write("def process(payload): return ['mended', payload]")
            wait_until(lambda: self.is_mended(runtime), "the mended one")

    @staticmethod
    def is_mended(runtime):
        try:
            return runtime.call(1)[0]["payload"] == "mended"
        except (EOFError, ConnectionResetError):
            return False  # One that dies yet.

    def test_a_failure_of_the_first_load_ends_the_start(self):
        self.write("raise RuntimeError('no licence at all')")
        run = os.path.join(self.directory, "run")
        path = os.pathsep.join((self.directory, environment()["PYTHONPATH"]))
        for workers in ("1", "3"):
            code, _output, errors = run_script(
                ASYA_HANDLER="mine.process", ASYA_SOCKET_DIR=run, PYTHONPATH=path, ASYA_WORKERS=workers
            )
            self.assertEqual(code, 1)
            self.assertIn("RuntimeError: no licence at all", errors)
            self.assertIn('mine.py", line 2', errors)
            self.assertEqual(os.listdir(run) if os.path.exists(run) else [], [])

    def test_a_class_is_created_once_in_each_worker(self):
        with Runtime("workers.Counting.process", ASYA_WORKERS="2", IMPORT_LOG=self.log) as runtime:
            with Client(runtime) as client:
                seen = {}
                for number in (0, 1, 0, 1):
                    result = payloads(client.worker(number).call(None))[0]
                    seen.setdefault(result["pid"], []).append((result["created"], result["calls"]))
                self.assertEqual(list(seen.values()), [[(1, 1), (1, 2)]] * 2)
                client.control.replace(0)
                self.assertEqual(payloads(client.worker(0).call(None))[0]["calls"], 1)
                pids = set(seen) | {client.control.workers[0]["pid"]}
            with open(self.log) as file:
                importers = [int(line.split()[0]) for line in file]
            self.assertNotIn(runtime.process.pid, importers)
            self.assertEqual(sorted(importers), sorted(pids))

    def test_ready_file_waits_for_the_first_worker_only(self):
        os.mkdir(os.path.join(self.directory, "run"))
        gate = os.path.join(self.directory, "gate")
        # One of the workers gets through, the others wait while they load.
        self.write(
            "import os, time\n"
            "try: os.mkdir(%r)\n"
            "except FileExistsError:\n"
            "    while not os.path.exists(%r + '-open'): time.sleep(0.003)\n"
            "def process(payload): return os.getpid()\n" % (gate, gate)
        )
        runtime = self.start(ASYA_WORKERS="3")
        with Client(runtime) as client:
            states = sorted(state["state"] for state in client.control.workers.values())
            self.assertEqual(states, ["ready", "starting", "starting"])
            self.assertIsInstance(runtime.call(1)[0]["payload"], int)
            loading = [number for number, state in client.control.workers.items() if state["state"] == "starting"]
            # A worker that is still loading can be killed too.
            client.control.kill(0, loading[0])
            client.control.gone(loading[0], 1)
            touch(gate + "-open")
            pids = {client.control.ready(number)["pid"] for number in range(3)}
            self.assertEqual(len(pids), 3)
            self.assertEqual(client.control.workers[loading[0]]["incarnation"], 2)


class Leftovers(unittest.TestCase):
    def test_no_zombie_and_no_descriptor_is_left_behind(self):
        with Runtime("workers.act", ASYA_WORKERS="2") as runtime, Client(runtime) as client:
            arbiter = runtime.process.pid
            control = client.control
            first = [control.ready(number)["pid"] for number in (0, 1)]
            for number in (0, 1):
                client.worker(number).call(1)
            open_at_first = descriptors_of(arbiter)
            children_at_first = len(children_of(arbiter))
            for _ in range(50):
                with Client(runtime) as other:
                    # Not the control connection: that would replace ours.
                    connection = other.raw()
                    connection.write(b"\0\0\0\x01\x01")
                runtime.call(1)
            for _ in range(10):
                states = [control.workers[number]["incarnation"] for number in (0, 1)]
                with client.worker(0) as worker, client.worker(1) as other:
                    # Those that ended without work are started again with pauses.
                    self.assertEqual(payloads(other.call(1)), [1])
                    worker.request({"do": "exit", "code": 1})
                    control.kill(0, 1)
                    for number in (0, 1):
                        control.ready(number, states[number] + 1)
            for number in (0, 1):
                client.worker(number).call(1)
            self.assertEqual([control.workers[number]["incarnation"] for number in (0, 1)], [11, 11])

            def settled():
                return descriptors_of(arbiter) <= open_at_first and "Z" not in children_of(arbiter).values()

            wait_until(settled, "descriptors and zombies are as at first (%d)" % open_at_first, 5)
            self.assertEqual(len(children_of(arbiter)), children_at_first)
            self.assertEqual([pid for pid in first if process_status(pid)], [])

    def test_no_descriptor_is_left_behind_in_a_worker(self):
        for handler, variables in (("workers.act", {}), ("tasks.act", {"ASYA_CONCURRENCY": "3"})):
            with Runtime(handler, **variables) as runtime, Client(runtime) as client:
                pid = client.control.ready()["pid"]
                client.worker().call(1)
                runtime.call(1)
                before = descriptors_of(pid)
                for _ in range(50):
                    with client.worker() as worker:
                        worker.call(1)
                    runtime.call(1)
                    runtime.connect().close()
                # The present connection counts as the one before did.
                wait_until(lambda: descriptors_of(pid) <= before, "descriptors are as at first (%d)" % before, 5)

    def test_nothing_survives_whoever_started_it(self):
        # A local run asks for this with ASYA_PARENT_PID.
        directory = tempfile.mkdtemp(prefix="asya-")
        self.addCleanup(shutil.rmtree, directory, True)
        parent = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import os, subprocess, sys\n"
                "os.environ['ASYA_PARENT_PID'] = str(os.getpid())\n"
                "subprocess.call([sys.executable, sys.argv[1]])",
                SCRIPT,
            ],
            env=environment(ASYA_HANDLER="workers.act", ASYA_SOCKET_DIR=directory),
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for_file(os.path.join(directory, "runtime-ready"))
            (arbiter,) = children_of(parent.pid)
            pids = [arbiter] + list(children_of(arbiter))
            self.assertEqual(len(pids), 2)
        finally:
            parent.kill()
            parent.wait()
        self.addCleanup(end_all, pids)
        wait_until(lambda: not any(map(is_running, pids)), "arbiter and worker are gone: %r" % pids)

    def test_nothing_survives_a_killed_arbiter(self):
        with Runtime("workers.act", ASYA_WORKERS="3") as runtime, Client(runtime) as client:
            pids = [client.control.ready(number)["pid"] for number in range(3)]
            pids.append(payloads(client.worker(0).call({"do": "fork", "child": "live"}))[0]["child"])
            self.addCleanup(end_all, pids)
            started = os.path.join(runtime.directory, "started")
            client.worker(1).request({"do": "hold_the_gil", "started": started})
            wait_for_file(started)
            pids += list(children_of(runtime.process.pid))
            runtime.process.kill()
            runtime.wait()
            wait_until(lambda: not any(map(is_running, pids)), "all workers and forks are gone: %r" % pids)

    def test_nothing_survives_the_end_of_a_worker(self):
        with Runtime("workers.act") as runtime, Client(runtime) as client:
            child = payloads(client.worker().call({"do": "fork", "child": "live"}))[0]["child"]
            self.addCleanup(end_all, [child])
            client.control.replace()
            wait_until(lambda: not is_running(child), "the fork of a killed worker is gone")

    def test_nothing_of_ours_is_inherited(self):
        with Runtime("workers.act") as runtime, Client(runtime) as client:
            worker = client.worker()
            self.assertLessEqual(set(payloads(worker.call({"do": "inheritable"}))[0]["open"]), {0, 1, 2})
            # Nor does a worker see signals blocked.
            self.assertEqual(payloads(worker.call({"do": "signal_state"}))[0]["masked"], [])

    def test_a_thread_that_never_ends_holds_nothing_up(self):
        with Runtime("workers.act", ASYA_CANCEL_GRACE="300ms") as runtime, Client(runtime) as client:
            self.assertEqual(payloads(client.worker().call({"do": "threads"}))[0]["threads"] >= 2, True)
            runtime.terminate()
            self.assertEqual(runtime.wait(), 0)


def end_all(pids):
    for pid in pids:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
