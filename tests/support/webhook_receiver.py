"""A receiver of webhooks on this machine."""

from benchmarks.harness.webhook_receiver import Handler, Receiver, receiving

__all__ = ["Handler", "Receiver", "receiving"]
