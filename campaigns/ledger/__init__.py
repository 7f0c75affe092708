"""What a campaign knows: records, tables and the ledger that keeps them."""
