"""Running benchmarks: generation, statistics, records, summaries."""
