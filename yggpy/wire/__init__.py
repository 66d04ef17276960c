"""The wire: byte layouts and nothing else.

``decode`` gives a value or a ``DecodeError``, ``encode`` gives the bytes back.
"""
