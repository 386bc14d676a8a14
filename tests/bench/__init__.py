"""Benchmarks: `make bench`. Every figure is a ratio within one run on one machine; nothing is asserted on the clock."""
