"""Measurements, side by side in one run. Each says how to run it and what it means."""
