"""Speed of prediction against a plain implementation of the same network."""
