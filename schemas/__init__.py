"""Know: shapes, names, units, versions and errors. Imports nothing of the project but itself."""
