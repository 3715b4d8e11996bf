"""Networks in plain torch: no Lightning, no configuration, no file access."""
