"""Where files are timed: here, on a machine reached by SSH, on a phone, or on one that nobody can reach."""
