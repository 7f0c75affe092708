"""Run the screening loop with a laboratory: ledger, files and the command line."""
