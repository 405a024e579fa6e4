"""Run benchmarks: generation, statistics, records, summaries."""
