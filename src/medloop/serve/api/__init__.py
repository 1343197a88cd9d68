"""The routes, one file per group, and their schemas."""
