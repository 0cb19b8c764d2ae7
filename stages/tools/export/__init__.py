"""A student as a program of its own."""
