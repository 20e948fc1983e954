"""Sending the events of jobs to webhooks: who signs, where to, how, and when."""
