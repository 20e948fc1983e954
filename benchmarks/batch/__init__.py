"""`diffedit batch` under faults, and its throughput."""
