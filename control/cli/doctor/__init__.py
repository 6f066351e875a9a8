"""`refresher doctor`: a look at a deployment from outside and inside, with a remedy for what is wrong."""
