"""Scores of untrained networks: cheap figures that go along with the accuracy after training, more or less."""
