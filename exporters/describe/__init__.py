"""`slo-exporter describe`: which engine and which GPU source exposes what, under which name, or why not."""
