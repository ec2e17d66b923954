"""Who answers a request: a compiled route and one pure decision."""
