"""Commands of `panelworks` beside those that enhance: declarations that parse and call."""
