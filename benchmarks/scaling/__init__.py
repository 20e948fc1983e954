"""Autoscaling by the published rules of KEDA and the HPA, simulated over a real Redis and the real job store."""
