"""Plug-ins: one kind of file that holds many images each."""
