"""Fetching the official files of the benchmarks: what they are, where they are served, resumable transfers, checks."""
