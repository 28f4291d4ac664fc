"""The load generator: drives an OpenAI-compatible endpoint, records every request and judges the records."""
