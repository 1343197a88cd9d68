"""Training image models: a head on cached features, or the whole network."""
