"""Training behaviour that no method owns."""
