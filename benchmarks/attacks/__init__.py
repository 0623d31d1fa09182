"""What ``benchmarks/attack.py`` tries, a module for each kind."""
