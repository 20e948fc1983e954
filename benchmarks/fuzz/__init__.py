"""A mutating fuzzer of all that strangers can send, which measures time and memory: `python -m benchmarks.fuzz`."""
