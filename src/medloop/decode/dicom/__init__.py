"""DICOM files: pixels, grey values and the few tags that are read."""
