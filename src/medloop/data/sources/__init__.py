"""The sources of labelled cases, one module each."""
