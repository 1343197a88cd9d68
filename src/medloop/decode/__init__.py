"""Bytes of a file to pixels, safely: strangers' files are decoded in limited processes."""
