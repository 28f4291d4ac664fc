"""How a request is sent, stamped and read: the hot path, and the control side of the target."""
