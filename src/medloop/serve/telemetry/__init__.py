"""Prometheus metrics, traces and logs; none of them contains patient data."""
