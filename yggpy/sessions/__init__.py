"""Encrypted sessions between any two nodes (protocol section 9), sans-I/O: time comes in, effects go out."""
