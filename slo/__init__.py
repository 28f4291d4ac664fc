"""The domain: metric catalogue, SLIs, specs, and the rules and dashboards that follow from them."""
