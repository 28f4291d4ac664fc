"""OpenSLO v1, in and out: its documents become specs, or are refused by the field that stands in the way."""
