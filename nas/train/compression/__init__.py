"""Smaller and cheaper forms of a network, and the trainings that make them good.

Responsible for what is done to weights in torch: fewer channels, zeros, teachers, 8-bit numbers that are trained for.
"""
