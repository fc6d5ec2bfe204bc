"""Target images and codes, in memory."""
