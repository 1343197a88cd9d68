"""The measurements of `medloop bench`."""
