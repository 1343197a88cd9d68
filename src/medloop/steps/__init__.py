"""The stages, their order, and what the commands do with them."""
