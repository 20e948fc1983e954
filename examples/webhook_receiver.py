"""Receive the events of edits, and check who has sent them.

    pip install standardwebhooks
    export DIFFEDIT_WEBHOOK_SECRETS=$(diffedit webhooks --new-secret)
    DIFFEDIT_WEBHOOK_ALLOW=127.0.0.0/8 diffedit webhooks &
    python examples/webhook_receiver.py &
    diffedit edit bowl.png --target "a bowl of pears" --webhook http://127.0.0.1:8080/

An event may arrive twice, and a later one before an earlier one: keep the ids that were seen, as here in `seen`.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRETS = os.environ["DIFFEDIT_WEBHOOK_SECRETS"].split(",")
seen: set[str] = set()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers["Content-Length"]), 100_000))
        event = self.verified(body)
        if event and self.headers["webhook-id"] not in seen:
            seen.add(self.headers["webhook-id"])
            print(event["type"], event["data"]["id"], flush=True)
        self.send_response(204 if event else 400)
        self.end_headers()

    def verified(self, body: bytes) -> dict | None:
        for secret in SECRETS:
            try:
                return Webhook(secret.strip()).verify(body, dict(self.headers))
            except WebhookVerificationError:
                continue
        return None


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    server = HTTPServer(("127.0.0.1", port), Receiver)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
