"""Handlers of the shapes that are measured."""
import asyncio
import time


async def nap(payload):
    await asyncio.sleep(0.05)
    return payload


def batch(payloads):
    """Costs 10 ms and 0.2 ms for each item, and notes when it began."""
    started = time.monotonic_ns()
    time.sleep(0.010 + 0.0002 * len(payloads))
    return [{"sent": payload["sent"], "started": started, "items": len(payloads)} for payload in payloads]


def hang(payload):
    """Takes 2 ms, or for ever if told so; notes when it began."""
    started = time.monotonic_ns()
    while payload["hang"]:
        time.sleep(3600)
    time.sleep(0.002)
    return {"sent": payload["sent"], "started": started, "items": 1}
