"""From resolved networks to torch modules, and what those cost."""
