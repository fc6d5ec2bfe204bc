"""What tests share: toy networks and images, and writers of other people's files."""
