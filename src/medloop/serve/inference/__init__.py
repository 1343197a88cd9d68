"""From decoded inputs to stored predictions: threads, batches and patients."""
