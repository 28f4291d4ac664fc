"""What Prometheus evaluates: recording rules, burn-rate and health alerts, and what they detect and cost."""
