"""The tree, bloom filters, path finding and greedy routing (protocol sections 5 to 8), sans-I/O."""
