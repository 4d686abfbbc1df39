"""Recommendations inside other libraries' training loops; a file a library, imported only when asked for."""
