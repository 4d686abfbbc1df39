"""Measurements that the claims of the README rest on; each a command that appends to RESULTS.md."""
