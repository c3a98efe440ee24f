"""The documents: every block of Python in them runs, every link and anchor leads somewhere."""
