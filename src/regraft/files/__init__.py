"""Bytes on disk, read and written safely."""
