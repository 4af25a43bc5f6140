"""An MCP server: lets a language agent look at studies and, where it is allowed to, run searches."""
