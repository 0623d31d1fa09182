"""Wrappers that change an environment. A wrapped environment is an ``Environment`` again.

A wrapper works with the environments of every suite. It never imports an environment library.
"""
