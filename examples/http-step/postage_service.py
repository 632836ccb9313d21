"""Stands for a service that exists already: tells the postage of a parcel over HTTP. Not part of the pipeline.

    python3 postage_service.py [PORT]

POST / {"country": "NL", "grams": 700} -> {"cents": 695, "days": 2}
"""

import http.server
import json
import sys

ZONES = {"DE": (495, 1), "NL": (695, 2), "FR": (795, 2)}
LIMIT_GRAMS = 31500


class Postage(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        try:
            parcel = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode("utf-8"))
            base, days = ZONES[parcel["country"]]
            grams = parcel["grams"]
        except (KeyError, TypeError, ValueError) as error:
            return self.answer(422, {"error": "no postage for this parcel: %s" % error})
        if not 0 < grams <= LIMIT_GRAMS:
            return self.answer(422, {"error": "a parcel weighs 1 to %d grams" % LIMIT_GRAMS})
        return self.answer(200, {"cents": base + 150 * (grams // 1000), "days": days})

    def answer(self, status, body):
        body = json.dumps(body).encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8700
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Postage) as server:
        print("http://127.0.0.1:%d" % server.server_port, flush=True)
        server.serve_forever()
