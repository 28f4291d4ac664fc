"""The boards, one module each: what they show, in which order, and why a panel is there."""
