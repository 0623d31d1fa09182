"""The command line: one module for each command of ``ppg-jax``.

A command takes the arguments, calls the package and returns an exit code. Only ``__main__`` imports
this folder. Nothing is trained or saved here: ``runs`` and ``sweeps`` do that.
"""
