"""A client of protocol v2 that shares no code with the runtime: plain blocking sockets."""

import collections
import contextlib
import json
import os
import select
import socket
import struct
import threading
import time
import unittest

from support import DEADLINE_SECONDS, Runtime, envelope, parse, wait_until

HELLO = 0x01
WELCOME = 0x02
ERROR = 0x0F
REQUEST = 0x10
REPLY = 0x20
ITEMS = 0x21
PARTIAL = 0x22
PROGRESS = 0x23
GOODBYE = 0x24
WORKER = 0x30
CANCEL = 0x31
KILL = 0x32
PING = 0x33
PONG = 0x34
STOPPING = 0x35

MORE = 0x01
NO_BUDGET = 0xFFFFFFFF
DEADLINE, ASKED_FOR, WITHDRAWN = 1, 2, 3
HEADER = struct.Struct(">IBBHI")

Frame = collections.namedtuple("Frame", "type flags tag body")


def frame_bytes(kind, tag=0, body=b"", flags=0, reserved=0, length=None):
    return HEADER.pack(len(body) if length is None else length, kind, flags, reserved, tag) + body


def request_body(whole, budget=None, attempt=1):
    body = whole if isinstance(whole, bytes) else json.dumps(whole).encode("utf-8")
    return struct.pack(">II", NO_BUDGET if budget is None else budget, attempt) + body


class Refused(Exception):
    """The server sent ERROR."""


class Connection:
    """Frames over one socket. `read` fails after a deadline, so that no test waits for ever."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A blocking socket, because a thread may write while another one reads; the kernel bounds the writes.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", DEADLINE_SECONDS, 0))
        self._poll = select.poll()
        self._poll.register(self.socket, select.POLLIN)
        self._buffer = bytearray()
        self._later = []
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise

    def write(self, data):
        self.socket.sendall(data)

    def send(self, kind, tag=0, body=b"", flags=0):
        self.write(frame_bytes(kind, tag, body, flags))

    @contextlib.contextmanager
    def writing(self):
        """What is sent inside is written by a thread, because whoever writes much ahead has to read meanwhile."""
        written, self.write = self.write, self._later.append
        try:
            yield
        finally:
            self.write = written
        data, self._later[:] = b"".join(self._later), []
        threading.Thread(target=self._write_quietly, args=(data,), daemon=True).start()

    def _write_quietly(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # Who reads finds out.

    def read(self, seconds=DEADLINE_SECONDS):
        """The next frame; EOFError at the end of the stream."""
        deadline = time.monotonic() + seconds
        while True:
            if len(self._buffer) >= HEADER.size:
                length, kind, flags, reserved, tag = HEADER.unpack_from(self._buffer)
                if len(self._buffer) >= HEADER.size + length:
                    body = bytes(self._buffer[HEADER.size : HEADER.size + length])
                    del self._buffer[: HEADER.size + length]
                    assert (flags, reserved) == (0, 0), "the server sent flags %d and reserved %d" % (flags, reserved)
                    return Frame(kind, flags, tag, body)
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError("no frame within %s s" % seconds)
            if not self._poll.poll(left * 1000):
                raise AssertionError("no frame within %s s" % seconds)
            data = self.socket.recv(1 << 20)
            if not data:
                if self._buffer:
                    raise AssertionError("the server closed the connection inside a frame")
                raise EOFError("the server closed the connection")
            self._buffer += data

    def read_to_end(self):
        """All frames until the server closes, whether it does so in order or with a reset."""
        frames = []
        while True:
            try:
                frames.append(self.read())
            except (EOFError, ConnectionResetError):
                return frames

    def is_quiet(self, seconds):
        """True if nothing arrives in this time, not even an end."""
        try:
            self.read(seconds)
        except AssertionError:
            return True
        except EOFError:
            return False
        return False

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_details):
        self.close()


class Control(Connection):
    """The control connection; `workers` holds the last state of each worker, `events` all of them."""

    def __init__(self, path, hello):
        super().__init__(path)
        self.workers = {}
        self.events = []
        self.stopping = False
        self.send(HELLO, 0, json.dumps(hello).encode())
        self.welcome = welcomed(self)
        for _ in range(self.welcome["workers"]):
            self.take(self.read())

    def take(self, frame):
        if frame.type == WORKER:
            state = parse(frame.body)
            assert state["worker"] == frame.tag, "WORKER has tag %d and speaks of %r" % (frame.tag, state)
            self.workers[frame.tag] = state
            self.events.append(state)
        elif frame.type == STOPPING:
            assert (frame.tag, frame.body) == (0, b"")
            self.stopping = True
        elif frame.type == ERROR:
            raise Refused(frame.body.decode("utf-8"))
        else:
            raise AssertionError("unexpected on the control connection: %r" % (frame,))
        return frame

    def wait_for(self, condition, what, seconds=DEADLINE_SECONDS):
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, "not within %s s: %s; had %r" % (seconds, what, self.events)
            self.take(self.read(left))

    def ready(self, worker=0, least=0):
        """Waits until the worker is ready in this incarnation or a later one."""

        def is_ready():
            state = self.workers.get(worker, {})
            return state.get("state") == "ready" and state["incarnation"] >= least

        self.wait_for(is_ready, "worker %d is ready, incarnation %d or later" % (worker, least))
        return self.workers[worker]

    def gone(self, worker, incarnation):
        """Waits for the end of this incarnation, and returns what is said of it."""

        def found():
            return [
                event
                for event in self.events
                if (event["worker"], event["incarnation"], event["state"]) == (worker, incarnation, "gone")
            ]

        self.wait_for(found, "worker %d is gone, incarnation %d" % (worker, incarnation))
        return found()[0]

    def cancel(self, tag, worker=0, incarnation=None, reason=ASKED_FOR):
        incarnation = self.workers[worker]["incarnation"] if incarnation is None else incarnation
        self.send(CANCEL, tag, struct.pack(">IIB", worker, incarnation, reason))

    def kill(self, tag=0, worker=0, incarnation=None):
        incarnation = self.workers[worker]["incarnation"] if incarnation is None else incarnation
        self.send(KILL, tag, struct.pack(">II", worker, incarnation))

    def ping(self, tag=7):
        """Comes back when the server has handled all that was sent before."""
        self.send(PING, tag)
        while True:
            frame = self.read()
            if frame.type == PONG:
                assert (frame.tag, frame.body) == (tag, b""), frame
                return
            self.take(frame)

    def replace(self, worker=0):
        """Kills a worker and waits for the next incarnation: (what was said of the end, new state)."""
        incarnation = self.workers[worker]["incarnation"]
        self.kill(0, worker)
        gone = self.gone(worker, incarnation)
        return gone, self.ready(worker, incarnation + 1)


class Answer:
    """What has come for one tag."""

    def __init__(self):
        self.frames = []
        self.items = []
        self.partials = []
        self.progress = []
        self.ended = False

    def take(self, frame):
        assert not self.ended, "a frame for a tag that has ended: %r" % (frame,)
        value = parse(frame.body)
        self.frames.append((frame.type, value))
        if frame.type == REPLY:
            self.items += value
            self.ended = True
        elif frame.type == ITEMS:
            assert value, "ITEMS without an item"
            self.items += value
        elif frame.type == PARTIAL:
            self.partials.append(value)
        elif frame.type == PROGRESS:
            self.progress.append(value)
        else:
            raise AssertionError("unexpected for a request: %r" % (frame,))

    def payloads(self):
        return [item["payload"] for item in self.items]

    def types(self):
        return [kind for kind, _value in self.frames]


class Worker(Connection):
    """A worker connection; tags count from 1. `answers` in the order in which tags ended: `ended`."""

    def __init__(self, path, hello):
        super().__init__(path)
        self.answers = {}
        self.ended = []
        self.goodbye = False
        self._next = 0
        self.send(HELLO, 0, json.dumps(hello).encode())
        self.welcome = welcomed(self)

    def request(self, payload, budget=None, attempt=1, more=False, **parts):
        return self.request_whole(envelope(payload, **parts), budget, attempt, more)

    def request_whole(self, whole, budget=None, attempt=1, more=False):
        self._next += 1
        tag = self._next
        self.answers[tag] = Answer()
        self.send(REQUEST, tag, request_body(whole, budget, attempt), MORE if more else 0)
        return tag

    def expect(self, tag):
        """For frames that a test wrote by itself."""
        self.answers[tag] = Answer()

    def step(self, seconds=DEADLINE_SECONDS):
        frame = self.read(seconds)
        if frame.type == ERROR:
            raise Refused(frame.body.decode("utf-8"))
        if frame.type == GOODBYE:
            assert (frame.tag, frame.body) == (0, b"")
            self.goodbye = True
            return frame
        assert frame.tag in self.answers, "a tag that nobody asked for: %r" % (frame,)
        self.answers[frame.tag].take(frame)
        if frame.type == REPLY:
            self.ended.append(frame.tag)
        return frame

    def answer(self, tag, seconds=DEADLINE_SECONDS):
        deadline = time.monotonic() + seconds
        while not self.answers[tag].ended:
            self.step(max(deadline - time.monotonic(), 0.001))
        return self.answers[tag]

    def frames_of(self, tag, count):
        """Waits for the first `count` frames of a tag."""
        while len(self.answers[tag].frames) < count:
            self.step()
        return self.answers[tag].frames[:count]

    def call(self, payload, **details):
        return self.answer(self.request(payload, **details)).items

    def batch(self, payloads):
        """One batch; the answers in order."""
        tags = [self.request(payload, more=True) for payload in payloads[:-1]]
        tags.append(self.request(payloads[-1]))
        return [self.answer(tag) for tag in tags]


def welcomed(connection):
    try:
        frame = connection.read()
        if frame.type == ERROR:
            raise Refused(frame.body.decode("utf-8"))
        assert (frame.type, frame.tag) == (WELCOME, 0), frame
        return parse(frame.body)
    except BaseException:
        connection.close()
        raise


def read_offer(directory):
    """(path of the second socket, nonce) as the ready file says."""
    with open(os.path.join(directory, "runtime-ready")) as file:
        for line in file.read().splitlines():
            words = line.split(" ")
            if words[0] == "v2":
                return os.path.join(directory, words[1]), words[2]
    raise AssertionError("the ready file offers no v2")


class Client:
    """Everything of one runtime: opens connections and closes them with itself."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.path, self.nonce = read_offer(runtime.directory)
        self._control = None
        self._open = contextlib.ExitStack()

    def raw(self):
        return self._open.enter_context(Connection(self.path))

    def hello(self, connection, **more):
        hello = {"protocol": 2, "revision": 0, "nonce": self.nonce, "connection": connection, "client": "tests/0"}
        hello.update(more)
        return {key: value for key, value in hello.items() if value is not None}

    def new_control(self, **more):
        self._control = self._open.enter_context(Control(self.path, self.hello("control", **more)))
        return self._control

    @property
    def control(self):
        return self._control or self.new_control()

    def worker(self, number=0, **more):
        """A connection to the present incarnation of a worker, which must be known as ready."""
        state = self.control.ready(number)
        details = {"worker": number, "incarnation": state["incarnation"]}
        details.update(more)
        return self._open.enter_context(Worker(self.path, self.hello("worker", **details)))

    def close(self):
        self._open.close()

    def __enter__(self):
        return self

    def __exit__(self, *_details):
        self.close()


class Shared(unittest.TestCase):
    """One runtime for all tests of a class, and a fresh client for each test."""

    handler = "workers.act"
    variables = {}

    @classmethod
    def setUpClass(cls):
        cls.runtime = Runtime(cls.handler, **cls.variables)

    @classmethod
    def tearDownClass(cls):
        cls.runtime.close()

    def setUp(self):
        self.client = Client(self.runtime)
        self.addCleanup(self.client.close)

    @property
    def control(self):
        return self.client.control

    def path(self, name):
        """A path of this test alone, in the runtime's directory."""
        return os.path.join(self.runtime.directory, "%s-%s" % (self.id().split(".")[-1], name))

    def assert_serves(self, worker=0):
        """A well-formed request is answered over v2, by whichever incarnation is there."""
        with self.client.worker(worker) as connection:
            self.assertEqual(payloads(connection.call({"do": "echo", "still": "here"}))[0]["still"], "here")

    def assert_error_item(self, item, code, kind=None, text=""):
        self.assertEqual(item.get("error"), code, item)
        self.assertLessEqual({"message", "type", "traceback"}, set(item["details"]))
        if kind is not None:
            self.assertEqual(item["details"]["type"], kind)
        self.assertIn(text, item["details"]["message"])

    def assert_error(self, items, code, kind=None, text=""):
        self.assertEqual(len(items), 1, items)
        self.assert_error_item(items[0], code, kind, text)


def payloads(items):
    return [item["payload"] for item in items]


def touch(path):
    with open(path, "w"):
        pass


def wait_for_file(path):
    wait_until(lambda: os.path.exists(path), "the file %s" % os.path.basename(path))


def wait_for_text(path):
    """The content of a file that is replaced into place."""
    wait_for_file(path)
    with open(path) as file:
        return file.read()


def process_status(pid):
    """The fields of /proc/<pid>/status, or None if there is no such process."""
    try:
        with open("/proc/%d/status" % pid) as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_running(pid):
    status = process_status(pid)
    return status is not None and not status["State"].startswith(("Z", "X"))


def children_of(pid):
    """{pid: state} of its children, zombies included."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            status = process_status(int(name))
            if status is not None and int(status["PPid"]) == pid:
                found[int(name)] = status["State"][0]
    return found


def peak_kib(pid):
    return int(process_status(pid)["VmHWM"].split()[0])


def descriptors_of(pid):
    return len(os.listdir("/proc/%d/fd" % pid))
