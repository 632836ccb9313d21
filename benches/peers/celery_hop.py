"""A hop of a Celery chain: late acknowledgement, confirmed publishes, two worker processes.

    python celery_hop.py URL SOURCE TARGET PREFETCH COUNT

First puts COUNT chains of two tasks into SOURCE, then runs a worker for the first task of each; what it sends on for
the second one stays in TARGET.
"""
import os
import sys

from celery import Celery, chain
from kombu import Exchange, Queue

URL, SOURCE, TARGET, PREFETCH, COUNT = sys.argv[1:6]
WORKERS = 2

app = Celery("hop", broker=URL)
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    # The queues are there already, and are reached by their names through the default exchange.
    task_queues=[Queue(name, Exchange(""), routing_key=name, no_declare=True) for name in (SOURCE, TARGET)],
    worker_prefetch_multiplier=int(PREFETCH) // WORKERS,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
)


@app.task
def echo(payload):
    return payload


def fill(count):
    payload = "x" * 1024
    with app.producer_pool.acquire() as producer:
        for _ in range(count):
            first = echo.s(payload).set(queue=SOURCE, routing_key=SOURCE)
            second = echo.s().set(queue=TARGET, routing_key=TARGET)
            chain(first, second).apply_async(producer=producer)


if __name__ == "__main__":
    fill(int(COUNT))
    os.environ["PYTHONWARNINGS"] = "ignore"
    app.worker_main(
        ["worker", "--queues", SOURCE, "--pool", "prefork", "--concurrency", str(WORKERS), "--loglevel", "ERROR"]
        + ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    )
