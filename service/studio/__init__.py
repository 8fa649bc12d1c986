"""The studio: web pages for reviewing and processing pages, on the gateway's API."""
