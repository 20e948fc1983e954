"""The metrics of a fleet, for Prometheus. Needs prometheus-client (extra `metrics`)."""
