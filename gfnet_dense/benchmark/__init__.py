"""Benchmarks of time, memory, FLOPs and accuracy over image resolution."""
