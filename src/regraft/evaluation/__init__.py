"""Is a generator good?  Measures, held-out watching, copying, the verdict."""
