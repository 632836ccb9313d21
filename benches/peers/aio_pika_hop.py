"""A hop with aio-pika: as many publishes wait for their confirms side by side as the prefetch allows.

    python aio_pika_hop.py URL SOURCE TARGET PREFETCH
"""
import asyncio
import signal
import sys

import aio_pika


async def main(url, source, target, prefetch):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with await aio_pika.connect(url) as connection:
        # One channel each, so that confirms and acknowledgements do not wait for one another.
        incoming = await connection.channel()
        outgoing = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await incoming.set_qos(prefetch_count=int(prefetch))
        queue = await incoming.get_queue(source, ensure=False)

        async def hop(message):
            sent = aio_pika.Message(message.body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await outgoing.default_exchange.publish(sent, target, mandatory=True)
            await message.ack()

        await queue.consume(hop)
        await stop.wait()


asyncio.run(main(*sys.argv[1:]))
