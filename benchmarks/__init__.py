"""Benchmarks. They print figures and never pass or fail."""
