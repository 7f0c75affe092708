"""What people look at: the page, its figures, the files of a round, exports."""
