"""Workers of `ecs` pools that follow their tasks; see README.md."""
