"""Losses that keep a generator near its source while it is fine-tuned: one file each, found by its name."""
