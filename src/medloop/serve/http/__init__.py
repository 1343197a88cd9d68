"""What surrounds a route: access control, limits on bodies and connections, and errors."""
