"""`slo-load demo`: the whole path once, from an engine to a verdict, in under a minute."""
