"""The look into an MP4 or MOV without FFmpeg: control looks so at uploads, a runner at videos from URLs.

Pure. `movie.look_into` is what others call.
"""
