"""Workloads whose gradients are known to spike, for `benchmarks.choice.clipping` alone."""
