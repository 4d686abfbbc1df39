"""Does what the papers report hold in small? A file a claim."""
