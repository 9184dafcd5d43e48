"""What was spoken and stored before, kept so that every later version still understands it."""
