"""`medloop new`: a new project from a template."""
