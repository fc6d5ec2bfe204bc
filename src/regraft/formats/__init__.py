"""Readers of checkpoint files, one dialect a file."""
