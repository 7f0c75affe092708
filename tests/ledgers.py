"""What the tests of ledgers share."""

from campaigns.ledger import NewModel

START = NewModel(model_id="a1b2c3d4e5f6", path="models/N01")
"""The ensemble that a campaign of the tests starts with; there are no files behind it."""
