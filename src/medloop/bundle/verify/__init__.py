"""Checks of a bundle before it is used: its graph, its numbers, and a trial run in another process."""
