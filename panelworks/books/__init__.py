"""Books: whole archives of pages, enhanced and bound again."""
