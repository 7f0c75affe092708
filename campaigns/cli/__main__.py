"""`python -m campaigns.cli` is `drx-screen`."""

from campaigns.cli import main

main(prog_name="drx-screen")
