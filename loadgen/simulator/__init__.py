"""A simulated vLLM engine on one GPU: the model, its expositions and spans, and the API in front of it."""
