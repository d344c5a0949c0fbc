"""Latency of exported models: device cards, the timing protocol, predictors with an upper bound."""
