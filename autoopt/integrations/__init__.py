"""autoopt inside other people's training frameworks; each file imports its own."""
