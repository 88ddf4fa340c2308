"""How shipped files are made: code that runs from a checkout and is no part of the wheel."""
