"""A run from its options to its records: workers on this machine or a Ray cluster, live figures, samples."""
