"""Sources: bringing the bytes of a page here, from wherever they are named. It imports nothing: a parser in a child process uses `data_uri`."""
