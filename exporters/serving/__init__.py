"""The sidecar as a server: its pages, who may see them, what it pushes, how it starts and ends."""
