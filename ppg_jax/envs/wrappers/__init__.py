"""What changes an environment, whatever suite it is from: each is an ``Environment`` again."""
