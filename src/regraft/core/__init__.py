"""The contract of networks, and the helpers that every other folder uses."""
