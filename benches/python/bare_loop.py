"""The least that a Python loop on one connection can do: what protocol v2 is measured against.

    python3 bare_loop.py DIRECTORY

Listens on DIRECTORY/asya-runtime.sock. Takes the frames of a worker connection of v2, and gives back what a request
holds: read, decode, encode, write.
"""
import json
import os
import socket
import struct
import sys

HEADER = struct.Struct(">IBBHI")
WELCOME, REPLY = 0x02, 0x20


def main(directory):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.path.join(directory, "asya-runtime.sock"))
    listener.listen(128)
    open(os.path.join(directory, "runtime-ready"), "w").close()
    while True:
        connection, _ = listener.accept()
        # Buffered, so that what was written ahead is read together.
        with connection, connection.makefile("rb", 1 << 18) as reader:
            serve(connection, reader)


def serve(connection, reader):
    header = reader.read(HEADER.size)
    if not header:
        return  # somebody looked whether we are there
    reader.read(HEADER.unpack(header)[0])
    welcome = b'{"protocol": 2, "revision": 0}'
    connection.sendall(HEADER.pack(len(welcome), WELCOME, 0, 0, 0) + welcome)
    while True:
        header = reader.read(HEADER.size)
        if not header:
            return
        length, _, _, _, tag = HEADER.unpack(header)
        # Budget and attempt come before the envelope.
        answer = json.dumps(json.loads(reader.read(length)[8:])).encode()
        connection.sendall(HEADER.pack(len(answer), REPLY, 0, 0, tag) + answer)


main(sys.argv[1])
