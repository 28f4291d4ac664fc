"""What a live Prometheus or metrics page says: the state of SLOs, and whether the rules find their series."""
