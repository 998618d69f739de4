"""Benchmarks of speed and memory, against peers."""
