"""How quickly a served campaign of 10,000 proposals answers."""
