"""Measure generators against real images, during a run and after it, and give a verdict."""
