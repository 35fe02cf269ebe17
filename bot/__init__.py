"""The Slack app: the acts of the `workbench` command, asked for in a chat. It opens no store and decides nothing by itself."""
