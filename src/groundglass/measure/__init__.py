"""Arrays into numbers: counts per case, metrics, averages with intervals, benchmark scores, thresholds. NumPy only."""
