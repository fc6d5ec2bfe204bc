"""The one training loop, and what methods hand to it."""
