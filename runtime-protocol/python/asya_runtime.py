#!/usr/bin/env python3
"""The Asya runtime: serves one Python handler to a sidecar over Unix sockets.

Start it in the image that holds your code. The process that you start, the arbiter, owns the
sockets and the ready file and never imports your code; it starts ASYA_WORKERS workers, which import
ASYA_HANDLER and answer requests, and replaces those that die, hang or are killed. It knows nothing
of queues, brokers or gateways: the sidecar moves messages, this file runs the function.

One file, standard library only, Python 3.7 or newer. Where to start reading: `main` at the end,
then `Arbiter.run` and `SerialWorker.run`. The parts, in order:

    settings    environment variables -> one checked value
    loading     "package.module.Class.method" -> something to call with one argument
    envelope    what comes in: parsing, normalising, validation
    context     what a handler may ask about its call: `from asya_runtime import context`
    calling     payload mode and envelope mode: argument in, list of result items out
    encoding    result items -> bytes; what cannot be sent becomes an error item
    runners     one for each shape of handler: request body in, answer out
    framing v1  4-byte big-endian length + body, one exchange per connection
    framing v2  tagged frames over connections that stay open
    mail        between arbiter and worker: JSON lines and descriptors
    worker      serial (plain functions) and concurrent (`async def`)
    arbiter     listeners, signals, ready file, control connection, life and death of workers
    commands    no argument = serve, --check, --drain, --help, --version

Log lines go to stderr and name envelope ids, exception types and places, never payloads: exception
texts may quote the payload, so they travel only in the answer.
"""

import array
import contextvars
import difflib
import errno
import functools
import importlib
import inspect
import json
import logging
import math
import os
import re
import select
import selectors
import signal
import socket
import stat
import struct
import sys
import threading
import time
import traceback
from collections import deque
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

VERSION = "0.1.0"
PROTOCOL = "v1 and v2"

# Known to nobody else, so that no logging set-up of the user's code silences it or makes it raise.
log = logging.Logger("asya.runtime")

MAX_FRAME = 2**32 - 1
# The longest duration that may be set.
LONGEST_SECONDS = 7 * 24 * 3600
DEFAULT_MAX_MESSAGE_SIZE = 64 * 1024 * 1024
# Below this not even an error item is sure to fit.
MIN_MAX_MESSAGE_SIZE = 1024
# sun_path holds 108 bytes on Linux, the last one is the terminating zero.
MAX_SOCKET_PATH_BYTES = 107
# Slots of a sidecar may all connect at the same moment.
BACKLOG = 128
# A peer that is silent inside a v1 frame holds up a serial worker for so long at most.
READ_IDLE_SECONDS = 30
# After an answer was sent for a frame that is too large, how long to wait for the rest of it.
DISCARD_IDLE_SECONDS = 5
# Looks for the `sidecar-drained` file while shutting down, and for `work-done` if that ends the runtime.
DRAIN_POLL_SECONDS = 0.1
# A sidecar that is asked to end together with the runtime says within so long that it drains.
DRAIN_START_SECONDS = 5
# The exit code of a runtime that was to serve until the work is done, and was stopped before: as of SIGTERM.
STOPPED_BEFORE_DONE = 143
# An exception may carry a whole payload in its text; the error item keeps this many characters.
MAX_ERROR_MESSAGE = 16 * 1024
MAX_ERROR_TRACEBACK = 64 * 1024
# Bases of an exception that are named, and characters of each name.
MAX_ERROR_CLASSES = 32
MAX_ERROR_CLASS_NAME = 200
# Up to here one buffer and one write for header and body; beyond, the copy costs more than a write.
JOIN_FRAME_BYTES = 256 * 1024
# So much a socket takes at once, whether its peer reads or not.
SOCKET_TAKES_BYTES = 64 * 1024

PROCESSING_ERROR = "processing_error"
PARSING_ERROR = "msg_parsing_error"
CONNECTION_ERROR = "connection_error"
OUT_OF_MEMORY = "oom"
CANCELLED = "cancelled"
TIMED_OUT = "timeout"


# === settings ===

# (name, default, meaning): the text of --help. A test compares it with what `read_settings` reads.
VARIABLES = (
    ("ASYA_HANDLER", "required", "module.function, or module.Class.method (created once, without arguments)"),
    ("ASYA_HANDLER_MODE", "payload", "payload: handler(payload); envelope: handler(whole envelope)"),
    ("ASYA_ENABLE_VALIDATION", "true", "check envelopes before and after the call"),
    ("ASYA_INCLUDE_METADATA", "false", "payload mode: add id, route and headers to a dict payload"),
    ("ASYA_ROUTE_UNCHANGED", "advance", "envelope mode: what an unchanged route.current means: advance or repeat"),
    ("ASYA_MAX_MESSAGE_SIZE", "67108864", "largest request and answer, in bytes"),
    ("ASYA_SOCKET_DIR", "/var/run/asya", "directory of the socket and of the file `runtime-ready`"),
    ("ASYA_SOCKETS_DIR", "-", "older name of ASYA_SOCKET_DIR"),
    ("ASYA_SOCKET_NAME", "asya-runtime.sock", "name of the socket in that directory"),
    ("ASYA_SOCKET_PATH", "-", "older way: the full path of the socket"),
    ("ASYA_SOCKET_CHMOD", "0o666", "octal mode of the socket; empty leaves it to the umask"),
    ("ASYA_CHUNK_SIZE", "65536", "bytes per read from the socket"),
    ("ASYA_SHUTDOWN_GRACE", "0", "after SIGTERM serve on so long (30s, 1m), or until `sidecar-drained` lies beside the socket"),
    ("ASYA_RUN_UNTIL", "stopped", "stopped: serve until SIGTERM; done: end with 0 as soon as `work-done` lies beside the socket"),
    ("ASYA_WORKERS", "1", "processes that run the handler"),
    ("ASYA_CONCURRENCY", "1", "calls that one worker runs at once; more than 1 needs an `async def` handler"),
    ("ASYA_BATCH_SIZE", "1", "largest batch; above 1 the handler gets a list and returns a list of the same length"),
    ("ASYA_BATCH_WAIT", "0", "longest that the sidecar should wait for a batch to fill (20ms)"),
    ("ASYA_STREAM", "false", "generators: show each yielded value at once, pass on the last one only"),
    ("ASYA_CANCEL_GRACE", "5s", "how long a call that was asked to end may take before its worker is killed"),
    ("ASYA_FRAME_TIMEOUT", "30s", "how long a peer may be silent inside a frame (protocol v2)"),
    ("ASYA_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
)


class Settings(NamedTuple):
    handler: str
    mode: str
    validate: bool
    include_metadata: bool
    repeat_unchanged: bool
    max_message_size: int
    socket_path: str
    socket_mode: Optional[int]
    chunk_size: int
    shutdown_grace: float
    until_done: bool
    workers: int
    concurrency: int
    batch_size: int
    batch_wait: float
    stream: bool
    cancel_grace: float
    frame_timeout: float
    log_level: int

    @property
    def v2_path(self) -> str:
        return self.socket_path + ".v2"

    @property
    def ready_path(self) -> str:
        return os.path.join(os.path.dirname(self.socket_path), "runtime-ready")

    @property
    def drained_path(self) -> str:
        return os.path.join(os.path.dirname(self.socket_path), "sidecar-drained")

    @property
    def draining_path(self) -> str:
        return os.path.join(os.path.dirname(self.socket_path), "sidecar-draining")

    @property
    def done_path(self) -> str:
        return os.path.join(os.path.dirname(self.socket_path), "work-done")


class Environment:
    """Reads variables and collects everything that is wrong, so that one start reports it all.

    Variables of the original take their default after a warning; newer ones are refused.
    """

    TRUE = frozenset(("true", "1", "yes", "on"))
    FALSE = frozenset(("false", "0", "no", "off"))

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.warnings = []  # type: List[str]
        self.problems = []  # type: List[str]

    def text(self, name: str, default: str) -> str:
        return self._values.get(name) or default

    def flag(self, name: str, default: bool, fatal: bool = False) -> bool:
        value = self.text(name, "").strip().lower()
        if value in self.TRUE:
            return True
        if value in self.FALSE:
            return False
        if value:
            self._bad(name, "is neither true nor false", "true" if default else "false", fatal)
        return default

    def choice(self, name: str, choices: Tuple[str, ...]) -> str:
        value = self.text(name, choices[0]).strip().lower()
        if value in choices:
            return value
        self.problems.append("%s must be %s, not %r" % (name, " or ".join(choices), value))
        return choices[0]

    def size(self, name: str, default: int, least: int, most: int, fatal: bool = False) -> int:
        value = self.text(name, str(default)).strip()
        if re.match(r"[0-9]{1,12}\Z", value) and least <= int(value) <= most:
            return int(value)
        self._bad(name, "must be a whole number of bytes from %d to %d" % (least, most), str(default), fatal)
        return default

    def count(self, name: str, most: int) -> int:
        value = self.text(name, "1").strip()
        if re.match(r"[0-9]{1,9}\Z", value) and 1 <= int(value) <= most:
            return int(value)
        self._bad(name, "must be a whole number from 1 to %d" % most, "1", True)
        return 1

    def seconds(self, name: str, default: float, above: float = -1.0) -> float:
        value = self.text(name, str(default)).strip()
        units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
        part = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)"
        if re.match(r"[0-9]{1,9}(\.[0-9]{1,9})?\Z", value):
            seconds = float(value)
        elif re.match("(?:%s)+\\Z" % part, value):
            seconds = sum(float(number) * units[unit] for number, unit in re.findall(part, value))
        else:
            self._bad(name, "must be a duration such as 30s, 1m30s or a number of seconds", str(default), True)
            return default
        if seconds <= above:
            self._bad(name, "must be longer than %gs" % above, str(default), True)
        if seconds > LONGEST_SECONDS:  # The system's calls for waiting take no more than 24 days.
            self._bad(name, "must be 168h at most", str(default), True)
        return seconds

    def socket_mode(self, name: str) -> Optional[int]:
        value = self._values.get(name, "0o666").strip().lower()
        if not value:
            return None
        if re.match(r"(0o)?[0-7]{1,4}\Z", value):
            return int(value, 8)
        self._bad(name, "must be an octal mode such as 0o660", "0o666", False)
        return 0o666

    def log_level(self, name: str) -> int:
        value = self.text(name, "INFO").strip().upper()
        level = logging.getLevelName(value)
        if isinstance(level, int):
            return level
        self._bad(name, "must be DEBUG, INFO, WARNING, ERROR or CRITICAL", "INFO", False)
        return logging.INFO

    def socket_path(self) -> str:
        # Absolute from the start, because handlers may change the working directory.
        name = self.text("ASYA_SOCKET_NAME", "")
        directory = self.text("ASYA_SOCKET_DIR", "")
        whole = self.text("ASYA_SOCKET_PATH", "")
        if whole and not name and not directory:
            path = os.path.abspath(whole)
        else:
            directory = directory or self.text("ASYA_SOCKETS_DIR", "/var/run/asya")
            path = os.path.abspath(os.path.join(directory, name or "asya-runtime.sock"))
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            self.problems.append(
                "the socket path %s has %d bytes, the system allows %d: choose a shorter ASYA_SOCKET_DIR"
                % (path, len(os.fsencode(path)), MAX_SOCKET_PATH_BYTES)
            )
        return path

    def _bad(self, name: str, rule: str, default: str, fatal: bool) -> None:
        text = "%s %s (it is %r)" % (name, rule, self._values.get(name))
        if fatal:
            self.problems.append(text)
        else:
            self.warnings.append("%s; taking %s" % (text, default))


def read_settings(env: Environment) -> Settings:
    handler = env.text("ASYA_HANDLER", "").strip()
    if not handler:
        env.problems.append("ASYA_HANDLER is not set: name your function, for example ASYA_HANDLER=my_module.process")
    return Settings(
        handler=handler,
        mode=env.choice("ASYA_HANDLER_MODE", ("payload", "envelope")),
        validate=env.flag("ASYA_ENABLE_VALIDATION", True),
        include_metadata=env.flag("ASYA_INCLUDE_METADATA", False, fatal=True),
        repeat_unchanged=env.choice("ASYA_ROUTE_UNCHANGED", ("advance", "repeat")) == "repeat",
        max_message_size=env.size(
            "ASYA_MAX_MESSAGE_SIZE", DEFAULT_MAX_MESSAGE_SIZE, MIN_MAX_MESSAGE_SIZE, MAX_FRAME, fatal=True
        ),
        socket_path=env.socket_path(),
        socket_mode=env.socket_mode("ASYA_SOCKET_CHMOD"),
        chunk_size=env.size("ASYA_CHUNK_SIZE", 65536, 1, 2**30),
        shutdown_grace=env.seconds("ASYA_SHUTDOWN_GRACE", 0),
        until_done=env.choice("ASYA_RUN_UNTIL", ("stopped", "done")) == "done",
        workers=env.count("ASYA_WORKERS", 256),
        concurrency=env.count("ASYA_CONCURRENCY", 4096),
        batch_size=env.count("ASYA_BATCH_SIZE", 4096),
        batch_wait=env.seconds("ASYA_BATCH_WAIT", 0),
        stream=env.flag("ASYA_STREAM", False, fatal=True),
        cancel_grace=env.seconds("ASYA_CANCEL_GRACE", 5),
        frame_timeout=env.seconds("ASYA_FRAME_TIMEOUT", 30, above=0),
        log_level=env.log_level("ASYA_LOG_LEVEL"),
    )


# === loading ===

HANDLER_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)+\Z")


class LoadError(Exception):
    """The handler cannot be used. `hint` says what to do, `trace` is the user's own traceback."""

    def __init__(self, message: str, hint: str, trace: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.trace = trace


class Target(NamedTuple):
    """A resolved handler; `owner` is the class to instantiate first, if there is one."""

    name: str
    kind: str
    shape: str
    call: Any
    owner: Optional[type]
    attribute: str

    def instantiate(self) -> Callable[[Any], Any]:
        if self.owner is None:
            return self.call
        try:
            return getattr(self.owner(), self.attribute)
        except BaseException as exc:
            raise LoadError(
                "creating %s failed: %s" % (self.owner.__name__, describe(exc)),
                "the class is created once, without arguments, before the first message",
                format_traceback(exc),
            )


def resolve_handler(name: str) -> Target:
    """Imports the longest importable prefix of `name` and walks the rest; creates nothing."""
    if not HANDLER_NAME.match(name):
        raise LoadError(
            "ASYA_HANDLER %r is not a dotted Python name" % name,
            "write module.function or module.Class.method, letters, digits and underscores only",
        )
    parts = name.split(".")
    module, rest = import_longest_prefix(parts)
    parent, value = None, module  # type: Any, Any
    for attribute in rest:
        parent, value = value, find_attribute(value, attribute)
    attribute = rest[-1]
    if inspect.isclass(value):
        raise LoadError(
            "ASYA_HANDLER %s is a class" % name, "name the method to call as well, for example %s.process" % name
        )
    if not callable(value):
        raise LoadError(
            "ASYA_HANDLER %s is a %s and cannot be called" % (name, type(value).__name__), "name a function or a method"
        )
    owner = parent if needs_instance(parent, attribute) else None
    if owner is not None:
        refuse_required_parameters(owner)
    refuse_wrong_arity(name, value, owner is not None)
    kind = "class" if owner is not None else "function" if inspect.isroutine(value) else "callable"
    return Target(name, kind, shape_of(value), value, owner, attribute)


def import_longest_prefix(parts: List[str]) -> Tuple[Any, List[str]]:
    for length in range(len(parts) - 1, 0, -1):
        path = ".".join(parts[:length])
        try:
            return importlib.import_module(path), parts[length:]
        except ModuleNotFoundError as exc:
            # Only "this prefix is not a module" leads to a shorter one; a module that is
            # missing *inside* the user's code is the user's error and shown as such.
            if exc.name is None or not (path + ".").startswith(exc.name + "."):
                raise import_failure(path, exc)
        except BaseException as exc:
            raise import_failure(path, exc)
    raise LoadError("could not import module %r" % parts[0], not_found_hint(parts[0]))


def import_failure(path: str, exc: BaseException) -> LoadError:
    hint = "the module was found, but an error happened while it was being imported"
    if isinstance(exc, ModuleNotFoundError):
        hint = "install %s in the image, or put it on PYTHONPATH" % exc.name
    elif isinstance(exc, SystemExit):
        hint = "the module ends the process when it is imported: guard it with `if __name__ == '__main__':`"
    return LoadError("importing %s failed: %s" % (path, describe(exc)), hint, format_traceback(exc))


def not_found_hint(module: str) -> str:
    here = os.getcwd()
    for candidate in (os.path.join(here, module + ".py"), os.path.join(here, module, "")):
        if os.path.exists(candidate):
            return "%s exists, but the working directory is not searched: set PYTHONPATH=%s" % (candidate, here)
    return "set PYTHONPATH to the directory that holds it; searched: %s" % ", ".join(sys.path)


def find_attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name)
    except AttributeError:
        owner = getattr(value, "__name__", type(value).__name__)
        near = difflib.get_close_matches(name, dir(value), n=1)
        hint = "did you mean %r?" % near[0] if near else "check the spelling of ASYA_HANDLER"
        raise LoadError("%s has no attribute %r" % (owner, name), hint) from None


def needs_instance(parent: Any, attribute: str) -> bool:
    if not inspect.isclass(parent):
        return False
    return not isinstance(inspect.getattr_static(parent, attribute, None), (staticmethod, classmethod))


def refuse_required_parameters(owner: type) -> None:
    try:
        parameters = inspect.signature(owner).parameters.values()
    except (TypeError, ValueError):
        return  # Built-in classes may not tell; creating it will.
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            raise LoadError(
                "parameter '%s' of %s.__init__ must have a default value" % (parameter.name, owner.__name__),
                "the class is created without arguments; read settings from the environment",
            )


FUNCTION = "function"
GENERATOR = "generator"
ASYNC = "async"
ASYNC_GENERATOR = "async generator"


def shape_of(value: Any) -> str:
    while isinstance(value, functools.partial):
        value = value.func
    candidates = [value]
    if not inspect.isroutine(value):
        candidates.append(type(value).__call__)
    for candidate in candidates:
        if inspect.isasyncgenfunction(candidate):
            return ASYNC_GENERATOR
        if inspect.iscoroutinefunction(candidate):
            return ASYNC
        if inspect.isgeneratorfunction(candidate):
            return GENERATOR
    return FUNCTION


def refuse_misfit(target: Target, settings: Settings) -> None:
    """Settings that this shape of handler cannot be run with."""
    yields = target.shape in (GENERATOR, ASYNC_GENERATOR)
    if settings.concurrency > 1 and target.shape not in (ASYNC, ASYNC_GENERATOR):
        raise LoadError(
            "ASYA_CONCURRENCY=%d needs an `async def` handler, and %s is none" % (settings.concurrency, target.name),
            "set ASYA_WORKERS=%d instead: so many processes, each with one call at a time" % settings.concurrency,
        )
    if settings.stream and not yields:
        raise LoadError(
            "ASYA_STREAM=true needs a generator, and %s does not use `yield`" % target.name,
            "yield intermediate values, or unset ASYA_STREAM",
        )
    if settings.batch_size > 1 and yields:
        raise LoadError(
            "ASYA_BATCH_SIZE=%d does not go with %s, which is a generator" % (settings.batch_size, target.name),
            "return a list with one result for each element, or unset ASYA_BATCH_SIZE",
        )


def refuse_wrong_arity(name: str, value: Any, unbound: bool) -> None:
    # Decorators may change what a signature says, so only plain functions are judged.
    plain = inspect.isfunction(value) or inspect.ismethod(value)
    if not plain or hasattr(value, "__wrapped__") or hasattr(value, "__signature__"):
        return
    arguments = (None, None) if unbound else (None,)
    try:
        inspect.signature(value, follow_wrapped=False).bind(*arguments)
    except TypeError as exc:
        raise LoadError(
            "%s cannot be called with one argument: %s" % (name, exc),
            "a handler takes exactly one positional argument, the payload (or the envelope)",
        ) from None


# === errors as data ===


def describe(exc: BaseException) -> str:
    return "%s: %s" % (type(exc).__name__, text_of(exc))


def text_of(exc: BaseException) -> str:
    if isinstance(exc, SystemExit):
        return "the code called sys.exit(%s); return a value or raise an exception instead" % (exc.code,)
    try:
        return str(exc)
    except BaseException:
        return "(the exception could not be turned into text)"


def place_of(exc: BaseException) -> str:
    """`file:line` where it was raised: all that a log line may say about an exception."""
    step = exc.__traceback__
    if step is None:
        return "unknown place"
    while step.tb_next is not None:
        step = step.tb_next
    return "%s:%d" % (step.tb_frame.f_code.co_filename, step.tb_lineno)


def format_traceback(exc: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
    except Exception:
        return "%s at %s\n" % (type(exc).__name__, place_of(exc))


def shorten(text: str, limit: int) -> str:
    """Keeps both ends: a traceback begins with the call and ends with the reason."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return "%s\n... %d characters left out ...\n%s" % (text[:half], len(text) - 2 * half, text[-half:])


def class_names(kind: type) -> List[str]:
    """A class and its bases, the most special first: `package.module.Name`, built-in ones without their module.

    Retry rules match these. What every exception is says nothing, so it is left out.
    """
    names = []
    for base in kind.__mro__[:MAX_ERROR_CLASSES]:
        if base in (object, BaseException):
            continue
        module = getattr(base, "__module__", None)
        plain = module == "builtins" or not isinstance(module, str)
        name = base.__qualname__ if plain else "%s.%s" % (module, base.__qualname__)
        names.append(name[:MAX_ERROR_CLASS_NAME])
    return names


def error_item(code: str, exc: BaseException, kind: Optional[str] = None) -> Dict[str, Any]:
    names = class_names(type(exc))
    details = {
        "message": shorten(text_of(exc), MAX_ERROR_MESSAGE),
        "type": kind or type(exc).__name__,
        "traceback": shorten(format_traceback(exc), MAX_ERROR_TRACEBACK),
        "mro": [kind] + names[1:] if kind else names,
    }
    return {"error": code, "details": details}


# === envelope ===

ENVELOPE_KEYS = frozenset(("id", "parent_id", "route", "headers", "payload", "deadline"))
ROUTE_KEYS = frozenset(("actors", "current", "metadata"))


class NotJson(ValueError):
    """NaN and Infinity: Python reads them, JSON does not have them."""


def refuse_constant(name: str) -> Any:
    raise NotJson("%s is not a JSON value: write null or a string" % name)


DECODER = json.JSONDecoder(parse_constant=refuse_constant)


def decode(text: str) -> Any:
    """DECODER.decode without looking for white space around the value, where there is none."""
    try:
        value, end = DECODER.scan_once(text, 0)
    except StopIteration:
        end = -1
    return value if end == len(text) else DECODER.decode(text)


def parse_envelope(body: Any) -> Dict[str, Any]:
    """Bytes to envelope; raises ValueError (also its JSON and Unicode kinds) with a clear text."""
    text = str(body, "utf-8")
    try:
        envelope = decode(text)
    except RecursionError:
        raise ValueError(
            "The message is nested too deeply for this Python (recursion limit %d); "
            "flatten it, or raise sys.setrecursionlimit in the handler's module" % sys.getrecursionlimit()
        ) from None
    if not isinstance(envelope, dict):
        raise ValueError("Envelope must be a JSON object, not %s" % json_type(envelope))
    return envelope


def json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def restore_keys(fields: Dict[str, Any], known: frozenset) -> None:
    """Renames `Payload` to `payload` where the exact key is missing; among several the last wins."""
    exact = known.intersection(fields)
    for key in list(fields):
        name = key.lower()
        if key not in known and name in known and name not in exact:
            fields[name] = fields.pop(key)


def normalise(envelope: Dict[str, Any]) -> None:
    """Other spellings become the one of the contract; `null` headers and current become absent or 0."""
    if not ENVELOPE_KEYS.issuperset(envelope):
        restore_keys(envelope, ENVELOPE_KEYS)
    if "headers" in envelope and envelope["headers"] is None:
        del envelope["headers"]
    route = envelope.get("route")
    if isinstance(route, dict):
        if not ROUTE_KEYS.issuperset(route):
            restore_keys(route, ROUTE_KEYS)
        if "actors" not in route and "steps" in route:
            route["actors"] = route.pop("steps")
        if route.get("current") is None:
            route["current"] = 0


def is_regular(envelope: Dict[str, Any]) -> bool:
    """Whether there is nothing to normalise and nothing to complain about: nearly always, and cheap to find out."""
    route = envelope.get("route")
    if route.__class__ is not dict or not ENVELOPE_KEYS.issuperset(envelope):
        return False
    actors, current = route.get("actors"), route.get("current")
    return (
        actors.__class__ is list
        and current.__class__ is int
        and 0 <= current <= len(actors) > 0
        and (len(route) == 2 or ROUTE_KEYS.issuperset(route))
        and "payload" in envelope
        and envelope.get("headers", envelope).__class__ is dict
        and envelope.get("id", "").__class__ is str
    )


def checked_route(envelope: Dict[str, Any]) -> Dict[str, Any]:
    """What even an unvalidated payload call needs: a payload and a position to count from."""
    if "payload" not in envelope:
        raise ValueError("Missing required field 'payload' in envelope")
    if "route" not in envelope:
        raise ValueError("Missing required field 'route' in envelope")
    route = envelope["route"]
    if not isinstance(route, dict):
        raise ValueError("Field 'route' must be a dict, not %s" % json_type(route))
    return route


def checked_current(route: Dict[str, Any]) -> int:
    current = route["current"]
    if not isinstance(current, int):
        raise ValueError("Field 'route.current' must be an integer, not %s" % json_type(current))
    return current


def check_envelope(envelope: Dict[str, Any]) -> None:
    """The structural checks of input and output, in the order of the contract (data-plane 6.4)."""
    route = checked_route(envelope)
    if "actors" not in route:
        raise ValueError("Missing required field 'actors' in route")
    actors = route["actors"]
    if not isinstance(actors, list):
        raise ValueError("Field 'route.actors' must be a list, not %s" % json_type(actors))
    current = checked_current(route)
    if not actors:
        raise ValueError("Field 'route.actors' cannot be empty")
    if not 0 <= current <= len(actors):
        raise ValueError(
            "Invalid route.current=%d: out of bounds for actors of length %d" % (current, len(actors))
        )
    if "headers" in envelope and not isinstance(envelope["headers"], dict):
        raise ValueError("Field 'headers' must be a dict, not %s" % json_type(envelope["headers"]))
    if "id" in envelope and not isinstance(envelope["id"], str):
        raise ValueError("Field 'id' must be a string, not %s" % json_type(envelope["id"]))


# === context ===

# Characters of a progress message that are passed on.
MAX_PROGRESS_MESSAGE = 4096
# Why a request is to end. WITHDRAWN ends only what was not started.
DEADLINE, ASKED, WITHDRAWN = 1, 2, 3


class Call:
    """One request while it is in a worker. `link` is where its frames go; None over v1 and when it has ended."""

    __slots__ = ("link", "tag", "attempt", "ends", "id", "route", "headers", "reason", "sent")

    def __init__(self, link: Any, tag: int, attempt: int, budget: Optional[float]) -> None:
        self.link = link
        self.tag = tag
        self.attempt = attempt
        # On the monotonic clock: the budget counts from the start of the call.
        self.ends = None if budget is None else time.monotonic() + budget
        self.id = None  # type: Any
        self.route = None  # type: Any
        self.headers = None  # type: Any
        # DEADLINE or ASKED once the client has asked it to end.
        self.reason = None  # type: Optional[int]
        # Items that went out already.
        self.sent = 0

    def overdue(self) -> bool:
        return self.ends is not None and time.monotonic() >= self.ends


class Batch:
    """The calls that one call of a batch handler is for."""

    def __init__(self, calls: List[Call]) -> None:
        self.calls = calls


class Context:
    """The call that a handler is in. Outside of a call everything is empty, so unit tests may import it.

    In a batch: `batch` has one context for each element, and the batch itself is cancelled when all of them
    are, and has the earliest of their deadlines.
    """

    # Set by a worker: reads what the arbiter has sent in the meantime; how route.current was advanced.
    _look = staticmethod(lambda: None)  # type: Callable[[], None]
    _advances = False
    # Concurrent calls each have their own, as a context variable.
    _variable = None  # type: Any
    _current = None  # type: Any

    def _call(self) -> Any:
        return self._current if self._variable is None else self._variable.get()

    def _calls(self) -> List[Call]:
        call = self._call()
        if call is None:
            return []
        return call.calls if isinstance(call, Batch) else [call]

    def _one(self, name: str, default: Any) -> Any:
        call = self._call()
        return getattr(call, name) if isinstance(call, Call) else default

    @property
    def id(self) -> Optional[str]:
        """The envelope's id."""
        return self._one("id", None)

    @property
    def attempt(self) -> int:
        """Which run of this step this is, from 1."""
        return self._one("attempt", 1)

    @property
    def headers(self) -> Dict[str, Any]:
        """A copy of the envelope's headers."""
        return copy_json(self._one("headers", None) or {})

    @property
    def route(self) -> Dict[str, Any]:
        """A copy of the envelope's route."""
        route = copy_json(self._one("route", None) or {})
        if Context._advances and route:
            route["current"] -= 1
        return route

    @property
    def batch(self) -> List["Context"]:
        """One context for each element of the batch; empty if this is none."""
        call = self._call()
        return [ElementContext(element) for element in call.calls] if isinstance(call, Batch) else []

    @property
    def deadline(self) -> Optional[float]:
        """When the answer is due, in seconds since the epoch; None if there is no limit."""
        left = self.time_left()
        return None if left is None else time.time() + left

    def time_left(self) -> Optional[float]:
        """Seconds until the deadline, not below 0; None if there is no limit."""
        ends = [call.ends for call in self._calls() if call.ends is not None]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more: it was cancelled, or the deadline has passed."""
        calls = self._calls()
        if not calls:
            return False
        Context._look()
        return all(call.reason is not None or call.overdue() for call in calls)

    def progress(self, fraction: Optional[float] = None, message: Optional[str] = None) -> None:
        """Tells whoever watches how far this call is: a fraction from 0 to 1, a text, or both."""
        note = {}  # type: Dict[str, Any]
        if fraction is not None:
            fraction = float(fraction)
            if not math.isfinite(fraction):
                raise ValueError("the fraction must be a number from 0 to 1, not %r" % fraction)
            note["fraction"] = min(1.0, max(0.0, fraction))
        if message is not None:
            note["message"] = str(message)[:MAX_PROGRESS_MESSAGE]
        body = ENCODER.encode(note).encode("ascii")
        for call in self._calls():
            link = call.link
            if link is not None:
                link.tell(pack_frame(PROGRESS, call.tag, body))


class ElementContext(Context):
    """The context of one element of a batch."""

    def __init__(self, call: Call) -> None:
        self._element = call

    def _call(self) -> Call:
        return self._element


def copy_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: copy_json(child) for key, child in value.items()}
    return [copy_json(child) for child in value] if isinstance(value, list) else value


context = Context()


# === calling ===


def items_of(result: Any) -> List[Any]:
    """None and [] end the pipeline here, a list or tuple fans out, anything else is one item."""
    if result is None:
        return []
    if isinstance(result, (list, tuple)):
        return list(result)
    return [result]


class PayloadMode:
    """handler(payload); the route moves on by one, the headers travel unchanged."""

    # What a handler may see of the route has moved on already.
    advances = True

    def __init__(self, settings: Settings) -> None:
        self._validate = settings.validate

    def prepare(self, envelope: Dict[str, Any]) -> Tuple[Any, Dict[str, Any]]:
        """The handler's argument, and what each of its result items gets besides the payload."""
        if not is_regular(envelope):
            normalise(envelope)
            if self._validate:
                check_envelope(envelope)
            else:
                checked_current(checked_route(envelope))
        route = envelope["route"]
        route["current"] += 1
        if "headers" in envelope:
            return envelope["payload"], {"route": route, "headers": envelope["headers"]}
        return envelope["payload"], {"route": route}

    def finish(self, common: Dict[str, Any], result: Any) -> List[Any]:
        if result.__class__ is dict:
            return [{"payload": result, **common}]
        return [{"payload": payload, **common} for payload in items_of(result)]

    def item(self, common: Dict[str, Any], payload: Any, _index: int) -> Any:
        """One value of a generator."""
        return {"payload": payload, **common}


class MetadataMode:
    """Payload mode with ASYA_INCLUDE_METADATA."""

    advances = True

    def __init__(self, settings: Settings) -> None:
        self._plain = PayloadMode(settings)

    def prepare(self, envelope: Dict[str, Any]) -> Tuple[Any, Tuple[Dict[str, Any], Optional["Metadata"]]]:
        payload, common = self._plain.prepare(envelope)
        if not isinstance(payload, dict):
            return payload, (common, None)
        route = dict(common["route"], current=common["route"]["current"] - 1)
        metadata = Metadata(dict(envelope, route=route), payload)
        payload.update(metadata.copy())
        return payload, (common, metadata)

    def finish(self, state: Tuple[Dict[str, Any], Optional["Metadata"]], result: Any) -> List[Any]:
        return [self.item(state, payload, index) for index, payload in enumerate(items_of(result))]

    def item(self, state: Tuple[Dict[str, Any], Optional["Metadata"]], payload: Any, _index: int) -> Any:
        common, metadata = state
        return {"payload": payload if metadata is None else metadata.remove_from(payload), **common}


class Metadata:
    """What ASYA_INCLUDE_METADATA adds to a payload, and takes out again where it is unchanged."""

    def __init__(self, envelope: Dict[str, Any], payload: Dict[str, Any]) -> None:
        added = {"id": envelope.get("id"), "route": envelope["route"], "headers": envelope.get("headers", {})}
        # As text: the copy for the handler may be edited in place and must not change this one.
        self._added = {key: json.dumps(value) for key, value in added.items() if key not in payload}

    def copy(self) -> Dict[str, Any]:
        return {key: json.loads(text) for key, text in self._added.items()}

    def remove_from(self, item: Any) -> Any:
        if not isinstance(item, dict):
            return item
        original = self.copy()
        # A new dict, because the handler may keep the one that it returned.
        return {key: value for key, value in item.items() if key not in original or value != original[key]}


class EnvelopeMode:
    """handler(envelope), validated: what it returns is checked against a snapshot of the input route."""

    # The sidecar reads these as a failed item; only this file may write them.
    RESERVED = frozenset(("error", "details"))

    advances = False

    def __init__(self, settings: Settings) -> None:
        self._repeat_unchanged = settings.repeat_unchanged

    def prepare(self, envelope: Dict[str, Any]) -> Tuple[Any, Tuple[List[Any], int]]:
        if not is_regular(envelope):
            normalise(envelope)
            check_envelope(envelope)
        route = envelope["route"]
        # Copied before the call: handlers edit the route in place.
        return envelope, (list(route["actors"]), int(route["current"]))

    def finish(self, state: Tuple[List[Any], int], result: Any) -> List[Any]:
        outputs = items_of(result)
        count = str(len(outputs))
        return [self.item(state, output, index, count) for index, output in enumerate(outputs)]

    def item(self, state: Tuple[List[Any], int], output: Any, index: int, count: str = "?") -> Dict[str, Any]:
        try:
            return self._checked(output, *state)
        except ValueError as exc:
            failure = ValueError("Invalid output envelope[%d/%s]: %s" % (index, count, exc))
            return error_item(PROCESSING_ERROR, failure)

    def _checked(self, output: Any, actors: List[Any], current: int) -> Dict[str, Any]:
        if not isinstance(output, dict):
            raise ValueError("Envelope must be a dict, not %s" % type(output).__name__)
        # Shallow copies, because a handler may return one dict several times or keep it.
        item = {key: value for key, value in output.items() if key not in self.RESERVED}
        if "headers" in item and item["headers"] is None:
            del item["headers"]
        if isinstance(item.get("route"), dict):
            route = dict(item["route"])
            item["route"] = route
            if route.get("current") is None:
                route["current"] = current
        check_envelope(item)
        route = item["route"]
        check_processed_actors(route["actors"], actors, current)
        # An integer also where the handler wrote True; the sidecar takes nothing else.
        route["current"] = int(route["current"])
        if route["current"] == current and not self._repeat_unchanged:
            route["current"] = current + 1
        return item


def check_processed_actors(output: List[Any], actors: List[Any], current: int) -> None:
    if output[: current + 1] == actors[: current + 1]:
        return
    if output[:current] == actors[:current] and current < len(actors):
        now = output[current] if current < len(output) else None
        raise ValueError(
            "Route mismatch: input route points to %r at position %d, the output has %r there "
            "(already-processed actors cannot be erased)" % (actors[current], current, now)
        )
    raise ValueError(
        "Route modification error: already-processed actors cannot be erased; the output route must begin with %r"
        % (actors[: current + 1],)
    )


class UncheckedEnvelopeMode:
    """handler(envelope) without validation (end handlers): nothing is added, removed or advanced."""

    advances = False

    def prepare(self, envelope: Dict[str, Any]) -> Tuple[Any, None]:
        return envelope, None

    def finish(self, _state: None, result: Any) -> List[Any]:
        return items_of(result)

    def item(self, _state: None, output: Any, _index: int) -> Any:
        return output


def calling_mode(settings: Settings) -> Any:
    if settings.mode == "payload":
        return MetadataMode(settings) if settings.include_metadata else PayloadMode(settings)
    return EnvelopeMode(settings) if settings.validate else UncheckedEnvelopeMode()


# === encoding ===

# A value that contains itself ends the fast one in a RecursionError; the careful one then names it.
ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"), check_circular=False)
CAREFUL_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def fast_encoder() -> Callable[[Any, int], Any]:
    """What ENCODER.encode makes anew for each value, made once. Private to `json`, so it must prove itself."""
    sample = [{"a": [1, 0.5, None, True, "\u2603"]}, []]
    try:
        chunks = json.encoder.c_make_encoder(  # type: ignore
            None, ENCODER.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False
        )
        if "".join(chunks(sample, 0)) == ENCODER.encode(sample):
            return chunks
    except Exception:
        pass
    return lambda value, _level: [ENCODER.encode(value)]


encode_chunks = fast_encoder()


class Unsendable(Exception):
    """A result item that is not JSON or too large. `kind` is the exception type that is reported."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def encode_items(items: List[Any], limit: int, envelope_id: Any, first: int = 0) -> bytes:
    """The answer as bytes, at most `limit`; an item that cannot be sent becomes an error item in its place.

    `first` is the number of the first item among all of this request.
    """
    try:
        body = "".join(encode_chunks(items, 0)).encode("ascii")
        if len(body) <= limit:
            return body
    except Exception:
        pass  # Rare: one item at a time finds out which one it is and keeps the others.
    return encode_one_by_one(items, limit, log_name(envelope_id), first)


def encode_one_by_one(items: List[Any], limit: int, envelope_id: str, first: int) -> bytes:
    parts = []  # type: List[bytes]
    total = 2  # The brackets.
    for index, item in enumerate(items, first):
        try:
            part = encode_item(item, index, limit)
        except Unsendable as exc:
            log.error("result item cannot be sent: id=%s item=%d/%d %s", envelope_id, index, first + len(items), exc.kind)
            part = encode_error(error_item(PROCESSING_ERROR, exc, exc.kind), limit - 2)
        if total + len(part) > limit:
            log.error("answer too large: id=%s from item=%d/%d", envelope_id, index, first + len(items))
            # One frame holds the whole answer, so what no longer fits is reported, not dropped in silence.
            return join_parts(*make_room(parts, index, first + len(items), limit))
        parts.append(part)
        total += len(part) + 1
    return join_parts(*parts)


def make_room(parts: List[bytes], index: int, count: int, limit: int) -> List[bytes]:
    while True:
        message = (
            "result items %d to %d do not fit: the answer would be larger than ASYA_MAX_MESSAGE_SIZE=%d bytes; "
            "return fewer or smaller items" % (index, count - 1, limit)
        )
        error = encode_error(error_item(PROCESSING_ERROR, Unsendable("ValueError", message), "ValueError"), limit - 2)
        if not parts or sum(map(len, parts)) + len(parts) + len(error) + 2 <= limit:
            return parts + [error]
        parts = parts[:-1]
        index -= 1


def join_parts(*parts: bytes) -> bytes:
    return b"[" + b",".join(parts) + b"]"


def encode_item(item: Any, index: int, limit: int) -> bytes:
    try:
        part = CAREFUL_ENCODER.encode(item).encode("ascii")
    except RecursionError:
        raise Unsendable(
            "RecursionError",
            "result item %d cannot be sent as JSON: it is nested too deeply for this Python (recursion limit %d); "
            "return a flatter value" % (index, sys.getrecursionlimit()),
        ) from None
    except Exception as exc:
        raise Unsendable(type(exc).__name__, explain_unsendable(item, index, exc)) from None
    if len(part) + 2 > limit:
        raise Unsendable(
            "ValueError",
            "result item %d has %d bytes, more than ASYA_MAX_MESSAGE_SIZE=%d allows; "
            "return less, or store it elsewhere and return where" % (index, len(part), limit),
        )
    return part


def encode_error(item: Dict[str, Any], limit: int) -> bytes:
    part = ENCODER.encode(item).encode("ascii")
    if len(part) <= limit:
        return part
    # Escapes may take six bytes per character, so this is sure to fit even the smallest limit.
    details = item["details"]
    short = {"message": details["message"][:80], "type": details["type"][:30], "traceback": ""}
    return ENCODER.encode({"error": item["error"], "details": short}).encode("ascii")


def explain_unsendable(item: Any, index: int, exc: Exception) -> str:
    found = find_unsendable(item)
    if found is None:
        return "result item %d cannot be sent as JSON: %s" % (index, exc)
    path, what, advice = found
    return "result item %d cannot be sent as JSON: %s is %s; %s" % (index, path or "it", what, advice)


def find_unsendable(item: Any) -> Optional[Tuple[str, str, str]]:
    """The first value JSON has no form for, as (path, what it is, what to do); None if it is another matter."""
    waiting = [("", item)]
    seen = set()
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            children = [("%s[%.60r]" % (path, key), child) for key, child in value.items()]
            for key in value:
                if not isinstance(key, (str, int, float, type(None))):
                    return path or "it", "a dict with a key of type %s" % type(key).__name__, "use strings as keys"
        elif isinstance(value, (list, tuple)):
            children = [("%s[%d]" % (path, number), child) for number, child in enumerate(value)]
        elif isinstance(value, float):
            if math.isfinite(value):
                continue
            return path, "the number %r, which JSON does not have" % value, "use None or a finite number"
        elif value is None or isinstance(value, (str, int)):
            continue
        else:
            return path, "of type %s" % type(value).__name__, advice_for(value)
        if id(value) not in seen:
            seen.add(id(value))
            waiting.extend(reversed(children))
    return None


def advice_for(value: Any) -> str:
    if inspect.iscoroutine(value):
        value.close()  # Nobody will await it; without this Python warns at a random later moment.
        return "await it, for example with asyncio.run(...), and return the result"
    if inspect.isgenerator(value):
        return "return list(...) of it"
    if isinstance(value, (set, frozenset)):
        return "return sorted(...) or list(...) of it"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "decode it to text or use base64"
    if hasattr(value, "isoformat"):
        return "return its .isoformat()"
    if hasattr(value, "tolist"):
        return "return its .tolist()"
    return "convert it to dict, list, str, int, float, bool or None"


# === runners ===


class Ended(Exception):
    """The client has asked this call to end, and it did."""


def ended_item(reason: int) -> Dict[str, Any]:
    if reason == DEADLINE:
        return error_item(TIMED_OUT, Ended("the time for this request is used up"), "TimeoutError")
    return error_item(CANCELLED, Ended("this request was cancelled"), "CancelledError")


class Runner:
    """Runs plain functions: one request body in, one answer body out. The other shapes build on it.

    Nothing but the end of a forked child leaves `answer` as an exception.
    """

    def __init__(self, settings: Settings, handler: Callable[[Any], Any], shape: str = FUNCTION) -> None:
        self.handler = handler
        self.shape = shape
        self.mode = calling_mode(settings)
        self.limit = settings.max_message_size
        self.process_id = os.getpid()
        self._debug = log.isEnabledFor(logging.DEBUG)

    def answer(self, body: Any, call: Call) -> bytes:
        try:
            return self._encode(self._items(body, call), call)
        except Exception as exc:
            return self.broken(exc)

    def broken(self, exc: Exception) -> bytes:
        log.error("failed to make an answer: %s at %s", type(exc).__name__, place_of(exc))
        return self.error(PROCESSING_ERROR, exc)

    def error(self, code: str, exc: BaseException, kind: Optional[str] = None) -> bytes:
        return self.sole(error_item(code, exc, kind))

    def sole(self, item: Dict[str, Any]) -> bytes:
        """An answer of one error item, which always fits."""
        return join_parts(encode_error(item, self.limit - 2))

    def prepare(self, body: Any, call: Call) -> Tuple[Any, Any]:
        """The handler's argument, and what the mode needs to make items of its results."""
        envelope = parse_envelope(body)
        # Before the call, which may edit the envelope.
        call.id = envelope.get("id")
        prepared = self.mode.prepare(envelope)
        call.route = envelope.get("route")
        call.headers = envelope.get("headers")
        return prepared

    def refusal(self, exc: Exception, call: Call) -> Dict[str, Any]:
        log.error("request refused: id=%s %s", log_name(call.id), type(exc).__name__)
        return error_item(PARSING_ERROR, exc, "JSONDecodeError" if isinstance(exc, NotJson) else None)

    def failure(self, exc: BaseException, call: Call) -> Dict[str, Any]:
        """The error item for what a handler raised, or what it was stopped with."""
        if call.reason is not None and is_cancellation(exc):
            log.info("handler ended as it was asked to: id=%s", log_name(call.id))
            return ended_item(call.reason)
        log.error("handler failed: id=%s %s at %s", log_name(call.id), type(exc).__name__, place_of(exc))
        # The v1 peer knows no other code.
        code = OUT_OF_MEMORY if isinstance(exc, MemoryError) and call.link is not None else PROCESSING_ERROR
        return error_item(code, exc)

    def stay_parent(self, failure: Optional[BaseException]) -> None:
        if os.getpid() != self.process_id:
            leave_forked_child(failure)

    def _encode(self, items: List[Any], call: Call) -> bytes:
        return encode_items(items, self.limit, call.id)

    def _items(self, body: Any, call: Call) -> List[Any]:
        try:
            argument, state = self.prepare(body, call)
        except Exception as exc:
            return [self.refusal(exc, call)]
        started = time.monotonic() if self._debug else 0.0
        failure = None  # type: Optional[BaseException]
        try:
            result = self.handler(argument)
            del argument
        except BaseException as exc:  # SystemExit and KeyboardInterrupt end the call, not the process.
            failure = exc
        if os.getpid() != self.process_id:
            leave_forked_child(failure)
        if failure is not None:
            return [self.failure(failure, call)]
        items = self.mode.finish(state, result)
        if self._debug:
            self.report(call, len(items), started)
        return items

    def report(self, call: Call, count: int, started: float) -> None:
        milliseconds = (time.monotonic() - started) * 1000
        log.debug("handled: id=%s items=%d ms=%.1f", log_name(call.id), count, milliseconds)


class AsyncRunner(Runner):
    """`async def` functions. `answer_async` is written once for all shapes that may wait."""

    async def answer_async(self, body: Any, call: Call) -> bytes:
        try:
            return self._encode(await self._run(body, call), call)
        except Exception as exc:
            return self.broken(exc)

    async def _run(self, body: Any, call: Call) -> List[Any]:
        try:
            argument, state = self.prepare(body, call)
        except Exception as exc:
            return [self.refusal(exc, call)]
        started = time.monotonic() if self._debug else 0.0
        failure = None  # type: Optional[BaseException]
        try:
            result = await self.handler(argument)
            del argument
        except BaseException as exc:
            failure = exc
        self.stay_parent(failure)
        if failure is not None:
            return [self.failure(failure, call)]
        items = self.mode.finish(state, result)
        if self._debug:
            self.report(call, len(items), started)
        return items


class YieldingRunner(AsyncRunner):
    """Generators of both kinds: items go out as they are made, or partial results and one item."""

    def __init__(self, settings: Settings, handler: Callable[[Any], Any], shape: str) -> None:
        super().__init__(settings, handler, shape)
        self._stream = settings.stream

    def answer(self, body: Any, call: Call) -> bytes:
        return finish_now(self.answer_async(body, call))

    def _encode(self, items: List[Any], call: Call) -> bytes:
        return encode_items(items, self.limit, call.id, call.sent)

    async def _run(self, body: Any, call: Call) -> List[Any]:
        """The items that are not sent yet."""
        try:
            argument, state = self.prepare(body, call)
        except Exception as exc:
            return [self.refusal(exc, call)]
        started = time.monotonic() if self._debug else 0.0
        items = []  # type: List[Any]
        try:
            steps = Steps(self.handler(argument), self.shape == ASYNC_GENERATOR)
            del argument
            try:
                await self._collect(steps, state, items, call)
            finally:
                if os.getpid() == self.process_id:
                    await steps.close()
        except BaseException as exc:
            self.stay_parent(exc)
            if self._stream:
                del items[:]
            items.append(self.failure(exc, call))
        if self._debug:
            self.report(call, call.sent + len(items), started)
        return items

    async def _collect(self, steps: "Steps", state: Any, items: List[Any], call: Call) -> None:
        count = 0
        while True:
            value = await steps.advance()
            self.stay_parent(None)
            if steps.ended:
                break
            if self._stream:
                items[:] = [self.mode.item(state, value, 0)]
                await self._show(value, count, call)
            elif call.link is None:
                items.append(self.mode.item(state, value, count))
            else:
                item = self.mode.item(state, value, count)
                await self._send(ITEMS, encode_items([item], self.limit, call.id, count), call)
                call.sent += 1
            count += 1
        if self._stream and steps.returned is not None:
            items[:] = [self.mode.item(state, steps.returned, 0)]

    async def _show(self, value: Any, count: int, call: Call) -> None:
        if call.link is None:
            return
        try:
            body = encode_item(value, count, self.limit)
        except Unsendable as exc:
            raise ValueError("what was yielded cannot be shown: %s" % exc) from None
        await self._send(PARTIAL, body, call)

    async def _send(self, kind: int, body: bytes, call: Call) -> None:
        link = call.link
        link.tell(pack_frame(kind, call.tag, body))
        if self.shape == ASYNC_GENERATOR:
            await link.drained()
        Context._look()
        if link.lost:
            call.reason = call.reason or ASKED
        if call.reason is not None:
            raise Ended("asked to end")


class Steps:
    """A generator of either kind, one value at a time."""

    def __init__(self, generator: Any, is_async: bool) -> None:
        self._generator = generator
        self._async = is_async
        self.ended = False
        self.returned = None  # type: Any

    async def advance(self) -> Any:
        try:
            return await self._generator.__anext__() if self._async else next(self._generator)
        except StopAsyncIteration:
            self.ended = True
        except StopIteration as stop:
            self.ended = True
            self.returned = stop.value

    async def close(self) -> None:
        if self._async:
            await self._generator.aclose()
        else:
            self._generator.close()


class BatchRunner(AsyncRunner):
    """Handlers that take a list and return a list. A batch that fails as a whole is repeated with halves."""

    def answer(self, body: Any, call: Call) -> bytes:
        return finish_now(self.answer_async(body, call))

    async def answer_async(self, body: Any, call: Call) -> bytes:
        return (await self.answer_batch_async([body], [call]))[0]

    def answer_batch(self, bodies: List[Any], calls: List[Call]) -> List[bytes]:
        return finish_now(self.answer_batch_async(bodies, calls))

    async def answer_batch_async(self, bodies: List[Any], calls: List[Call]) -> List[bytes]:
        answers = {}  # type: Dict[int, bytes]
        started = time.monotonic() if self._debug else 0.0
        try:
            await self._divide(list(range(len(bodies))), bodies, calls, answers)
        except Exception as exc:
            for index in range(len(bodies)):
                if index not in answers:
                    answers[index] = self.broken(exc)
        if self._debug:
            for call in calls:
                self.report(call, 1, started)
        return [answers[index] for index in range(len(bodies))]

    async def _divide(self, indexes: List[int], bodies: List[Any], calls: List[Call], answers: Dict[int, bytes]) -> None:
        arguments, states, runnable = [], [], []
        if len(indexes) < len(bodies):
            Context._look()  # The halves are new calls, and what was cancelled meanwhile is not in them.
        for index in indexes:
            reason = calls[index].reason
            if reason is not None:
                answers[index] = self.sole(ended_item(reason))
                continue
            try:
                # Parsed anew for each try: the one before may have edited what it was given.
                argument, state = self.prepare(bodies[index], calls[index])
            except Exception as exc:
                answers[index] = self.sole(self.refusal(exc, calls[index]))
                continue
            arguments.append(argument)
            states.append(state)
            runnable.append(index)
        if not runnable:
            return
        try:
            results = await self._call(arguments, [calls[index] for index in runnable])
            del arguments
        except BaseException as exc:
            self.stay_parent(exc)
            if len(runnable) == 1 or is_cancellation(exc):
                for index in runnable:
                    answers[index] = self.sole(self.failure(exc, calls[index]))
                return
            log.warning("a batch of %d failed: %s at %s; trying halves", len(runnable), type(exc).__name__, place_of(exc))
        else:
            self.stay_parent(None)
            self._distribute(results, states, runnable, calls, answers)
            return
        middle = len(runnable) // 2
        await self._divide(runnable[:middle], bodies, calls, answers)
        await self._divide(runnable[middle:], bodies, calls, answers)

    async def _call(self, arguments: List[Any], calls: List[Call]) -> Any:
        batch = Batch(calls)
        if self.shape == ASYNC:
            Context._variable.set(batch)
            return await self.handler(arguments)
        Context._current = batch
        return self.handler(arguments)

    def _distribute(
        self, results: Any, states: List[Any], indexes: List[int], calls: List[Call], answers: Dict[int, bytes]
    ) -> None:
        problem = misshapen(results, len(indexes))
        for place, index in enumerate(indexes):
            call = calls[index]
            if problem is not None:
                answers[index] = self.sole(self.failure(problem, call))
                continue
            result = results[place]
            try:
                if isinstance(result, BaseException):
                    answers[index] = self.sole(self.failure(result, call))
                else:
                    answers[index] = self._encode(self.mode.finish(states[place], result), call)
            except Exception as exc:
                answers[index] = self.broken(exc)


def misshapen(results: Any, count: int) -> Optional[ValueError]:
    if not isinstance(results, (list, tuple)):
        return ValueError(
            "a batch handler must return a list with one result for each of the %d elements that it got, not %s"
            % (count, json_type(results))
        )
    if len(results) != count:
        return ValueError(
            "a batch handler must return a list of the same length: it got %d elements and returned %d"
            % (count, len(results))
        )
    return None


def finish_now(waiting: Any) -> Any:
    """Runs a coroutine that never waits, since nothing in it is asynchronous."""
    try:
        waiting.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("a coroutine without an event loop has waited")


def is_cancellation(exc: BaseException) -> bool:
    # asyncio need not be imported to know it.
    return isinstance(exc, Ended) or type(exc).__name__ == "CancelledError"


def make_runner(settings: Settings, target: Target, handler: Callable[[Any], Any]) -> Runner:
    if settings.batch_size > 1:
        return BatchRunner(settings, handler, target.shape)
    if target.shape in (GENERATOR, ASYNC_GENERATOR):
        return YieldingRunner(settings, handler, target.shape)
    return (AsyncRunner if target.shape == ASYNC else Runner)(settings, handler, target.shape)


PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")


def log_name(value: Any) -> str:
    """An id for a log line: on one line and bounded, whatever the sender wrote."""
    if not isinstance(value, str):
        return "-"
    return value if PLAIN_ID.match(value) else "%.100r" % value[:100]


def leave_forked_child(failure: Optional[BaseException]) -> None:
    """Ends a child that a handler forked: the connection and the answer belong to the parent."""
    if isinstance(failure, SystemExit):
        raise failure
    if failure is None:
        log.warning("a forked child returned from the handler; it ends here, end it with os._exit(0)")
        raise SystemExit(0)
    log.error("a forked child failed: %s at %s", type(failure).__name__, place_of(failure))
    raise SystemExit(1)


# === framing v1 ===

LENGTH = struct.Struct(">I")
# As the struct timeval that SO_RCVTIMEO takes.
WAIT_FOR_READ = struct.pack("ll", READ_IDLE_SECONDS, 0)
WAIT_FOR_DISCARD = struct.pack("ll", DISCARD_IDLE_SECONDS, 0)


class FrameTooLarge(Exception):
    def __init__(self, size: int, received: int, limit: int) -> None:
        super().__init__("The message has %d bytes, more than ASYA_MAX_MESSAGE_SIZE=%d allows" % (size, limit))
        self.missing = size - received


class NothingYet(Exception):
    """The peer has connected and not written."""


class FrameReader:
    """Reads one frame per connection, of which at least a part must be there. Memory grows with what has arrived, not with what was announced."""

    def __init__(self, chunk_size: int, limit: int) -> None:
        self._limit = limit
        self._view = memoryview(bytearray(max(chunk_size, LENGTH.size)))

    def read(self, connection: socket.socket) -> Any:
        """The body, or None if the peer left without a byte (the sidecar's readiness check)."""
        view = self._view
        try:
            received = connection.recv_into(view, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise NothingYet() from None
        # Mostly the whole frame is there already, and the bound on waiting not worth a system call.
        if received == 0:
            return None
        if received < LENGTH.size or received < LENGTH.size + LENGTH.unpack_from(view)[0]:
            limit_wait(connection, WAIT_FOR_READ)
        while received < LENGTH.size:
            count = connection.recv_into(view[received:])
            if count == 0:
                raise ConnectionError(v1_end(-1, 0))
            received += count
        (size,) = LENGTH.unpack_from(view)
        received -= LENGTH.size
        if size > self._limit:
            raise FrameTooLarge(size, received, self._limit)
        if received >= size:
            return view[LENGTH.size : LENGTH.size + size]
        body = bytearray(view[LENGTH.size : LENGTH.size + received])
        while len(body) < size:
            count = connection.recv_into(view, min(len(view), size - len(body)))
            if count == 0:
                raise ConnectionError(v1_end(size, len(body)))
            body += view[:count]
        return body

    def discard(self, connection: socket.socket, missing: int) -> None:
        """Reads the rest of a refused frame, so that a peer still writing gets to read the answer."""
        limit_wait(connection, WAIT_FOR_DISCARD)
        while missing > 0:
            count = connection.recv_into(self._view, min(len(self._view), missing))
            if count == 0:
                return
            missing -= count


def v1_end(size: int, received: int) -> str:
    if size < 0:
        return "the peer closed the connection inside the length prefix"
    return "the peer closed the connection after %d of %d bytes" % (received, size)


def limit_wait(waiting: socket.socket, limit: bytes, which: int = socket.SO_RCVTIMEO) -> None:
    """How long a read (or accept) may wait, measured by the kernel: BlockingIOError after that.

    A Python-level timeout would cost a poll() before every read and write.
    """
    waiting.setsockopt(socket.SOL_SOCKET, which, limit)


def pack_v1(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


def send_frame(connection: socket.socket, body: bytes) -> None:
    if len(body) > SOCKET_TAKES_BYTES:
        # A peer that does not read must not hold the worker for ever.
        limit_wait(connection, WAIT_FOR_READ, socket.SO_SNDTIMEO)
    if len(body) <= JOIN_FRAME_BYTES:
        connection.sendall(pack_v1(body))
    else:
        connection.sendall(LENGTH.pack(len(body)))
        connection.sendall(body)


# === framing v2 ===

HELLO, WELCOME, ERROR = 0x01, 0x02, 0x0F
REQUEST, REPLY, ITEMS, PARTIAL, PROGRESS, GOODBYE = 0x10, 0x20, 0x21, 0x22, 0x23, 0x24
WORKER, CANCEL, KILL, PING, PONG, STOPPING = 0x30, 0x31, 0x32, 0x33, 0x34, 0x35
# Flag of REQUEST: the next frame belongs to the same batch.
MORE = 0x01
NO_BUDGET = 0xFFFFFFFF

# Length, type, flags, zero, tag.
HEADER = struct.Struct(">IBBHI")
# The same with the budget and the attempt of a REQUEST.
REQUEST_HEADER = struct.Struct(">IBBHIII")
REQUEST_EXTRA = REQUEST_HEADER.size - HEADER.size
CANCEL_BODY = struct.Struct(">IIB")
KILL_BODY = struct.Struct(">II")

# Largest HELLO and largest frame on a control connection.
MAX_SMALL_BODY = 64 * 1024
MAX_ERROR_TEXT = 4096
# Bytes that one read may bring; a longer frame gets memory of its own as it arrives.
READ_BUFFER = 256 * 1024
# Unanswered requests on a connection beyond those that run.
WRITE_AHEAD = 1024
# Bytes of requests that are read while one runs.
READ_AHEAD_BYTES = 1024 * 1024

# A handler may have made SIGPIPE deadly again.
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)


def pack_frame(kind: int, tag: int, body: bytes) -> bytes:
    return HEADER.pack(len(body), kind, 0, 0, tag) + body


def pack_json(kind: int, tag: int, value: Any) -> bytes:
    return pack_frame(kind, tag, ENCODER.encode(value).encode("ascii"))


def pack_error(text: str, tag: int = 0) -> bytes:
    return pack_frame(ERROR, tag, text[:MAX_ERROR_TEXT].encode("utf-8", "replace"))


class Violation(Exception):
    """The peer broke the protocol: it is told why, and the connection is closed."""

    def __init__(self, text: str, tag: int = 0) -> None:
        super().__init__(text)
        self.tag = tag


class TooLong(Exception):
    """In the place of a body that is longer than allowed."""


class Withdrawn(Exception):
    """In the place of a body whose request was to end before it had arrived."""

    def __init__(self, reason: int) -> None:
        super().__init__()
        self.reason = reason


class Skipped(Exception):
    """In the place of a body whose request was answered before it was started."""


class RequestReader:
    """Makes requests of the bytes of a worker connection. No input, no output: bytes go in through `space`.

    A request is (tag, flags, budget in seconds or None, attempt, body). The body is a memoryview of the
    buffer, good until the next `space`, or an exception that stands for it.
    """

    def __init__(self, limit: int, batch_size: int, most_unanswered: int, buffer_size: int = READ_BUFFER) -> None:
        self._limit = limit
        self._batch_size = batch_size
        self._most_unanswered = most_unanswered
        self._view = memoryview(bytearray(buffer_size))
        # What is in the buffer and not yet taken out.
        self._start = 0
        self._end = 0
        # A frame that is larger than the buffer: its header, what has arrived of its body, and how much has not.
        self._large = None  # type: Optional[Tuple[int, int, Optional[float], int]]
        self._body = bytearray()
        self._missing = 0
        self._skip = 0
        # Requests of the batch that is arriving.
        self._in_batch = 0
        # So many of `ready`, from the left, are copies already.
        self._kept = 0
        # Requests that are to end and have not arrived yet, and why.
        self._early = {}  # type: Dict[int, int]
        # Tags count up, so a higher one than the newest is yet to come.
        self._newest = 0
        self.ready = deque()  # type: deque
        # Batches in `ready` that are complete; without batches each request is one.
        self.complete = 0
        self.unanswered = set()  # type: Set[int]
        # After these no further byte is read.
        self.violation = None  # type: Optional[Violation]
        self.goodbye = False

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._start < self._end or self._missing > 0 or self._skip > 0

    @property
    def closed(self) -> bool:
        return self.goodbye or self.violation is not None

    def space(self) -> memoryview:
        """Where the next bytes go; tell `received` how many there are."""
        if self.ready and self._kept < len(self.ready):
            self._keep()
        if self._skip:
            return self._view[: self._skip]
        if self._missing:
            return self._view[: self._missing]
        start, end = self._start, self._end
        if start:
            self._view[: end - start] = self._view[start:end]
            self._start, self._end = 0, end - start
            return self._view[end - start :]
        return self._view[end:] if end else self._view

    @property
    def full(self) -> bool:
        """Whether so much waits that no more is read before some of it has run."""
        waiting = (len(request[4]) for request in self.ready if isinstance(request[4], memoryview))
        return sum(waiting) >= READ_AHEAD_BYTES

    def _keep(self) -> None:
        """Copies the bodies that wait, since the buffer is about to be written over."""
        for index in range(self._kept, len(self.ready)):
            tag, flags, budget, attempt, body = self.ready[index]
            if isinstance(body, memoryview) and body.obj is self._view.obj:
                self.ready[index] = (tag, flags, budget, attempt, memoryview(bytes(body)))
        self._kept = len(self.ready)

    def take(self) -> Tuple[int, int, Optional[float], int, Any]:
        """The next request. Its tag stays in `unanswered` until the answer is sent."""
        request = self.ready.popleft()
        if self._kept:
            self._kept -= 1
        if not request[1]:
            self.complete -= 1
        if self._early and request[0] in self._early and not isinstance(request[4], Skipped):
            return request[:4] + (Withdrawn(self._early.pop(request[0])),)
        return request

    def withdraw(self, tag: int, reason: int) -> bool:
        """Takes the body from a request that was not started, so that it can be answered now.

        False if there is no such request. If it may be on its way, it will be `Withdrawn` when it is taken.
        """
        for index, (waiting, flags, budget, attempt, body) in enumerate(self.ready):
            if waiting == tag and not isinstance(body, Skipped):
                self.ready[index] = (tag, flags, budget, attempt, Skipped())
                return True
        coming = tag > self._newest or self.inside or self.full
        if coming and tag not in self.unanswered and len(self._early) < self._most_unanswered:
            self._early[tag] = reason
        return False

    def withdraw_early(self) -> List[Tuple[int, int]]:
        """Tag and reason of those that have come after they were to end, and wait to be answered."""
        come = [(tag, reason) for tag, reason in self._early.items() if tag in self.unanswered]
        for tag, reason in come:
            del self._early[tag]
            self.withdraw(tag, reason)
        return come

    def drained(self) -> None:
        """All that the peer has sent was read."""
        if self._early and not self.inside:
            early, unanswered = self._early, self.unanswered
            self._early = {tag: early[tag] for tag in early if tag in unanswered or tag > self._newest}

    def received(self, count: int) -> None:
        if self._skip:
            self._skip -= count
        elif self._missing:
            self._body += self._view[:count]
            self._missing -= count
            if not self._missing and self._large is not None:
                body, self._body = self._body, bytearray()
                self._add(*self._large, memoryview(body))
                self._large = None
        else:
            self._end += count
            self._parse()

    def _parse(self) -> None:
        start, end, view = self._start, self._end, self._view
        most = self._limit + REQUEST_EXTRA
        unpack, unanswered, ready = REQUEST_HEADER.unpack_from, self.unanswered, self.ready
        batches = self._batch_size > 1
        while end - start >= 20:
            size, kind, flags, zero, tag, budget, attempt = unpack(view, start)
            if kind != REQUEST or zero or flags > MORE or not REQUEST_EXTRA <= size <= most:
                break
            stop = start + 12 + size
            if stop > end:
                break
            if batches or flags or not attempt or tag in unanswered or len(unanswered) >= self._most_unanswered:
                break
            unanswered.add(tag)
            self._newest = tag
            ready.append((tag, 0, None if budget == NO_BUDGET else budget / 1000, attempt, view[start + 20 : stop]))
            self.complete += 1
            start = stop
        self._start = start
        try:
            while self._step():
                pass
        except Violation as violation:
            self.violation = violation
        if self._start == self._end:
            self._start = self._end = 0

    def _step(self) -> bool:
        """One frame, whatever it is; False if more bytes are needed."""
        available = self._end - self._start
        if self.closed or available < HEADER.size:
            return False
        size, kind, flags, zero, tag = HEADER.unpack_from(self._view, self._start)
        if zero:
            raise Violation("the two bytes after the flags must be zero", tag)
        if kind == GOODBYE:
            if flags or size or tag:
                raise Violation("GOODBYE has no flags, no tag and no body", tag)
            self._start += HEADER.size
            self.goodbye = True
            return False
        if kind == ERROR:
            self.goodbye = True  # It closes as well, and has said all that there is to say.
            return False
        if kind != REQUEST:
            raise Violation("frames of type 0x%02x do not belong on a worker connection" % kind, tag)
        return self._request(size, flags, tag, available - HEADER.size)

    def _request(self, size: int, flags: int, tag: int, available: int) -> bool:
        self._check(size, flags, tag)
        if available < REQUEST_EXTRA:
            return False
        milliseconds, attempt = struct.unpack_from(">II", self._view, self._start + HEADER.size)
        if not attempt:
            raise Violation("the attempts of a request are counted from 1, not 0", tag)
        budget = None if milliseconds == NO_BUDGET else milliseconds / 1000
        start = self._start + REQUEST_HEADER.size
        length, there = size - REQUEST_EXTRA, available - REQUEST_EXTRA
        if length > self._limit:
            text = "The message has %d bytes, more than ASYA_MAX_MESSAGE_SIZE=%d allows" % (length, self._limit)
            self._add(tag, flags, budget, attempt, TooLong(text))
            self._skip = max(0, length - there)
            self._start = min(self._end, start + length)
            return True
        if length <= there:
            self._add(tag, flags, budget, attempt, self._view[start : start + length])
            self._start = start + length
            return True
        if REQUEST_HEADER.size + length > len(self._view):
            self._large = (tag, flags, budget, attempt)
            self._body = bytearray(self._view[start : self._end])
            self._missing = length - there
            self._start = self._end
        return False

    def _check(self, size: int, flags: int, tag: int) -> None:
        if flags & ~MORE:
            raise Violation("REQUEST has flags 0x%02x, of which only 0x01 (MORE) is known" % flags, tag)
        if size < REQUEST_EXTRA:
            raise Violation("REQUEST has a body of %d bytes, and needs 8 for budget and attempt" % size, tag)
        if tag in self.unanswered:
            raise Violation("a request with tag %d is not answered yet" % tag, tag)
        if len(self.unanswered) >= self._most_unanswered:
            raise Violation(
                "more than %d requests are unanswered: wait for answers, or raise ASYA_CONCURRENCY or ASYA_BATCH_SIZE"
                % self._most_unanswered,
                tag,
            )
        if self._in_batch + 1 + (flags & MORE) > self._batch_size:
            raise Violation("a batch has more than ASYA_BATCH_SIZE=%d requests" % self._batch_size, tag)

    def _add(self, tag: int, flags: int, budget: Optional[float], attempt: int, body: Any) -> None:
        self.unanswered.add(tag)
        self._newest = tag
        self.ready.append((tag, flags, budget, attempt, body))
        if flags & MORE:
            self._in_batch += 1
        else:
            self._in_batch = 0
            self.complete += 1


# === mail ===


class Mailbox:
    """One end of the private line between arbiter and worker: JSON objects, one for each line, and descriptors."""

    RIGHTS = array.array("i")

    def __init__(self, line: socket.socket) -> None:
        line.setblocking(False)
        self.line = line
        self._text = b""
        self._ended = False
        self._descriptors = deque()  # type: deque

    def send(self, message: Dict[str, Any], descriptor: Optional[int] = None) -> bool:
        """False if the other end does not read. Raises OSError if there is none."""
        rights = []  # type: List[Any]
        if descriptor is not None:
            message = dict(message, descriptor=True)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        # Far below what the kernel takes in one piece, except a traceback, which goes to an arbiter that reads.
        data = memoryview(json.dumps(message).encode("ascii") + b"\n")
        try:
            sent = self.line.sendmsg([data], rights, NO_SIGNAL)
        except BlockingIOError:
            return False
        while sent < len(data):
            wait_for(self.line, select.POLLOUT)
            sent += self.line.send(data[sent:], NO_SIGNAL)
        return True

    def peek(self) -> List[Dict[str, Any]]:
        """What is there, or the first of it, and stays there."""
        try:
            data = self.line.recv(65536, socket.MSG_PEEK)
        except OSError:
            return []
        return [json.loads(line.decode("ascii")) for line in (self._text + data).split(b"\n")[:-1]]

    def receive(self) -> List[Tuple[Dict[str, Any], int]]:
        """What is there, with -1 for no descriptor, without waiting. EOFError after the last of an end that is gone."""
        messages = []  # type: List[Tuple[Dict[str, Any], int]]
        space = socket.CMSG_SPACE(4 * 8)
        while not self._ended:
            try:
                data, rights, _flags, _address = self.line.recvmsg(65536, space, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
            except BlockingIOError:
                return messages
            except ConnectionError:
                data, rights = b"", []
            self._ended = not data
            for _level, _type, raw in rights:
                numbers = array.array("i")
                numbers.frombytes(raw[: len(raw) - len(raw) % numbers.itemsize])
                self._descriptors.extend(numbers)
            lines = (self._text + data).split(b"\n")
            self._text = lines.pop()
            for line in lines:
                message = json.loads(line.decode("ascii"))
                if not message.get("descriptor"):
                    messages.append((message, -1))
                elif self._descriptors:
                    messages.append((message, self._descriptors.popleft()))
                else:
                    log.error("a connection was lost: this process has too many open files")
        if not messages:
            raise EOFError
        return messages


# === worker ===

# Between requests the worker looks for other matters at most so often.
LOOK_SECONDS = 0.01
# The descriptors were closed, or are something else by now: EBADF, ENOTSOCK, and what poll says.
LOST_DESCRIPTOR = (errno.EBADF, errno.ENOTSOCK)
# A thread of the handler that waits until its progress is taken looks at the mail so often.
PEEK_MILLISECONDS = 100
# Unsent bytes of a connection above which a concurrent worker reads nothing more from it.
MAX_UNSENT = 1024 * 1024
# At the end, how long a v1 peer may take that has connected and not written.
LAST_MOMENT_SECONDS = 1
# v1 peers that may be connected to a serial worker without having written.
MAX_SILENT = 128


class LinkLost(Exception):
    """The connection is gone or replaced."""


class DescriptorsLost(Exception):
    """The handler has closed the descriptors of this process."""


def own(descriptor: int) -> socket.socket:
    descriptor = clear_of_standard(descriptor)
    os.set_inheritable(descriptor, False)  # Commands that the handler starts must not get it.
    connection = socket.socket(fileno=descriptor)
    connection.setblocking(False)  # Also when the user's module has called socket.setdefaulttimeout().
    return connection


def wait_for(connection: socket.socket, event: int, milliseconds: Optional[int] = None) -> bool:
    # select.select() would refuse descriptors above 1023.
    waiter = select.poll()
    waiter.register(connection, event)
    return bool(waiter.poll(milliseconds))


def clear_of_standard(descriptor: int) -> int:
    """Where a handler has closed 0, 1 or 2, it must not print into a connection."""
    if descriptor > 2:
        return descriptor
    moved = os.dup(descriptor)
    os.close(descriptor)
    os.open(os.devnull, os.O_RDWR)  # Takes the lowest number, the one that was just closed.
    return clear_of_standard(moved)


class Link:
    """A worker connection of protocol v2."""

    def __init__(self, connection: socket.socket, settings: Settings) -> None:
        window = settings.concurrency * settings.batch_size
        self.connection = connection
        self.number = connection.fileno()
        self.reader = RequestReader(settings.max_message_size, settings.batch_size, window + WRITE_AHEAD)
        self.lost = False
        self._send = connection.send
        # Progress may come from any thread of the handler.
        self._lock = threading.Lock()

    def fileno(self) -> int:
        return self.connection.fileno()

    def receive(self) -> bool:
        """Reads once. False if nothing is there; LinkLost at the end."""
        try:
            count = self.connection.recv_into(self.reader.space())
        except BlockingIOError:
            self.reader.drained()
            return False
        except OSError as exc:
            raise self.failed(exc)
        if count == 0:
            raise LinkLost("the peer closed the connection")
        self.reader.received(count)
        return True

    def failed(self, exc: OSError) -> Exception:
        self.lost = True
        if exc.errno in LOST_DESCRIPTOR:
            return DescriptorsLost()
        return LinkLost(str(exc))

    def tell(self, data: bytes) -> None:
        """Sends what belongs to a running call; that the peer is gone is found out elsewhere."""
        if not self.lost:
            try:
                self.send(data)
            except (LinkLost, DescriptorsLost):
                pass

    def send(self, data: bytes) -> None:
        with self._lock:
            try:
                sent = self._send(data, NO_SIGNAL)
            except BlockingIOError:
                sent = 0
            except OSError as exc:
                raise self.failed(exc)
            if sent != len(data):
                self.send_rest(memoryview(data)[sent:])

    def send_rest(self, data: memoryview) -> None:
        raise NotImplementedError

    def answer(self, tag: int, body: bytes) -> None:
        self.reader.unanswered.discard(tag)
        self.send(HEADER.pack(len(body), REPLY, 0, 0, tag) + body)

    def close(self, last: bytes = b"") -> None:
        """With a last word, as far as the peer takes it at once."""
        self.lost = True
        farewell(self.connection, last)


def farewell(connection: socket.socket, last: bytes = b"") -> None:
    try:
        if last:
            connection.send(last, NO_SIGNAL)
            connection.shutdown(socket.SHUT_WR)
            # What is unread at the close would cost the peer our last word.
            for _ in range(64):
                if not connection.recv(65536):
                    break
    except OSError:
        pass
    hang_up(connection)


def hang_up(connection: socket.socket) -> None:
    try:
        connection.close()
    except OSError:
        pass  # The handler was faster.


class SerialLink(Link):
    """Waits until the peer takes what is sent, and watches the mail meanwhile."""

    def __init__(self, connection: socket.socket, settings: Settings, worker: "SerialWorker") -> None:
        super().__init__(connection, settings)
        self._worker = worker

    def send_rest(self, data: memoryview) -> None:
        waiter = select.poll()
        waiter.register(self.connection, select.POLLOUT)
        own_thread = self._worker.in_own_thread()
        if own_thread:
            waiter.register(self._worker.mailbox.line, select.POLLIN)
        while data:
            # Another thread leaves mail unread, so it cannot wait for it.
            waiter.poll(None if own_thread else PEEK_MILLISECONDS)
            self._worker.look()
            if self._worker.replaced:
                self.lost = True
                raise LinkLost("replaced while an answer was sent")
            try:
                data = data[self._send(data, NO_SIGNAL) :]
            except BlockingIOError:
                continue
            except OSError as exc:
                raise self.failed(exc)


class Worker:
    """What both kinds of worker have: mail from the arbiter, the v1 listener, at most one link."""

    def __init__(self, settings: Settings, runner: Any, mailbox: Mailbox, signals: "WorkerSignals") -> None:
        self.mailbox = mailbox
        self.settings = settings
        self.runner = runner
        self.process_id = os.getpid()
        self.listener = None  # type: Optional[socket.socket]
        self.link = None  # type: Any
        self.stopping = False
        # A newer connection, or the end of the client, makes the present link worthless.
        self.replaced = False
        self.mail = deque()  # type: deque
        self._reading = threading.Lock()
        Context._look = staticmethod(self.look_for_handler)
        Context._advances = runner.mode.advances
        os.register_at_fork(
            before=signals.before_fork,
            after_in_parent=signals.after_fork_in_parent,
            after_in_child=functools.partial(self._after_fork_in_child, signals),
        )

    def run(self) -> int:
        try:
            self.serve()
        except DescriptorsLost:
            if os.getpid() == self.process_id:
                log.critical("the handler has closed the descriptors of the runtime; this worker ends")
            return 1
        if os.getpid() == self.process_id:
            self.mailbox.send({"is": "ended"})
        return 0

    def serve(self) -> None:
        raise NotImplementedError

    def running(self) -> List[Call]:
        raise NotImplementedError

    def collect(self) -> None:
        """Reads mail, and marks running calls that are to end. For the worker's own thread, which acts on it."""
        if os.getpid() != self.process_id or not self._reading.acquire(False):
            return
        try:
            for message, descriptor in self.mailbox.receive():
                self._mark(message)
                self.mail.append((message, descriptor))
        except EOFError:
            os._exit(1)  # The arbiter is gone.
        except OSError as exc:
            raise DescriptorsLost() if exc.errno in LOST_DESCRIPTOR else exc
        finally:
            self._reading.release()

    def peek(self) -> None:
        """Marks calls as `collect` does, from any thread; the mail stays for the worker's own to find."""
        if not self._reading.acquire(False):
            return
        try:
            for message in self.mailbox.peek():
                self._mark(message)
        finally:
            self._reading.release()

    def look_for_handler(self) -> None:
        """When a handler asks whether it was cancelled."""
        self.peek()

    def _mark(self, message: Dict[str, Any]) -> None:
        do = message["do"]
        everything = do in ("connect", "abandon")
        if everything:
            self.replaced = self.link is not None
        elif do != "cancel" or message["reason"] == WITHDRAWN:
            return
        for call in self.running():
            if everything or call.tag == message["tag"]:
                call.reason = call.reason or message.get("reason", ASKED)

    def close_link(self, last: bytes = b"") -> None:
        link, self.link = self.link, None
        if link is not None:
            link.close(last)

    def refuse(self, violation: Violation) -> None:
        log.error("worker connection closed: %s", violation)
        self.close_link(pack_error(str(violation), violation.tag))

    def _answer_unrun(self, link: Link, tag: int, stand_in: Exception) -> None:
        """For a request without a body. What was skipped has been answered already."""
        if isinstance(stand_in, Withdrawn):
            link.answer(tag, self.runner.sole(ended_item(stand_in.reason)))
        if isinstance(stand_in, TooLong):
            log.error("request refused: %s", stand_in)
            link.answer(tag, self.runner.error(PARSING_ERROR, stand_in, "ValueError"))

    def frame_timeout(self) -> Violation:
        return Violation(
            "nothing came for ASYA_FRAME_TIMEOUT=%gs inside a frame" % self.settings.frame_timeout
        )

    def _after_fork_in_child(self, signals: "WorkerSignals") -> None:
        for call in self.running():
            call.link = None  # What it tells goes nowhere, and another thread may have had the link's lock.
        for mine in [self.listener, self.link and self.link.connection, self.mailbox.line] + self.exchanging():
            if mine:
                mine.close()
        Context._look = staticmethod(lambda: None)
        signals.after_fork_in_child()

    def exchanging(self) -> List[socket.socket]:
        """The v1 connections that are open."""
        raise NotImplementedError


class SerialWorker(Worker):
    """One call at a time, in the main thread."""

    def __init__(self, settings: Settings, runner: Any, mailbox: Mailbox, signals: "WorkerSignals") -> None:
        super().__init__(settings, runner, mailbox, signals)
        self._v1_reader = FrameReader(settings.chunk_size, settings.max_message_size)
        self._v1_connection = None  # type: Optional[socket.socket]
        # v1 peers that have connected and not written: descriptor -> connection, end of our patience.
        self._silent = {}  # type: Dict[int, Tuple[socket.socket, float]]
        self._thread = threading.get_ident()
        self._looked = 0.0
        self._ended = False
        self._was_linked = False
        self._patience_seconds = READ_IDLE_SECONDS  # type: float
        self._poll = select.poll()
        self._watch(mailbox.line)

    def serve(self) -> None:
        while not self._ended:
            link = self.link
            if link is None:
                self._wait(None)
                continue
            try:
                self._serve_link(link)
            except LinkLost as exc:
                if not self.replaced:
                    log.info("worker connection ended: %s", exc)
                if self.link is link:
                    self.close_link()
                self._handle_mail()

    def running(self) -> List[Call]:
        current = Context._current
        if current is None:
            return []
        return [call for call in (current.calls if isinstance(current, Batch) else [current]) if call.link is not None]

    def in_own_thread(self) -> bool:
        return threading.get_ident() == self._thread

    def look(self) -> None:
        if self.in_own_thread():
            self.collect()
        else:
            self.peek()

    def look_for_handler(self) -> None:
        self.look()
        if self.mail and self.in_own_thread():
            # What was not started can be answered while it asks. The rest waits until it has ended.
            cancels = [mail for mail in self.mail if mail[0]["do"] == "cancel"]
            self.mail = deque(mail for mail in self.mail if mail[0]["do"] != "cancel")
            for message, descriptor in cancels:
                self._do_cancel(message, descriptor)

    def exchanging(self) -> List[socket.socket]:
        return [connection for connection, _ends in self._silent.values()] + (
            [self._v1_connection] if self._v1_connection is not None else []
        )

    def close_link(self, last: bytes = b"") -> None:
        if self.link is not None:
            self._unwatch(self.link.connection)
        super().close_link(last)

    def _watch(self, connection: socket.socket) -> None:
        self._poll.register(connection, select.POLLIN)

    def _unwatch(self, connection: socket.socket) -> None:
        try:
            self._poll.unregister(connection)
        except (KeyError, ValueError, OSError):
            pass  # It was not watched, or is closed.

    def _serve_link(self, link: SerialLink) -> None:
        reader = link.reader
        run = self._run_batch if self.settings.batch_size > 1 else self._run_ready
        readable = True
        while self.link is link:
            if reader.goodbye:
                self.close_link()
            elif reader.complete:
                run(link, reader)
                readable = False
            elif reader.violation is not None:
                self.refuse(reader.violation)
            elif readable:
                readable = link.receive()
            else:
                readable = self._wait(link)

    def _run_ready(self, link: SerialLink, reader: RequestReader) -> None:
        """Runs the requests that are there. This loop is what a message costs."""
        take, answer, discard = reader.take, self.runner.answer, reader.unanswered.discard
        send, pack, clock = link.send, HEADER.pack, time.monotonic
        while reader.complete:
            tag, _flags, budget, attempt, body = take()
            if body.__class__ is not memoryview:
                self._answer_unrun(link, tag, body)
                continue
            call = Call(link, tag, attempt, budget)
            Context._current = call
            data = answer(body, call)
            Context._current = call.link = None
            now = clock()
            due = now - self._looked >= LOOK_SECONDS
            if due:
                self._read_ahead(link)
            discard(tag)
            send(pack(len(data), REPLY, 0, 0, tag) + data)
            if due or self.mail:
                self._look(now)
                if self.link is not link or reader.goodbye:
                    return

    def _run_batch(self, link: SerialLink, reader: RequestReader) -> None:
        bodies, calls, more = [], [], 1  # type: List[bytes], List[Call], int
        while more:
            tag, more, budget, attempt, body = reader.take()
            if isinstance(body, memoryview):
                bodies.append(bytes(body))
                calls.append(Call(link, tag, attempt, budget))
            else:
                self._answer_unrun(link, tag, body)
        answers = self.runner.answer_batch(bodies, calls)
        Context._current = None
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._read_ahead(link)
        for call, data in zip(calls, answers):
            call.link = None
            link.answer(call.tag, data)
        self._look(now)

    def _read_ahead(self, link: SerialLink) -> None:
        """What came while a call ran: a cancellation must find the request that it is for."""
        reader = link.reader
        try:
            while not reader.closed and not reader.full and link.receive():
                pass
        except LinkLost:
            pass  # The next read or write says it again.

    def _look(self, now: float) -> None:
        """Other matters than the requests of the link."""
        self._looked = now
        self._handle_mail()
        for descriptor, event in self._poll.poll(0):
            self._attend(descriptor, event)

    def _wait(self, link: Optional[SerialLink]) -> bool:
        """Until something happens. Whether there is something to read from the link."""
        if self.mail:  # A handler may have read it, to learn whether it was cancelled.
            self._handle_mail()
            return True
        inside = link is not None and link.reader.inside
        patience = self._patience(inside) if inside or self._silent else None
        try:
            events = self._poll.poll(patience)
        except Exception as exc:
            # Of a signal handler of the user's code: an alarm that a call has left behind.
            log.error("between two calls the handler's code raised %s at %s", type(exc).__name__, place_of(exc))
            return False
        self._looked = time.monotonic()
        readable = False
        for descriptor, event in events:
            if link is not None and descriptor == link.number and not event & select.POLLNVAL:
                readable = True
            else:
                self._attend(descriptor, event)
        if not events and inside and patience == self.settings.frame_timeout * 1000:
            self.refuse(self.frame_timeout())
        for descriptor, (_connection, ends) in list(self._silent.items()):
            if ends <= self._looked:
                self._hear(descriptor)
        return readable

    def _patience(self, inside: bool) -> float:
        """Milliseconds until somebody has been silent for too long."""
        waits = [self.settings.frame_timeout] if inside else []
        waits += [max(0.0, ends - time.monotonic()) for _connection, ends in self._silent.values()]
        return min(waits) * 1000

    def _attend(self, descriptor: int, event: int) -> None:
        if event & select.POLLNVAL:
            raise DescriptorsLost()
        if descriptor == self.mailbox.line.fileno():
            self.collect()
            self._handle_mail()
        elif self.listener is not None and descriptor == self.listener.fileno():
            self._accept()
        elif descriptor in self._silent:
            self._hear(descriptor)

    def _handle_mail(self) -> None:
        while self.mail:
            message, descriptor = self.mail.popleft()
            getattr(self, "_do_" + message["do"])(message, descriptor)

    def _do_listen(self, _message: Dict[str, Any], descriptor: int) -> None:
        self.listener = own(descriptor)
        self._watch(self.listener)

    def _do_connect(self, _message: Dict[str, Any], descriptor: int) -> None:
        self._was_linked = True
        self.mailbox.send({"is": "linked"})
        self.close_link(pack_error("replaced by a newer connection to the same worker"))
        self.replaced = False
        connection = own(descriptor)
        if self.stopping:
            farewell(connection, pack_error("the runtime is stopping"))
            return
        self.link = SerialLink(connection, self.settings, self)
        self._watch(connection)
        try:
            self.link.send(pack_json(WELCOME, 0, {"protocol": 2, "revision": 0}))
        except LinkLost:
            self.close_link()

    def _do_cancel(self, message: Dict[str, Any], _descriptor: int) -> None:
        """Of a request that was not started; a running one was marked when the mail came."""
        link, tag = self.link, message["tag"]
        if link is None:
            return
        self._read_ahead(link)
        if link.reader.withdraw(tag, message["reason"]):
            # The next read finds it out if the link is lost.
            link.reader.unanswered.discard(tag)
            link.tell(pack_frame(REPLY, tag, self.runner.sole(ended_item(message["reason"]))))

    def _do_abandon(self, _message: Dict[str, Any], _descriptor: int) -> None:
        self.close_link(pack_error("the control connection ended, so nobody waits for answers"))
        self.replaced = False
        self.mailbox.send({"is": "idle"})

    def _do_stop(self, _message: Dict[str, Any], _descriptor: int) -> None:
        self.stopping = True
        self.close_link(pack_frame(GOODBYE, 0, b""))
        self.mailbox.send({"is": "stopped"})

    def _do_end(self, _message: Dict[str, Any], _descriptor: int) -> None:
        """Nobody new can connect, so the backlog only shrinks."""
        ends = time.monotonic() + LAST_MOMENT_SECONDS
        self._silent = {number: (connection, ends) for number, (connection, _ends) in self._silent.items()}
        self._patience_seconds = LAST_MOMENT_SECONDS
        while self._accept() or self._silent:
            if self._silent:
                self._wait(None)
        self._ended = True

    def _accept(self) -> bool:
        """Serves one v1 connection, if there is one."""
        if self.listener is None:
            return False
        try:
            connection, _address = self.listener.accept()
        except BlockingIOError:
            return False
        except OSError as exc:
            if exc.errno in LOST_DESCRIPTOR:
                raise DescriptorsLost()
            if exc.errno == errno.ECONNABORTED:
                return True
            log.error("failed to accept a connection: %s", exc)
            if self._silent:
                self._unwatch(self.listener)  # Until one of them goes.
            else:
                time.sleep(0.1)  # The connection stays in the backlog; do not spin on it.
            return False
        if connection.fileno() <= 2:
            connection = own(connection.detach())
        if connection.gettimeout() is not None:  # The user's module has called socket.setdefaulttimeout().
            connection.setblocking(True)
        self._exchange_and_close(connection)
        return True

    def _set_aside(self, connection: socket.socket) -> None:
        """Until it has written: nobody else need wait for it."""
        self._silent[connection.fileno()] = (connection, time.monotonic() + self._patience_seconds)
        self._watch(connection)
        if len(self._silent) >= MAX_SILENT and self.listener is not None:
            self._unwatch(self.listener)

    def _hear(self, descriptor: int) -> None:
        """A v1 peer has written after all, or its time is over."""
        connection, ends = self._silent.pop(descriptor)
        self._poll.unregister(descriptor)
        if self.listener is not None:
            self._watch(self.listener)
        if time.monotonic() < ends:
            self._exchange_and_close(connection)
            return
        log.warning("request not read: %s", v1_reason(BlockingIOError()))
        connection.setblocking(False)
        farewell(connection, pack_v1(self.runner.error(CONNECTION_ERROR, v1_reason(BlockingIOError()))))

    def _exchange_and_close(self, connection: socket.socket) -> None:
        self._v1_connection = connection
        done = True
        try:
            self._exchange(connection)
        except NothingYet:
            done = False
            self._set_aside(connection)
        except OSError as exc:
            if exc.errno in LOST_DESCRIPTOR:
                raise DescriptorsLost()
            log.warning("connection lost: %s", exc)
        finally:
            Context._current = self._v1_connection = None
            if done:
                hang_up(connection)

    def _exchange(self, connection: socket.socket) -> None:
        try:
            body = self._v1_reader.read(connection)
        except FrameTooLarge as exc:
            log.error("request refused: %s", exc)
            # The answer first: it fits into the socket's buffer, so this does not wait for the peer.
            send_frame(connection, self.runner.error(PARSING_ERROR, exc, "ValueError"))
            self._v1_reader.discard(connection, exc.missing)
            return
        except OSError as exc:
            log.warning("request not read: %s", v1_reason(exc))
            send_frame(connection, self.runner.error(CONNECTION_ERROR, v1_reason(exc)))
            return
        if body is not None:
            call = Call(None, 0, 1, None)
            Context._current = call
            if self._was_linked:
                self.mailbox.send({"is": "apart", "now": True})
            answer = self.runner.answer(body, call)
            if self._was_linked:
                self.mailbox.send({"is": "apart", "now": False})
            send_frame(connection, answer)


def v1_reason(exc: OSError) -> OSError:
    if isinstance(exc, BlockingIOError):
        return ConnectionError("the peer sent nothing for %d seconds" % READ_IDLE_SECONDS)
    return exc


class ConcurrentLink(Link):
    """Keeps what the peer does not take at once."""

    def __init__(self, connection: socket.socket, settings: Settings, loop: Any, relieved: Callable[[], None]) -> None:
        super().__init__(connection, settings)
        self._loop = loop
        # Called when it is not behind or not congested any more.
        self._relieved = relieved
        self._thread = threading.get_ident()
        self._unsent = bytearray()
        self._waiters = []  # type: List[Any]

    @property
    def behind(self) -> bool:
        """Whether an answer waits here. Nothing more is started then: what has run without an answer fits the window."""
        return bool(self._unsent)

    @property
    def congested(self) -> bool:
        return len(self._unsent) > MAX_UNSENT

    def tell(self, data: bytes) -> None:
        if threading.get_ident() == self._thread:
            super().tell(data)
        else:
            self._loop.call_soon_threadsafe(super().tell, data)

    def send(self, data: bytes) -> None:
        if self.lost:
            raise LinkLost("closed")
        if self._unsent:
            self._unsent += data
        else:
            super().send(data)

    def send_rest(self, data: memoryview) -> None:
        self._unsent += data
        self._loop.add_writer(self.connection, self._flush)

    def _flush(self) -> None:
        congested = self.congested
        try:
            sent = self._send(self._unsent, NO_SIGNAL)
        except BlockingIOError:
            return
        except OSError:
            self.lost = True  # The reading side finds the same and closes.
            sent = len(self._unsent)
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self.connection)
        if congested and not self.congested:
            self._release()
        if not self._unsent or (congested and not self.congested):
            self._relieved()

    def _release(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters = []

    async def drained(self) -> None:
        """Holds up who produces faster than the peer reads."""
        while self.congested and not self.lost:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def close(self, last: bytes = b"") -> None:
        self._loop.remove_reader(self.connection)
        self._loop.remove_writer(self.connection)
        if self._unsent:
            self.connection.setblocking(True)
            limit_wait(self.connection, WAIT_FOR_DISCARD, socket.SO_SNDTIMEO)
            try:
                self.connection.sendall(self._unsent, NO_SIGNAL)
            except OSError:
                last = b""
            self._unsent = bytearray()
        super().close(last)
        self._release()


class ConcurrentWorker(Worker):
    """Up to ASYA_CONCURRENCY calls of an `async def` handler at once, in one event loop."""

    def __init__(
        self, settings: Settings, runner: Any, mailbox: Mailbox, signals: "WorkerSignals", asyncio: Any, loop: Any
    ) -> None:
        super().__init__(settings, runner, mailbox, signals)
        self._asyncio = asyncio
        self._loop = loop
        # Calls that were started over v2, and the task that runs each.
        self._calls = {}  # type: Dict[Call, Any]
        # Calls of one batch share a task, which counts once.
        self._tasks = set()  # type: Set[Any]
        self._v1 = {}  # type: Dict[socket.socket, Any]
        # Those of them that have not written yet.
        self._silent = set()  # type: Set[socket.socket]
        # A connection that waits until the calls of the one before have ended.
        self._next = None  # type: Optional[socket.socket]
        self._abandoned = False
        self._ending = False
        self._timer = None  # type: Any
        # Whether requests are read; not while many wait already, or answers do.
        self._listens = False
        self._broken = None  # type: Optional[BaseException]
        Context._variable = contextvars.ContextVar("asya_call", default=None)

    def serve(self) -> None:
        loop = self._loop
        loop.add_reader(self.mailbox.line, self._guard, self._read_mail)
        while True:
            try:
                loop.run_forever()
                break
            except (SystemExit, KeyboardInterrupt) as exc:
                if os.getpid() != self.process_id:
                    raise
                log.error("a task of the handler raised %s at %s", type(exc).__name__, place_of(exc))
            except (OSError, ValueError) as exc:
                raise DescriptorsLost() from exc  # The event loop's own.
        if self._broken is not None:
            raise self._broken
        self._end_tasks()

    def _end_tasks(self) -> None:
        """Tasks that the handler has left behind are cancelled, as asyncio.run() does."""
        asyncio, loop = self._asyncio, self._loop
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=self.settings.cancel_grace))
        loop.run_until_complete(loop.shutdown_asyncgens())

    def running(self) -> List[Call]:
        return list(self._calls)

    def exchanging(self) -> List[socket.socket]:
        return list(self._v1)

    def _guard(self, action: Callable[..., None], *arguments: Any) -> None:
        """Runs an event; what goes wrong with the link closes it, what goes wrong beyond ends the worker."""
        link = self.link
        try:
            action(*arguments)
        except LinkLost as exc:
            if not self.replaced:
                log.info("worker connection ended: %s", exc)
            if self.link is link:
                self._drop(b"")
        except Violation as violation:
            log.error("worker connection closed: %s", violation)
            self._drop(pack_error(str(violation), violation.tag))
        except Exception as exc:
            self._broken = exc
            self._loop.stop()

    def _drop(self, last: bytes) -> None:
        """Closes the link. Nobody waits for the calls that run for it, so they are asked to end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.close_link(last)
        for call in list(self._calls):
            call.reason = call.reason or ASKED
        for task in list(self._tasks):
            task.cancel()

    # Requests.

    def _readable(self) -> None:
        link = self.link
        if link is not None and link.receive():
            self._digest(link)

    def _digest(self, link: ConcurrentLink) -> None:
        """After something was read."""
        reader = link.reader
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for tag, reason in reader.withdraw_early():
            link.answer(tag, self.runner.sole(ended_item(reason)))
        self._start()
        if reader.violation is not None:
            raise reader.violation
        if reader.goodbye:
            self._drop(b"")
        elif reader.inside:
            self._timer = self._loop.call_later(self.settings.frame_timeout, self._guard, self._time_out)

    def _time_out(self) -> None:
        raise self.frame_timeout()

    def _listen_or_wait(self, link: ConcurrentLink) -> None:
        wanted = not link.congested and not link.reader.full
        if wanted and not self._listens:
            self._loop.add_reader(link.connection, self._guard, self._readable)
        elif self._listens and not wanted:
            self._loop.remove_reader(link.connection)
        self._listens = wanted

    def _start(self) -> None:
        link = self.link
        if link is not None:
            self._start_ready(link)
            self._listen_or_wait(link)

    def _start_ready(self, link: ConcurrentLink) -> None:
        while not self.stopping and not self._abandoned and link.reader.complete and not link.behind:
            if link.lost or len(self._tasks) >= self.settings.concurrency:
                return
            calls, bodies = self._take(link)
            if calls:
                task = self._loop.create_task(self._run(calls, bodies))
                task.add_done_callback(functools.partial(self._done, link, calls))
                self._tasks.add(task)
                for call in calls:
                    self._calls[call] = task

    def _take(self, link: ConcurrentLink) -> Tuple[List[Call], List[bytes]]:
        calls, bodies, more = [], [], 1  # type: List[Call], List[bytes], int
        while more:
            tag, more, budget, attempt, body = link.reader.take()
            if isinstance(body, memoryview):
                calls.append(Call(link, tag, attempt, budget))
                # The buffer is written over while the task waits for its turn.
                bodies.append(bytes(body))
            else:
                self._answer_unrun(link, tag, body)
        return calls, bodies

    async def _run(self, calls: List[Call], bodies: List[bytes]) -> List[bytes]:
        if self.settings.batch_size > 1:
            return await self.runner.answer_batch_async(bodies, calls)
        Context._variable.set(calls[0])
        return [await self.runner.answer_async(bodies[0], calls[0])]

    def _done(self, link: ConcurrentLink, calls: List[Call], task: Any) -> None:
        if os.getpid() == self.process_id:
            self._guard(self._finish, link, calls, task)

    def _finish(self, link: ConcurrentLink, calls: List[Call], task: Any) -> None:
        self._tasks.discard(task)
        for call in calls:
            del self._calls[call]
            call.link = None
        try:
            if not link.lost:
                for call, answer in zip(calls, self._answers(calls, task)):
                    link.answer(call.tag, answer)
        finally:
            self._go_on()

    def _answers(self, calls: List[Call], task: Any) -> List[bytes]:
        if task.cancelled():  # Before its first step.
            return [self.runner.sole(ended_item(call.reason or ASKED)) for call in calls]
        return task.result()

    def _go_on(self) -> None:
        if self._tasks:
            self._start()
            return
        if self._abandoned:
            self._abandoned = False
            self._drop(pack_error("the control connection ended, so nobody waits for answers"))
            self.mailbox.send({"is": "idle"})
        if self.stopping:
            self._drop(pack_frame(GOODBYE, 0, b""))
            self._say_stopped()
        elif self._next is not None:
            self._open()
        else:
            self._start()

    # Mail.

    def _read_mail(self) -> None:
        self.collect()
        while self.mail:
            message, descriptor = self.mail.popleft()
            self._guard(getattr(self, "_do_" + message["do"]), message, descriptor)

    def _do_listen(self, _message: Dict[str, Any], descriptor: int) -> None:
        self.listener = own(descriptor)
        self._loop.add_reader(self.listener, self._guard, self._accept)

    def _do_connect(self, _message: Dict[str, Any], descriptor: int) -> None:
        self.mailbox.send({"is": "linked"})
        connection = own(descriptor)
        if self.stopping:
            farewell(connection, pack_error("the runtime is stopping"))
            return
        if self._next is not None:
            farewell(self._next, pack_error("replaced by a newer connection to the same worker"))
        self._drop(pack_error("replaced by a newer connection to the same worker"))
        self.replaced = False
        self._next = connection
        if not self._tasks:
            self._open()

    def _open(self) -> None:
        connection, self._next = self._next, None
        assert connection is not None  # Both callers have looked.
        relieved = functools.partial(self._guard, self._start)
        self.link = ConcurrentLink(connection, self.settings, self._loop, relieved)
        self._listens = False
        self._listen_or_wait(self.link)
        self.link.send(pack_json(WELCOME, 0, {"protocol": 2, "revision": 0}))

    def _do_cancel(self, message: Dict[str, Any], _descriptor: int) -> None:
        link, tag = self.link, message["tag"]
        if link is None:
            return
        self._read_ahead(link)
        if link.reader.withdraw(tag, message["reason"]):
            link.answer(tag, self.runner.sole(ended_item(message["reason"])))
        self._digest(link)
        if message["reason"] == WITHDRAWN:
            return
        for call, task in list(self._calls.items()):
            # Neighbours in a batch go on; the handler can ask for each.
            if call.tag == tag and all(other.reason for other, its in self._calls.items() if its is task):
                task.cancel()

    def _read_ahead(self, link: ConcurrentLink) -> None:
        reader = link.reader
        while not reader.closed and not reader.full and link.receive():
            pass

    def _do_abandon(self, _message: Dict[str, Any], _descriptor: int) -> None:
        self.replaced = False
        self._abandoned = True
        for task in list(self._tasks):
            task.cancel()
        if not self._tasks:
            self._go_on()

    def _do_stop(self, _message: Dict[str, Any], _descriptor: int) -> None:
        self.stopping = True
        if not self._tasks:
            self._go_on()

    def _say_stopped(self) -> None:
        if self._next is not None:
            farewell(self._next, pack_error("the runtime is stopping"))
            self._next = None
        self.mailbox.send({"is": "stopped"})

    def _do_end(self, _message: Dict[str, Any], _descriptor: int) -> None:
        self._ending = True
        self._accept()
        self._loop.call_later(LAST_MOMENT_SECONDS, self._end_silent)

    def _end_silent(self) -> None:
        for connection in self._silent:
            self._v1[connection].cancel()

    # v1.

    def _accept(self) -> None:
        """Takes connections, as many as may run at once; the others wait in the backlog."""
        listener = self.listener
        while listener is not None:
            if len(self._v1) >= self.settings.concurrency:
                self._loop.remove_reader(listener)
                return
            try:
                connection, _address = listener.accept()
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno in LOST_DESCRIPTOR:
                    raise DescriptorsLost()
                log.error("failed to accept a connection: %s", exc)
                time.sleep(0.1)
                break
            connection = own(connection.detach())
            self._silent.add(connection)
            self._v1[connection] = self._loop.create_task(self._exchange(connection))
        if self._ending and not self._v1:
            self._loop.stop()

    async def _exchange(self, connection: socket.socket) -> None:
        try:
            await self._answer_v1(connection)
        except OSError as exc:
            log.warning("connection lost: %s", exc)
        finally:
            if os.getpid() == self.process_id:
                del self._v1[connection]
                self._silent.discard(connection)
                hang_up(connection)
                if self.listener is not None:
                    self._loop.add_reader(self.listener, self._guard, self._accept)
                self._guard(self._accept)

    async def _answer_v1(self, connection: socket.socket) -> None:
        loop, runner = self._loop, self.runner
        try:
            body = await self._read_v1(connection)
        except FrameTooLarge as exc:
            log.error("request refused: %s", exc)
            await loop.sock_sendall(connection, pack_v1(runner.error(PARSING_ERROR, exc, "ValueError")))
            await self._discard_v1(connection, exc.missing)
            return
        except OSError as exc:
            log.warning("request not read: %s", v1_reason(exc))
            await loop.sock_sendall(connection, pack_v1(runner.error(CONNECTION_ERROR, v1_reason(exc))))
            return
        if body is not None:
            call = Call(None, 0, 1, None)
            Context._variable.set(call)
            await loop.sock_sendall(connection, pack_v1(await runner.answer_async(body, call)))

    async def _receive_v1(self, connection: socket.socket, most: int, seconds: float) -> bytes:
        wait = self._asyncio.wait_for(self._loop.sock_recv(connection, most), seconds)
        try:
            return await wait
        except self._asyncio.TimeoutError:
            raise BlockingIOError() from None

    async def _read_v1(self, connection: socket.socket) -> Optional[bytes]:
        body = bytearray()
        size = -1
        while size < 0 or len(body) < size:
            patience = LAST_MOMENT_SECONDS if self._ending and not body else READ_IDLE_SECONDS
            data = await self._receive_v1(connection, self.settings.chunk_size, patience)
            self._silent.discard(connection)
            if not data:
                if size < 0 and not body:
                    return None
                raise ConnectionError(v1_end(size, len(body)))
            body += data
            if size < 0 and len(body) >= LENGTH.size:
                (size,) = LENGTH.unpack_from(body)
                del body[: LENGTH.size]
                if size > self.settings.max_message_size:
                    raise FrameTooLarge(size, len(body), self.settings.max_message_size)
        return bytes(body[:size])

    async def _discard_v1(self, connection: socket.socket, missing: int) -> None:
        while missing > 0:
            data = await self._receive_v1(connection, min(65536, missing), DISCARD_IDLE_SECONDS)
            if not data:
                return
            missing -= len(data)


class WorkerSignals:
    """SIGTERM and SIGINT at a worker: while it loads they end it; later the arbiter alone says when it ends."""

    def __init__(self) -> None:
        self.requested = False
        self._loading = True
        self._mask = threading.local()
        self._process_id = os.getpid()

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def loaded(self) -> None:
        self._loading = False
        # Code that was imported may have put its own handlers here.
        self.install()

    def before_fork(self) -> None:
        # A signal for the child must wait until it has its own handlers, or it would be lost.
        self._mask.in_main = threading.current_thread() is threading.main_thread()
        self._mask.before_fork = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))

    def after_fork_in_parent(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask.before_fork)

    def after_fork_in_child(self) -> None:
        """Children of a handler die of SIGTERM as any process does (multiprocessing relies on it), and with us.

        Only those of the main thread: the kernel would end them with the thread. Nor what they start, which
        includes daemons.
        """
        # Asked before the fork, since the thread that forks is the main one of the child.
        if os.getppid() == self._process_id and self._mask.in_main:
            die_with(self._process_id)
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        except ValueError:
            pass  # Not the main thread: then no Python handler runs here either.
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask.before_fork)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        if self._loading:
            self.requested = True
            raise SystemExit(0)


def run_worker(number: int, parent: int, descriptor: int) -> int:
    die_with(parent)
    signals = WorkerSignals()
    signals.install()
    mailbox = Mailbox(own(descriptor))
    settings = read_settings(Environment(os.environ))
    configure_output(settings.log_level, "worker %d: " % number if settings.workers > 1 else "")
    try:
        target = resolve_handler(settings.handler)
        refuse_misfit(target, settings)
        if target.shape in (ASYNC, ASYNC_GENERATOR):
            worker = make_concurrent(settings, target, mailbox, signals)  # type: Worker
        else:
            worker = SerialWorker(settings, make_runner(settings, target, target.instantiate()), mailbox, signals)
    except LoadError as exc:
        if signals.requested:
            return 0
        signals.loaded()
        trace = "\n" + exc.trace if exc.trace else ""
        mailbox.send({"is": "failed", "text": "%s (%s)%s" % (exc, exc.hint, trace)})
        return 1
    signals.loaded()
    mailbox.send({"is": "loaded"})
    return worker.run()


def make_concurrent(settings: Settings, target: Target, mailbox: Mailbox, signals: WorkerSignals) -> Worker:
    import asyncio  # Takes a while, and plain functions never need it.

    loop = asyncio.new_event_loop()
    # Before the handler's class is created: what it makes may belong to the current loop.
    asyncio.set_event_loop(loop)
    runner = make_runner(settings, target, target.instantiate())
    return ConcurrentWorker(settings, runner, mailbox, signals, asyncio, loop)


def die_with(parent: int) -> None:
    """Asks the kernel to kill this process when its parent dies. Only Linux has this."""
    if not sys.platform.startswith("linux"):
        return
    pr_set_pdeathsig = 1
    try:
        import ctypes  # Takes milliseconds, and not every Python has it.

        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    except (ImportError, OSError, AttributeError) as error:
        log.warning("cannot tie this process to its parent: %s", error)
    if os.getppid() != parent:
        os._exit(1)  # It was killed before the kernel knew.


# === arbiter ===

# A peer that has connected to the v2 socket has so long to say HELLO.
HELLO_SECONDS = 5
MAX_UNGREETED = 16
# Unread bytes on a control connection beyond which its client counts as gone.
MAX_CONTROL_UNSENT = 1024 * 1024
# Pauses between starts of a worker that does not come up.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30
# So many starts in a row may fail before there are pauses.
FREE_FAILURES = 2
# A worker that dies sooner after it has loaded, and before it got a connection, counts as one that did not come up.
PROVEN_SECONDS = 10
# How long code that is being imported may take to end when it is asked to.
LOADING_GRACE_SECONDS = 2
# How long a worker has at least to say that it runs nothing, or to end.
LEAST_GRACE_SECONDS = 1
STARTING, READY, GONE = "starting", "ready", "gone"


class EventLoop:
    """Sockets, timers and signals in one place; sleeps until one of them has something."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched = {}  # type: Dict[socket.socket, Callable[[], None]]
        self._timers = {}  # type: Dict[Any, Tuple[float, Callable[[], None]]]
        self.signals = deque()  # type: deque
        self._signal_end, wake = socket.socketpair()
        self._wake_end = wake
        for end in (self._signal_end, wake):
            end.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self.watch(self._signal_end, self._drain_signals)

    def _on_signal(self, number: int, _frame: Any) -> None:
        self.signals.append(number)

    def take_signals(self) -> Set[int]:
        """Those that have come. More may come at any moment, and none must be lost."""
        numbers = set()
        while self.signals:
            numbers.add(self.signals.popleft())
        return numbers

    def _drain_signals(self) -> None:
        try:
            self._signal_end.recv(4096)
        except BlockingIOError:
            pass

    def watch(self, connection: socket.socket, action: Callable[[], None]) -> None:
        self._selector.register(connection, selectors.EVENT_READ, action)
        self._watched[connection] = action

    def forget(self, connection: socket.socket) -> None:
        if self._watched.pop(connection, None) is not None:
            self._selector.unregister(connection)

    def at(self, key: Any, seconds: float, action: Callable[[], None]) -> None:
        self._timers[key] = (time.monotonic() + seconds, action)

    def cancel(self, key: Any) -> None:
        self._timers.pop(key, None)

    def step(self) -> None:
        """Waits for events and carries them out."""
        wait = None  # type: Optional[float]
        if self.signals:
            wait = 0
        elif self._timers:
            wait = max(0.0, min(when for when, _action in self._timers.values()) - time.monotonic())
        for key, _mask in self._selector.select(wait):
            # An action before this one may have closed it; the selector cannot be asked about closed sockets.
            if self._watched.get(key.fileobj) is key.data:
                key.data()
        now = time.monotonic()
        for name, (when, action) in list(self._timers.items()):
            if when <= now and self._timers.get(name, (None, None))[1] is action:
                del self._timers[name]
                action()


class Frames:
    """Small frames of a connection that the arbiter reads itself, as they arrive."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._data = bytearray()

    @property
    def inside(self) -> bool:
        return len(self._data) > 0

    def read(self, most: int) -> bool:
        """Reads once, at most so many bytes. False at the end."""
        try:
            data = self.connection.recv(most)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._data += data
        return bool(data)

    def missing(self) -> int:
        """Bytes until the present frame is complete; at first those of its header."""
        if len(self._data) < HEADER.size:
            return HEADER.size - len(self._data)
        return HEADER.size + HEADER.unpack_from(self._data)[0] - len(self._data)

    def take(self) -> Optional[Tuple[int, int, bytes]]:
        """(type, tag, body) of the next frame, or None if it is not complete."""
        if len(self._data) < HEADER.size:
            return None
        size, kind, flags, zero, tag = HEADER.unpack_from(self._data)
        if zero:
            raise Violation("the two bytes after the flags must be zero", tag)
        if flags:
            raise Violation("frames of type 0x%02x have no flags, this one has 0x%02x" % (kind, flags), tag)
        if size > MAX_SMALL_BODY:
            raise Violation("a frame of type 0x%02x has %d bytes, %d are allowed" % (kind, size, MAX_SMALL_BODY), tag)
        if len(self._data) < HEADER.size + size:
            return None
        body = bytes(self._data[HEADER.size : HEADER.size + size])
        del self._data[: HEADER.size + size]
        return kind, tag, body


class Hello(NamedTuple):
    connection: str
    worker: int
    incarnation: int


def parse_hello(kind: int, tag: int, body: bytes, nonce: str) -> Hello:
    if kind != HELLO or tag:
        raise Violation("the first frame must be HELLO (0x01) with tag 0, not type 0x%02x with tag %d" % (kind, tag))
    try:
        hello = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Violation("HELLO is not JSON") from None
    if not isinstance(hello, dict):
        raise Violation("HELLO must be a JSON object, not %s" % json_type(hello))
    if hello.get("protocol") != 2 or isinstance(hello.get("protocol"), bool):
        raise Violation("this runtime speaks protocol 2, not %.100r" % (hello.get("protocol"),))
    if hello.get("nonce") != nonce:
        raise Violation("the nonce is not that of this runtime: read the ready file again")
    purpose = hello.get("connection")
    if purpose == "control":
        return Hello("control", -1, -1)
    if purpose != "worker":
        raise Violation("connection must be control or worker, not %.100r" % (purpose,))
    worker, incarnation = hello.get("worker"), hello.get("incarnation")
    if type(worker) is not int or type(incarnation) is not int:
        raise Violation("HELLO of a worker connection must name worker and incarnation as numbers")
    return Hello("worker", worker, incarnation)


class Place:
    """One of ASYA_WORKERS places: the process in it now, and those that will follow."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.incarnation = 0
        self.state = GONE
        self.process = None  # type: Any
        self.mailbox = None  # type: Optional[Mailbox]
        # Why the arbiter has killed it, if it did.
        self.killed = None  # type: Optional[str]
        # Whether it has taken a connection of the present client.
        self.linked = False
        # Whether it had one at any time.
        self.proven = False
        # Whether it runs a v1 call, which has nothing to do with the client of v2.
        self.apart = False
        self.stopped = False
        # Starts in a row that came to nothing.
        self.failures = 0
        self.loaded_at = 0.0
        # What the handler's loading failed with, if it did.
        self.load_error = ""
        self.oom_kills = 0
        self.last = {"worker": number, "incarnation": 0, "state": GONE}  # type: Dict[str, Any]

    @property
    def alive(self) -> bool:
        return self.process is not None

    def start(self) -> None:
        # Not needed before: importing it takes longer than the rest of this file.
        import subprocess

        ours, theirs = socket.socketpair()
        script = os.path.abspath(__file__)
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        arguments = ["--worker", str(self.number), str(os.getpid()), str(theirs.fileno())]
        self.incarnation += 1
        self.oom_kills = count_oom_kills()
        self.killed, self.load_error = None, ""
        self.linked = self.proven = self.apart = self.stopped = False
        with theirs:
            # A session of its own, so that all its children can be ended with it. Never a fork that goes on
            # in this process's memory: CUDA does not survive that.
            self.process = subprocess.Popen(
                [sys.executable] + flags + [script] + arguments,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.mailbox = Mailbox(ours)
        self.state = STARTING

    def kill(self, reason: str) -> None:
        if self.alive:
            self.killed = self.killed or reason
            self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass  # It is gone, and will be reaped.

    def status(self) -> Dict[str, Any]:
        status = {"worker": self.number, "incarnation": self.incarnation, "state": self.state}
        if self.state == READY:
            status["pid"] = self.process.pid
        return self.last if self.state == GONE else status

    def gone(self, code: int) -> None:
        """`code` as of Popen: negative for a signal."""
        number = -code if code < 0 else None
        oom = number == signal.SIGKILL and self.killed is None and count_oom_kills() > self.oom_kills
        self.state = GONE
        self.last = {
            "worker": self.number,
            "incarnation": self.incarnation,
            "state": GONE,
            "signal": number,
            "signal_name": signal_name(number) if number is not None else None,
            "exit_code": code if number is None else None,
            "oom": oom,
            "killed": self.killed is not None,
            "reason": self.killed or self.load_error or reason_of(code, oom),
        }
        # Children that the handler has left behind.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.returncode = code  # Reaped elsewhere; Popen need not look for it.
        self.process = None


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


def reason_of(code: int, oom: bool) -> str:
    if oom:
        return "killed by the kernel for want of memory"
    if code < 0:
        return "ended by %s" % signal_name(-code)
    return "exited with code %d" % code


def count_oom_kills() -> int:
    """How often the kernel has killed a process of this control group; 0 where it does not say."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            with open(path) as file:
                for line in file:
                    name, _, number = line.partition(" ")
                    if name == "oom_kill":
                        return int(number)
        except (OSError, ValueError):
            continue
    return 0


class SocketPath:
    """One socket file: created by this process, removed by it alone."""

    def __init__(self, path: str, mode: Optional[int]) -> None:
        self.path = path
        self._mode = mode
        self._identity = None  # type: Optional[Tuple[int, int]]

    def listen(self) -> socket.socket:
        self._remove_stale()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(self.path)
        listener.listen(BACKLOG)
        status = os.stat(self.path)
        self._identity = (status.st_dev, status.st_ino)
        if self._mode is not None:
            os.chmod(self.path, self._mode)
        return listener

    def is_ours(self) -> bool:
        """False if it was removed, or a successor listens there already."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def remove(self) -> None:
        if self.is_ours():
            remove_file(self.path)

    def _remove_stale(self) -> None:
        try:
            mode = os.lstat(self.path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a socket"
            text = "the socket path exists and is %s; remove it or set ASYA_SOCKET_DIR" % kind
            raise OSError(errno.EEXIST, text, self.path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            # A full backlog (EAGAIN) is a live server as well.
            if probe.connect_ex(self.path) in (0, errno.EAGAIN):
                text = "another runtime already serves this socket; stop it first"
                raise OSError(errno.EADDRINUSE, text, self.path)
        remove_file(self.path)


def remove_file(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        log.warning("failed to remove %s: %s", path, exc)


class Files:
    """Both sockets and the ready file."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._v1 = SocketPath(settings.socket_path, settings.socket_mode)
        self._v2 = SocketPath(settings.v2_path, settings.socket_mode)
        self.nonce = os.urandom(16).hex()
        self.v1_listener = None  # type: Optional[socket.socket]
        self.v2_listener = None  # type: Optional[socket.socket]

    def open(self) -> None:
        settings = self._settings
        os.makedirs(os.path.dirname(settings.socket_path), exist_ok=True)
        # The first socket decides whose directory this is; until then nothing of another runtime is touched.
        self.v1_listener = self._v1.listen()
        remove_file(settings.ready_path)
        remove_file(settings.drained_path)
        length = len(os.fsencode(settings.v2_path))
        if length > MAX_SOCKET_PATH_BYTES:
            log.warning(
                "the path %s has %d bytes, the system allows %d: serving protocol v1 only; choose a shorter ASYA_SOCKET_DIR",
                settings.v2_path,
                length,
                MAX_SOCKET_PATH_BYTES,
            )
        else:
            self.v2_listener = self._v2.listen()
        self._announce()

    def _announce(self) -> None:
        path = self._settings.ready_path
        text = "ready"
        if self.v2_listener is not None:
            text = "ready\nv2 %s %s\n" % (os.path.basename(self._settings.v2_path), self.nonce)
        with open(path + ".new", "w") as file:
            file.write(text)
        os.replace(path + ".new", path)

    def remove(self) -> None:
        if self._v1.is_ours():
            remove_file(self._settings.ready_path)
            remove_file(self._settings.ready_path + ".new")
        self._v2.remove()
        self._v1.remove()


class Control:
    """The control connection of the client."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self._unsent = bytearray()

    def send(self, data: bytes) -> bool:
        """False if the client does not read, or is gone."""
        self._unsent += data
        try:
            sent = self.frames.connection.send(self._unsent, NO_SIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        del self._unsent[:sent]
        return len(self._unsent) <= MAX_CONTROL_UNSENT

    @property
    def unsent(self) -> bool:
        return bool(self._unsent)


# What a client may send after HELLO, and how long its body is.
CONTROL_FRAMES = {
    CANCEL: ("CANCEL", CANCEL_BODY.size),
    KILL: ("KILL", KILL_BODY.size),
    PING: ("PING", 0),
    GOODBYE: ("GOODBYE", 0),
}
LOADING, SERVING, DRAINING, CLOSING, ENDING = range(5)


class Arbiter:
    """Starts workers, listens, hands connections over, replaces what dies. Never imports the user's code."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._events = EventLoop()
        self._files = Files(settings)
        self._places = [Place(number) for number in range(settings.workers)]
        self._phase = LOADING
        self._code = 0
        # Connections that have not said HELLO, the oldest first.
        self._ungreeted = []  # type: List[Frames]
        self._control = None  # type: Optional[Control]

    def run(self) -> int:
        try:
            for place in self._places:
                if self._phase == LOADING:
                    self._start(place)
            while self._phase != ENDING or any(place.alive for place in self._places):
                self._events.step()
                self._attend_signals()
            self._say(pack_frame(GOODBYE, 0, b""))
        finally:
            self._files.remove()
            for place in self._places:
                place.kill("the runtime ends")
        return self._code

    # Signals and the end.

    def _attend_signals(self) -> None:
        numbers = self._events.take_signals()
        if signal.SIGCHLD in numbers:
            self._reap()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stop()

    def _stop(self) -> None:
        # Whoever counts successes must not count a runtime that is stopped while there is work left.
        undone = self._settings.until_done and not os.path.exists(self._settings.done_path)
        code = STOPPED_BEFORE_DONE if undone else 0
        if self._phase == LOADING:
            self._end(code)
        elif self._phase == SERVING:
            log.info("stopping")
            self._code = code
            self._phase = DRAINING
            self._events.cancel("done")
            self._say(pack_frame(STOPPING, 0, b""))
            if self._settings.shutdown_grace > 0:
                self._events.at("grace", self._settings.shutdown_grace, self._close)
                self._look_for_drained()
            else:
                self._close()

    def _look_for_done(self) -> None:
        if os.path.exists(self._settings.done_path):
            log.info("the work is done")
            self._close()
        else:
            self._events.at("done", DRAIN_POLL_SECONDS, self._look_for_done)

    def _look_for_drained(self) -> None:
        if os.path.exists(self._settings.drained_path):
            self._close()
        else:
            self._events.at("drained", DRAIN_POLL_SECONDS, self._look_for_drained)

    def _close(self) -> None:
        """Workers finish what they run. The files stay until then: a v1 sidecar may still hand over."""
        if self._phase >= CLOSING:
            return
        self._phase = CLOSING
        for key in ("grace", "drained", "done"):
            self._events.cancel(key)
        for place in self._places:
            self._events.cancel(("start", place.number))
            if place.state == STARTING:
                self._quit(place)
            elif place.state == READY:
                self._tell(place, {"do": "stop"})
        self._close_if_stopped()

    def _close_if_stopped(self) -> None:
        if self._phase != CLOSING or any(place.state == READY and not place.stopped for place in self._places):
            return
        self._phase = ENDING
        self._files.remove()
        if self._files.v2_listener is not None:
            self._events.cancel("accept")
            self._events.forget(self._files.v2_listener)
            self._files.v2_listener.close()
        for frames in list(self._ungreeted):
            self._refuse(frames, "the runtime is stopping")
        for place in self._places:
            if place.state == READY:
                self._tell(place, {"do": "end"})

    def _end(self, code: int) -> None:
        """Before anything was served."""
        self._phase, self._code = ENDING, code
        for place in self._places:
            self._events.cancel(("start", place.number))
            self._quit(place)

    def _quit(self, place: Place) -> None:
        """Ends a worker that is still loading."""
        if place.alive:
            place.signal(signal.SIGTERM)
            kill = functools.partial(place.kill, "the runtime ends")
            self._events.at(("quit", place.number), LOADING_GRACE_SECONDS, kill)

    # Workers.

    def _start(self, place: Place) -> None:
        try:
            place.start()
        except OSError as exc:
            log.critical("failed to start worker %d: %s", place.number, exc)
            if self._phase == LOADING:
                self._end(1)
            else:
                self._start_later(place)
            return
        assert place.mailbox is not None  # Made by start().
        self._events.watch(place.mailbox.line, functools.partial(self._read_mail, place))
        self._say_state(place)

    def _start_later(self, place: Place) -> None:
        """At once, unless it has failed again and again: then with growing pauses."""
        place.failures += 1
        pause = 0.0
        if place.failures > FREE_FAILURES:
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(place.failures - FREE_FAILURES - 1, 10))
        self._events.at(("start", place.number), pause, functools.partial(self._start, place))

    def _tell(self, place: Place, message: Dict[str, Any], descriptor: Optional[int] = None) -> bool:
        if place.mailbox is None:
            return False
        try:
            sent = place.mailbox.send(message, descriptor)
        except OSError:
            return True  # Its end is on its way.
        if not sent and message["do"] in ("stop", "end"):
            # It hangs, with all that was asked of it unread. It must hear this when it does not any more.
            again = functools.partial(self._tell, place, message)
            self._events.at((message["do"], place.number), DRAIN_POLL_SECONDS, again)
        return sent

    def _read_mail(self, place: Place) -> None:
        mailbox = place.mailbox
        if mailbox is None:
            return
        try:
            messages = mailbox.receive()
        except EOFError:
            self._hang_up(place)
            return
        for message, _descriptor in messages:
            getattr(self, "_on_" + message["is"])(place, message)

    def _hang_up(self, place: Place) -> None:
        if place.mailbox is not None:
            self._events.forget(place.mailbox.line)
            place.mailbox.line.close()
            place.mailbox = None
            if place.state == READY:
                # A process that has closed its line can neither be asked nor be used.
                key = ("deaf", place.number)
                self._events.at(key, self._settings.cancel_grace, functools.partial(place.kill, "it closed its line"))

    def _on_loaded(self, place: Place, _message: Dict[str, Any]) -> None:
        place.loaded_at = time.monotonic()
        place.state = READY
        if self._phase == LOADING and not self._open():
            return
        if self._files.v1_listener is not None:
            self._tell(place, {"do": "listen"}, self._files.v1_listener.fileno())
        self._say_state(place)
        if self._phase >= CLOSING:
            self._tell(place, {"do": "stop"})

    def _open(self) -> bool:
        settings = self._settings
        try:
            self._files.open()
        except OSError as exc:
            log.critical("failed to open %s: %s", exc.filename or settings.socket_path, exc)
            self._end(1)
            return False
        self._phase = SERVING
        if settings.until_done:
            self._events.at("done", 0, self._look_for_done)
        if self._files.v2_listener is not None:
            self._events.watch(self._files.v2_listener, self._accept)
        log.info("serving %s (%s mode) on %s", settings.handler, settings.mode, settings.socket_path)
        return True

    def _on_failed(self, place: Place, message: Dict[str, Any]) -> None:
        place.load_error = "the handler does not load: %s" % message["text"].split("\n")[0]
        if self._phase == LOADING:
            log.critical("%s", message["text"])
            self._end(1)
        elif self._phase < CLOSING:
            log.error("worker %d does not load any more: %s", place.number, message["text"])

    def _on_linked(self, place: Place, _message: Dict[str, Any]) -> None:
        place.linked = place.proven = True

    def _on_apart(self, place: Place, message: Dict[str, Any]) -> None:
        place.apart = message["now"]

    def _on_idle(self, place: Place, _message: Dict[str, Any]) -> None:
        self._events.cancel(("abandoned", place.number))

    def _on_ended(self, place: Place, _message: Dict[str, Any]) -> None:
        # A thread that the handler has left behind may keep it from ending.
        kill = functools.partial(place.kill, "the runtime ends")
        self._events.at(("quit", place.number), max(LEAST_GRACE_SECONDS, self._settings.cancel_grace), kill)

    def _on_stopped(self, place: Place, _message: Dict[str, Any]) -> None:
        place.stopped = True
        self._close_if_stopped()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for place in self._places:
                # Others are orphans that this process got as the first one of its container.
                if place.alive and place.process.pid == pid:
                    self._on_death(place, -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))

    def _on_death(self, place: Place, code: int) -> None:
        self._read_mail(place)  # Its last words.
        proven = place.proven or time.monotonic() - place.loaded_at > PROVEN_SECONDS
        if place.killed is not None or (place.state == READY and proven):
            place.failures = -1  # This one does not count.
        place.gone(code)
        for key in ("abandoned", "deaf", "quit", "stop", "end"):
            self._events.cancel((key, place.number))
        self._hang_up(place)
        self._say_state(place)
        if self._phase == LOADING:
            log.critical("the worker died while it loaded the handler: %s", place.last["reason"])
            self._end(1)
        elif self._phase >= CLOSING:
            self._close_if_stopped()
        else:
            reason = place.last["reason"]
            log.error("worker %d (process %d of its place) is gone: %s", place.number, place.incarnation, reason)
            self._start_later(place)

    # Connections of protocol v2.

    def _accept(self) -> None:
        assert self._files.v2_listener is not None  # It is what has become readable.
        try:
            connection, _address = self._files.v2_listener.accept()
        except BlockingIOError:
            return
        except OSError as exc:
            log.error("failed to accept a connection: %s", exc)
            self._events.forget(self._files.v2_listener)
            again = functools.partial(self._events.watch, self._files.v2_listener, self._accept)
            self._events.at("accept", DRAIN_POLL_SECONDS, again)
            return
        connection.setblocking(False)
        frames = Frames(connection)
        self._ungreeted.append(frames)
        self._events.watch(connection, functools.partial(self._greet, frames))
        self._events.at(frames, HELLO_SECONDS, functools.partial(self._refuse, frames, ""))
        if len(self._ungreeted) > MAX_UNGREETED:
            self._refuse(self._ungreeted[0], "")

    def _leave_greeting(self, frames: Frames) -> None:
        self._ungreeted.remove(frames)
        self._events.cancel(frames)
        self._events.forget(frames.connection)

    def _refuse(self, frames: Frames, text: str) -> None:
        self._leave_greeting(frames)
        if text:
            log.warning("connection refused: %s", text)
        farewell(frames.connection, pack_error(text) if text else b"")

    def _greet(self, frames: Frames) -> None:
        try:
            # Not a byte more than HELLO: what follows is for the worker to read.
            while True:
                hello = frames.take()
                if hello is not None:
                    break
                missing = frames.missing()
                if not frames.read(missing):
                    self._refuse(frames, "")
                    return
                if frames.missing() == missing:
                    return  # Nothing more is there.
            self._admit(frames, parse_hello(*hello, nonce=self._files.nonce))
        except Violation as violation:
            self._refuse(frames, str(violation))

    def _admit(self, frames: Frames, hello: Hello) -> None:
        if self._phase >= CLOSING:
            raise Violation("the runtime is stopping")
        if hello.connection == "control":
            self._leave_greeting(frames)
            self._take_control(frames)
            return
        if not 0 <= hello.worker < len(self._places):
            raise Violation("there is no worker %d" % hello.worker)
        place = self._places[hello.worker]
        if place.incarnation != hello.incarnation or place.state != READY:
            raise Violation(
                "worker %d is at incarnation %d (%s), not ready at %d"
                % (place.number, place.incarnation, place.state, hello.incarnation)
            )
        self._leave_greeting(frames)
        self._tell(place, {"do": "connect"}, frames.connection.fileno())
        frames.connection.close()

    def _take_control(self, frames: Frames) -> None:
        if self._control is not None:
            self._drop_control("replaced by a newer control connection")
        self._control = Control(frames)
        self._events.watch(frames.connection, self._read_control)
        settings = self._settings
        welcome = {
            "protocol": 2,
            "revision": 0,
            "server": "asya-runtime/%s" % VERSION,
            "workers": settings.workers,
            "concurrency": settings.concurrency,
            "batch": {"size": settings.batch_size, "wait_ms": int(settings.batch_wait * 1000)},
            "stream": settings.stream,
            "cancel_grace_ms": int(settings.cancel_grace * 1000),
            "max_message_size": settings.max_message_size,
        }
        self._say(pack_json(WELCOME, 0, welcome))
        for place in self._places:
            self._say_state(place)
        if self._phase == DRAINING:
            self._say(pack_frame(STOPPING, 0, b""))

    def _drop_control(self, text: str = "") -> None:
        control, self._control = self._control, None
        if control is not None:
            self._events.cancel("control")
            self._events.forget(control.frames.connection)
            farewell(control.frames.connection, pack_error(text) if text else b"")

    def _say(self, data: bytes) -> None:
        control = self._control
        if control is None:
            return
        if not control.send(data):
            log.warning("the client does not read its control connection")
            self._drop_control()
            self._abandon()
        elif control.unsent:
            self._events.at("unsent", DRAIN_POLL_SECONDS, functools.partial(self._say, b""))

    def _say_state(self, place: Place) -> None:
        if place.incarnation:
            self._say(pack_json(WORKER, place.number, place.status()))

    def _read_control(self) -> None:
        control = self._control
        if control is None:
            return
        try:
            if not control.frames.read(MAX_SMALL_BODY):
                self._drop_control()
                self._abandon()
                return
            while self._control is control:
                frame = control.frames.take()
                if frame is None:
                    break
                if frame[0] == ERROR:
                    log.error("the client refused the control connection: %.300r", frame[2])
                    self._drop_control()
                    self._abandon()
                    return
                self._obey(*frame)
        except Violation as violation:
            log.error("control connection closed: %s", violation)
            self._drop_control(str(violation))
            self._abandon()
            return
        if self._control is control:
            if control.frames.inside:
                self._events.at("control", self._settings.frame_timeout, self._control_timeout)
            else:
                self._events.cancel("control")

    def _control_timeout(self) -> None:
        self._drop_control("nothing came for ASYA_FRAME_TIMEOUT=%gs inside a frame" % self._settings.frame_timeout)
        self._abandon()

    def _obey(self, kind: int, tag: int, body: bytes) -> None:
        if kind not in CONTROL_FRAMES:
            raise Violation("frames of type 0x%02x do not belong on a control connection" % kind, tag)
        name, size = CONTROL_FRAMES[kind]
        if len(body) != size:
            raise Violation("%s has a body of %d bytes, not %d" % (name, size, len(body)), tag)
        getattr(self, "_obey_" + name.lower())(tag, body)

    def _obey_ping(self, tag: int, _body: bytes) -> None:
        self._say(pack_frame(PONG, tag, b""))

    def _obey_cancel(self, tag: int, body: bytes) -> None:
        number, incarnation, reason = CANCEL_BODY.unpack(body)
        if reason not in (DEADLINE, ASKED, WITHDRAWN):
            raise Violation("CANCEL knows the reasons 1, 2 and 3, not %d" % reason, tag)
        place = self._place(number, incarnation)
        if place is not None and place.state == READY:
            self._tell(place, {"do": "cancel", "tag": tag, "reason": reason})

    def _obey_kill(self, tag: int, body: bytes) -> None:
        number, incarnation = KILL_BODY.unpack(body)
        place = self._place(number, incarnation)
        if place is not None:
            place.kill("killed by the runtime: request %d did not end" % tag)

    def _obey_goodbye(self, tag: int, _body: bytes) -> None:
        if tag:
            raise Violation("GOODBYE has no tag", tag)
        self._drop_control()
        if self._phase == DRAINING:
            self._close()

    def _place(self, number: int, incarnation: int) -> Optional[Place]:
        """None if there is no such worker, or another process in its place by now."""
        place = self._places[number] if number < len(self._places) else None
        return place if place is not None and place.incarnation == incarnation else None

    def _abandon(self) -> None:
        """The client is gone without a word: nobody waits for what runs."""
        for place in self._places:
            if place.state == READY and place.linked:
                place.linked = False
                self._tell(place, {"do": "abandon"})
                self._await_idle(place)

    def _await_idle(self, place: Place) -> None:
        grace = max(LEAST_GRACE_SECONDS, self._settings.cancel_grace)
        self._events.at(("abandoned", place.number), grace, functools.partial(self._replace_abandoned, place))

    def _replace_abandoned(self, place: Place) -> None:
        if place.apart:
            self._await_idle(place)
        else:
            place.kill("killed by the runtime: its client is gone and its request did not end")


# === commands ===


LOG_TIME = "%Y-%m-%d %H:%M:%S"


class LogHandler(logging.StreamHandler):
    """Writes to descriptor 2 as long as there is one, whatever a handler does to sys.stderr."""

    def __init__(self) -> None:
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        super().__init__(open(2, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False))

    def handleError(self, record: logging.LogRecord) -> None:
        try:
            super().handleError(record)
        except Exception:
            pass  # Nobody is left to be told.


def configure_output(level: int, prefix: str = "") -> None:
    """Line by line, and never failing on a character: what handlers print is seen at once."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    form = "%(asctime)s - %(name)s - %(levelname)s - " + prefix + "%(message)s"
    # The root logger as well, so that the handler's own loggers are seen.
    logging.basicConfig(level=level, format=form, datefmt=LOG_TIME, handlers=[LogHandler()])
    ours = LogHandler()
    ours.setFormatter(logging.Formatter(form, LOG_TIME))
    log.addHandler(ours)
    log.setLevel(level)


def run_server() -> int:
    env = Environment(os.environ)
    settings = read_settings(env)
    configure_output(settings.log_level)
    for warning in env.warnings:
        log.warning("%s", warning)
    if env.problems:
        for problem in env.problems:
            log.critical("%s", problem)
        return 1
    return Arbiter(settings).run()


def run_drain() -> int:
    """Waits until the runtime may be ended: the sidecar has drained, the runtime is gone, or the grace is over.

    A sidecar that does not even begin to drain was not asked to end: this container alone is restarted, and the runtime
    tells the sidecar by itself.
    """
    # The hook of another container need not know the handler.
    env = Environment(dict(os.environ, ASYA_HANDLER="a.b"))
    settings = read_settings(env)
    if env.problems:
        sys.stderr.write("".join(problem + "\n" for problem in env.problems))
        return 1
    begins = time.monotonic() + DRAIN_START_SECONDS
    ends = time.monotonic() + settings.shutdown_grace
    while time.monotonic() < ends and os.path.exists(settings.socket_path):
        if os.path.exists(settings.drained_path):
            break
        if time.monotonic() > begins and not os.path.exists(settings.draining_path):
            break
        time.sleep(DRAIN_POLL_SECONDS)
    return 0


def run_check() -> int:
    """Resolves the handler without creating anything, and prints one JSON object."""
    # Whatever the user's module prints, also from C code or a child process, goes to stderr.
    answer_to = os.dup(1)
    os.dup2(2, 1)
    env = Environment(os.environ)
    settings = read_settings(env)
    configure_output(settings.log_level)
    report = {"ok": True}  # type: Dict[str, Any]
    if env.problems:
        report = {"ok": False, "error": "; ".join(env.problems), "hint": "see asya_runtime.py --help"}
    else:
        try:
            target = resolve_handler(settings.handler)
            refuse_misfit(target, settings)
            report.update(handler=target.name, kind=target.kind, shape=target.shape, mode=settings.mode)
        except LoadError as exc:
            if exc.trace:
                sys.stderr.write(exc.trace)
            report = {"ok": False, "error": str(exc), "hint": exc.hint}
    with os.fdopen(answer_to, "w") as out:
        out.write(json.dumps(report) + "\n")
    return 0 if report["ok"] else 1


def help_text() -> str:
    width = max(len(name) for name, _default, _meaning in VARIABLES)
    rows = ["  %-*s  %s (default: %s)" % (width, name, meaning, default) for name, default, meaning in VARIABLES]
    return "\n".join(
        [
            "Serves a Python handler to an Asya sidecar over Unix sockets.",
            "",
            "usage: python3 asya_runtime.py             serve until SIGTERM",
            "       python3 asya_runtime.py --check     import the handler, print one JSON object, exit 0 or 1",
            "       python3 asya_runtime.py --drain     for a preStop hook: return when the sidecar has drained or does not",
            "                                           drain, the runtime is gone, or ASYA_SHUTDOWN_GRACE is over",
            "       python3 asya_runtime.py --version",
            "       python3 asya_runtime.py --help",
            "",
            "examples:",
            "  ASYA_HANDLER=text.count_words PYTHONPATH=/app ASYA_SOCKET_DIR=/tmp/demo python3 asya_runtime.py",
            "  ASYA_HANDLER=model.Classifier.process PYTHONPATH=/app python3 asya_runtime.py --check",
            "",
            "environment:",
        ]
        + rows
    )


def end_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it is killed.

    A local run sets ASYA_PARENT_PID; in a pod nobody does.
    """
    parent = os.environ.pop("ASYA_PARENT_PID", "")
    if parent.isdigit():
        die_with(int(parent))


def main(arguments: List[str]) -> int:
    if sys.version_info < (3, 7):
        sys.stderr.write("asya_runtime.py needs Python 3.7 or newer, this is %s\n" % sys.version.split()[0])
        return 1
    # For handlers that say `from asya_runtime import context`.
    sys.modules["asya_runtime"] = sys.modules[__name__]
    if not arguments:
        end_with_parent()
        return run_server()
    if arguments[0] == "--worker" and len(arguments) == 4:
        del sys.argv[1:]
        return run_worker(*map(int, arguments[1:]))
    if arguments == ["--check"]:
        code = run_check()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # Threads that the user's module started must not hold the answer back.
    if arguments == ["--drain"]:
        return run_drain()
    if arguments in (["--help"], ["-h"]):
        print(help_text())
        return 0
    if arguments == ["--version"]:
        print("asya-runtime %s (protocol %s, Python %s)" % (VERSION, PROTOCOL, sys.version.split()[0]))
        return 0
    sys.stderr.write("unknown arguments: %s; see asya_runtime.py --help\n" % " ".join(arguments))
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
