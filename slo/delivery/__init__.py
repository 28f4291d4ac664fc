"""From rules and boards to files, Kubernetes objects, a Mimir ruler and a Grafana."""
