"""What a run tells a person: one HTML page and one table, made from the files of the run folder alone."""
