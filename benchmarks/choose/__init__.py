"""How many experiments a strategy needs: each published member in turn is the laboratory, the others are the model."""
