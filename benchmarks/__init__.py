"""Measurements of speed and memory, one file a question; `make bench` runs the short ones. See docs/speed.md."""
