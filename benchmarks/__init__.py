"""Benchmarks that others can rerun: `python -m benchmarks list | run NAME | report | table`."""
