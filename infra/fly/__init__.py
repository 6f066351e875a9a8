"""Machines over the Fly Machines API."""
