"""Benchmarks: yggpy beside the real Go node, in one run, as ratios."""
