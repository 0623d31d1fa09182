"""Compiling for accelerators that are not here, and reading what was compiled."""
