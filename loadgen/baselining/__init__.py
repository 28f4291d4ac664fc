"""`slo-load baseline`: an engine, a sidecar, its capacity, a run at a share of it, and the files that tell of it."""
