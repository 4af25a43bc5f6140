"""Fixtures for the server."""

from asgi_client import talk

__all__ = ["talk"]
