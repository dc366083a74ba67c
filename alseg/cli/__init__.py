"""The commands: from words to plain objects and keyword arguments."""
