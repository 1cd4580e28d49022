"""The migrations. Each describes the tables on its own terms and imports nothing of the store."""
