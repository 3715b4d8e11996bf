"""What `experiments.benchmark` can measure, one module each."""
