"""The server: studies over HTTP, for workers and people elsewhere. Nothing else imports it; see ``tunewright serve``."""
