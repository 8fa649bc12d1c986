"""Where and when Panelworks runs: work pool, queues, automations, images."""
