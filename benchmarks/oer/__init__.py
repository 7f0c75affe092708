"""The choice on measured oxides, with another quantity."""
