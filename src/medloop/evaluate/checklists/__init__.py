"""Reporting guidelines, item by item: CLAIM for images, TRIPOD+AI for tables."""
