"""One Prefect flow a file: the story of a page, conducted with tasks and subflows."""
