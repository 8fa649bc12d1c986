"""Archives: reading the members of a book, safely. It imports nothing: parsers run in a child process that loads little."""
