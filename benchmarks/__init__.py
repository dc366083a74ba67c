"""Timings beside the obvious way of doing the same; run with ``python -m benchmarks``."""
