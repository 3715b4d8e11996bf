"""Where files lie: folders, and buckets behind a local cache."""
