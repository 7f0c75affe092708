"""How quickly a large ledger answers."""
