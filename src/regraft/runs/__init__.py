"""The run folder and the adapter in it."""
