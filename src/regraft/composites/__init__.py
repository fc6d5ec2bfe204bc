"""Generators made of other generators, or of an autoencoder's decoder."""
