"""Settings of a control that reaches nothing."""

from __future__ import annotations

SETTINGS = {
    "auth_password": "a password long enough",
    "token_secret": "secret for tests",
    "public_url": "http://control.test",
    "aws_endpoint_url_s3": "http://127.0.0.1:1",
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "bucket_name": "bucket",
    "fly_api_token": "token",
    "runner_apps": "runners",
    "runner_image": "registry.test/runner@sha256:0",
}


PLACES = {
    *("token_secret", "token_secret_previous", "database_url", "database_mount", "public_url"),
    *("callback_url", "fly_app_name"),
    *("aws_endpoint_url_s3", "aws_region", "aws_access_key_id", "aws_secret_access_key", "bucket_name"),
    *("s3_public_endpoint_url", "fly_api_url", "fly_api_token", "runner_apps", "runner_image"),
}
"""What the embedded stack itself says: where its parts are, and what signs tokens."""
