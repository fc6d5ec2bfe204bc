"""Target images and codes in memory, and which of them are near to one another."""
