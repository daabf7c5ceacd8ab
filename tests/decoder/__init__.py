"""The decoder process, on real clips."""
