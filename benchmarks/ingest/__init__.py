"""How fast a large cycler export is read, and in how much memory."""
