"""GPU telemetry: NVML, or the metrics page of another exporter, as readings in one vocabulary."""
