"""`medloop new`: a project folder from one template."""
