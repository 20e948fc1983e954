"""Whole manifests of edits, sweeps over parameters, and their reports: `diffedit batch` and `diffedit sweep`."""
