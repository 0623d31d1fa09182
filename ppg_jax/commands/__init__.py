"""The command line's commands, a module each with ``main(argv) -> exit code``."""
