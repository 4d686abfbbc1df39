"""What a user sees of a run: the YAML, the script, the terminal and the page."""
