"""From a returned file to a measurement in the ledger: readers, segmentation, checks, identity of the cell."""
