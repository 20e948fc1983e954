"""What all benchmarks share: services, workers, models, baselines, and the table of results."""
