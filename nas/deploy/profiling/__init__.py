"""Profiles: which operator of an exported file takes how much of its time, and which layer it belongs to."""
