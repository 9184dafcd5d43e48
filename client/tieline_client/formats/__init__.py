"""Readers of the files that users bring, and the detection of which one a file is."""
