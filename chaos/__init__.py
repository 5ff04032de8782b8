"""The fault runs: `python -m chaos`, at full size and on servers of its own.

Each is a function with a size, which the suite calls with a small one (`tests/chaos/`).
"""
