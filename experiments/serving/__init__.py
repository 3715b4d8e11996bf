"""The server: fetching, confined decoding, jobs and the HTTP interface."""
