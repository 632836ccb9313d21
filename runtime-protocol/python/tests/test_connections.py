"""Frames, peers that misbehave, handlers that misbehave, and the end of the process."""

import json
import os
import re
import select
import signal
import socket
import stat
import struct
import sys
import unittest

from support import HERE, Runtime, SharedRuntime, envelope, frame, parse, read_frame, wait_until

sys.path.insert(0, os.path.dirname(HERE))
import asya_runtime  # noqa: E402


class Frames(SharedRuntime):
    def test_length_and_body_in_separate_writes(self):
        body = json.dumps(envelope({"x": 1})).encode()
        with self.runtime.connect() as connection:
            connection.sendall(frame(body)[:4])
            connection.sendall(body)
            self.assertEqual(parse(read_frame(connection))[0]["payload"], {"x": 1})

    def test_byte_by_byte(self):
        with self.runtime.connect() as connection:
            for byte in frame(json.dumps(envelope(1)).encode()):
                connection.sendall(bytes([byte]))
            self.assertEqual(parse(read_frame(connection))[0]["payload"], 1)

    def test_one_answer_then_the_connection_is_closed(self):
        with self.runtime.connect() as connection:
            connection.sendall(frame(json.dumps(envelope(1)).encode()))
            read_frame(connection)
            self.assertEqual(connection.recv(1), b"")

    def test_empty_frame(self):
        self.assert_error(self.runtime.send_body(b""), "msg_parsing_error", "JSONDecodeError")

    def test_peer_connects_and_closes(self):
        for _ in range(20):
            self.runtime.connect().close()
        self.assert_alive()

    def test_peer_closes_in_the_frame(self):
        for part in (b"\0", b"\0\0\0", b"\0\0\0\x10", b"\0\0\0\x10{"):
            with self.runtime.connect() as connection:
                connection.sendall(part)
        self.assert_alive()

    def test_half_closed_peer_gets_the_reason(self):
        with self.runtime.connect() as connection:
            connection.sendall(b"\0\0\0\x10{")
            connection.shutdown(socket.SHUT_WR)
            answer = parse(read_frame(connection))
        self.assert_error(answer, "connection_error", "ConnectionError", "after 1 of 16 bytes")

    def test_peer_leaves_before_the_answer(self):
        for _ in range(5):
            with self.runtime.connect() as connection:
                connection.sendall(frame(json.dumps(envelope({"do": "big", "size": 3000000})).encode()))
        self.assert_alive()

    def test_announced_length_of_four_gigabytes(self):
        with self.runtime.connect() as connection:
            connection.sendall(struct.pack(">I", 2**32 - 1) + b"{")
            answer = parse(read_frame(connection))
        self.assert_error(answer, "msg_parsing_error", "ValueError", "ASYA_MAX_MESSAGE_SIZE=67108864")
        self.assert_alive()
        with open("/proc/%d/status" % self.runtime.process.pid) as file:
            peak = int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1))
        self.assertLess(peak, 300 * 1024)

    def test_many_peers_at_once(self):
        connections = [self.runtime.connect() for _ in range(50)]
        try:
            for number, connection in enumerate(connections):
                connection.sendall(frame(json.dumps(envelope(number)).encode()))
            answers = [parse(read_frame(connection))[0]["payload"] for connection in connections]
            self.assertEqual(answers, list(range(50)))
        finally:
            for connection in connections:
                connection.close()


class SilentPeer(unittest.TestCase):
    """The bound on waiting for a peer, shortened so that the test need not wait for half a minute."""

    def test_read_gives_up(self):
        self.addCleanup(setattr, asya_runtime, "WAIT_FOR_READ", asya_runtime.WAIT_FOR_READ)
        asya_runtime.WAIT_FOR_READ = struct.pack("ll", 0, 50000)
        for part in (b"", b"\0\0", b"\0\0\0\x10{"):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.sendall(part)
                with self.assertRaises(BlockingIOError if part else asya_runtime.NothingYet):
                    asya_runtime.FrameReader(65536, 1000).read(ours)


    def test_write_gives_up(self):
        self.addCleanup(setattr, asya_runtime, "WAIT_FOR_READ", asya_runtime.WAIT_FOR_READ)
        asya_runtime.WAIT_FOR_READ = struct.pack("ll", 0, 50000)
        for size in (230000, 5000000):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                # Less than any of the two.
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
                with self.assertRaises(OSError):
                    asya_runtime.send_frame(ours, b"x" * size)


class LargeFrames(unittest.TestCase):
    def test_64_mebibytes_pass_and_one_byte_more_is_refused(self):
        limit = 64 * 1024 * 1024
        with Runtime("sample.echo") as runtime:
            head, tail = b'{"payload":"', b'","route":{"actors":["a"]}}'
            # The answer is 14 bytes longer: brackets, and `"current":1` with its comma.
            body = head + b"x" * (limit - len(head) - len(tail) - 14) + tail
            with runtime.connect() as connection:
                connection.sendall(frame(body))
                answer = read_frame(connection)
            self.assertEqual(len(answer), limit)
            self.assertTrue(answer.startswith(b'[{"payload":"xxx'))
            # Still writing while it is refused: the writer must get to read the answer.
            body += b" " * (limit + 1 - len(body))
            self.assertEqual(len(body), limit + 1)
            error = runtime.send_body(body)[0]
            self.assertEqual(error["error"], "msg_parsing_error")
            self.assertIn("67108865 bytes, more than ASYA_MAX_MESSAGE_SIZE=67108864", error["details"]["message"])
            self.assertEqual(runtime.call(1)[0]["payload"], 1)

    def test_small_chunks(self):
        with Runtime("sample.echo", ASYA_CHUNK_SIZE="3") as runtime:
            self.assertEqual(runtime.call("x" * 1000)[0]["payload"], "x" * 1000)


class Handlers(SharedRuntime):
    def test_printing(self):
        self.assertEqual(self.runtime.call({"do": "print"})[0]["payload"], {"printed": True})
        self.assertIn("printed by the handler \u2603", self.runtime.output())
        self.assert_alive()

    def test_nothing_of_ours_is_inherited_by_commands(self):
        self.assertEqual(set(self.runtime.call({"do": "inheritable"})[0]["payload"]["open"]) - {0, 1, 2}, set())

    def test_forked_children_never_answer_and_never_serve(self):
        cases = [
            ("return", {"code": 0}),
            ("raise", {"code": 1}),
            ("sys.exit", {"code": 7}),
            ("os._exit", {"code": 8}),
            ("wait", {"signal": signal.SIGTERM}),
        ]
        for child, expected in cases:
            with self.subTest(child):
                self.assertEqual(self.runtime.call({"do": "fork", "child": child})[0]["payload"], expected)
                self.assertTrue(os.path.exists(self.runtime.socket_path))
                self.assertTrue(os.path.exists(self.runtime.ready_path))
                self.assert_alive()
        self.assertNotIn("in the child", self.runtime.errors())


class Process(unittest.TestCase):
    def payload_that_waits(self, runtime):
        started, go_on = os.path.join(runtime.directory, "started"), os.path.join(runtime.directory, "go-on")
        return {"do": "wait_for", "started": started, "file": go_on}

    def touch(self, path):
        with open(path, "w"):
            pass

    def start_waiting_call(self, runtime):
        payload = self.payload_that_waits(runtime)
        call = runtime.start_call(payload)
        wait_until(lambda: os.path.exists(payload["started"]), "the handler runs")
        return call, payload["file"]

    def assert_clean_end(self, runtime):
        self.assertEqual(runtime.wait(), 0, runtime.errors())
        self.assertFalse(os.path.exists(runtime.socket_path))
        self.assertFalse(os.path.exists(runtime.ready_path))
        self.assertNotIn("Traceback", runtime.errors())

    def test_ready_file_and_socket(self):
        with Runtime("sample.echo") as runtime:
            with open(runtime.ready_path, "rb") as file:
                self.assertEqual(file.read().split(b"\n")[0], b"ready")
            status = os.stat(runtime.socket_path)
            self.assertTrue(stat.S_ISSOCK(status.st_mode))
            self.assertEqual(stat.S_IMODE(status.st_mode), 0o666)

    def test_socket_mode(self):
        with Runtime("sample.echo", ASYA_SOCKET_CHMOD="600") as runtime:
            self.assertEqual(stat.S_IMODE(os.stat(runtime.socket_path).st_mode), 0o600)

    def test_idle_process_ends_on_sigterm_and_sigint(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with Runtime("sample.echo") as runtime:
                runtime.process.send_signal(number)
                self.assert_clean_end(runtime)

    def test_accepted_and_waiting_requests_are_answered_after_sigterm(self):
        with Runtime("sample.act") as runtime:
            running, go_on = self.start_waiting_call(runtime)
            waiting = [runtime.start_call({"n": number}) for number in range(3)]
            runtime.terminate()
            runtime.terminate()
            # The files stay while an accepted request runs: the sidecar may still hand over.
            waiting.append(runtime.start_call({"n": 3}))
            self.assertTrue(os.path.exists(runtime.ready_path))
            self.touch(go_on)
            self.assertEqual(running.result()[0]["payload"], {"waited": True})
            self.assertEqual([call.result()[0]["payload"]["n"] for call in waiting], [0, 1, 2, 3])
            self.assert_clean_end(runtime)

    def test_grace_keeps_serving_until_the_sidecar_has_drained(self):
        with Runtime("sample.echo", ASYA_SHUTDOWN_GRACE="1h") as runtime:
            runtime.terminate()
            wait_until(lambda: "stopping" in runtime.errors(), "the signal was seen")
            self.assertEqual(runtime.call("late")[0]["payload"], "late")
            runtime.terminate()
            self.assertEqual(runtime.call("later")[0]["payload"], "later")
            self.touch(os.path.join(runtime.directory, "sidecar-drained"))
            self.assert_clean_end(runtime)

    def test_default_timeout_of_the_handlers_sockets_is_not_ours(self):
        with Runtime("timeouts.process") as runtime:
            for _ in range(2):
                with runtime.connect() as connection:
                    # Hanging up would make it readable.
                    self.assertEqual(select.select([connection], [], [], 0.1)[0], [])
                    connection.sendall(frame(json.dumps(envelope(1)).encode()))
                    self.assertEqual(parse(read_frame(connection))[0]["payload"], 1)
            runtime.terminate()
            self.assert_clean_end(runtime)

    def test_grace_ends_by_itself(self):
        with Runtime("sample.echo", ASYA_SHUTDOWN_GRACE="200ms") as runtime:
            runtime.terminate()
            self.assert_clean_end(runtime)

    def test_handler_that_changes_the_directory(self):
        with Runtime("sample.act") as runtime:
            self.assertEqual(runtime.call({"do": "chdir"})[0]["payload"], "/")
            runtime.terminate()
            self.assert_clean_end(runtime)

    def test_stale_files_of_a_killed_process_are_replaced(self):
        with Runtime("sample.echo") as runtime:
            runtime.process.kill()
            runtime.wait()
            self.assertTrue(os.path.exists(runtime.socket_path))
            wait_until(lambda: self.is_refused(runtime), "its worker to be gone, too")
            with Runtime("sample.echo", directory=runtime.directory) as second:
                self.assertEqual(second.call(1)[0]["payload"], 1)
                second.terminate()
                self.assert_clean_end(second)

    def test_forked_child_does_not_hold_the_socket_open(self):
        with Runtime("sample.act") as runtime:
            child = runtime.call({"do": "fork", "child": "wait", "leave": True})[0]["payload"]["child"]
            try:
                runtime.process.kill()
                runtime.wait()
                # The child closes what it inherited as soon as it runs, which may be after its parent has died.
                wait_until(lambda: self.is_refused(runtime), "connections to be refused")
            finally:
                try:
                    os.kill(child, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # It has ended with its worker.

    @staticmethod
    def is_refused(runtime):
        try:
            runtime.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    def test_logs_hold_neither_payloads_nor_the_environment(self):
        with Runtime("sample.act", ASYA_LOG_LEVEL="DEBUG", ASYA_S3_SECRET_KEY="hunter2") as runtime:
            runtime.call({"word": "tulip"})
            runtime.send(envelope({"do": "raise", "text": "tulip"}, id="two\nlines"))
            runtime.send({"payload": "tulip"})
            runtime.terminate()
            runtime.wait()
            lines = runtime.errors().splitlines()
        for line in lines:
            self.assertRegex(line, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - asya\.runtime - [A-Z]+ - ")
        text = "\n".join(lines)
        self.assertIn("handled: id=e1 items=1", text)
        self.assertNotIn("tulip", text)
        self.assertNotIn("hunter2", text)


if __name__ == "__main__":
    unittest.main()
