"""Adapters of environment libraries, one file per library.

Each adapter makes the environments of its library an ``Environment``. No other folder imports
these libraries.
"""
