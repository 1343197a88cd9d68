"""Sentences about a bundle, built from the facts that its stages recorded."""
