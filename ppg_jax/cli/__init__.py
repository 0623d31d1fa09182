"""The command line: arguments in, an exit code out. Nothing imports it but ``__main__``."""
