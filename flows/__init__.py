"""One Prefect flow a file."""
