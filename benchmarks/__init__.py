"""Measurements of speed, quality, service and reliability. README.md lists them with their commands."""
