"""Guests and hosts: how resdet and other detection libraries run each other's models and read each other's configs."""
