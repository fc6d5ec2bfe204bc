"""Generators made of other generators."""
