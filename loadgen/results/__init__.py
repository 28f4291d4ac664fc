"""Records of requests, and the figures that they give: summary, steady part, baseline."""
