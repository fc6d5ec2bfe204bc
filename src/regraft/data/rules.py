"""Versions of the rules by which the images of a run are scaled and held out; a resumed run keeps those that it began with.

1: grey values of 16 bits are scaled by 65535, and duplicates may lie on both sides of the held-out split.
2: they are scaled by the bits that the whole set uses (:func:`regraft.data.ranges.white_of`), and duplicates stay together.
"""

FIRST = 1
"""Rules of runs that do not say theirs."""
NEWEST = 2
"""Rules of new runs."""
