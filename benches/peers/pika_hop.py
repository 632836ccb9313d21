"""A hop as one writes it with pika: each publish is confirmed before its message is acknowledged.

    python pika_hop.py URL SOURCE TARGET PREFETCH
"""
import signal
import sys

import pika


def main(url, source, target, prefetch):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=int(prefetch))
    properties = pika.BasicProperties(delivery_mode=2)

    def hop(_, method, __, body):
        # Raises when the message cannot be routed or is refused.
        channel.basic_publish("", target, body, properties, mandatory=True)
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(source, hop)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    channel.start_consuming()


main(*sys.argv[1:])
