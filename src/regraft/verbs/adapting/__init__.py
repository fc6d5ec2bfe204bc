"""The steps of ``adapt``: prepare, assemble, finish."""
