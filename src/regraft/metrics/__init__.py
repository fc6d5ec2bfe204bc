"""Measures of generated images, one file each."""
