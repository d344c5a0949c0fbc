"""The operators that templates name."""
