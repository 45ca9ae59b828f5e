"""What the program's commands do, as functions: the command line only parses, calls and prints."""
