"""What the speed claims are measured with: `python -m benchmarks`, on servers of its own."""
