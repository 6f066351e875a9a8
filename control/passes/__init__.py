"""The loop and its passes: each compares rows with the cloud or the bucket, and acts."""
