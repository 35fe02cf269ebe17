"""`python -m bot` is `workbench-bot`."""

from bot.main import main

main()
