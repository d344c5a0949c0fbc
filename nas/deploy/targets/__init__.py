"""Where models are shipped to: one file a target, one protocol (`target`), one registry."""
