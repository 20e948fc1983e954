"""`diffedit webhooks`, with pauses that suit a run of minutes: one process of it, for `Senders`.

    python -m benchmarks.chaos.webhook_sender

An event whose sender was killed is due again after a few seconds, not after two minutes.
"""

from diffedit.cli import app
from diffedit.webhooks import sender

if __name__ == "__main__":
    sender.LEASE, sender.FIRST_DELAY, sender.LONGEST_DELAY, sender.POLL = 5.0, 0.2, 1.0, 0.2
    app(["webhooks", "--threads", "4"])
