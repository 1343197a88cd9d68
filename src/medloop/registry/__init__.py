"""The model store: registered versions, the one that serves, and their mirrors."""
