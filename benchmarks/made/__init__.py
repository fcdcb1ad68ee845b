"""Models that the benchmarks make."""
