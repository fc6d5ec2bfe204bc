"""What users do: one file is one verb, named as they type it."""
