"""Starts the real runtime as a subprocess and speaks its protocol over the real socket."""

import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(os.path.dirname(HERE), "asya_runtime.py")
FIXTURES = os.path.join(HERE, "fixtures")
DEADLINE_SECONDS = 20


def wait_until(condition, what, seconds=DEADLINE_SECONDS):
    """Polls `condition` until it is true; fails by name when the deadline passes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("not within %s s: %s" % (seconds, what))


def environment(**variables):
    env = {key: value for key, value in os.environ.items() if not key.startswith(("ASYA_", "PYTHON"))}
    env.update(PYTHONPATH=FIXTURES, PYTHONDONTWRITEBYTECODE="1")
    env.update(variables)
    return env


def run_script(*arguments, **variables):
    """Runs the script to its end: (exit code, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, SCRIPT] + list(arguments),
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=DEADLINE_SECONDS,
        universal_newlines=True,
    )
    return done.returncode, done.stdout, done.stderr


def envelope(payload=None, actors=("a", "b"), current=0, **more):
    whole = {"id": "e1", "route": {"actors": list(actors), "current": current}, "payload": payload}
    whole.update(more)
    return whole


def frame(body):
    return struct.pack(">I", len(body)) + body


def read_exactly(connection, size):
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(min(1 << 20, size - len(data)))
        if not chunk:
            raise EOFError("the runtime closed the connection after %d of %d bytes" % (len(data), size))
        data += chunk
    return bytes(data)


def read_frame(connection):
    (size,) = struct.unpack(">I", read_exactly(connection, 4))
    return read_exactly(connection, size)


def refuse_constant(name):
    raise AssertionError("the answer holds %s, which is not JSON" % name)


def parse(body):
    return json.loads(body.decode("utf-8"), parse_constant=refuse_constant)


class Runtime:
    """A serving runtime; a context manager that always ends the process."""

    def __init__(self, handler, directory=None, socket_name="asya-runtime.sock", new_session=False, limits=None, **variables):
        self.directory = directory or tempfile.mkdtemp(prefix="asya-")
        self.socket_path = os.path.join(self.directory, socket_name)
        self.ready_path = os.path.join(self.directory, "runtime-ready")
        settings = {"ASYA_HANDLER": handler, "ASYA_SOCKET_DIR": self.directory}
        settings.update(variables)
        self._output = open(os.path.join(self.directory, "stdout"), "w+b")
        self._errors = open(os.path.join(self.directory, "stderr"), "w+b")

        def set_limits():
            for what, value in (limits or {}).items():
                resource.setrlimit(what, (value, value))

        self.process = subprocess.Popen(
            [sys.executable, SCRIPT],
            env=environment(**settings),
            stdout=self._output,
            stderr=self._errors,
            start_new_session=new_session,
            preexec_fn=set_limits if limits else None,
        )
        try:
            wait_until(self._ready_or_ended, "the runtime is ready")
        except AssertionError:
            self.close()
            raise

    def _ready_or_ended(self):
        if self.process.poll() is not None:
            raise AssertionError("the runtime ended with %s:\n%s" % (self.process.returncode, self.errors()))
        if not os.path.exists(self.ready_path):
            return False
        # A killed process leaves its files behind, so the sidecar connects as well, and so does this.
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def output(self):
        return self._text(self._output)

    def errors(self):
        return self._text(self._errors)

    @staticmethod
    def _text(file):
        with open(file.name, "rb") as copy:
            return copy.read().decode("utf-8", "replace")

    def connect(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(DEADLINE_SECONDS)
        try:
            connection.connect(self.socket_path)
        except OSError:
            connection.close()
            raise
        return connection

    def send_body(self, body):
        """One exchange; the answer parsed as strict JSON."""
        with self.connect() as connection:
            connection.sendall(frame(body))
            return parse(read_frame(connection))

    def send(self, whole):
        return self.send_body(json.dumps(whole).encode("utf-8"))

    def call(self, payload):
        return self.send(envelope(payload))

    def start_call(self, payload):
        """Sends from a thread; `.join()` it, then read `.answer`."""
        return Call(self, payload)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        return self.process.wait(DEADLINE_SECONDS)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._output.close()
        self._errors.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_details):
        self.close()


class Call(threading.Thread):
    def __init__(self, runtime, payload):
        super().__init__(daemon=True)
        self.answer = None
        self._connection = runtime.connect()
        self._body = json.dumps(envelope(payload)).encode("utf-8")
        self.start()

    def run(self):
        with self._connection as connection:
            connection.sendall(frame(self._body))
            self.answer = parse(read_frame(connection))

    def result(self):
        self.join(DEADLINE_SECONDS)
        assert not self.is_alive(), "no answer in time"
        return self.answer


class SharedRuntime(unittest.TestCase):
    """One runtime for all tests of a class; `handler` and `variables` say which."""

    handler = "sample.act"
    variables = {}

    @classmethod
    def setUpClass(cls):
        if cls is SharedRuntime:
            raise unittest.SkipTest("only a base class")
        cls.runtime = Runtime(cls.handler, **cls.variables)

    @classmethod
    def tearDownClass(cls):
        if cls is not SharedRuntime:
            cls.runtime.close()

    def assert_alive(self):
        self.assertEqual(self.runtime.call({"do": "echo", "still": "here"})[0]["payload"]["still"], "here")

    def assert_error(self, answer, code, kind=None, text=""):
        self.assertEqual(len(answer), 1, answer)
        self.assert_error_item(answer[0], code, kind, text)

    def assert_error_item(self, item, code, kind=None, text=""):
        self.assertEqual(item.get("error"), code, item)
        self.assertEqual(set(item["details"]), {"message", "type", "traceback", "mro"})
        if kind is not None:
            self.assertEqual(item["details"]["type"], kind)
        self.assertIn(text, item["details"]["message"])
