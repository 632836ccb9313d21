"""Handlers of the document pipeline: from a directory of Markdown to a digest.

Each module is one actor. A handler is a plain function (or a method of a
class that is built once) from payload to payload; nothing here knows about
queues, sockets or the project that runs it. Start with ``split``, the first
actor, and follow the route in ``asya.yaml``.
"""
