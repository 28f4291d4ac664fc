"""slo-exporter: engine metrics, GPU telemetry and request spans on one /metrics page, in one vocabulary."""
