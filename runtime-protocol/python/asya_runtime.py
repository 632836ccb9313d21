#!/usr/bin/env python3
"""The Asya runtime: serves one Python handler to a sidecar over a Unix socket.

Start it in the image that holds your code; it imports ASYA_HANDLER, opens the socket, writes the
ready file and answers one request per connection until SIGTERM. It knows nothing of queues,
brokers or gateways: the sidecar moves messages, this file runs the function.

One file, standard library only, Python 3.7 or newer. Where to start reading: `main` at the end,
then `Server.serve`, then `Processor.answer`. The parts, in order:

    settings    environment variables -> one checked value
    loading     "package.module.Class.method" -> something to call with one argument
    envelope    what comes in: parsing, normalising, validation
    calling     payload mode and envelope mode: argument in, list of result items out
    encoding    result items -> bytes; what cannot be sent becomes an error item
    framing     4-byte big-endian length + body, over a stream socket
    server      listener, signals, ready file, one connection after the other
    commands    no argument = serve, --check, --help, --version

Log lines go to stderr and name envelope ids, exception types and places, never payloads: exception
texts may quote the payload, so they travel only in the answer.
"""

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
import signal
import socket
import stat
import struct
import sys
import threading
import time
import traceback
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

VERSION = "0.1.0"
PROTOCOL = "v1"

log = logging.getLogger("asya.runtime")

MAX_FRAME = 2**32 - 1
DEFAULT_MAX_MESSAGE_SIZE = 64 * 1024 * 1024
# Below this not even an error item is sure to fit.
MIN_MAX_MESSAGE_SIZE = 1024
# sun_path holds 108 bytes on Linux, the last one is the terminating zero.
MAX_SOCKET_PATH_BYTES = 107
# Slots of a sidecar may all connect at the same moment.
BACKLOG = 128
# A peer that has connected must keep sending: one call runs at a time, so a silent peer blocks all.
READ_IDLE_SECONDS = 30
# After an answer was sent for a frame that is too large, how long to wait for the rest of it.
DISCARD_IDLE_SECONDS = 5
# The signal handler wakes a waiting accept at once; this bounds the moment in which it just misses it.
ACCEPT_SECONDS = 1
# Looks for the `sidecar-drained` file while shutting down.
DRAIN_POLL_MILLISECONDS = 100
# An exception may carry a whole payload in its text; the error item keeps this many characters.
MAX_ERROR_MESSAGE = 16 * 1024
MAX_ERROR_TRACEBACK = 64 * 1024
# Bases of an exception that are named, and characters of each name.
MAX_ERROR_CLASSES = 32
MAX_ERROR_CLASS_NAME = 200
# Up to here one buffer and one write for header and body; beyond, the copy costs more than a write.
JOIN_FRAME_BYTES = 256 * 1024

PROCESSING_ERROR = "processing_error"
PARSING_ERROR = "msg_parsing_error"
CONNECTION_ERROR = "connection_error"


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
    log_level: int

    @property
    def ready_path(self) -> str:
        return os.path.join(os.path.dirname(self.socket_path), "runtime-ready")

    @property
    def drained_path(self) -> str:
        return os.path.join(os.path.dirname(self.socket_path), "sidecar-drained")


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

    def seconds(self, name: str, default: float) -> float:
        value = self.text(name, str(default)).strip()
        if re.match(r"[0-9]{1,9}(\.[0-9]{1,9})?\Z", value):
            return float(value)
        units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
        part = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)"
        if re.match("(?:%s)+\\Z" % part, value):
            return sum(float(number) * units[unit] for number, unit in re.findall(part, value))
        self._bad(name, "must be a duration such as 30s, 1m30s or a number of seconds", str(default), True)
        return default

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
    refuse_unsupported_kind(name, value)
    refuse_wrong_arity(name, value, owner is not None)
    kind = "class" if owner is not None else "function" if inspect.isroutine(value) else "callable"
    return Target(name, kind, value, owner, attribute)


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


def refuse_unsupported_kind(name: str, value: Any) -> None:
    while isinstance(value, functools.partial):
        value = value.func
    candidates = [value]
    if not inspect.isroutine(value):
        candidates.append(type(value).__call__)
    for candidate in candidates:
        if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
            raise LoadError(
                "%s is an `async def` handler, which this version of the runtime does not support" % name,
                "make it a plain function, for example one that calls asyncio.run(...)",
            )
        if inspect.isgeneratorfunction(candidate):
            raise LoadError(
                "%s is a generator handler, which this version of the runtime does not support" % name,
                "return a list instead of using `yield`: each element becomes one message",
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
    except Exception:
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


def parse_envelope(body: Any) -> Dict[str, Any]:
    """Bytes to envelope; raises ValueError (also its JSON and Unicode kinds) with a clear text."""
    text = str(body, "utf-8")
    try:
        envelope = DECODER.decode(text)
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

    def __init__(self, settings: Settings) -> None:
        self._validate = settings.validate
        self._include_metadata = settings.include_metadata

    def prepare(self, envelope: Dict[str, Any]) -> Tuple[Any, Callable[[Any], List[Any]]]:
        """The handler's argument, and what makes items of its result."""
        normalise(envelope)
        if self._validate:
            check_envelope(envelope)
        else:
            checked_current(checked_route(envelope))
        route = envelope["route"]
        payload = envelope["payload"]
        metadata = None  # type: Optional[Metadata]
        if self._include_metadata and isinstance(payload, dict):
            metadata = Metadata(envelope, payload)
            payload.update(metadata.copy())
        route["current"] += 1
        envelope_part = {"route": route}
        if "headers" in envelope:
            envelope_part["headers"] = envelope["headers"]

        def finish(result: Any) -> List[Any]:
            payloads = items_of(result)
            if metadata is not None:
                payloads = [metadata.remove_from(payload) for payload in payloads]
            return [{"payload": payload, **envelope_part} for payload in payloads]

        return payload, finish


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

    def __init__(self, settings: Settings) -> None:
        self._repeat_unchanged = settings.repeat_unchanged

    def prepare(self, envelope: Dict[str, Any]) -> Tuple[Any, Callable[[Any], List[Any]]]:
        normalise(envelope)
        check_envelope(envelope)
        route = envelope["route"]
        # Copied before the call: handlers edit the route in place.
        actors, current = list(route["actors"]), int(route["current"])

        def finish(result: Any) -> List[Any]:
            outputs = items_of(result)
            return [self._item(output, index, len(outputs), actors, current) for index, output in enumerate(outputs)]

        return envelope, finish

    def _item(self, output: Any, index: int, count: int, actors: List[Any], current: int) -> Dict[str, Any]:
        try:
            return self._checked(output, actors, current)
        except ValueError as exc:
            failure = ValueError("Invalid output envelope[%d/%d]: %s" % (index, count, exc))
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

    def prepare(self, envelope: Dict[str, Any]) -> Tuple[Any, Callable[[Any], List[Any]]]:
        return envelope, items_of


def calling_mode(settings: Settings) -> Any:
    if settings.mode == "payload":
        return PayloadMode(settings)
    return EnvelopeMode(settings) if settings.validate else UncheckedEnvelopeMode()


# === encoding ===

# A value that contains itself ends the fast one in a RecursionError; the careful one then names it.
ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"), check_circular=False)
CAREFUL_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class Unsendable(Exception):
    """A result item that is not JSON or too large. `kind` is the exception type that is reported."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def encode_items(items: List[Any], limit: int, envelope_id: str) -> bytes:
    """The answer as bytes, at most `limit`; an item that cannot be sent becomes an error item in its place."""
    try:
        body = ENCODER.encode(items).encode("ascii")
        if len(body) <= limit:
            return body
    except Exception:
        pass  # Rare: one item at a time finds out which one it is and keeps the others.
    return encode_one_by_one(items, limit, envelope_id)


def encode_one_by_one(items: List[Any], limit: int, envelope_id: str) -> bytes:
    parts = []  # type: List[bytes]
    total = 2  # The brackets.
    for index, item in enumerate(items):
        try:
            part = encode_item(item, index, limit)
        except Unsendable as exc:
            log.error("result item cannot be sent: id=%s item=%d/%d %s", envelope_id, index, len(items), exc.kind)
            part = encode_error(error_item(PROCESSING_ERROR, exc, exc.kind), limit - 2)
        if total + len(part) > limit:
            log.error("answer too large: id=%s from item=%d/%d", envelope_id, index, len(items))
            # One frame holds the whole answer, so what no longer fits is reported, not dropped in silence.
            return join_parts(*make_room(parts, index, len(items), limit))
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


# === processing ===


class Processor:
    """One request body in, one answer body out. Never raises, except to leave a forked child."""

    def __init__(self, settings: Settings, handler: Callable[[Any], Any]) -> None:
        self._handler = handler
        self._mode = calling_mode(settings)
        self._limit = settings.max_message_size
        self._debug = log.isEnabledFor(logging.DEBUG)
        self._process_id = os.getpid()

    def answer(self, body: Any) -> bytes:
        try:
            items, envelope_id = self._items(body)
            return encode_items(items, self._limit, envelope_id)
        except Exception as exc:
            log.error("failed to make an answer: %s at %s", type(exc).__name__, place_of(exc))
            return self.error(PROCESSING_ERROR, exc)

    def error(self, code: str, exc: BaseException, kind: Optional[str] = None) -> bytes:
        return join_parts(encode_error(error_item(code, exc, kind), self._limit - 2))

    def _items(self, body: Any) -> Tuple[List[Any], str]:
        """The result items, and the envelope's id for log lines."""
        envelope = None
        try:
            envelope = parse_envelope(body)
            argument, finish = self._mode.prepare(envelope)
        except Exception as exc:
            envelope_id = id_of(envelope)
            log.error("request refused: id=%s %s", envelope_id, type(exc).__name__)
            return [error_item(PARSING_ERROR, exc, "JSONDecodeError" if isinstance(exc, NotJson) else None)], envelope_id
        # Before the call, which may edit the envelope.
        envelope_id = id_of(envelope)
        del envelope
        started = time.monotonic()
        failure = None  # type: Optional[BaseException]
        try:
            result = self._handler(argument)
            del argument
        except BaseException as exc:  # SystemExit and KeyboardInterrupt end the call, not the process.
            failure = exc
        if os.getpid() != self._process_id:
            leave_forked_child(failure)
        if failure is not None:
            log.error("handler failed: id=%s %s at %s", envelope_id, type(failure).__name__, place_of(failure))
            return [error_item(PROCESSING_ERROR, failure)], envelope_id
        items = finish(result)
        if self._debug:
            milliseconds = (time.monotonic() - started) * 1000
            log.debug("handled: id=%s items=%d ms=%.1f", envelope_id, len(items), milliseconds)
        return items, envelope_id


PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")


def id_of(envelope: Any) -> str:
    """The id for a log line: on one line and bounded, whatever the sender wrote."""
    value = envelope.get("id") if isinstance(envelope, dict) else None
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


# === framing ===

LENGTH = struct.Struct(">I")
# As the struct timeval that SO_RCVTIMEO takes.
WAIT_FOR_READ = struct.pack("ll", READ_IDLE_SECONDS, 0)
WAIT_FOR_DISCARD = struct.pack("ll", DISCARD_IDLE_SECONDS, 0)
WAIT_FOR_ACCEPT = struct.pack("ll", ACCEPT_SECONDS, 0)


class FrameTooLarge(Exception):
    def __init__(self, size: int, received: int, limit: int) -> None:
        super().__init__("The message has %d bytes, more than ASYA_MAX_MESSAGE_SIZE=%d allows" % (size, limit))
        self.missing = size - received


class FrameReader:
    """Reads one frame per connection. Memory grows with what has arrived, not with what was announced."""

    def __init__(self, chunk_size: int, limit: int) -> None:
        self._limit = limit
        self._view = memoryview(bytearray(max(chunk_size, LENGTH.size)))

    def read(self, connection: socket.socket) -> Any:
        """The body, or None if the peer left without a byte (the sidecar's readiness check)."""
        view = self._view
        try:
            # Mostly the whole frame is there already, and the bound on waiting not worth a system call.
            received = connection.recv_into(view, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            limit_wait(connection, WAIT_FOR_READ)
            received = connection.recv_into(view)
        if received == 0:
            return None
        if received < LENGTH.size or received < LENGTH.size + LENGTH.unpack_from(view)[0]:
            limit_wait(connection, WAIT_FOR_READ)
        while received < LENGTH.size:
            count = connection.recv_into(view[received:])
            if count == 0:
                raise ConnectionError("the peer closed the connection inside the length prefix")
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
                raise ConnectionError("the peer closed the connection after %d of %d bytes" % (len(body), size))
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


def limit_wait(waiting: socket.socket, limit: bytes) -> None:
    """How long a read (or accept) may wait, measured by the kernel: BlockingIOError after that.

    A Python-level timeout would cost a poll() before every read and write.
    """
    waiting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)


def send_frame(connection: socket.socket, body: bytes) -> None:
    if len(body) <= JOIN_FRAME_BYTES:
        connection.sendall(LENGTH.pack(len(body)) + body)
    else:
        connection.sendall(LENGTH.pack(len(body)))
        connection.sendall(body)


# === server ===


class StopSignal:
    """SIGTERM and SIGINT: while loading they end the process, while serving they only ask it to stop."""

    def __init__(self) -> None:
        self.requested = False
        self._loading = True
        self._mask = threading.local()
        # Where a connection wakes the server out of accept().
        self.wake_path = None  # type: Optional[str]

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def loaded(self) -> None:
        self._loading = False
        # Code that was imported may have put its own handlers here.
        self.install()

    def before_fork(self) -> None:
        # A signal for the child must wait until it has its own handlers, or it would be lost.
        self._mask.before_fork = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))

    def after_fork_in_parent(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask.before_fork)

    def after_fork_in_child(self) -> None:
        """Children of a handler die of SIGTERM as any process does (multiprocessing relies on it)."""
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        except ValueError:
            pass  # Not the main thread: then no Python handler runs here either.
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask.before_fork)

    def _on_signal(self, number: int, _frame: Any) -> None:
        self.requested = True
        if self._loading:
            raise SystemExit(0)
        if self.wake_path is not None:
            wake(self.wake_path)


def wake(path: str) -> None:
    """Connects and leaves, so that accept() returns; cheaper than polling before each accept."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            connection.connect(path)
    except OSError:
        pass  # A full backlog: accept() returns anyway. Anything else: after ACCEPT_SECONDS.


class SocketPath:
    """The socket file and the ready file: created by this process, removed by it alone."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._identity = None  # type: Optional[Tuple[int, int]]

    def listen(self) -> socket.socket:
        path = self._settings.socket_path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        remove_file(self._settings.ready_path)
        remove_file(self._settings.drained_path)
        self._remove_stale_socket(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(True)  # Whatever socket.setdefaulttimeout() the user's module has called.
        listener.bind(path)
        listener.listen(BACKLOG)
        status = os.stat(path)
        self._identity = (status.st_dev, status.st_ino)
        if self._settings.socket_mode is not None:
            os.chmod(path, self._settings.socket_mode)
        return listener

    def announce(self) -> None:
        path = self._settings.ready_path
        try:
            with open(path + ".new", "w") as file:
                file.write("ready")
            os.replace(path + ".new", path)
        except OSError as exc:
            log.error("failed to write the ready file: %s", exc)

    def remove(self) -> None:
        path = self._settings.socket_path
        try:
            status = os.stat(path)
        except OSError:
            return
        # Not if a successor already listens at this path.
        if (status.st_dev, status.st_ino) == self._identity:
            remove_file(self._settings.ready_path)
            remove_file(path)

    @staticmethod
    def _remove_stale_socket(path: str) -> None:
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a socket"
            raise OSError(errno.EEXIST, "the socket path exists and is %s; remove it or set ASYA_SOCKET_DIR" % kind, path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            # A full backlog (EAGAIN) is a live server as well.
            if probe.connect_ex(path) in (0, errno.EAGAIN):
                raise OSError(errno.EADDRINUSE, "another runtime already serves this socket; stop it first", path)
        remove_file(path)


def remove_file(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        log.warning("failed to remove %s: %s", path, exc)


class Server:
    """Accepts one connection after the other and answers in the main thread, until asked to stop."""

    def __init__(self, settings: Settings, processor: Processor, stop: StopSignal) -> None:
        self._settings = settings
        self._processor = processor
        self._stop = stop
        self._path = SocketPath(settings)
        self._reader = FrameReader(settings.chunk_size, settings.max_message_size)
        self._process_id = os.getpid()
        self._listener = self._path.listen()
        self._connection = None  # type: Optional[socket.socket]
        # A child that lives on must not hold the socket open: peers would wait for it in vain.
        os.register_at_fork(
            before=stop.before_fork,
            after_in_parent=stop.after_fork_in_parent,
            after_in_child=self._after_fork_in_child,
        )

    def serve(self) -> None:
        try:
            self._path.announce()
            log.info("serving %s (%s mode) on %s", self._settings.handler, self._settings.mode, self._settings.socket_path)
            limit_wait(self._listener, WAIT_FOR_ACCEPT)
            self._stop.wake_path = self._settings.socket_path
            while not self._stop.requested:
                self._accept()
            self._drain()
        finally:
            if os.getpid() == self._process_id:
                self._path.remove()
                self._listener.close()

    def _drain(self) -> None:
        """Serves on while the sidecar may still hand over, then takes no more and ends the backlog."""
        log.info("stopping")
        waiter = select.poll()
        waiter.register(self._listener, select.POLLIN)
        deadline = time.monotonic() + self._settings.shutdown_grace
        while time.monotonic() < deadline and not os.path.exists(self._settings.drained_path):
            if waiter.poll(DRAIN_POLL_MILLISECONDS):
                self._accept()
        # Without the path nobody new can connect, so the backlog only shrinks.
        self._stop.wake_path = None
        self._path.remove()
        while waiter.poll(0):
            self._accept()

    def _accept(self) -> None:
        try:
            connection, _address = self._listener.accept()
        except BlockingIOError:
            return  # ACCEPT_SECONDS have passed.
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                log.error("failed to accept a connection: %s", exc)
                time.sleep(0.1)  # The connection stays in the backlog; do not spin on it.
                return
            if exc.errno == errno.ECONNABORTED:
                return
            raise
        if connection.gettimeout() is not None:
            connection.setblocking(True)
        self._connection = connection
        try:
            self._exchange(connection)
        except OSError as exc:
            log.warning("connection lost: %s", exc)
        finally:
            self._connection = None
            connection.close()

    def _exchange(self, connection: socket.socket) -> None:
        try:
            body = self._reader.read(connection)
        except FrameTooLarge as exc:
            log.error("request refused: %s", exc)
            # The answer first: it fits into the socket's buffer, so this does not wait for the peer.
            send_frame(connection, self._processor.error(PARSING_ERROR, exc, "ValueError"))
            self._reader.discard(connection, exc.missing)
            return
        except OSError as exc:
            reason = exc
            if isinstance(exc, BlockingIOError):
                reason = ConnectionError("the peer sent nothing for %d seconds" % READ_IDLE_SECONDS)
            log.warning("request not read: %s", reason)
            send_frame(connection, self._processor.error(CONNECTION_ERROR, reason))
            return
        if body is not None:
            send_frame(connection, self._processor.answer(body))

    def _after_fork_in_child(self) -> None:
        self._listener.close()
        if self._connection is not None:
            self._connection.close()
        self._stop.after_fork_in_child()


# === commands ===


def configure_output(level: int) -> None:
    """Line by line, and never failing on a character: what handlers print is seen at once."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    # On the root logger, so that the handler's own loggers are seen as well.
    logging.basicConfig(
        level=level,
        format="%(asctime)s - %(name)s - %(levelname)s - %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
        stream=sys.stderr,
    )


def run_server() -> int:
    stop = StopSignal()
    stop.install()
    env = Environment(os.environ)
    settings = read_settings(env)
    configure_output(settings.log_level)
    for warning in env.warnings:
        log.warning("%s", warning)
    if env.problems:
        for problem in env.problems:
            log.critical("%s", problem)
        return 1
    try:
        handler = resolve_handler(settings.handler).instantiate()
    except LoadError as exc:
        if stop.requested:
            return 0
        log.critical("%s (%s)%s", exc, exc.hint, "\n" + exc.trace if exc.trace else "")
        return 1
    stop.loaded()
    log.disabled = False  # logging.config in the user's module disables loggers that exist already.
    try:
        server = Server(settings, Processor(settings, handler), stop)
    except OSError as exc:
        log.critical("failed to open the socket %s: %s", settings.socket_path, exc)
        return 1
    server.serve()
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
            report.update(handler=target.name, kind=target.kind, mode=settings.mode)
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
            "Serves a Python handler to an Asya sidecar over a Unix socket.",
            "",
            "usage: python3 asya_runtime.py             serve until SIGTERM",
            "       python3 asya_runtime.py --check     import the handler, print one JSON object, exit 0 or 1",
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

    A local run sets ASYA_PARENT_PID; in a pod nobody does. Only Linux has this.
    """
    parent = os.environ.pop("ASYA_PARENT_PID", "")
    if not parent.isdigit() or not sys.platform.startswith("linux"):
        return
    import ctypes  # Takes milliseconds, and a pod never needs it.

    pr_set_pdeathsig = 1
    try:
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    except (OSError, AttributeError) as error:
        log.warning("cannot tie this process to its parent: %s", error)
    if os.getppid() != int(parent):
        os._exit(1)  # It was killed before the kernel knew.


def main(arguments: List[str]) -> int:
    if sys.version_info < (3, 7):
        sys.stderr.write("asya_runtime.py needs Python 3.7 or newer, this is %s\n" % sys.version.split()[0])
        return 1
    if not arguments:
        end_with_parent()
        return run_server()
    if arguments == ["--check"]:
        code = run_check()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # Threads that the user's module started must not hold the answer back.
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
