"""OTLP trace exports: what they say of requests, exact SLI counters, exemplars, and tail sampling."""
