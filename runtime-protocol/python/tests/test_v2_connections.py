"""Protocol v2: the ready file, greetings, control and worker connections, pipelining, limits of patience."""

import json
import os
import re
import shutil
import socket
import tempfile
import time
import unittest

from support import Runtime, envelope, wait_until
from v2 import (
    ERROR,
    GOODBYE,
    HELLO,
    NO_BUDGET,
    REPLY,
    Client,
    Refused,
    Shared,
    children_of,
    frame_bytes,
    payloads,
    peak_kib,
    read_offer,
    request_body,
    touch,
    wait_for_file,
)

OFFER = re.compile(rb"ready\nv2 asya-runtime\.sock\.v2 ([0-9a-f]{8,64})\n?\Z")


def read_ready(runtime):
    with open(runtime.ready_path, "rb") as file:
        return file.read()


class ReadyFile(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="asya-")
        self.addCleanup(shutil.rmtree, self.directory, True)

    def test_content_and_a_new_nonce_at_each_start(self):
        nonces = []
        for _ in range(2):
            with Runtime("workers.act", directory=tempfile.mkdtemp(dir=self.directory)) as runtime:
                content = read_ready(runtime)
                self.assertRegex(content, OFFER)
                nonces.append(OFFER.match(content).group(1))
                # Both sockets are there when the file is, under the same mode.
                modes = {oct(os.stat(runtime.socket_path + end).st_mode) for end in ("", ".v2")}
                self.assertEqual(modes, {"0o140666"})
        self.assertNotEqual(*nonces)

    def test_names_and_modes_follow_the_settings(self):
        with Runtime("workers.act", directory=self.directory, ASYA_SOCKET_CHMOD="600") as runtime:
            self.assertEqual(oct(os.stat(runtime.socket_path + ".v2").st_mode), "0o140600")

    def test_another_socket_name(self):
        with Runtime("workers.act", directory=self.directory, socket_name="x.s", ASYA_SOCKET_NAME="x.s") as runtime:
            path, _nonce = read_offer(runtime.directory)
            self.assertEqual(path, os.path.join(self.directory, "x.s.v2"))
            with Client(runtime) as client:
                self.assertEqual(payloads(client.worker().call(5)), [5])
                self.assertEqual(runtime.call(6)[0]["payload"], 6)

    def test_stale_file_and_sockets_of_a_killed_runtime(self):
        with Runtime("workers.act", directory=tempfile.mkdtemp(dir=self.directory)) as first:
            stale = Client(first)
            self.assertEqual(payloads(stale.worker().call(1)), [1])
            first.process.kill()
            first.wait()
            stale.close()
            with self.assertRaises(ConnectionRefusedError):
                stale.raw()
            with Runtime("workers.act", directory=first.directory) as second:
                wait_until(lambda: os.path.exists(second.ready_path), "the new file is there")
                wait_until(lambda: read_offer(first.directory)[1] != stale.nonce, "the file is the new one")
                with self.assertRaisesRegex(Refused, "nonce"):
                    stale.new_control()
                stale.close()
                with Client(second) as client:
                    self.assertEqual(payloads(client.worker().call(2)), [2])


class Greetings(Shared):
    variables = {"ASYA_WORKERS": "2", "ASYA_CANCEL_GRACE": "700ms", "ASYA_MAX_MESSAGE_SIZE": "1000000"}

    def test_welcome_of_the_control_connection(self):
        welcome = self.control.welcome
        self.assertRegex(welcome.pop("server"), r"^asya-runtime/\d+\.\d+\.\d+")
        self.assertEqual(
            welcome,
            {
                "protocol": 2,
                "revision": 0,
                "workers": 2,
                "concurrency": 1,
                "batch": {"size": 1, "wait_ms": 0},
                "stream": False,
                "cancel_grace_ms": 700,
                "max_message_size": 1000000,
            },
        )

    def test_worker_states(self):
        for number in (0, 1):
            state = self.control.ready(number)
            self.assertEqual(set(state), {"worker", "incarnation", "state", "pid"})
            items = self.client.worker(number).call({"do": "pid"})
            self.assertEqual(payloads(items)[0]["pid"], state["pid"])

    def test_welcome_of_a_worker_connection(self):
        self.assertEqual(self.client.worker().welcome, {"protocol": 2, "revision": 0})

    def test_the_lower_revision_holds(self):
        control = self.client.new_control(revision=99, unknown={"x": 1})
        self.assertEqual(control.welcome["revision"], 0)
        self.assertEqual(self.client.worker(revision=99, unknown=[]).welcome, {"protocol": 2, "revision": 0})

    def test_ping(self):
        for tag in (0, 1, 2**32 - 1):
            self.control.ping(tag)

    def test_hello_in_pieces(self):
        hello = frame_bytes(HELLO, 0, json.dumps(self.client.hello("control")).encode())
        connection = self.client.raw()
        for byte in hello:
            connection.write(bytes([byte]))
        self.assertEqual(json.loads(connection.read().body.decode())["workers"], 2)

    def assert_refused(self, data, text):
        connection = self.client.raw()
        connection.write(data)
        frames = connection.read_to_end()
        self.assertEqual([frame.type for frame in frames], [ERROR])
        self.assertEqual(frames[0].tag, 0)
        self.assertRegex(frames[0].body.decode("utf-8"), text)

    def refuse_hello(self, text, **more):
        hello = self.client.hello("control")
        hello.update(more)
        hello = {key: value for key, value in hello.items() if value is not None}
        with self.subTest(str(more)[:100]):
            self.assert_refused(frame_bytes(HELLO, 0, json.dumps(hello).encode()), text)

    def test_hello_that_is_wrong(self):
        self.refuse_hello("nonce", nonce="0" * 32)
        self.refuse_hello("nonce", nonce=None)
        self.refuse_hello("nonce", nonce=7)
        self.refuse_hello("nonce", nonce="\u2603")
        self.refuse_hello("protocol", protocol=1)
        self.refuse_hello("protocol", protocol=3)
        self.refuse_hello("protocol", protocol="2")
        self.refuse_hello("protocol", protocol=None)
        self.refuse_hello("connection", connection="both")
        self.refuse_hello("connection", connection=None)
        self.refuse_hello("connection", connection=["control"])
        self.refuse_hello("worker", connection="worker")
        for worker in (2, -1, "0", None, True, 1.0, 2**70):
            self.refuse_hello("worker", connection="worker", worker=worker, incarnation=1)
        for incarnation in (99, -1, "1", None, 2**70):
            self.refuse_hello("incarnation", connection="worker", worker=0, incarnation=incarnation)
        self.assert_serves()

    def test_hello_that_is_no_hello(self):
        self.assert_refused(frame_bytes(HELLO, 0, b"{"), "JSON")
        self.assert_refused(frame_bytes(HELLO, 0, b"[]"), "object")
        self.assert_refused(frame_bytes(HELLO, 0, b""), "JSON")
        self.assert_refused(frame_bytes(HELLO, 0, b"\xff"), "UTF-8|JSON|utf-8")
        self.assert_refused(frame_bytes(HELLO, 0, b"[" * 60000), "JSON|nested")
        self.assert_refused(frame_bytes(0x33), "HELLO")
        self.assert_refused(frame_bytes(0x10, 1, request_body(envelope(1))), "HELLO")
        self.assert_refused(frame_bytes(HELLO, 0, b"{}", flags=1), "flag")
        self.assert_refused(frame_bytes(HELLO, 0, b"{}", reserved=256), "zero|reserved")
        self.assert_refused(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ".")
        self.assert_refused(b"\0\0\0\x02{}" + b"\0" * 20, ".")
        self.assert_serves()

    def test_hello_that_is_too_long(self):
        hello = dict(self.client.hello("control"), padding="x" * 65536)
        self.assert_refused(frame_bytes(HELLO, 0, json.dumps(hello).encode()), "65536|64 KiB")
        # Announced only: refused before it has come.
        self.assert_refused(frame_bytes(HELLO, 0, b"{", length=2**31), "65536|64 KiB")
        self.assert_serves()

    def test_peers_that_leave_early(self):
        for data in (b"", b"\0", frame_bytes(HELLO, 0, b"{}")[:13], frame_bytes(HELLO, 0, b"{}", length=10)):
            connection = self.client.raw()
            connection.write(data)
            connection.close()
        self.assert_serves()


class Control(Shared):
    def test_newer_replaces_older(self):
        worker = self.client.worker()
        older = self.control
        started, cancelled = self.path("started"), self.path("cancelled")
        tag = worker.request({"do": "poll", "started": started, "cancelled": cancelled})
        wait_for_file(started)
        newer = self.client.new_control()
        older.read_to_end()
        newer.ping()
        # The running request was not asked to end by that; it is by the newer one.
        self.assertFalse(os.path.exists(cancelled))
        newer.cancel(tag)
        worker.answer(tag)

    def test_goodbye_leaves_the_server_running(self):
        worker = self.client.worker()
        self.control.send(GOODBYE)
        self.control.read_to_end()
        self.assertEqual(payloads(worker.call(1)), [1])
        self.client.new_control().ping()

    def test_a_worker_connection_needs_no_control_connection_of_its_own_client(self):
        self.control.ready()
        self.control.send(GOODBYE)
        self.control.close()
        self.assertEqual(payloads(self.client.worker().call(3)), [3])


class Requests(Shared):
    def test_pipelined_answers_come_in_order(self):
        worker = self.client.worker()
        tags = [worker.request(number) for number in range(100)]
        answers = [worker.answer(tag) for tag in tags]
        self.assertEqual([answer.payloads() for answer in answers], [[number] for number in range(100)])
        self.assertEqual(worker.ended, tags)
        self.assertEqual({tuple(answer.types()) for answer in answers}, {(REPLY,)})

    def test_far_more_than_the_window_written_ahead(self):
        worker = self.client.worker()
        log = self.path("log")
        with worker.writing():
            tags = [worker.request({"do": "log", "file": log, "word": str(number)}) for number in range(1000)]
        for tag in tags:
            worker.answer(tag)
        self.assertEqual(worker.ended, tags)
        with open(log) as file:
            self.assertEqual(file.read().split(), [str(number) for number in range(1000)])

    def test_whole_items(self):
        worker = self.client.worker()
        items = worker.answer(worker.request({"x": 1}, headers={"h": 1})).items
        self.assertEqual(items, [{"payload": {"x": 1}, "route": {"actors": ["a", "b"], "current": 1}, "headers": {"h": 1}}])
        self.assertEqual(worker.call(None), [])
        self.assertEqual(payloads(worker.call([1, None, 2])), [1, None, 2])

    def test_tags_may_be_anything_and_come_again(self):
        worker = self.client.worker()
        for tag in (0xFFFFFFFF, 0, 0x80000000, 0xFFFFFFFF):
            worker.expect(tag)
            worker.send(0x10, tag, request_body(envelope("x")))
            self.assertEqual(worker.answer(tag).payloads(), ["x"])

    def test_requests_that_are_no_envelopes(self):
        worker = self.client.worker()
        cases = ((b"", "JSONDecodeError"), (b"{", "JSONDecodeError"), (b"\xff", "UnicodeDecodeError"), (b"[]", "ValueError"))
        for body, kind in cases:
            self.assert_error(worker.answer(worker.request_whole(body)).items, "msg_parsing_error", kind)
        self.assert_error(worker.answer(worker.request_whole({})).items, "msg_parsing_error", "ValueError", "payload")
        self.assertEqual(payloads(worker.call(1)), [1])

    def test_failures_are_answers(self):
        worker = self.client.worker()
        self.assert_error(worker.call({"do": "raise", "text": "it"}), "processing_error", "ValueError", "it")
        self.assert_error(worker.call({"do": "sys_exit", "code": 3}), "processing_error", "SystemExit", "sys.exit(3)")
        self.assertEqual(payloads(worker.call(1)), [1])

    def test_out_of_memory_has_a_code_of_its_own(self):
        worker = self.client.worker()
        self.assert_error(worker.call({"do": "out_of_memory"}), "oom", "MemoryError", "no room")

    def test_many_mebibytes_both_ways_and_pipelined(self):
        worker = self.client.worker()
        text = "x" * (8 << 20)
        self.assertEqual(payloads(worker.call(text)), [text])
        with worker.writing():
            tags = [worker.request("y" * (1 << 20)) for _ in range(4)]
        for tag in tags:
            self.assertEqual(len(worker.answer(tag).payloads()[0]), 1 << 20)

    def test_a_request_in_small_pieces(self):
        worker = self.client.worker()
        worker.expect(1)
        for byte in frame_bytes(0x10, 1, request_body(envelope("slow"))):
            worker.write(bytes([byte]))
        self.assertEqual(worker.answer(1).payloads(), ["slow"])

    def test_budget_and_attempt_reach_the_handler(self):
        worker = self.client.worker()
        before = time.time()
        seen = payloads(worker.call({"do": "context"}, budget=60000, attempt=3, id="some id", headers={"h": 1}))[0]
        self.assertEqual((seen["id"], seen["attempt"], seen["cancelled"]), ("some id", 3, False))
        self.assertEqual((seen["headers"], seen["route"]["actors"]), ({"h": 1}, ["a", "b"]))
        self.assertLessEqual(seen["time_left"], 60)
        self.assertGreater(seen["time_left"], 20)
        self.assertLess(abs(seen["deadline"] - before - 60), 20)
        seen = payloads(worker.call({"do": "context"}))[0]
        self.assertEqual((seen["id"], seen["attempt"], seen["time_left"], seen["deadline"]), ("e1", 1, None, None))
        # Nothing is left: the handler sees that, and whether to ask it to end is the client's affair.
        seen = payloads(worker.call({"do": "context"}, budget=0))[0]
        self.assertLessEqual(seen["time_left"], 0)
        longest = payloads(worker.call({"do": "context"}, budget=NO_BUDGET - 1))[0]["time_left"]
        self.assertGreater(longest, 4000000)

    def test_the_budget_counts_from_the_start_of_the_run(self):
        # A minute of waiting behind others would have to be waited for here; half a second of it tells as much.
        worker = self.client.worker()
        started, go_on = self.path("started"), self.path("go-on")
        running = worker.request({"do": "wait_for", "started": started, "file": go_on})
        tags = [worker.request({"do": "context"}, budget=budget) for budget in (400, 60000)]
        wait_for_file(started)
        self.assertTrue(worker.is_quiet(0.5))
        touch(go_on)
        worker.answer(running)
        left = [worker.answer(tag).payloads()[0]["time_left"] for tag in tags]
        self.assertGreater(left[1], 59.6)
        self.assertLessEqual(left[0], 0.4)

    def test_context_over_v1(self):
        seen = self.runtime.call({"do": "context"})[0]["payload"]
        self.assertEqual((seen["id"], seen["attempt"], seen["time_left"], seen["cancelled"]), ("e1", 1, None, False))

    def test_progress(self):
        worker = self.client.worker()
        answer = worker.answer(worker.request({"do": "progress", "fraction": 0.5, "message": "half"}))
        self.assertEqual(answer.progress, [{"fraction": 0.5, "message": "half"}])
        self.assertEqual(answer.payloads(), ["done"])
        self.assertEqual(answer.types()[-1], REPLY)
        answer = worker.answer(worker.request({"do": "progress", "fraction": None, "message": "x" * 100000}))
        self.assertLess(len(json.dumps(answer.progress[0])), 65536)
        # Over v1 there is nobody to tell.
        self.assertEqual(self.runtime.call({"do": "progress", "fraction": 1, "message": "x"})[0]["payload"], "done")

    def test_progress_of_a_thread(self):
        worker = self.client.worker()
        answer = worker.answer(worker.request({"do": "progress_in_thread", "fraction": 1, "message": "m"}))
        self.assertEqual((answer.progress, answer.payloads()), ([{"fraction": 1.0, "message": "m"}], ["done"]))

    def test_calls_are_made_in_the_main_thread(self):
        self.assertEqual(payloads(self.client.worker().call({"do": "thread"})), [{"main": True}])
        self.assertEqual(self.runtime.call({"do": "thread"})[0]["payload"], {"main": True})

    def test_v1_and_v2_at_the_same_time(self):
        worker = self.client.worker()
        tags = [worker.request("v2") for _ in range(50)]
        calls = [self.runtime.start_call("v1") for _ in range(10)]
        for call in calls:
            self.assertEqual(call.result()[0]["payload"], "v1")
        for tag in tags:
            self.assertEqual(worker.answer(tag).payloads(), ["v2"])

    def test_a_client_that_does_not_read_holds_up_only_this_worker(self):
        worker = self.client.worker()
        for _ in range(3):
            worker.request({"do": "big", "size": 4 << 20})
        self.control.ping()
        worker.close()
        self.assert_serves()


class WorkerConnections(Shared):
    variables = {"ASYA_WORKERS": "2"}

    def test_newer_replaces_older_and_waits_for_its_requests(self):
        older = self.client.worker()
        started, cancelled, go_on = self.path("started"), self.path("cancelled"), self.path("go-on")
        older.request({"do": "ignore", "started": started, "cancelled": cancelled, "file": go_on})
        waiting = self.path("log")
        older.request({"do": "log", "file": waiting, "word": "never"})
        wait_for_file(started)
        newer = self.client.raw()
        newer.send(HELLO, 0, json.dumps(self.client.hello("worker", worker=0, incarnation=1)).encode())
        # The running one is asked to end; while it has not, there is no WELCOME.
        wait_for_file(cancelled)
        self.assertTrue(newer.is_quiet(0.1))
        with open(go_on, "w"):
            pass
        self.assertEqual(newer.read().type, 0x02)
        newer.send(0x10, 9, request_body(envelope("new")))
        self.assertEqual(newer.read()[:3], (REPLY, 0, 9))
        older.read_to_end()
        # What had not been started for the older one never is.
        self.assertFalse(os.path.exists(waiting))

    def test_goodbye_and_end_of_a_worker_connection(self):
        for data in (frame_bytes(GOODBYE), b""):
            worker = self.client.worker()
            started, cancelled = self.path("started%d" % len(data)), self.path("cancelled%d" % len(data))
            worker.request({"do": "poll", "started": started, "cancelled": cancelled})
            wait_for_file(started)
            worker.write(data)
            worker.close()
            # The next connection is welcome when the request of this one has ended as it was asked to.
            self.assertEqual(payloads(self.client.worker().call(5)), [5])
            self.assertTrue(os.path.exists(cancelled))
        self.assertEqual(self.control.workers[0]["incarnation"], 1)

    def test_half_closed_client_still_gets_its_answers(self):
        worker = self.client.worker()
        tag = worker.request({"do": "echo"})
        worker.answer(tag)
        worker.socket.shutdown(socket.SHUT_WR)
        worker.read_to_end()
        self.assert_serves()

    def test_each_worker_has_its_connection(self):
        workers = [self.client.worker(number) for number in (0, 1)]
        started = [self.path(str(number)) for number in (0, 1)]
        go_on = self.path("go-on")
        tags = [
            worker.request({"do": "wait_for", "started": path, "file": go_on}) for worker, path in zip(workers, started)
        ]
        for path in started:
            wait_for_file(path)
        with open(go_on, "w"):
            pass
        for worker, tag in zip(workers, tags):
            self.assertEqual(worker.answer(tag).payloads(), [{"waited": True}])

    def test_as_many_v1_calls_at_once_as_workers(self):
        started = [self.path(str(number)) for number in range(3)]
        go_on = self.path("go-on")
        calls = [self.runtime.start_call({"do": "wait_for", "started": path, "file": go_on}) for path in started]
        wait_until(lambda: sum(map(os.path.exists, started)) == 2, "two calls run")
        with open(go_on, "w"):
            pass
        for call in calls:
            self.assertEqual(call.result()[0]["payload"], {"waited": True})


class Idle(unittest.TestCase):
    """Nobody turns in circles while there is nothing to do, whatever was left open."""

    def assert_idle(self, runtime):
        pids = [runtime.process.pid] + list(children_of(runtime.process.pid))
        before = {pid: cpu_seconds(pid) for pid in pids}
        time.sleep(0.5)  # Not for a condition: the time itself is what is looked at.
        used = {pid: cpu_seconds(pid) - seconds for pid, seconds in before.items()}
        self.assertLess(max(used.values()), 0.2, used)

    def test_connections_in_all_states(self):
        for handler, variables in (("workers.act", {}), ("tasks.act", {"ASYA_CONCURRENCY": "2"})):
            with Runtime(handler, ASYA_SHUTDOWN_GRACE="1h", ASYA_WORKERS="3", **variables) as runtime, Client(runtime) as client:
                v1 = [runtime.connect() for _ in range(4)]
                v1[2].shutdown(socket.SHUT_WR)
                v1[3].close()
                for number in range(3):
                    client.control.ready(number)
                half = client.worker(0)
                half.call(1)
                half.socket.shutdown(socket.SHUT_WR)
                inside = client.worker(1)
                inside.write(b"\0\0\0\x10")
                client.raw().write(b"\0")
                client.control.socket.shutdown(socket.SHUT_WR)
                self.assert_idle(runtime)
                runtime.terminate()
                wait_until(lambda: "stopping" in runtime.errors(), "the signal was seen")
                self.assert_idle(runtime)
                for connection in v1:
                    connection.close()

    def test_a_reader_that_does_not_read(self):
        with Runtime("workers.act") as runtime, Client(runtime) as client:
            worker = client.worker()
            with worker.writing():
                for _ in range(3):
                    worker.request({"do": "big", "size": 4 << 20})
            worker.read()
            self.assert_idle(runtime)

    def test_pings_whose_answers_nobody_reads(self):
        with Runtime("workers.act") as runtime, Client(runtime) as client:
            client.control.ready()
            before = peak_kib(runtime.process.pid)
            try:
                for _ in range(200):
                    client.control.write(frame_bytes(0x33, 1) * 5000)
            except OSError:
                pass  # It has hung up, or does not read any more.
            self.assertLess(peak_kib(runtime.process.pid) - before, 20000)
            with Client(runtime) as other:
                self.assertEqual(payloads(other.worker().call(1)), [1])
            self.assert_idle(runtime)


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Logs(unittest.TestCase):
    def test_logs_hold_no_payloads(self):
        with Runtime("workers.act", ASYA_LOG_LEVEL="DEBUG") as runtime, Client(runtime) as client:
            worker = client.worker()
            worker.call({"word": "tulip"})
            worker.call({"do": "raise", "text": "tulip"})
            worker.answer(worker.request_whole(b'{"payload": "tulip"'))
            worker.answer(worker.request_whole(b'{"payload": "tulip", "route": {}}'))
            worker.call({"do": "progress", "fraction": 1, "message": "tulip"})
            worker.call("x", id="two\nlines", headers={"h": "tulip"})
            worker.write(frame_bytes(0x77, 1, b"tulip"))
            worker.read_to_end()
            client.control.write(frame_bytes(HELLO, 0, b'{"tulip": 1}'))
            client.control.read_to_end()
            client.worker().request({"do": "exit", "code": 1, "word": "tulip"})
            client.new_control().ready(0, 2)
            runtime.terminate()
            runtime.wait()
            lines = runtime.errors().splitlines()
        for line in lines:
            self.assertRegex(line, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - asya\.runtime - [A-Z]+ - ")
        self.assertNotIn("tulip", "\n".join(lines))
        self.assertIn("handled: id=e1 items=1", "\n".join(lines))


class Silence(Shared):
    """Connections that say nothing: at most 16 are kept, and none for longer than 5 seconds."""

    def test_silent_connections(self):
        connections = [self.client.raw() for _ in range(40)]
        connections[-1].write(frame_bytes(HELLO, 0, b"{}")[:5])
        # The oldest go at once, and a newcomer is served.
        for connection in connections[:24]:
            self.assertLessEqual({frame.type for frame in connection.read_to_end()}, {ERROR})
        self.assertTrue(connections[-2].is_quiet(0.05))
        self.assert_serves()
        self.assertEqual(self.runtime.call(1)[0]["payload"], 1)
        for connection in connections[24:]:
            self.assertLessEqual({frame.type for frame in connection.read_to_end()}, {ERROR})
        self.assert_serves()


if __name__ == "__main__":
    unittest.main()
