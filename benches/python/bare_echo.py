"""The least that a Python echo behind a Unix socket can do: what the runtime is measured against.

    python3 bare_echo.py DIRECTORY

Listens on DIRECTORY/asya-runtime.sock and answers one length-prefixed JSON envelope per connection.
"""
import json
import os
import socket
import struct
import sys


def main(directory):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.path.join(directory, "asya-runtime.sock"))
    listener.listen(128)
    open(os.path.join(directory, "runtime-ready"), "w").close()
    while True:
        connection, _ = listener.accept()
        data = connection.recv(65536)
        if data:
            size = struct.unpack_from(">I", data)[0]
            parts, missing = [data[4:]], size + 4 - len(data)
            while missing > 0:
                parts.append(connection.recv(65536))
                missing -= len(parts[-1])
            envelope = json.loads(b"".join(parts))
            envelope["route"]["current"] += 1
            answer = json.dumps([{"payload": envelope["payload"], "route": envelope["route"]}]).encode()
            connection.sendall(struct.pack(">I", len(answer)) + answer)
        connection.close()


main(sys.argv[1])
