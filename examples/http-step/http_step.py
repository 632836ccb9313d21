"""A step that is an existing HTTP service: sends the payload to it, and goes on with the answer.

Nothing here is about one service. Which one, and which part of the payload it gets, is said by the environment:

    STEP_URL      where to POST (required)
    STEP_INPUT    member of the payload that is sent; without it, the whole payload
    STEP_OUTPUT   member of the payload that gets the answer; without it, the answer is the new payload
    STEP_TIMEOUT  longest time for one request, in seconds (default 30), within the time that the call has
    STEP_TOKEN    sent as bearer token, from a Secret

Failures are raised as what they are, so that the retry policy of the actor can tell them apart:

    ConnectionError  the service is away, too busy (429) or broken (5xx): worth another run
    ValueError       the service refuses this payload (other 4xx), or does not answer with JSON: not worth one
"""

import json
import os
import urllib.error
import urllib.request

from asya_runtime import context

URL = os.environ["STEP_URL"]
INPUT = os.environ.get("STEP_INPUT")
OUTPUT = os.environ.get("STEP_OUTPUT")
TIMEOUT = float(os.environ.get("STEP_TIMEOUT", "30"))
TOKEN = os.environ.get("STEP_TOKEN")

SHOWN = 500  # characters of an answer that an error shows


def call(payload):
    answer = post(payload if INPUT is None else payload[INPUT])
    if OUTPUT is None:
        return answer
    return dict(payload, **{OUTPUT: answer})


def post(value):
    request = urllib.request.Request(URL, json.dumps(value).encode("utf-8"), headers(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=time_limit()) as response:
            body = response.read()
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(SHOWN).decode("utf-8", "replace").strip()
        message = "%s answers %d: %s" % (URL, error.code, said or error.reason)
        if error.code == 429 or error.code >= 500:
            raise ConnectionError(message) from None
        raise ValueError(message) from None
    except OSError as error:  # refused, reset, unknown host, too slow
        raise ConnectionError("%s cannot be asked: %s" % (URL, error)) from error
    try:
        return json.loads(body.decode("utf-8"))
    except ValueError as error:
        raise ValueError("%s does not answer with JSON: %s" % (URL, error)) from error


def headers():
    told = {"Content-Type": "application/json", "Accept": "application/json"}
    if TOKEN:
        told["Authorization"] = "Bearer " + TOKEN
    if context.id:
        # The same for every run of this envelope: a service that knows the header does the work once.
        told["Idempotency-Key"] = context.id
    for name in ("traceparent", "tracestate"):
        if name in (context.headers or {}):
            told[name] = context.headers[name]
    return told


def time_limit():
    left = context.time_left()
    return TIMEOUT if left is None else max(0.1, min(TIMEOUT, left))
