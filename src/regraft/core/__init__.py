"""The contract of networks, and what everything else stands on."""
