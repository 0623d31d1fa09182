"""Environment libraries, a file each."""
