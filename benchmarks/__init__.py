"""Measurements that `make bench` prints; ratios within one run, since machines differ and are shared."""
