"""Floor 5: the services that carry decisions out: intake, dispatch, attempt, endpoints, janitor."""
