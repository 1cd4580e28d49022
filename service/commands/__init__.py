"""What a person runs, beside the service itself: the commands, and how their results look on a screen.

`cli.py` names them. Neither the loops nor rules belong here: a command asks the store, the domain and the rooms.
"""
