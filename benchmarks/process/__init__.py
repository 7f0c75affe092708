"""What knowing how a cell was made is worth."""
