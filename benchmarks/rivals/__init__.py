"""Other services of the same graph, each for an environment of its own; they know nothing of medloop."""
