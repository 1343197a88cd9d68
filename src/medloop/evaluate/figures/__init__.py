"""What is computed on the locked test cases, as plain data."""
