"""The HTTP gateway: pages and events in over HTTP, jobs followed, results fetched."""
